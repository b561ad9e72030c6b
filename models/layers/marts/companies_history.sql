select
    versions.record_id || ':' || cast(versions.valid_from as varchar) as company_version_id,
    versions.record_id as company_id,
    resolved.customer_id,
    versions.valid_from,
    case
        when versions.valid_to is not null then least(versions.valid_to, companies.deleted_at)
        else companies.deleted_at
    end as valid_to,
    versions.name,
    versions.domain,
    versions.industry,
    versions.employee_count,
    versions.annual_revenue as annual_revenue_amount,
    companies.currency,
    versions.country_code,
    versions.region,
    versions.city,
    versions.company_id as parent_company_id,
    versions.owner_id
from {{ ref('int_records__versioned') }} as versions
inner join {{ ref('stg_canonical__companies') }} as companies on companies.company_id = versions.record_id
left join {{ ref('int_records__resolved') }} as resolved
    on resolved.record_type = 'company' and resolved.record_id = versions.record_id
where
    versions.record_type = 'company'
    and not coalesce(resolved.is_test, companies.is_test)
    and (companies.deleted_at is null or companies.deleted_at > versions.valid_from)
