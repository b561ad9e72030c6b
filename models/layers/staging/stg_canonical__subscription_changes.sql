with current_rows as (
{{ current_version('subscription_changes', ['subscription_id', 'changed_at'], event_time='changed_at') }}
)

select
    _source || ':' || subscription_id || ':' || cast(changed_at as varchar) as subscription_change_id,
    {{ qualified('subscription_id') }} as subscription_id,
    changed_at,
    plan,
    interval,
    quantity,
    amount,
    nullif(upper(trim(currency)), '') as currency,
    _gone_at as deleted_at,
    _source
from current_rows
