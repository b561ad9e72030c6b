{#
    Customers as their records told at the time. At each instant at which any record of a customer changed, each attribute is that of
    the most recently changed record that has it. Rows that repeat the one before are dropped,
    and where all records were away there is none.
#}
{%- set attributes = ['industry', 'employee_count', 'country_code', 'region', 'city', 'language', 'lifecycle_stage', 'acquisition_channel', 'owner_id', 'organisation_id'] -%}
with versions as (
    select
        resolved.customer_id,
        organisations.customer_id as organisation_id,
        versions.industry,
        versions.employee_count,
        versions.country_code,
        versions.region,
        versions.city,
        versions.language,
        versions.lifecycle_stage,
        versions.acquisition_channel,
        versions.owner_id,
        versions.valid_from,
        versions.valid_to,
        row_number() over (partition by resolved.customer_id order by versions.valid_from, versions.record_id) as version_number
    from {{ ref('int_records__versioned') }} as versions
    inner join {{ ref('int_records__resolved') }} as resolved
        on resolved.record_type = versions.record_type and resolved.record_id = versions.record_id
    left join {{ ref('int_records__resolved') }} as organisations
        -- a condition on the left side alone makes it a nested loop: minutes for a million contacts
        on organisations.record_type = 'company' and organisations.record_id = case when versions.record_type = 'contact' then versions.company_id end
    where not resolved.is_test and not resolved.is_merged
),

instants as (
    select customer_id, valid_from from versions
    union
    select customer_id, valid_to from versions where valid_to is not null
),

states as (
    select
        instants.customer_id,
        instants.valid_from,
        count(versions.customer_id) as record_count
        {%- for attribute in attributes %},
        {{ value_at_max('versions.' ~ attribute, 'versions.version_number') }} as {{ attribute }}
        {%- endfor %}
    from instants
    left join versions
        on versions.customer_id = instants.customer_id
        and versions.valid_from <= instants.valid_from
        and {{ end_of('versions') }} > instants.valid_from
    group by instants.customer_id, instants.valid_from
),

compared as (
    select *, lag(state) over (partition by customer_id order by valid_from) as former_state
    from (
        select *, case when record_count = 0 then 'away' else {{ fingerprint(attributes) }} end as state
        from states
    ) as fingerprinted
),

bounded as (
    select *, lead(valid_from) over (partition by customer_id order by valid_from) as valid_to
    from compared
    where former_state is null or former_state <> state
)

select
    customer_id,
    valid_from,
    valid_to
    {%- for attribute in attributes %},
    {{ attribute }}
    {%- endfor %}
from bounded
where record_count > 0
