
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- Accounting identity: where an order's net amount comes from its lines, it is their sum less the order's discount.
select orders.order_id, orders.net_amount, lines.net_amount as lines_net_amount, orders.discount_amount
from "warehouse"."marts"."fct_orders" as orders
inner join (
    select order_id, sum(net_amount) as net_amount from "warehouse"."marts"."fct_order_lines" group by order_id
) as lines on lines.order_id = orders.order_id
where
    orders.net_amount_origin = 'lines'
    and abs(orders.net_amount - (lines.net_amount - coalesce(orders.discount_amount, 0))) > 0.001
  
  
      
    ) dbt_internal_test