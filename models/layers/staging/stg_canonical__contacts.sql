with current_rows as (
{{ current_version('contacts', ['contact_id'], has_updated_at=true) }}
)

select
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('company_id') }} as company_id,
    email,
    phone,
    first_name,
    last_name,
    birth_date,
    gender,
    country_code,
    region,
    city,
    postal_code,
    language,
    lifecycle_stage,
    acquisition_channel,
    {{ qualified('acquisition_campaign_id') }} as acquisition_campaign_id,
    {{ qualified('owner_id') }} as owner_id,
    coalesce(is_test, false) as is_test,
    created_at,
    updated_at,
    {{ qualified('merged_into_id') }} as merged_into_id,
    coalesce(deleted_at, _gone_at) as deleted_at,
    _source
from current_rows
