{#
    When a customer stopped, looked at from each as-of day: the end of the running subscriptions, and the lapse of a buyer. A buyer lapses on
    the first day before which a whole churn window passed without an order. Both are labels and kept apart from the features; a day
    after the watermark is not known yet and stays null, as do ends that are only planned.
#}
with dates as (
    select * from {{ ref('ftr_as_of_dates') }} where subject = 'customer'
),

scoring as (
    select as_of_date as known_until_date, horizon_days from dates where is_scoring
),

{# Subscriptions that overlap or follow each other on the same day are one stretch. #}
ordered as (
    select
        customer_id,
        started_date,
        coalesce(ended_date, date '9999-12-31') as ended_date,
        max(coalesce(ended_date, date '9999-12-31')) over (
            partition by customer_id order by started_date, coalesce(ended_date, date '9999-12-31') rows between unbounded preceding and 1 preceding
        ) as former_end_date
    from {{ ref('fct_subscriptions') }}
    where customer_id is not null and (ended_date is null or ended_date > started_date)
),

numbered as (
    select *, sum(case when former_end_date is null or started_date > former_end_date then 1 else 0 end) over (partition by customer_id order by started_date, ended_date) as stretch
    from ordered
),

stretches as (
    select customer_id, min(started_date) as started_date, max(ended_date) as ended_date from numbered group by customer_id, stretch
),

purchase_days as (
    select customer_id, ordered_date, lead(ordered_date) over (partition by customer_id order by ordered_date) as next_date
    from (select distinct customer_id, ordered_date from {{ ref('fct_orders') }} where is_counted and customer_id is not null) as days
),

lapses as (
    select days.customer_id, days.ordered_date, cast({{ add_days('days.ordered_date', '1 + scoring.horizon_days') }} as date) as lapse_date
    from purchase_days as days
    cross join scoring
    where days.next_date is null or days.next_date >= cast({{ add_days('days.ordered_date', '1 + scoring.horizon_days') }} as date)
),

next_lapses as (
    select behaviour.customer_id, behaviour.as_of_date, min(lapses.lapse_date) as lapse_date
    from {{ ref('ftr_customers__behaviour') }} as behaviour
    join lapses on lapses.customer_id = behaviour.customer_id and lapses.lapse_date > behaviour.as_of_date
    group by behaviour.customer_id, behaviour.as_of_date
)

select
    behaviour.customer_id,
    behaviour.as_of_date,
    case when stretches.ended_date <= scoring.known_until_date then {{ days_between('behaviour.as_of_date', 'stretches.ended_date') }} end as contract_end_days,
    case when next_lapses.lapse_date <= scoring.known_until_date then {{ days_between('behaviour.as_of_date', 'next_lapses.lapse_date') }} end as lapse_days
from {{ ref('ftr_customers__behaviour') }} as behaviour
cross join scoring
left join stretches
    on stretches.customer_id = behaviour.customer_id and stretches.started_date < behaviour.as_of_date and stretches.ended_date >= behaviour.as_of_date
left join next_lapses on next_lapses.customer_id = behaviour.customer_id and next_lapses.as_of_date = behaviour.as_of_date
