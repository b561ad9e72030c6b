with current_rows as (
{{ current_version('campaign_members', ['campaign_id', 'member_id'], event_time='sent_at') }}
)

select
    _source || ':' || campaign_id || ':' || member_id as campaign_member_id,
    {{ qualified('campaign_id') }} as campaign_id,
    member_id,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('lead_id') }} as lead_id,
    variant,
    coalesce(is_control, false) as is_control,
    sent_at,
    delivered_at,
    bounced_at,
    first_opened_at,
    first_clicked_at,
    first_replied_at,
    responded_at,
    converted_at,
    unsubscribed_at,
    coalesce(is_suspected_bot, false) as is_suspected_bot,
    _gone_at as deleted_at,
    _source
from current_rows
