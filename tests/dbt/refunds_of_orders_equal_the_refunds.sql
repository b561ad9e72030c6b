
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- Accounting identity: what orders say was refunded is what the matched refunds say, to the last digit.
select refunds.order_id, orders.refunded_amount_reporting, refunds.amount
from (
    select order_id, sum(amount_at_order_rate_reporting) as amount
    from "warehouse"."marts"."fct_refunds"
    where is_matched
    group by order_id
) as refunds
full outer join (
    select order_id, refunded_amount_reporting from "warehouse"."marts"."fct_orders" where refunded_amount_reporting <> 0
) as orders on orders.order_id = refunds.order_id
where coalesce(orders.refunded_amount_reporting, 0) <> coalesce(refunds.amount, 0)
  
  
      
    ) dbt_internal_test