select
    refund_id,
    order_id,
    is_matched,
    customer_id,
    refunded_at,
    refunded_date,
    amount,
    currency,
    {{ converted('amount', 'rate_to_reporting') }} as amount_reporting,
    {{ converted('amount', 'order_rate_to_reporting') }} as amount_at_order_rate_reporting,
    reason
from {{ ref('int_refunds__matched') }}
where not is_rate_missing
