-- Accounting identity: what orders say was refunded is what the matched refunds say, to the last digit.
select refunds.order_id, orders.refunded_amount_reporting, refunds.amount
from (
    select order_id, sum(amount_at_order_rate_reporting) as amount
    from {{ ref('fct_refunds') }}
    where is_matched
    group by order_id
) as refunds
full outer join (
    select order_id, refunded_amount_reporting from {{ ref('fct_orders') }} where refunded_amount_reporting <> 0
) as orders on orders.order_id = refunds.order_id
where coalesce(orders.refunded_amount_reporting, 0) <> coalesce(refunds.amount, 0)
