{#
    What was known of a customer at the start of the as-of day. Every block joins its facts with `day < as_of_date` and carries the latest
    day it used, so that a single comparison shows whether any block looked ahead. Attributes a record may get later (segment, stage)
    are left out; a ticket counts as solved only when it was solved by then.
#}
with dates as (
    select * from {{ ref('ftr_as_of_dates') }} where subject = 'customer'
),

purchase_days as (
    select
        customer_id, ordered_date, count(*) as order_count, sum(cast(net_amount_reporting as double)) as amount,
        sum(cast(discount_amount as double)) as discount, sum(cast(gross_amount as double)) as gross
    from {{ ref('fct_orders') }}
    where is_counted and customer_id is not null
    group by customer_id, ordered_date
),

gaps as (
    select *, {{ days_between('lag(ordered_date) over (partition by customer_id order by ordered_date)', 'ordered_date') }} as gap_days from purchase_days
),

orders as (
    select
        dates.as_of_date,
        gaps.customer_id,
        max(gaps.ordered_date) as latest_date,
        min(gaps.ordered_date) as first_date,
        count(*) as purchase_day_count,
        sum(gaps.order_count) as order_count,
        sum(gaps.amount) as gross_value,
        avg(gaps.gap_days) as mean_gap_days,
        max(gaps.gap_days) as longest_gap_days,
        sum(gaps.discount) / nullif(sum(gaps.gross), 0) as discount_share,
        {{ value_at_max('gaps.amount', 'gaps.ordered_date') }} as last_purchase_amount,
        {% for days in [30, 90, 365] -%}
        count(case when gaps.ordered_date >= dates.since_{{ days }}d_date then 1 end) as purchase_days_{{ days }}d_count,
        sum(case when gaps.ordered_date >= dates.since_{{ days }}d_date then gaps.amount else 0 end) as value_{{ days }}d_amount{{ ',' if not loop.last }}
        {% endfor %}
    from dates
    join gaps on gaps.ordered_date < dates.as_of_date
    group by dates.as_of_date, gaps.customer_id
),

lines as (
    select
        dates.as_of_date,
        lines.customer_id,
        max(lines.ordered_date) as latest_date,
        count(distinct lines.category) as category_count,
        count(distinct lines.product_id) as product_count
    from dates
    join (
        select distinct customer_id, ordered_date, category, product_id from {{ ref('fct_order_lines') }} where is_counted and customer_id is not null
    ) as lines on lines.ordered_date < dates.as_of_date and lines.ordered_date >= dates.since_365d_date
    group by dates.as_of_date, lines.customer_id
),

refunds as (
    select
        dates.as_of_date,
        refunds.customer_id,
        max(refunds.refunded_date) as latest_date,
        count(*) as refund_count,
        sum(cast(refunds.amount_at_order_rate_reporting as double)) as refunded_value
    from dates
    join {{ ref('fct_refunds') }} as refunds on refunds.refunded_date < dates.as_of_date
    where refunds.customer_id is not null
    group by dates.as_of_date, refunds.customer_id
),

tickets as (
    select
        dates.as_of_date,
        tickets.customer_id,
        max(tickets.created_date) as latest_date,
        count(*) as tickets_365d_count,
        count(case when tickets.created_date >= dates.since_90d_date then 1 end) as tickets_90d_count,
        count(case when tickets.solved_at is null or tickets.solved_at >= dates.starts_at then 1 end) as open_ticket_count,
        {{ days_between('max(tickets.created_date)', 'dates.as_of_date') }} as days_since_last_ticket
    from dates
    join {{ ref('fct_tickets') }} as tickets on tickets.created_date < dates.as_of_date and tickets.created_date >= dates.since_365d_date
    where tickets.customer_id is not null
    group by dates.as_of_date, tickets.customer_id
),

surveys as (
    select
        dates.as_of_date,
        answers.customer_id,
        max(answers.responded_date) as latest_date,
        count(*) as answers_365d_count,
        avg(case when answers.kind = 'csat' then cast(answers.score as double) end) as mean_csat_score,
        avg(case when answers.kind = 'nps' then cast(answers.score as double) end) as mean_nps_score
    from dates
    join {{ ref('fct_survey_responses') }} as answers on answers.responded_date < dates.as_of_date and answers.responded_date >= dates.since_365d_date
    where answers.customer_id is not null and answers.is_answered
    group by dates.as_of_date, answers.customer_id
),

activities as (
    select
        dates.as_of_date,
        activities.customer_id,
        max(activities.occurred_date) as latest_date,
        count(*) as interactions_365d_count,
        count(case when activities.occurred_date >= dates.since_90d_date then 1 end) as interactions_90d_count
    from dates
    join {{ ref('fct_activities') }} as activities on activities.occurred_date < dates.as_of_date and activities.occurred_date >= dates.since_365d_date
    where activities.customer_id is not null and activities.is_customer_facing
    group by dates.as_of_date, activities.customer_id
),

touchpoints as (
    select
        dates.as_of_date,
        touches.customer_id,
        max(touches.occurred_date) as latest_date,
        count(case when touches.occurred_date >= dates.since_90d_date then 1 end) as touches_90d_count,
        {{ days_between('max(touches.occurred_date)', 'dates.as_of_date') }} as days_since_last_touch
    from dates
    join {{ ref('fct_touchpoints') }} as touches on touches.occurred_date < dates.as_of_date and touches.occurred_date >= dates.since_365d_date
    where touches.customer_id is not null
    group by dates.as_of_date, touches.customer_id
),

campaigns as (
    select
        dates.as_of_date,
        members.customer_id,
        max(members.delivered_date) as latest_date,
        count(*) as campaigns_365d_count,
        cast(count(case when members.first_response_at < dates.starts_at then 1 end) as double) / count(*) as campaign_response_rate,
        max(case when members.unsubscribed_at < dates.starts_at then 1 else 0 end) as is_unsubscribed
    from dates
    join {{ ref('fct_campaign_members') }} as members on members.delivered_date < dates.as_of_date and members.delivered_date >= dates.since_365d_date
    where members.customer_id is not null and members.is_delivered
    group by dates.as_of_date, members.customer_id
),

subscriptions as (
    select
        dates.as_of_date,
        subs.customer_id,
        max(subs.started_date) as latest_date,
        count(case when subs.ended_at is null or subs.ended_at >= dates.starts_at then 1 end) as active_subscription_count,
        count(case when subs.ended_at < dates.starts_at then 1 end) as ended_subscription_count,
        {{ days_between('min(subs.started_date)', 'dates.as_of_date') }} as subscription_tenure_days,
        max(case when subs.cancel_requested_at < dates.starts_at and (subs.ended_at is null or subs.ended_at >= dates.starts_at) then 1 else 0 end) as has_cancel_request,
        max(case when subs.trial_ends_at >= dates.starts_at then 1 else 0 end) as is_in_trial
    from dates
    join {{ ref('fct_subscriptions') }} as subs on subs.started_date < dates.as_of_date
    where subs.customer_id is not null
    group by dates.as_of_date, subs.customer_id
),

terms as (
    select
        dates.as_of_date,
        terms.customer_id,
        sum(cast(terms.mrr_amount as double) * {{ rate_of('rates', 'terms.currency') }}) as mrr_amount,
        min(terms.interval) as subscription_interval,
        min(terms.plan) as subscription_plan
    from dates
    join {{ ref('fct_subscription_terms') }} as terms
        on terms.valid_from < dates.starts_at and {{ end_of('terms') }} > dates.starts_at
    {{ join_rate('rates', 'terms.currency', 'dates.as_of_date') }}
    where terms.customer_id is not null
    group by dates.as_of_date, terms.customer_id
),

spine as (
    select as_of_date, customer_id from orders
    union
    select as_of_date, customer_id from subscriptions
)

select
    spine.customer_id,
    spine.as_of_date,
    customers.customer_type,
    {#- as they stand today: they divide evaluations, no model learns from them #}
    customers.country_code,
    customers.acquisition_channel,
    orders.first_date as first_purchase_date,
    orders.latest_date as last_purchase_date,
    cast(coalesce(orders.purchase_day_count, 0) as bigint) as purchase_day_count,
    cast(coalesce(orders.order_count, 0) as bigint) as order_count,
    coalesce(orders.gross_value, 0) as gross_value_amount,
    coalesce(orders.gross_value, 0) - coalesce(refunds.refunded_value, 0) as net_value_amount,
    (coalesce(orders.gross_value, 0) - coalesce(refunds.refunded_value, 0)) / nullif(orders.purchase_day_count, 0) as mean_purchase_amount,
    {{ days_between('orders.latest_date', 'spine.as_of_date') }} as days_since_last_order,
    {{ days_between('orders.first_date', 'spine.as_of_date') }} as days_since_first_order,
    {{ days_between('orders.first_date', 'orders.latest_date') }} as active_span_days,
    orders.mean_gap_days,
    orders.longest_gap_days,
    {{ days_between('orders.latest_date', 'spine.as_of_date') }} / nullif(orders.mean_gap_days, 0) as overdue_ratio,
    orders.discount_share,
    orders.last_purchase_amount,
    {% for days in [30, 90, 365] -%}
    cast(coalesce(orders.purchase_days_{{ days }}d_count, 0) as bigint) as purchase_days_{{ days }}d_count,
    coalesce(orders.value_{{ days }}d_amount, 0) as value_{{ days }}d_amount,
    {% endfor -%}
    coalesce(refunds.refund_count, 0) as refund_count,
    coalesce(refunds.refunded_value, 0) / nullif(orders.gross_value, 0) as refund_share,
    coalesce(lines.category_count, 0) as category_count,
    coalesce(lines.product_count, 0) as product_count,
    coalesce(tickets.tickets_365d_count, 0) as tickets_365d_count,
    coalesce(tickets.tickets_90d_count, 0) as tickets_90d_count,
    coalesce(tickets.open_ticket_count, 0) as open_ticket_count,
    tickets.days_since_last_ticket,
    coalesce(surveys.answers_365d_count, 0) as answers_365d_count,
    surveys.mean_csat_score,
    surveys.mean_nps_score,
    coalesce(activities.interactions_365d_count, 0) as interactions_365d_count,
    coalesce(activities.interactions_90d_count, 0) as interactions_90d_count,
    coalesce(touchpoints.touches_90d_count, 0) as touches_90d_count,
    touchpoints.days_since_last_touch,
    coalesce(campaigns.campaigns_365d_count, 0) as campaigns_365d_count,
    campaigns.campaign_response_rate,
    coalesce(campaigns.is_unsubscribed, 0) as is_unsubscribed,
    coalesce(subscriptions.active_subscription_count, 0) as active_subscription_count,
    coalesce(subscriptions.ended_subscription_count, 0) as ended_subscription_count,
    subscriptions.subscription_tenure_days,
    coalesce(subscriptions.has_cancel_request, 0) as has_cancel_request,
    coalesce(subscriptions.is_in_trial, 0) as is_in_trial,
    coalesce(terms.mrr_amount, 0) as mrr_amount,
    terms.subscription_interval,
    terms.subscription_plan,
    sin(2 * pi() * extract(doy from spine.as_of_date) / 365.25) as season_sine,
    cos(2 * pi() * extract(doy from spine.as_of_date) / 365.25) as season_cosine,
    greatest(
        orders.latest_date, lines.latest_date, refunds.latest_date, tickets.latest_date, surveys.latest_date, activities.latest_date,
        touchpoints.latest_date, campaigns.latest_date, subscriptions.latest_date
    ) as latest_evidence_date
from spine
join {{ ref('dim_customers') }} as customers on customers.customer_id = spine.customer_id and not customers.is_deleted
{% for block in ['orders', 'lines', 'refunds', 'tickets', 'surveys', 'activities', 'touchpoints', 'campaigns', 'subscriptions', 'terms'] -%}
left join {{ block }} on {{ block }}.customer_id = spine.customer_id and {{ block }}.as_of_date = spine.as_of_date
{% endfor %}
