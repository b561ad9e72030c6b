-- Hours to the first response, by the calendar and within business hours: Monday to Friday, 9 to 17 o'clock of the reporting zone,
-- the common office day; public holidays are not known here and count as working days.
with answered as (
    select
        ticket_id,
        created_date,
        {{ local_timestamp('created_at') }} as opened,
        {{ local_timestamp('first_response_at') }} as answered
    from {{ ref('fct_tickets') }}
    where first_response_at >= created_at
)

select
    answered.ticket_id,
    answered.created_date,
    cast(coalesce(sum(greatest(
        extract(epoch from least(answered.answered, cast(days.date_day as timestamp) + interval 17 hour))
        - extract(epoch from greatest(answered.opened, cast(days.date_day as timestamp) + interval 9 hour)), 0)), 0) / 3600 as double) as business_hours
from answered
left join {{ ref('dim_dates') }} as days
    on days.date_day between cast(answered.opened as date) and cast(answered.answered as date) and extract(isodow from days.date_day) <= 5
group by answered.ticket_id, answered.created_date
