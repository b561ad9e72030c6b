{# Who each customer is: the records behind it, and the attributes that identity resolution chose from them. Test accounts are out. #}
with records as (
    select
        'contact' as record_type, contact_id as record_id, company_id, created_at, updated_at, deleted_at, _source
    from {{ ref('stg_canonical__contacts') }}
    union all
    select 'company', company_id, null, created_at, updated_at, deleted_at, _source
    from {{ ref('stg_canonical__companies') }}
    union all
    select 'lead', lead_id, null, created_at, updated_at, deleted_at, _source
    from {{ ref('stg_canonical__leads') }}
),

members as (
    select
        resolved.customer_id,
        case resolved.record_type when 'company' then 'organisation' else 'person' end as customer_type,
        records.record_id is not null as is_known,
        records.record_id,
        organisations.customer_id as organisation_id,
        records.created_at,
        records.updated_at,
        records.deleted_at,
        records._source,
        row_number() over (
            partition by resolved.customer_id
            order by
                case when organisations.customer_id is null then 1 else 0 end,
                case when records.deleted_at is null then 0 else 1 end,
                records.updated_at desc nulls last, records.created_at desc nulls last, resolved.record_id
        ) as organisation_choice
    from {{ ref('int_records__resolved') }} as resolved
    left join records on records.record_type = resolved.record_type and records.record_id = resolved.record_id
    left join {{ ref('int_records__resolved') }} as organisations
        on organisations.record_type = 'company' and organisations.record_id = records.company_id
    where not resolved.is_test and not resolved.is_merged
),

customers as (
    select
        customer_id,
        min(customer_type) as customer_type,
        max(case when organisation_choice = 1 then organisation_id end) as organisation_id,
        min(created_at) as created_at,
        max(updated_at) as updated_at,
        count(record_id) > 0 as is_known,
        count(record_id) > 0 and count(record_id) = count(deleted_at) as is_deleted,
        max(deleted_at) as last_deleted_at,
        count(distinct _source) as source_count
    from members
    group by customer_id
)

select
    customers.customer_id,
    customers.customer_type,
    coalesce(attributes.name, nullif(trim(coalesce(attributes.first_name, '') || ' ' || coalesce(attributes.last_name, '')), '')) as name,
    attributes.email,
    attributes.phone,
    attributes.first_name,
    attributes.last_name,
    customers.organisation_id,
    coalesce(attributes.industry, organisation.industry) as industry,
    coalesce(attributes.employee_count, organisation.employee_count) as employee_count,
    organisation.name as organisation_name,
    attributes.country_code,
    attributes.region,
    attributes.city,
    attributes.postal_code,
    attributes.language,
    attributes.gender,
    attributes.birth_date,
    attributes.lifecycle_stage,
    attributes.acquisition_channel,
    attributes.acquisition_campaign_id,
    attributes.owner_id,
    customers.created_at,
    {{ local_date('customers.created_at') }} as created_date,
    customers.updated_at,
    customers.is_known,
    customers.is_deleted,
    case when customers.is_deleted then customers.last_deleted_at end as deleted_at,
    customers.source_count
from customers
left join {{ source('identity', 'customer_attributes') }} as attributes on attributes.customer_id = customers.customer_id
left join {{ source('identity', 'customer_attributes') }} as organisation on organisation.customer_id = customers.organisation_id
