with current_rows as (
{{ current_version('deals', ['deal_id'], event_time='created_at', has_updated_at=true) }}
)

select
    {{ qualified('deal_id') }} as deal_id,
    name,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('company_id') }} as company_id,
    pipeline,
    stage,
    amount,
    {{ currency_code('currency') }} as currency,
    probability,
    forecast_category,
    channel,
    {{ qualified('campaign_id') }} as campaign_id,
    {{ qualified('owner_id') }} as owner_id,
    created_at,
    expected_close_date,
    closed_at,
    is_won,
    is_lost,
    lost_reason,
    coalesce(is_test, false) as is_test,
    updated_at,
    {{ version_time() }} as versioned_at,
    {{ qualified('merged_into_id') }} as merged_into_id,
    coalesce(deleted_at, _gone_at) as deleted_at,
    _source
from current_rows
