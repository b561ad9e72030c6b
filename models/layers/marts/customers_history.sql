{#
    The last period of a customer carries what resolution says today, so that the history ends where `dim_customers` stands. Labels that
    change with every order (segment, counts) are no history of the customer and are read from the facts as of a day.
#}
{%- set attributes = ['industry', 'employee_count', 'country_code', 'region', 'city', 'language', 'lifecycle_stage', 'acquisition_channel', 'owner_id', 'organisation_id'] -%}
select
    dated.customer_id || ':' || cast(dated.valid_from as varchar) as customer_version_id,
    dated.customer_id,
    customers.customer_type,
    dated.valid_from,
    case
        when dated.valid_to is not null then least(dated.valid_to, customers.deleted_at)
        else customers.deleted_at
    end as valid_to
    {%- for attribute in attributes %},
    case when dated.valid_to is null then customers.{{ attribute }} else dated.{{ attribute }} end as {{ attribute }}
    {%- endfor %}
from {{ ref('int_customers__dated') }} as dated
inner join {{ ref('int_customers__described') }} as customers on customers.customer_id = dated.customer_id
where customers.deleted_at is null or customers.deleted_at > dated.valid_from
