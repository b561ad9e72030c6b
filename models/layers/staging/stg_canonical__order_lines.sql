with current_rows as (
{{ current_version('order_lines', ['order_id', 'line_id']) }}
)

select
    _source || ':' || order_id || ':' || line_id as order_line_id,
    {{ qualified('order_id') }} as order_id,
    line_id,
    {{ qualified('product_id') }} as product_id,
    quantity,
    unit_price,
    discount_amount,
    unit_cost,
    _gone_at as deleted_at,
    _source
from current_rows
