{# How many customers bought on a day, and how many of them for the first time: what a seasonal index is learned from. #}
with days as (
    select customer_id, ordered_date, min(ordered_date) over (partition by customer_id) as first_date
    from {{ ref('fct_orders') }}
    where is_counted and customer_id is not null
    group by customer_id, ordered_date
)

select
    ordered_date as purchase_date,
    count(*) as customer_count,
    count(case when ordered_date = first_date then 1 end) as first_time_count
from days
group by ordered_date
