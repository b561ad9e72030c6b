select
    deals.deal_id,
    deals.customer_id,
    deals.contact_id,
    deals.company_id,
    leads.lead_id,
    deals.name,
    deals.pipeline,
    deals.stage,
    cast(deals.stage_position as integer) as stage_position,
    deals.amount,
    deals.currency,
    {{ converted('deals.amount', 'deals.rate_to_reporting') }} as amount_reporting,
    deals.probability,
    deals.forecast_category,
    deals.channel,
    deals.campaign_id,
    deals.owner_id,
    -- a representative's numbers count the deal for whoever owned it just before it closed
    coalesce(before_closing.owner_id, deals.owner_id) as closing_owner_id,
    deals.created_at,
    deals.created_date,
    deals.expected_close_date,
    deals.closed_at,
    deals.closed_date,
    deals.is_won,
    deals.is_lost,
    deals.is_open,
    deals.lost_reason,
    -- a closing entered as a mere day lies before a creation on the same day; an earlier day is an error and has no length
    case
        when deals.closed_at >= deals.created_at then {{ seconds_between('deals.created_at', 'deals.closed_at') }} / 86400
        when deals.closed_date = deals.created_date then cast(0 as double)
    end as cycle_days
from {{ ref('int_deals__resolved') }} as deals
left join {{ ref('int_deals__dated') }} as before_closing
    on before_closing.deal_id = case when deals.is_won or deals.is_lost then deals.deal_id end
    and before_closing.valid_from < deals.closed_at
    and {{ end_of('before_closing') }} >= deals.closed_at
left join (
    select coalesce(resolved.survivor_id, leads.converted_deal_id) as deal_id, min(leads.lead_id) as lead_id
    from {{ ref('stg_canonical__leads') }} as leads
    left join {{ ref('int_deals__resolved') }} as resolved on resolved.deal_id = leads.converted_deal_id
    where leads.deleted_at is null and leads.converted_deal_id is not null
    group by 1
) as leads on leads.deal_id = deals.deal_id
where
    not deals.is_test and not deals.is_merged and deals.deleted_at is null
    and (deals.amount is null or deals.rate_to_reporting is not null)
