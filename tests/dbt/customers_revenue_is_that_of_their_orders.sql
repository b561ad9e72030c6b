-- Accounting identity: revenue over customers plus revenue without a customer is the revenue of all counted orders.
select *
from (
    select
        (select coalesce(sum(net_revenue_reporting), 0) from {{ ref('dim_customers') }}) as of_customers,
        (select coalesce(sum(net_revenue_reporting), 0) from {{ ref('fct_orders') }} where is_counted and customer_id is null) as without_customer,
        (select coalesce(sum(net_revenue_reporting), 0) from {{ ref('fct_orders') }} where is_counted) as of_orders
) as sums
where of_customers + without_customer <> of_orders
