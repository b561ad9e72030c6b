with current_rows as (
{{ current_version('marketing_spend', ['spend_date', 'channel', 'campaign_id', 'cost_kind'], event_time='spend_date', event_is_day=true) }}
)

select
    _source || ':' || cast(spend_date as varchar) || ':' || channel || ':' || coalesce(campaign_id, '') || ':' || coalesce(cost_kind, '') as spend_id,
    spend_date,
    channel,
    {{ qualified('campaign_id') }} as campaign_id,
    coalesce(cost_kind, 'ad') as cost_kind,
    amount,
    {{ currency_code('currency') }} as currency,
    impressions,
    clicks,
    _gone_at as deleted_at,
    _source
from current_rows
