{#
    What was known of an open deal at the start of the as-of day, from the log of its changes. What a source keeps no log of (stage, amount,
    expected close, owner) is not known for any past day, since the value of today is often set with the outcome: there it stays null, in
    training and in scoring alike. Rates of owners and channels come from deals closed in the 365 days before, drawn to the rate of all by ten
    deals: counted since ever they would move from one as-of day to the next by themselves, and a model would meet values it never learned from.
#}
{%- set fields = {'stage': 'stage', 'amount': 'amount', 'expected_close_date': 'close', 'owner_id': 'owner'} -%}
{%- set prior_deals = 10 -%}
with dates as (
    select * from {{ ref('ftr_as_of_dates') }} where subject = 'deal'
),

logged as (
    select
        deals.pipeline
        {%- for field, short in fields.items() %},
        max(case when changes.field = '{{ field }}' then 1 else 0 end) as logs_{{ short }}
        {%- endfor %}
    from {{ ref('fct_deal_changes') }} as changes
    join {{ ref('fct_deals') }} as deals on deals.deal_id = changes.deal_id
    where changes.origin = 'source'
    group by deals.pipeline
),

open_deals as (
    select
        dates.as_of_date,
        dates.starts_at,
        dates.since_14d_date,
        deals.deal_id,
        deals.customer_id,
        deals.pipeline,
        deals.channel,
        deals.created_date,
        {% for short in fields.values() -%}
        coalesce(logged.logs_{{ short }}, 0) as logs_{{ short }},
        {% endfor -%}
        case when logged.logs_stage = 1 then history.stage end as stage,
        case when logged.logs_stage = 1 then history.stage_position end as stage_position,
        case when logged.logs_amount = 1 then cast(history.amount_reporting as double) end as deal_amount,
        case when logged.logs_close = 1 then history.expected_close_date end as expected_close_date,
        case when logged.logs_owner = 1 then history.owner_id end as owner_id,
        {{ local_date('history.valid_from') }} as latest_date
    from dates
    join {{ ref('fct_deals') }} as deals
        on deals.created_date < dates.as_of_date and (deals.closed_date >= dates.as_of_date or (deals.closed_date is null and deals.is_open))
    left join logged on logged.pipeline = deals.pipeline
    left join {{ ref('deals_history') }} as history
        on history.deal_id = deals.deal_id and history.valid_from < dates.starts_at and {{ end_of('history') }} >= dates.starts_at
    -- a deal that was lost on that day and revived later was not open
    where coalesce(logged.logs_stage, 0) = 0 or coalesce(history.is_open, true)
),

stage_entries as (
    select deal_id, entered_at, stage_position, lag(stage_position) over (partition by deal_id order by visit_number) as former_position
    from {{ ref('fct_deal_stage_visits') }}
),

visits as (
    select
        open_deals.as_of_date,
        open_deals.deal_id,
        {{ local_date('max(entries.entered_at)') }} as latest_date,
        count(*) - 1 as stage_move_count,
        count(case when entries.stage_position < entries.former_position then 1 end) as backward_move_count
    from open_deals
    join stage_entries as entries on entries.deal_id = open_deals.deal_id and entries.entered_at < open_deals.starts_at
    where open_deals.logs_stage = 1
    group by open_deals.as_of_date, open_deals.deal_id
),

changes as (
    select
        open_deals.as_of_date,
        open_deals.deal_id,
        max(changes.changed_date) as latest_date,
        count(case when changes.field = 'amount' and {{ try_cast_to('changes.new_value', 'double') }} > {{ try_cast_to('changes.old_value', 'double') }} then 1 end) as amount_raise_count,
        count(case when changes.field = 'amount' and {{ try_cast_to('changes.new_value', 'double') }} < {{ try_cast_to('changes.old_value', 'double') }} then 1 end) as amount_cut_count,
        count(case when changes.field = 'expected_close_date' and changes.new_value > changes.old_value then 1 end) as close_push_count,
        count(case when changes.field = 'owner_id' and changes.old_value is not null then 1 end) as owner_change_count
    from open_deals
    join {{ ref('fct_deal_changes') }} as changes on changes.deal_id = open_deals.deal_id and changes.changed_date < open_deals.as_of_date
    where changes.origin = 'source'
    group by open_deals.as_of_date, open_deals.deal_id
),

{# A deal's closing is a statement of its history, so the period that begins there has the owner of that moment. #}
closed as (
    select deals.deal_id, deals.customer_id, deals.channel, deals.closed_date, deals.is_won, history.owner_id
    from {{ ref('fct_deals') }} as deals
    left join {{ ref('deals_history') }} as history
        on history.deal_id = deals.deal_id and history.valid_from <= deals.closed_at and {{ end_of('history') }} > deals.closed_at
    where deals.closed_date is not null and (deals.is_won or deals.is_lost)
),

everybody as (
    select
        dates.as_of_date,
        cast(count(case when closed.is_won then 1 end) as double) / count(*) as win_rate,
        cast(count(case when closed.is_won and closed.closed_date >= dates.since_365d_date then 1 end) as double)
        / nullif(count(case when closed.closed_date >= dates.since_365d_date then 1 end), 0) as year_win_rate
    from dates
    join closed on closed.closed_date < dates.as_of_date
    group by dates.as_of_date
),

{% for of, key in {'owners': 'owner_id', 'channels': 'channel'}.items() -%}
{{ of }} as (
    select
        dates.as_of_date,
        closed.{{ key }},
        max(closed.closed_date) as latest_date,
        count(*) as closed_count,
        (count(case when closed.is_won then 1 end) + {{ prior_deals }} * max(everybody.year_win_rate)) / (count(*) + {{ prior_deals }}) as win_rate
    from dates
    join closed on closed.closed_date < dates.as_of_date and closed.closed_date >= dates.since_365d_date
    join everybody on everybody.as_of_date = dates.as_of_date
    where closed.{{ key }} is not null
    group by dates.as_of_date, closed.{{ key }}
),

{% endfor -%}
earlier as (
    select
        dates.as_of_date,
        closed.customer_id,
        max(closed.closed_date) as latest_date,
        count(case when closed.is_won then 1 end) as earlier_won_count,
        count(case when not closed.is_won then 1 end) as earlier_lost_count
    from dates
    join closed on closed.closed_date < dates.as_of_date
    where closed.customer_id is not null
    group by dates.as_of_date, closed.customer_id
),

orders as (
    select open_deals.as_of_date, open_deals.deal_id, max(orders.ordered_date) as latest_date, count(*) as earlier_order_count
    from open_deals
    join {{ ref('fct_orders') }} as orders on orders.customer_id = open_deals.customer_id and orders.ordered_date < open_deals.as_of_date
    where orders.is_counted
    group by open_deals.as_of_date, open_deals.deal_id
),

{# What was done on the deal; activities that name no deal count for every open deal of the customer. #}
done as (
    select open_deals.as_of_date, open_deals.deal_id, activities.occurred_date, open_deals.since_14d_date
    from open_deals
    join {{ ref('fct_activities') }} as activities on activities.deal_id = open_deals.deal_id and activities.occurred_date < open_deals.as_of_date
    where activities.is_customer_facing
    union all
    select open_deals.as_of_date, open_deals.deal_id, activities.occurred_date, open_deals.since_14d_date
    from open_deals
    join {{ ref('fct_activities') }} as activities on activities.customer_id = open_deals.customer_id and activities.occurred_date < open_deals.as_of_date
    where activities.is_customer_facing and activities.deal_id is null and activities.occurred_date >= open_deals.created_date
),

activities as (
    select
        as_of_date,
        deal_id,
        max(occurred_date) as latest_date,
        count(*) as activity_count,
        count(case when occurred_date >= since_14d_date then 1 end) as activities_14d_count,
        {{ days_between('max(occurred_date)', 'as_of_date') }} as days_since_last_activity
    from done
    group by as_of_date, deal_id
),

organisations as (
    {{ organisations_as_of('open_deals', 'deal_id') }}
)

select
    open_deals.deal_id,
    open_deals.as_of_date,
    open_deals.customer_id,
    coalesce(open_deals.pipeline, 'unknown') as pipeline,
    coalesce(open_deals.channel, 'unknown') as channel,
    open_deals.stage,
    open_deals.stage_position,
    coalesce(rates.probability, everybody.win_rate) as stage_win_rate,
    {{ days_between('open_deals.created_date', 'open_deals.as_of_date') }} as deal_age_days,
    case when open_deals.logs_stage = 1 then {{ days_between('visits.latest_date', 'open_deals.as_of_date') }} end as days_in_stage,
    case when open_deals.logs_stage = 1 then coalesce(visits.stage_move_count, 0) end as stage_move_count,
    case when open_deals.logs_stage = 1 then coalesce(visits.backward_move_count, 0) end as backward_move_count,
    open_deals.deal_amount,
    case when open_deals.logs_amount = 1 then coalesce(changes.amount_raise_count, 0) end as amount_raise_count,
    case when open_deals.logs_amount = 1 then coalesce(changes.amount_cut_count, 0) end as amount_cut_count,
    {{ days_between('open_deals.as_of_date', 'open_deals.expected_close_date') }} as expected_in_days,
    case when open_deals.logs_close = 1 then coalesce(changes.close_push_count, 0) end as close_push_count,
    case when open_deals.logs_owner = 1 then coalesce(changes.owner_change_count, 0) end as owner_change_count,
    owners.win_rate as owner_win_rate,
    owners.closed_count as owner_closed_365d_count,
    channels.win_rate as channel_win_rate,
    coalesce(earlier.earlier_won_count, 0) as earlier_won_count,
    coalesce(earlier.earlier_lost_count, 0) as earlier_lost_count,
    coalesce(orders.earlier_order_count, 0) as earlier_order_count,
    coalesce(activities.activity_count, 0) as activity_count,
    coalesce(activities.activities_14d_count, 0) as activities_14d_count,
    activities.days_since_last_activity,
    organisations.employee_count,
    sin(2 * pi() * extract(doy from open_deals.as_of_date) / 365.25) as season_sine,
    cos(2 * pi() * extract(doy from open_deals.as_of_date) / 365.25) as season_cosine,
    greatest(
        open_deals.created_date, open_deals.latest_date, visits.latest_date, changes.latest_date, owners.latest_date, channels.latest_date, earlier.latest_date,
        orders.latest_date, activities.latest_date, organisations.latest_date
    ) as latest_evidence_date
from open_deals
left join {{ ref('ftr_deals__stage_rates') }} as rates
    on rates.as_of_date = open_deals.as_of_date and rates.pipeline is not distinct from open_deals.pipeline and rates.stage = open_deals.stage
left join everybody on everybody.as_of_date = open_deals.as_of_date
left join owners on owners.as_of_date = open_deals.as_of_date and owners.owner_id = open_deals.owner_id
left join channels on channels.as_of_date = open_deals.as_of_date and channels.channel = open_deals.channel
left join earlier on earlier.as_of_date = open_deals.as_of_date and earlier.customer_id = open_deals.customer_id
{% for block in ['visits', 'changes', 'orders', 'activities', 'organisations'] -%}
left join {{ block }} on {{ block }}.deal_id = open_deals.deal_id and {{ block }}.as_of_date = open_deals.as_of_date
{% endfor %}
