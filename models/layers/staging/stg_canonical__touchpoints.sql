with current_rows as (
{{ current_version('touchpoints', ['touchpoint_id'], event_time='occurred_at') }}
)

select
    {{ qualified('touchpoint_id') }} as touchpoint_id,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('lead_id') }} as lead_id,
    anonymous_id,
    occurred_at,
    channel,
    medium,
    source_name,
    {{ qualified('campaign_id') }} as campaign_id,
    coalesce(sequence, 0) as sequence,
    _gone_at as deleted_at,
    _source
from current_rows
