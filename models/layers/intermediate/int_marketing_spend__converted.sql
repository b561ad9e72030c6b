select
    spend.spend_id,
    spend.spend_date,
    spend.channel,
    spend.campaign_id,
    spend.cost_kind,
    spend.amount,
    spend.currency,
    spend.impressions,
    spend.clicks,
    {{ rate_of('rates', 'spend.currency') }} as rate_to_reporting,
    spend._source
from {{ ref('stg_canonical__marketing_spend') }} as spend
{{ join_rate('rates', 'spend.currency', 'spend.spend_date') }}
where spend.deleted_at is null
