with current_rows as (
{{ current_version('refunds', ['refund_id'], event_time='refunded_at') }}
)

select
    {{ qualified('refund_id') }} as refund_id,
    {{ qualified('order_id') }} as order_id,
    {{ qualified('contact_id') }} as contact_id,
    refunded_at,
    amount,
    nullif(upper(trim(currency)), '') as currency,
    reason,
    _gone_at as deleted_at,
    _source
from current_rows
