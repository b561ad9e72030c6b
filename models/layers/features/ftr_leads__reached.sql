{# When a lead became business: converted, its deal won, or the first order of somebody who had none before, whichever comes first. #}
with deals as (
    select lead_id, min(closed_at) as won_at from {{ ref('fct_deals') }} where is_won and lead_id is not null group by lead_id
),

converted as (
    select deal_id, closed_at from {{ ref('fct_deals') }} where is_won
)

select
    leads.lead_id,
    leads.customer_id,
    leads.channel,
    leads.country_code,
    leads.campaign_id,
    leads.created_at,
    leads.created_date,
    leads.disqualified_at,
    least(
        leads.converted_at, deals.won_at, converted.closed_at, case when customers.first_order_at >= leads.created_at then customers.first_order_at end
    ) as reached_at,
    {{ local_date('least(leads.converted_at, deals.won_at, converted.closed_at, case when customers.first_order_at >= leads.created_at then customers.first_order_at end)') }} as reached_date
from {{ ref('fct_leads') }} as leads
left join deals on deals.lead_id = leads.lead_id
left join converted on converted.deal_id = leads.converted_deal_id
left join {{ ref('dim_customers') }} as customers on customers.customer_id = leads.customer_id
