{#
    What happened after the as-of day: the labels. Kept apart from the features, so that no feature frame can hold one by accident.
    A window that the data do not cover wholly gives null, never 0.
#}
with dates as (
    select * from {{ ref('ftr_as_of_dates') }} where subject = 'customer' and (is_complete or is_year_complete)
),

people as (
    select behaviour.customer_id, dates.*
    from {{ ref('ftr_customers__behaviour') }} as behaviour
    join dates on dates.as_of_date = behaviour.as_of_date
),

orders as (
    select
        people.customer_id,
        people.as_of_date,
        count(distinct case when orders.ordered_date < people.horizon_end_date then orders.ordered_date end) as horizon_purchase_days,
        sum(case when orders.ordered_date < people.horizon_end_date then cast(orders.net_revenue_reporting as double) else 0 end) as horizon_value,
        count(distinct orders.ordered_date) as year_purchase_days,
        sum(cast(orders.net_revenue_reporting as double)) as year_value
    from people
    join {{ ref('fct_orders') }} as orders
        on orders.customer_id = people.customer_id and orders.is_counted and orders.ordered_date >= people.as_of_date
        and orders.ordered_date < greatest(people.year_end_date, people.horizon_end_date)
    group by people.customer_id, people.as_of_date
),

subscriptions as (
    select
        people.customer_id,
        people.as_of_date,
        max(case when subs.ended_date is null or subs.ended_date >= people.horizon_end_date then 1 else 0 end) as subscribes_at_end
    from people
    join {{ ref('fct_subscriptions') }} as subs
        on subs.customer_id = people.customer_id and subs.started_date < people.horizon_end_date
    group by people.customer_id, people.as_of_date
)

select
    people.customer_id,
    people.as_of_date,
    case when people.is_complete then coalesce(orders.horizon_purchase_days, 0) end as horizon_purchase_days,
    case when people.is_complete then coalesce(orders.horizon_value, 0) end as horizon_value_amount,
    case when people.is_year_complete then coalesce(orders.year_purchase_days, 0) end as year_purchase_days,
    case when people.is_year_complete then coalesce(orders.year_value, 0) end as year_value_amount,
    case when people.is_complete then coalesce(subscriptions.subscribes_at_end, 0) end as subscribes_at_end
from people
left join orders on orders.customer_id = people.customer_id and orders.as_of_date = people.as_of_date
left join subscriptions on subscriptions.customer_id = people.customer_id and subscriptions.as_of_date = people.as_of_date
