select
    spend_id,
    spend_date,
    channel,
    campaign_id,
    cost_kind,
    amount,
    currency,
    {{ converted('amount', 'rate_to_reporting') }} as amount_reporting,
    impressions,
    clicks
from {{ ref('int_marketing_spend__converted') }}
where rate_to_reporting is not null
