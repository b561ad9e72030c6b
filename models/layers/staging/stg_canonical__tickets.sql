with current_rows as (
{{ current_version('tickets', ['ticket_id'], event_time='created_at', has_updated_at=true) }}
)

select
    {{ qualified('ticket_id') }} as ticket_id,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('company_id') }} as company_id,
    channel,
    category,
    priority,
    status,
    created_at,
    first_response_at,
    first_solved_at,
    solved_at,
    reopen_count,
    {{ qualified('owner_id') }} as owner_id,
    updated_at,
    coalesce(deleted_at, _gone_at) as deleted_at,
    _source
from current_rows
