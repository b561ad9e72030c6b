-- Spend a day, with the day it counts for when it is shifted by the median time from a lead to its won deal.
with lag as (
    select coalesce(cast(round(median(date_diff('day', leads.created_date, deals.closed_date))) as integer), 0) as days
    from {{ ref('fct_leads') }} as leads
    inner join {{ ref('fct_deals') }} as deals on leads.converted_deal_id = deals.deal_id
    where deals.is_won and deals.closed_date >= leads.created_date
)

select
    spend.spend_date,
    spend.spend_date + lag.days as lagged_date,
    spend.channel,
    spend.campaign_id,
    spend.cost_kind,
    spend.currency,
    cast(sum(spend.amount_reporting) as decimal(18, 4)) as amount_reporting
from {{ ref('fct_marketing_spend') }} as spend
cross join lag
group by 1, 2, 3, 4, 5, 6
