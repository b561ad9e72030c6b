select
    dated.deal_id || ':' || cast(dated.valid_from as varchar) as deal_version_id,
    dated.deal_id,
    resolved.customer_id,
    dated.valid_from,
    dated.valid_to,
    dated.pipeline,
    dated.stage,
    cast(dated.stage_position as integer) as stage_position,
    dated.amount,
    dated.currency,
    -- at the one rate of the deal, so that an amount moves only when the deal's amount does
    {{ converted('dated.amount', 'resolved.rate_to_reporting') }} as amount_reporting,
    dated.probability,
    dated.forecast_category,
    dated.expected_close_date,
    dated.owner_id,
    -- where the deal came from is said once; it is not followed through time
    resolved.channel,
    resolved.campaign_id,
    coalesce(dated.is_won, false) as is_won,
    coalesce(dated.is_lost, false) and not coalesce(dated.is_won, false) as is_lost,
    not coalesce(dated.is_won, false) and not coalesce(dated.is_lost, false)
        -- closed, and nobody said how
        and not coalesce(not resolved.is_won and not resolved.is_lost and dated.valid_from >= resolved.closed_at, false) as is_open,
    resolved.created_at,
    resolved.closed_at
from {{ ref('int_deals__dated') }} as dated
inner join {{ ref('int_deals__resolved') }} as resolved on resolved.deal_id = dated.deal_id
where resolved.amount is null or resolved.rate_to_reporting is not null
