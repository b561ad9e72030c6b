select
    companies.company_id,
    resolved.customer_id,
    companies.name,
    companies.domain,
    companies.industry,
    companies.employee_count,
    companies.annual_revenue as annual_revenue_amount,
    companies.currency,
    companies.country_code,
    companies.region,
    companies.city,
    coalesce(parents.survivor_id, companies.parent_company_id) as parent_company_id,
    companies.owner_id,
    companies.created_at,
    companies.updated_at,
    companies.deleted_at is not null as is_deleted
from {{ ref('stg_canonical__companies') }} as companies
left join {{ ref('int_records__resolved') }} as resolved
    on resolved.record_type = 'company' and resolved.record_id = companies.company_id
left join {{ ref('int_records__resolved') }} as parents
    on parents.record_type = 'company' and parents.record_id = companies.parent_company_id
where not coalesce(resolved.is_merged, false) and not coalesce(resolved.is_test, companies.is_test)
