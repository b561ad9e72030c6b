with current_rows as (
{{ current_version('orders', ['order_id'], event_time='ordered_at', has_updated_at=true) }}
)

select
    {{ qualified('order_id') }} as order_id,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('company_id') }} as company_id,
    {{ qualified('deal_id') }} as deal_id,
    ordered_at,
    status,
    {{ currency_code('currency') }} as currency,
    gross_amount,
    discount_amount,
    tax_amount,
    shipping_amount,
    net_amount,
    channel,
    country_code,
    coalesce(is_test, false) as is_test,
    updated_at,
    coalesce(deleted_at, _gone_at) as deleted_at,
    _source
from current_rows
