with orders as (
    select
        customer_id,
        min(ordered_at) as first_order_at,
        max(ordered_at) as last_order_at,
        count(*) as order_count,
        sum(net_revenue_reporting) as net_revenue_reporting
    from {{ ref('fct_orders') }}
    where is_counted and customer_id is not null
    group by customer_id
),

subscriptions as (
    select
        customer_id,
        count(*) as active_subscription_count,
        sum(mrr_amount_reporting) as current_mrr_reporting
    from {{ ref('fct_subscriptions') }}
    where is_active and customer_id is not null
    group by customer_id
)

select
    customers.customer_id,
    customers.customer_type,
    customers.name,
    customers.email,
    customers.phone,
    customers.first_name,
    customers.last_name,
    customers.organisation_id,
    customers.organisation_name,
    customers.industry,
    customers.employee_count,
    customers.country_code,
    customers.region,
    customers.city,
    customers.postal_code,
    customers.language,
    customers.gender,
    customers.birth_date,
    customers.lifecycle_stage,
    customers.acquisition_channel,
    customers.acquisition_campaign_id,
    customers.owner_id,
    customers.created_at,
    customers.created_date,
    orders.first_order_at,
    orders.last_order_at,
    coalesce(orders.order_count, 0) as order_count,
    {{ money('coalesce(orders.net_revenue_reporting, 0)') }} as net_revenue_reporting,
    acquired.acquired_at as first_paid_at,
    {{ local_date('acquired.acquired_at') }} as first_paid_date,
    coalesce(subscriptions.active_subscription_count, 0) as active_subscription_count,
    {{ money('coalesce(subscriptions.current_mrr_reporting, 0)') }} as current_mrr_reporting,
    customers.is_known,
    customers.is_lead_only,
    customers.is_deleted,
    customers.source_count,
    coalesce(rfm.segment, case when orders.order_count > 0 then 'all refunded' else 'no orders' end) as segment
from {{ ref('int_customers__described') }} as customers
left join orders on orders.customer_id = customers.customer_id
left join subscriptions on subscriptions.customer_id = customers.customer_id
left join {{ ref('int_customers__acquired') }} as acquired on acquired.customer_id = customers.customer_id
left join {{ ref('fct_rfm_scores') }} as rfm on rfm.customer_id = customers.customer_id
