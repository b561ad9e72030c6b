with current_rows as (
{{ current_version('consents', ['contact_id', 'channel', 'purpose', 'recorded_at'], event_time='recorded_at') }}
)

select
    _source || ':' || contact_id || ':' || channel || ':' || purpose || ':' || cast(recorded_at as varchar) as consent_id,
    {{ qualified('contact_id') }} as contact_id,
    channel,
    purpose,
    status,
    recorded_at,
    expires_at,
    _gone_at as deleted_at,
    _source
from current_rows
