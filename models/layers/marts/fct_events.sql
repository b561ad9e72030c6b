{%- set by = {'contact': 'contact_id'} -%}
select
    events.event_id,
    {{ resolved_customer(by) }} as customer_id,
    events.anonymous_id,
    events.name,
    events.occurred_at,
    {{ local_date('events.occurred_at') }} as occurred_date,
    events.sequence,
    events.properties
from {{ ref('stg_canonical__events') }} as events
{{ join_customer('events', by) }}
where events.deleted_at is null and not {{ is_test_fact(by) }}
