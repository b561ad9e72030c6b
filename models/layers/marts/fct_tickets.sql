{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
select
    tickets.ticket_id,
    {{ resolved_customer(by) }} as customer_id,
    tickets.channel,
    tickets.category,
    tickets.priority,
    tickets.status,
    tickets.created_at,
    {{ local_date('tickets.created_at') }} as created_date,
    tickets.first_response_at,
    tickets.first_solved_at,
    tickets.solved_at,
    coalesce(tickets.reopen_count, 0) as reopen_count,
    tickets.owner_id,
    {{ seconds_between('tickets.created_at', 'tickets.first_response_at') }} / 3600 as first_response_hours,
    {{ seconds_between('tickets.created_at', 'tickets.solved_at') }} / 3600 as resolution_hours
from {{ ref('stg_canonical__tickets') }} as tickets
{{ join_customer('tickets', by) }}
where tickets.deleted_at is null and not {{ is_test_fact(by) }}
