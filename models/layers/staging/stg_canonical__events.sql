with current_rows as (
{{ current_version('events', ['event_id'], event_time='occurred_at') }}
)

select
    {{ qualified('event_id') }} as event_id,
    {{ qualified('contact_id') }} as contact_id,
    anonymous_id,
    name,
    occurred_at,
    coalesce(sequence, 0) as sequence,
    properties,
    _gone_at as deleted_at,
    _source
from current_rows
