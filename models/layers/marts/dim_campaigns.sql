with campaigns as (
    select *, {{ local_date('starts_at') }} as starts_date, {{ local_date('ends_at') }} as ends_date
    from {{ ref('stg_canonical__campaigns') }}
    where deleted_at is null
)

select
    campaigns.campaign_id,
    campaigns.name,
    campaigns.channel,
    campaigns.kind,
    campaigns.starts_at,
    campaigns.starts_date,
    campaigns.ends_at,
    campaigns.ends_date,
    campaigns.budget_amount,
    campaigns.currency,
    {{ converted('campaigns.budget_amount', rate_of('rates', 'campaigns.currency')) }} as budget_amount_reporting,
    campaigns.parent_campaign_id
from campaigns
{{ join_rate('rates', 'campaigns.currency', 'campaigns.starts_date') }}
