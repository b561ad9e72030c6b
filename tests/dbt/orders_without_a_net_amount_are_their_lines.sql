-- Accounting identity: where an order's net amount comes from its lines, it is their sum less the order's discount.
select orders.order_id, orders.net_amount, lines.net_amount as lines_net_amount, orders.discount_amount
from {{ ref('fct_orders') }} as orders
inner join (
    select order_id, sum(net_amount) as net_amount from {{ ref('fct_order_lines') }} group by order_id
) as lines on lines.order_id = orders.order_id
where
    orders.net_amount_origin = 'lines'
    and abs(orders.net_amount - (lines.net_amount - coalesce(orders.discount_amount, 0))) > 0.001
