{#
    Every landed version of contacts and companies and how long it held. A version begins when the source last changed it, else when it
    was loaded; the first one begins with the record itself, since nothing older is known. Versions with one time collapse into the last.
    A record that was away for a time has no version of that time.
#}
with versions as (
    select
        'contact' as record_type,
        _source || ':' || contact_id as record_id,
        _source || ':' || company_id as company_id,
        cast(null as varchar) as name,
        cast(null as varchar) as domain,
        cast(null as varchar) as industry,
        cast(null as bigint) as employee_count,
        cast(null as decimal(18, 4)) as annual_revenue,
        country_code,
        region,
        city,
        language,
        lifecycle_stage,
        acquisition_channel,
        _source || ':' || owner_id as owner_id,
        created_at,
        coalesce({{ version_time() }}, _loaded_at) as versioned_at,
        _batch_seq,
        _row_hash
    from {{ source('landing', 'contacts') }}
    where not coalesce(_is_tombstone, false)
    union all
    select
        'company',
        _source || ':' || company_id,
        _source || ':' || parent_company_id,
        name,
        domain,
        industry,
        employee_count,
        annual_revenue,
        country_code,
        region,
        city,
        null,
        null,
        null,
        _source || ':' || owner_id,
        created_at,
        coalesce({{ version_time() }}, _loaded_at),
        _batch_seq,
        _row_hash
    from {{ source('landing', 'companies') }}
    where not coalesce(_is_tombstone, false)
),

numbered as (
    select
        *,
        row_number() over (partition by record_type, record_id order by versioned_at, _batch_seq, _row_hash) as version,
        first_value(versioned_at) over (partition by record_type, record_id order by versioned_at, _batch_seq, _row_hash) as first_versioned_at,
        lead(versioned_at) over (partition by record_type, record_id order by versioned_at, _batch_seq, _row_hash) as valid_to
    from versions
),

bounded as (
    select *, case when versioned_at = first_versioned_at then least(created_at, versioned_at) else versioned_at end as valid_from
    from numbered
    where valid_to is null or valid_to > versioned_at
)

select
    bounded.record_type, bounded.record_id, company_id, name, domain, industry, employee_count, annual_revenue, country_code, region, city, language,
    lifecycle_stage, acquisition_channel, owner_id, version,
    greatest(bounded.valid_from, present.present_from) as valid_from,
    least(bounded.valid_to, present.present_to) as valid_to
from bounded
left join {{ ref('int_records__present') }} as present
    on present.record_type = bounded.record_type and present.record_id = bounded.record_id
where coalesce(least(bounded.valid_to, present.present_to) > greatest(bounded.valid_from, present.present_from), true)
