{#
    What was known of an open lead at the start of the as-of day. Status and rating are left out: a source keeps only their last value, which
    is often set when the lead is won. The organisation is the one known on that day: most leads get one by being converted. A lead counts as reached by its conversion, a won deal or a first order, whichever comes first.
#}
with dates as (
    select * from {{ ref('ftr_as_of_dates') }} where subject = 'lead'
),

leads as (
    select * from {{ ref('ftr_leads__reached') }}
),

open_leads as (
    select dates.as_of_date, dates.starts_at, dates.since_14d_date, dates.since_30d_date, leads.*
    from dates
    join leads on leads.created_date < dates.as_of_date and leads.created_date >= dates.since_horizon_date
    where
        (leads.reached_at is null or leads.reached_at >= dates.starts_at)
        and (leads.disqualified_at is null or leads.disqualified_at >= dates.starts_at)
),

touchpoints as (
    select
        open_leads.as_of_date,
        open_leads.lead_id,
        max(touches.occurred_date) as latest_date,
        count(*) as touch_count,
        count(case when touches.occurred_date >= open_leads.since_14d_date then 1 end) as touches_14d_count,
        count(distinct touches.channel) as touch_channel_count,
        {{ days_between('max(touches.occurred_date)', 'open_leads.as_of_date') }} as days_since_last_touch
    from open_leads
    join {{ ref('fct_touchpoints') }} as touches on touches.customer_id = open_leads.customer_id and touches.occurred_date < open_leads.as_of_date
    group by open_leads.as_of_date, open_leads.lead_id
),

activities as (
    select
        open_leads.as_of_date,
        open_leads.lead_id,
        max(activities.occurred_date) as latest_date,
        count(*) as interaction_count,
        count(case when activities.occurred_date >= open_leads.since_14d_date then 1 end) as interactions_14d_count,
        {{ days_between('max(activities.occurred_date)', 'open_leads.as_of_date') }} as days_since_last_interaction
    from open_leads
    join {{ ref('fct_activities') }} as activities on activities.customer_id = open_leads.customer_id and activities.occurred_date < open_leads.as_of_date
    where activities.is_customer_facing
    group by open_leads.as_of_date, open_leads.lead_id
),

campaigns as (
    select
        open_leads.as_of_date,
        open_leads.lead_id,
        max(members.delivered_date) as latest_date,
        count(*) as campaign_count,
        count(case when members.first_response_at < open_leads.starts_at then 1 end) as campaign_response_count
    from open_leads
    join {{ ref('fct_campaign_members') }} as members on members.customer_id = open_leads.customer_id and members.delivered_date < open_leads.as_of_date
    where members.is_delivered
    group by open_leads.as_of_date, open_leads.lead_id
),

events as (
    select
        open_leads.as_of_date,
        open_leads.lead_id,
        max(events.occurred_date) as latest_date,
        count(*) as events_30d_count
    from open_leads
    join {{ ref('fct_events') }} as events
        on events.customer_id = open_leads.customer_id and events.occurred_date < open_leads.as_of_date and events.occurred_date >= open_leads.since_30d_date
    group by open_leads.as_of_date, open_leads.lead_id
),

orders as (
    select
        open_leads.as_of_date,
        open_leads.lead_id,
        max(orders.ordered_date) as latest_date,
        count(*) as earlier_order_count
    from open_leads
    join {{ ref('fct_orders') }} as orders on orders.customer_id = open_leads.customer_id and orders.ordered_date < open_leads.as_of_date
    where orders.is_counted
    group by open_leads.as_of_date, open_leads.lead_id
),

organisations as (
    {{ organisations_as_of('open_leads', 'lead_id') }}
),

earlier as (
    select open_leads.as_of_date, open_leads.lead_id, count(*) as earlier_lead_count
    from open_leads
    join leads on leads.customer_id = open_leads.customer_id and leads.created_at < open_leads.created_at
    group by open_leads.as_of_date, open_leads.lead_id
)

select
    open_leads.lead_id,
    open_leads.as_of_date,
    open_leads.customer_id,
    coalesce(open_leads.channel, 'unknown') as channel,
    coalesce(open_leads.country_code, 'unknown') as country_code,
    {{ days_between('open_leads.created_date', 'open_leads.as_of_date') }} as age_days,
    case when open_leads.campaign_id is not null then 1 else 0 end as has_campaign,
    organisations.employee_count,
    coalesce(touchpoints.touch_count, 0) as touch_count,
    coalesce(touchpoints.touches_14d_count, 0) as touches_14d_count,
    coalesce(touchpoints.touch_channel_count, 0) as touch_channel_count,
    touchpoints.days_since_last_touch,
    coalesce(activities.interaction_count, 0) as interaction_count,
    coalesce(activities.interactions_14d_count, 0) as interactions_14d_count,
    activities.days_since_last_interaction,
    coalesce(campaigns.campaign_count, 0) as campaign_count,
    coalesce(campaigns.campaign_response_count, 0) as campaign_response_count,
    coalesce(events.events_30d_count, 0) as events_30d_count,
    coalesce(orders.earlier_order_count, 0) as earlier_order_count,
    coalesce(earlier.earlier_lead_count, 0) as earlier_lead_count,
    sin(2 * pi() * extract(doy from open_leads.as_of_date) / 365.25) as season_sine,
    cos(2 * pi() * extract(doy from open_leads.as_of_date) / 365.25) as season_cosine,
    greatest(
        open_leads.created_date, touchpoints.latest_date, activities.latest_date, campaigns.latest_date, events.latest_date, orders.latest_date,
        organisations.latest_date
    ) as latest_evidence_date
from open_leads
{% for block in ['touchpoints', 'activities', 'campaigns', 'events', 'orders', 'organisations', 'earlier'] -%}
left join {{ block }} on {{ block }}.lead_id = open_leads.lead_id and {{ block }}.as_of_date = open_leads.as_of_date
{% endfor %}
