{#
    Who was put into the contacted or the held-back group of a campaign, with what was known of them when it began; and every customer on the
    scoring date, for whom the same is asked. Only campaigns of the last two years with both groups; somebody recorded in both is left out. The
    held-back have no time of sending, so both groups count from the local day of the campaign's first message.
#}
with scoring as (
    select as_of_date, starts_at, {{ setting('response_window_days') }} as window_days from {{ ref('ftr_as_of_dates') }} where subject = 'customer' and is_scoring
),

campaigns as (
    select
        members.campaign_id,
        coalesce({{ local_date('min(members.sent_at)') }}, min(campaigns.starts_date)) as began_date
    from {{ ref('fct_campaign_members') }} as members
    left join {{ ref('dim_campaigns') }} as campaigns on campaigns.campaign_id = members.campaign_id
    where members.customer_id is not null
    group by members.campaign_id
    having count(case when members.is_control then 1 end) > 0 and count(case when not members.is_control then 1 end) > 0
),

assigned as (
    select
        members.campaign_id,
        members.customer_id,
        campaigns.began_date as as_of_date,
        min(case when members.is_control then 0 else 1 end) as is_contacted
    from {{ ref('fct_campaign_members') }} as members
    join campaigns on campaigns.campaign_id = members.campaign_id
    join scoring on campaigns.began_date < scoring.as_of_date and campaigns.began_date >= cast({{ add_days('scoring.as_of_date', '-730') }} as date)
    where members.customer_id is not null
    group by members.campaign_id, members.customer_id, campaigns.began_date
    having min(case when members.is_control then 0 else 1 end) = max(case when members.is_control then 0 else 1 end)
),

spine as (
    select
        coalesce(assigned.campaign_id, '') || ':' || assigned.customer_id as contact_id,
        assigned.campaign_id,
        assigned.customer_id,
        assigned.as_of_date,
        {{ day_start('assigned.as_of_date') }} as starts_at,
        assigned.is_contacted
    from assigned
    union all
    select ':' || customers.customer_id, null, customers.customer_id, scoring.as_of_date, scoring.starts_at, null
    from {{ ref('dim_customers') }} as customers
    cross join scoring
    where not customers.is_deleted
),

purchase_days as (
    select customer_id, ordered_date, sum(cast(net_amount_reporting as double)) as amount
    from {{ ref('fct_orders') }}
    where is_counted and customer_id is not null
    group by customer_id, ordered_date
),

orders as (
    select
        spine.contact_id,
        max(days.ordered_date) as latest_date,
        min(days.ordered_date) as first_date,
        count(*) as purchase_day_count,
        count(case when days.ordered_date >= cast({{ add_days('spine.as_of_date', '-90') }} as date) then 1 end) as purchase_days_90d_count,
        count(case when days.ordered_date >= cast({{ add_days('spine.as_of_date', '-365') }} as date) then 1 end) as purchase_days_365d_count,
        sum(case when days.ordered_date >= cast({{ add_days('spine.as_of_date', '-365') }} as date) then days.amount else 0 end) as value_365d_amount
    from spine
    join purchase_days as days on days.customer_id = spine.customer_id and days.ordered_date < spine.as_of_date
    group by spine.contact_id
),

campaigns_before as (
    select
        spine.contact_id,
        max(members.delivered_date) as latest_date,
        count(*) as campaigns_365d_count,
        cast(count(case when members.first_response_at < spine.starts_at then 1 end) as double) / count(*) as campaign_response_rate,
        max(case when members.unsubscribed_at < spine.starts_at then 1 else 0 end) as is_unsubscribed
    from spine
    join {{ ref('fct_campaign_members') }} as members
        on members.customer_id = spine.customer_id and members.delivered_date < spine.as_of_date
        and members.delivered_date >= cast({{ add_days('spine.as_of_date', '-365') }} as date)
    where members.is_delivered
    group by spine.contact_id
),

subscriptions as (
    select
        spine.contact_id,
        max(subs.started_date) as latest_date,
        count(case when subs.ended_at is null or subs.ended_at >= spine.starts_at then 1 end) as active_subscription_count
    from spine
    join {{ ref('fct_subscriptions') }} as subs on subs.customer_id = spine.customer_id and subs.started_date < spine.as_of_date
    group by spine.contact_id
)

select
    spine.contact_id,
    spine.campaign_id,
    spine.customer_id,
    spine.as_of_date,
    spine.is_contacted,
    cast(scoring.window_days as integer) as window_days,
    cast({{ add_days('spine.as_of_date', 'scoring.window_days') }} as date) <= scoring.as_of_date as is_complete,
    {{ days_between('orders.latest_date', 'spine.as_of_date') }} as days_since_last_order,
    {{ days_between('orders.first_date', 'spine.as_of_date') }} as days_since_first_order,
    coalesce(orders.purchase_day_count, 0) as purchase_day_count,
    coalesce(orders.purchase_days_90d_count, 0) as purchase_days_90d_count,
    coalesce(orders.purchase_days_365d_count, 0) as purchase_days_365d_count,
    coalesce(orders.value_365d_amount, 0) as value_365d_amount,
    coalesce(campaigns_before.campaigns_365d_count, 0) as campaigns_365d_count,
    campaigns_before.campaign_response_rate,
    coalesce(campaigns_before.is_unsubscribed, 0) as is_unsubscribed,
    coalesce(subscriptions.active_subscription_count, 0) as active_subscription_count,
    greatest(orders.latest_date, campaigns_before.latest_date, subscriptions.latest_date) as latest_evidence_date
from spine
cross join scoring
left join orders on orders.contact_id = spine.contact_id
left join campaigns_before on campaigns_before.contact_id = spine.contact_id
left join subscriptions on subscriptions.contact_id = spine.contact_id
