with current_rows as (
{{ current_version('products', ['product_id'], has_updated_at=true) }}
)

select
    {{ qualified('product_id') }} as product_id,
    name,
    category,
    subcategory,
    unit_price,
    unit_cost,
    {{ currency_code('currency') }} as currency,
    is_active,
    updated_at,
    _gone_at as deleted_at,
    _source
from current_rows
