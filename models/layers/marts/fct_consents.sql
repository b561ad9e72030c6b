{%- set by = {'contact': 'contact_id'} -%}
select
    consents.consent_id,
    {{ resolved_customer(by) }} as customer_id,
    {{ survivor('contact', 'consents.contact_id') }} as contact_id,
    consents.channel,
    consents.purpose,
    consents.status,
    consents.recorded_at,
    consents.expires_at,
    -- the last word of a person counts; of two at the same instant, the one that protects them
    row_number() over (
        partition by coalesce({{ resolved_customer(by) }}, consents.contact_id), consents.channel, consents.purpose
        order by consents.recorded_at desc, case when consents.status = 'granted' then 1 else 0 end, consents.consent_id desc
    ) = 1 as is_latest,
    consents.status = 'granted' and (consents.expires_at is null or consents.expires_at > {{ setting('as_of') }}) as is_granting
from {{ ref('stg_canonical__consents') }} as consents
{{ join_customer('consents', by) }}
where consents.deleted_at is null and not {{ is_test_fact(by) }}
