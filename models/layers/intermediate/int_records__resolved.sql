{# A customer is a test account when any of its records is marked so, has an address under a test domain, or belongs to a test company. #}
{#
    Identity resolution decides whose a record is. A record merged at its source gives way to the survivor, unless somebody has parted
    the two again.
#}
with members as (
    select node_type as record_type, source || ':' || source_id as record_id, customer_id
    from {{ source('identity', 'members') }}
),

followed as (
    select
        members.record_type,
        members.record_id,
        coalesce(survivors.record_id, members.record_id) as survivor_id,
        members.customer_id
    from members
    left join {{ ref('int_records__merged') }} as merged
        on merged.record_type = members.record_type and merged.record_id = members.record_id
    left join members as survivors
        on survivors.record_type = members.record_type
        and survivors.record_id = merged.survivor_id
        and survivors.customer_id = members.customer_id
),

test_companies as (
    select company_id
    from {{ ref('stg_canonical__companies') }}
    where is_test or {{ in_list('lower(trim(domain))', setting('test_email_domains')) }}
),

test_records as (
    select 'company' as record_type, company_id as record_id from test_companies
    union all
    select 'contact', contacts.contact_id
    from {{ ref('stg_canonical__contacts') }} as contacts
    left join test_companies on test_companies.company_id = contacts.company_id
    where
        contacts.is_test
        or test_companies.company_id is not null
        or {{ in_list(email_domain('contacts.email'), setting('test_email_domains')) }}
    union all
    select 'lead', lead_id
    from {{ ref('stg_canonical__leads') }}
    where {{ in_list(email_domain('email'), setting('test_email_domains')) }}
),

test_customers as (
    select distinct followed.customer_id
    from followed
    inner join test_records on test_records.record_type = followed.record_type and test_records.record_id = followed.record_id
)

select
    followed.record_type,
    followed.record_id,
    followed.survivor_id,
    followed.customer_id,
    followed.record_id <> followed.survivor_id as is_merged,
    test_customers.customer_id is not null as is_test
from followed
left join test_customers on test_customers.customer_id = followed.customer_id
