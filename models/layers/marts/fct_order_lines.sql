with lines as (
    select
        lines.order_line_id,
        lines.order_id,
        orders.customer_id,
        lines.product_id,
        products.category,
        orders.ordered_at,
        orders.ordered_date,
        orders.is_counted,
        lines.quantity,
        lines.unit_price,
        {{ money('coalesce(lines.discount_amount, 0)') }} as discount_amount,
        {{ money('cast(lines.quantity as decimal(28, 4)) * lines.unit_price - coalesce(lines.discount_amount, 0)') }} as net_amount,
        lines.unit_cost as line_unit_cost,
        products.unit_cost as product_unit_cost,
        products.currency as product_currency,
        orders.currency,
        orders.rate_to_reporting
    from {{ ref('stg_canonical__order_lines') }} as lines
    inner join {{ ref('int_orders__priced') }} as orders on orders.order_id = lines.order_id and orders.is_in_facts
    left join {{ ref('dim_products') }} as products on products.product_id = lines.product_id
    where lines.deleted_at is null
)

select
    lines.order_line_id,
    lines.order_id,
    lines.customer_id,
    lines.product_id,
    lines.category,
    lines.ordered_at,
    lines.ordered_date,
    lines.is_counted,
    lines.quantity,
    lines.unit_price,
    lines.discount_amount,
    lines.net_amount,
    {{ converted('lines.net_amount', 'lines.rate_to_reporting') }} as net_amount_reporting,
    coalesce(lines.line_unit_cost, lines.product_unit_cost) as unit_cost,
    case
        when lines.line_unit_cost is not null
            then {{ converted('cast(lines.quantity as double) * lines.line_unit_cost', 'lines.rate_to_reporting') }}
        else {{ converted('cast(lines.quantity as double) * lines.product_unit_cost', rate_of('product_rates', 'lines.product_currency')) }}
    end as cost_amount_reporting,
    lines.currency
from lines
{{ join_rate('product_rates', 'lines.product_currency', 'lines.ordered_date') }}
