with current_rows as (
{{ current_version('companies', ['company_id'], has_updated_at=true) }}
)

select
    {{ qualified('company_id') }} as company_id,
    name,
    domain,
    industry,
    employee_count,
    annual_revenue,
    {{ currency_code('currency') }} as currency,
    country_code,
    region,
    city,
    {{ qualified('parent_company_id') }} as parent_company_id,
    {{ qualified('owner_id') }} as owner_id,
    coalesce(is_test, false) as is_test,
    created_at,
    updated_at,
    {{ qualified('merged_into_id') }} as merged_into_id,
    coalesce(deleted_at, _gone_at) as deleted_at,
    _source
from current_rows
