with refunds as (
    select order_id, sum({{ converted('amount', 'order_rate_to_reporting') }}) as refunded_amount_reporting, count(*) as refund_count
    from {{ ref('int_refunds__matched') }}
    where is_matched and not is_rate_missing
    group by order_id
),

orders as (
    select
        orders.*,
        {{ converted('orders.gross_amount', 'orders.rate_to_reporting') }} as gross_amount_reporting,
        {{ converted('orders.net_amount', 'orders.rate_to_reporting') }} as net_amount_reporting,
        {{ money('coalesce(refunds.refunded_amount_reporting, 0)') }} as refunded_amount_reporting,
        -- amounts are rounded to four digits one by one, so a refund in parts may miss the whole by less than a cent
        coalesce(orders.net_amount > 0
            and {{ converted('orders.net_amount', 'orders.rate_to_reporting') }} - refunds.refunded_amount_reporting < 0.005, false) as is_fully_refunded
    from {{ ref('int_orders__priced') }} as orders
    left join refunds on refunds.order_id = orders.order_id
    where orders.is_in_facts
),

numbered as (
    select
        *,
        case when is_counted and customer_id is not null
            then row_number() over (partition by customer_id, is_counted order by ordered_at, order_id)
        end as order_number
    from orders
)

select
    order_id,
    customer_id,
    contact_id,
    company_id,
    deal_id,
    ordered_at,
    ordered_date,
    status,
    is_counted,
    currency,
    gross_amount,
    discount_amount,
    tax_amount,
    shipping_amount,
    net_amount,
    net_amount_origin,
    gross_amount_reporting,
    net_amount_reporting,
    refunded_amount_reporting,
    {{ money('net_amount_reporting - refunded_amount_reporting') }} as net_revenue_reporting,
    is_fully_refunded,
    is_counted and coalesce(net_amount > 0, false) and not is_fully_refunded as is_valued,
    channel,
    country_code,
    order_number,
    coalesce(order_number = 1, false) as is_first_order,
    _source as source
from numbered
