-- A customer is active on a day with a counted order or an interaction (customer-initiated or two-way contact).
select distinct
    customer_id,
    active_date
from (
    select customer_id, ordered_date as active_date
    from {{ ref('fct_orders') }}
    where is_counted
    union all
    select customer_id, occurred_date as active_date
    from {{ ref('fct_activities') }}
    where is_interaction
) as days
where customer_id is not null and active_date is not null
