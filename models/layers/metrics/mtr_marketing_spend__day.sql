-- Sales and marketing cost a day, with the day it counts for when it is shifted by the time from lead to customer: the median of whole
-- days from a new customer's latest lead to the first payment.
with first_leads as (
    select
        customers.customer_id,
        customers.acquired_at,
        max(leads.created_at) as created_at
    from {{ ref('fct_new_customers') }} as customers
    inner join {{ ref('fct_leads') }} as leads
        on customers.customer_id = leads.customer_id and leads.created_at <= customers.acquired_at
    group by 1, 2
),

lag as (
    select cast(round(coalesce({{ quantile(seconds_between('created_at', 'acquired_at'), 0.5) }}, 0) / 86400) as integer) as days
    from first_leads
)

select
    spend.spend_date,
    cast({{ add_days('spend.spend_date', 'lag.days') }} as date) as lagged_date,
    spend.channel,
    spend.campaign_id,
    spend.cost_kind,
    spend.currency,
    cast(sum(spend.amount_reporting) as decimal(18, 4)) as amount_reporting
from {{ ref('fct_marketing_spend') }} as spend
cross join lag
group by 1, 2, 3, 4, 5, 6
