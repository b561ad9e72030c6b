with current_rows as (
{{ current_version('survey_responses', ['response_id'], event_time='coalesce(offered_at, responded_at)') }}
)

select
    {{ qualified('response_id') }} as response_id,
    kind,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('ticket_id') }} as ticket_id,
    {{ qualified('order_id') }} as order_id,
    offered_at,
    responded_at,
    score,
    _gone_at as deleted_at,
    _source
from current_rows
