{%- set by = {'contact': 'contact_id', 'lead': 'lead_id'} -%}
select
    touchpoints.touchpoint_id,
    {{ resolved_customer(by) }} as customer_id,
    touchpoints.lead_id,
    touchpoints.anonymous_id,
    touchpoints.occurred_at,
    {{ local_date('touchpoints.occurred_at') }} as occurred_date,
    touchpoints.channel,
    touchpoints.medium,
    touchpoints.source_name,
    touchpoints.campaign_id,
    touchpoints.sequence
from {{ ref('stg_canonical__touchpoints') }} as touchpoints
{{ join_customer('touchpoints', by) }}
where touchpoints.deleted_at is null and not {{ is_test_fact(by) }}
