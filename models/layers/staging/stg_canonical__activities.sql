with current_rows as (
{{ current_version('activities', ['activity_id'], event_time='occurred_at') }}
)

select
    {{ qualified('activity_id') }} as activity_id,
    kind,
    direction,
    is_customer_facing,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('company_id') }} as company_id,
    {{ qualified('deal_id') }} as deal_id,
    {{ qualified('owner_id') }} as owner_id,
    occurred_at,
    duration_seconds,
    outcome,
    _gone_at as deleted_at,
    _source
from current_rows
