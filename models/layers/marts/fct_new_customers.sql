select
    acquired.customer_id,
    acquired.acquired_at,
    {{ local_date('acquired.acquired_at') }} as acquired_date,
    acquired.acquisition_kind,
    customers.acquisition_channel as channel,
    customers.acquisition_campaign_id as campaign_id,
    customers.country_code,
    customers.segment,
    acquired.first_amount_reporting
from {{ ref('int_customers__acquired') }} as acquired
inner join {{ ref('dim_customers') }} as customers on customers.customer_id = acquired.customer_id
