{# Who each customer is, as identity resolution chose from its records, with the organisation's own words beside. Test accounts are out. #}
with test_customers as (
    select distinct customer_id
    from {{ ref('int_records__resolved') }}
    where is_test
)

select
    customers.customer_id,
    customers.customer_type,
    coalesce(customers.name, nullif(trim(coalesce(customers.first_name, '') || ' ' || coalesce(customers.last_name, '')), '')) as name,
    customers.email,
    customers.phone,
    customers.first_name,
    customers.last_name,
    customers.organisation_id,
    organisations.name as organisation_name,
    coalesce(customers.industry, organisations.industry) as industry,
    coalesce(customers.employee_count, organisations.employee_count) as employee_count,
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
    {{ local_date('customers.created_at') }} as created_date,
    customers.updated_at,
    customers.is_known,
    customers.is_lead_only,
    customers.is_deleted,
    case when customers.is_deleted then customers.deleted_at end as deleted_at,
    customers.source_count
from {{ source('identity', 'customer_attributes') }} as customers
left join test_customers on test_customers.customer_id = customers.customer_id
left join {{ source('identity', 'customer_attributes') }} as organisations
    on organisations.customer_id = customers.organisation_id and organisations.customer_type = 'organisation'
where test_customers.customer_id is null
