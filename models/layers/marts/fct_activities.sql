{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
{#
    An interaction is started by the customer or two-way: anything inbound, and calls, meetings and chats in which somebody was
    reached. Notes and tasks are work of our own.
#}
with activities as (
    select
        activities.*,
        {{ resolved_customer(by) }} as customer_id,
        {{ survivor('company', 'activities.company_id') }} as resolved_company_id,
        coalesce(deals.survivor_id, activities.deal_id) as resolved_deal_id,
        activities.kind not in ('note', 'task') and coalesce(activities.is_customer_facing, true) as faces_customer,
        not_reached.outcome is null as is_reached
    from {{ ref('stg_canonical__activities') }} as activities
    left join {{ ref('int_deals__resolved') }} as deals on deals.deal_id = activities.deal_id
    left join {{ ref('outcomes_not_reached') }} as not_reached on not_reached.outcome = lower(trim(activities.outcome))
    {{ join_customer('activities', by) }}
    where activities.deleted_at is null and not coalesce(deals.is_test, false) and not {{ is_test_fact(by) }}
)

select
    activity_id,
    kind,
    direction,
    faces_customer as is_customer_facing,
    faces_customer and (coalesce(direction = 'inbound', false) or (kind in ('call', 'meeting', 'chat') and is_reached)) as is_interaction,
    customer_id,
    resolved_company_id as company_id,
    resolved_deal_id as deal_id,
    owner_id,
    occurred_at,
    {{ local_date('occurred_at') }} as occurred_date,
    duration_seconds,
    outcome
from activities
