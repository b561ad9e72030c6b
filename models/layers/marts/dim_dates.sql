{#
    The calendar of the reporting time zone, from the first known day of the business to 400 days after the as-of instant, so that
    targets and expected closings find their day. A day is complete when it ended before the watermark and no ingestion gap
    touches it.
#}
{%- set firsts = {
    'orders': 'ordered_at', 'leads': 'created_at', 'deals': 'created_at', 'subscriptions': 'started_at', 'contacts': 'created_at',
    'companies': 'created_at', 'touchpoints': 'occurred_at', 'events': 'occurred_at', 'activities': 'occurred_at',
    'tickets': 'created_at', 'campaign_members': 'sent_at', 'survey_responses': 'offered_at', 'refunds': 'refunded_at'} -%}
with firsts as (
    {% for entity, column in firsts.items() -%}
    select min({{ column }}) as first_at from {{ source('landing', entity) }} where {{ column }} >= timestamp '1970-01-01 00:00:00'
    {% if not loop.last %}union all
    {% endif %}
    {%- endfor %}
    union all
    select cast(min(spend_date) as timestamp) from {{ source('landing', 'marketing_spend') }} where spend_date >= date '1970-01-01'
),

bounds as (
    select
        cast({{ date_trunc_to('year', local_date('least(coalesce(min(first_at), ' ~ setting('as_of') ~ '), ' ~ setting('as_of') ~ ')')) }} as date) as first_day,
        cast({{ add_days(local_date(setting('as_of')), 400) }} as date) as last_day
    from firsts
),

days as (
    {{ day_series('(select first_day from bounds)', '(select last_day from bounds)') }}
),

instants as (
    select
        date_day,
        {{ day_start('date_day') }} as starts_at,
        {{ day_start(add_days('date_day', 1)) }} as ends_at
    from days
),

gaps as (
    select instants.date_day
    from instants
    inner join {{ source('ops', 'ingestion_gaps') }} as gaps
        on gaps.starts_at < instants.ends_at and gaps.ends_at > instants.starts_at
    group by instants.date_day
)

select
    instants.date_day,
    instants.starts_at,
    instants.ends_at,
    cast({{ seconds_between('instants.starts_at', 'instants.ends_at') }} / 3600 as double) as hours_in_day,
    cast({{ iso_weekday('instants.date_day') }} as integer) as iso_weekday,
    {{ iso_weekday('instants.date_day') }} >= 6 as is_weekend,
    cast({{ iso_year('instants.date_day') }} as integer) as iso_year,
    cast(extract(week from instants.date_day) as integer) as iso_week,
    {{ date_trunc_to('week', 'instants.date_day') }} as iso_week_start,
    {{ period_start('week', 'instants.date_day') }} as week_start,
    {{ period_start('month', 'instants.date_day') }} as month_start,
    {{ period_start('quarter', 'instants.date_day') }} as quarter_start,
    {{ period_start('year', 'instants.date_day') }} as year_start,
    {{ period_start('fiscal_quarter', 'instants.date_day') }} as fiscal_quarter_start,
    {{ period_start('fiscal_year', 'instants.date_day') }} as fiscal_year_start,
    -- a fiscal year carries the number of the calendar year it ends in
    cast(extract(year from {{ add_months(period_start('fiscal_year', 'instants.date_day'), 11) }}) as integer) as fiscal_year,
    instants.ends_at <= {{ setting('watermark') }} and gaps.date_day is null as is_complete
from instants
left join gaps on gaps.date_day = instants.date_day
