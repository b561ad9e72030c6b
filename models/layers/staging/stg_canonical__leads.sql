with current_rows as (
{{ current_version('leads', ['lead_id'], event_time='created_at', has_updated_at=true) }}
)

select
    {{ qualified('lead_id') }} as lead_id,
    {{ qualified('contact_id') }} as contact_id,
    email,
    phone,
    first_name,
    last_name,
    company_name,
    channel,
    {{ qualified('campaign_id') }} as campaign_id,
    status,
    rating,
    {{ qualified('owner_id') }} as owner_id,
    created_at,
    updated_at,
    converted_at,
    {{ qualified('converted_contact_id') }} as converted_contact_id,
    {{ qualified('converted_deal_id') }} as converted_deal_id,
    disqualified_at,
    disqualified_reason,
    {{ json_text('_custom', 'country_code') }} as country_code,
    _custom as custom_fields,
    coalesce(deleted_at, _gone_at) as deleted_at,
    _source
from current_rows
