{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
{#
    The values are those of the term that holds at the as-of instant, else of the last term before it, else of the first one. A subscription
    that ended at the instant of its start has no term: it was sold and taken back, brought revenue at no instant, and is in no movement.
#}
with terms as (
    select
        *,
        row_number() over (
            partition by subscription_id
            order by case when valid_from <= {{ setting('as_of') }} then 0 else 1 end,
                case when valid_from <= {{ setting('as_of') }} then valid_from end desc nulls last, valid_from
        ) as choice,
        min(case when mrr_amount > 0 then valid_from end) over (partition by subscription_id) as paid_from_at
    from {{ ref('fct_subscription_terms') }}
),

subscriptions as (
    select
        subscriptions.subscription_id,
        {{ resolved_customer(by) }} as customer_id,
        {{ survivor('contact', 'subscriptions.contact_id') }} as contact_id,
        {{ survivor('company', 'subscriptions.company_id') }} as company_id,
        subscriptions.started_at,
        subscriptions.trial_ends_at,
        subscriptions.cancel_requested_at,
        subscriptions.ended_at,
        subscriptions.ended_at is null or subscriptions.ended_at > {{ setting('as_of') }} as is_active,
        coalesce(subscriptions.ended_at <= subscriptions.started_at, false) as is_without_term,
        subscriptions.plan,
        subscriptions.interval,
        subscriptions.quantity,
        subscriptions.amount,
        subscriptions.currency
    from {{ ref('stg_canonical__subscriptions') }} as subscriptions
    {{ join_customer('subscriptions', by) }}
    where subscriptions.deleted_at is null and not {{ is_test_fact(by) }}
)

select
    subscriptions.subscription_id,
    subscriptions.customer_id,
    subscriptions.contact_id,
    subscriptions.company_id,
    {%- for name in ['plan', 'interval', 'quantity', 'amount', 'currency'] %}
    case when subscriptions.is_without_term then subscriptions.{{ name }} else terms.{{ name }} end as {{ name }},
    {%- endfor %}
    case when subscriptions.is_without_term then {{ money('0') }} else terms.mrr_amount end as mrr_amount,
    case when subscriptions.is_without_term then {{ money('0') }} else {{ converted('terms.mrr_amount', rate_of('rates', 'terms.currency')) }} end as mrr_amount_reporting,
    subscriptions.started_at,
    {{ local_date('subscriptions.started_at') }} as started_date,
    subscriptions.trial_ends_at,
    terms.paid_from_at,
    subscriptions.cancel_requested_at,
    subscriptions.ended_at,
    {{ local_date('subscriptions.ended_at') }} as ended_date,
    subscriptions.is_active
from subscriptions
left join terms on terms.subscription_id = subscriptions.subscription_id and terms.choice = 1
-- a balance: it converts on the day the data speak of, an ended one on the day it ended
{{ join_rate('rates', 'terms.currency', 'least(' ~ local_date('subscriptions.ended_at') ~ ', ' ~ local_date(setting('watermark')) ~ ')') }}
where terms.subscription_id is not null or subscriptions.is_without_term
