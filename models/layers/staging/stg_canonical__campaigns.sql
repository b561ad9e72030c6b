with current_rows as (
{{ current_version('campaigns', ['campaign_id']) }}
)

select
    {{ qualified('campaign_id') }} as campaign_id,
    name,
    channel,
    kind,
    starts_at,
    ends_at,
    budget_amount,
    {{ currency_code('currency') }} as currency,
    {{ qualified('parent_campaign_id') }} as parent_campaign_id,
    _gone_at as deleted_at,
    _source
from current_rows
