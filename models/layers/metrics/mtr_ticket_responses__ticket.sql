-- Hours to the first response within business hours: Monday to Friday, 9 to 17 o'clock of the reporting zone, the common office day.
-- Public holidays are not known here and count as working days.
{%- set opens, closes = 9 * 3600, 17 * 3600 %}
with answered as (
    select
        ticket_id,
        created_date,
        {{ local_timestamp('created_at') }} as opened_at,
        {{ local_timestamp('first_response_at') }} as answered_at
    from {{ ref('fct_tickets') }}
    where first_response_at >= created_at
),

days as (
    select
        answered.ticket_id,
        answered.created_date,
        {{ seconds_between('cast(dates.date_day as timestamp)', 'answered.opened_at') }} as opened_second,
        {{ seconds_between('cast(dates.date_day as timestamp)', 'answered.answered_at') }} as answered_second
    from answered
    left join {{ ref('dim_dates') }} as dates
        on dates.date_day between cast(answered.opened_at as date) and cast(answered.answered_at as date)
        and {{ iso_weekday('dates.date_day') }} <= 5
)

select
    ticket_id,
    created_date,
    coalesce(sum(greatest(least(answered_second, {{ closes }}) - greatest(opened_second, {{ opens }}), 0)), 0) / 3600 as business_hours
from days
group by ticket_id, created_date
