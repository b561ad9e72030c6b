{%- set by = {'contact': 'contact_id'} -%}
{# Without a contact of its own an answer belongs to the customer of its ticket, else of its order. #}
with responses as (
    select
        responses.*,
        coalesce({{ resolved_customer(by) }}, tickets.customer_id, orders.customer_id) as customer_id,
        tickets.channel as ticket_channel,
        orders.channel as order_channel,
        coalesce(responses.offered_at, responses.responded_at) as known_offered_at,
        responses.responded_at is not null and responses.score is not null as is_answered
    from {{ ref('stg_canonical__survey_responses') }} as responses
    left join {{ ref('fct_tickets') }} as tickets on tickets.ticket_id = responses.ticket_id
    left join {{ ref('int_orders__priced') }} as orders on orders.order_id = responses.order_id
    {{ join_customer('responses', by) }}
    where responses.deleted_at is null and not coalesce(orders.is_test, false) and not {{ is_test_fact(by) }}
)

select
    response_id,
    kind,
    customer_id,
    ticket_id,
    order_id,
    coalesce(ticket_channel, order_channel) as channel,
    known_offered_at as offered_at,
    {{ local_date('known_offered_at') }} as offered_date,
    responded_at,
    {{ local_date('responded_at') }} as responded_date,
    score,
    is_answered,
    case when is_answered and kind = 'csat' then score >= 4 end as is_satisfied
from responses
