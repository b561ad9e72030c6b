select product_id, name, category, subcategory, unit_price, unit_cost, currency, coalesce(is_active, true) as is_active, updated_at
from {{ ref('stg_canonical__products') }}
where deleted_at is null
