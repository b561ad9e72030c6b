{#
    Days at whose start behaviour is frozen. Customers: the scoring date, then cut-offs one churn window apart, and one and two years
    back for the value of a whole year. Leads and deals: a third of the lead window apart, because both are young only once.
    The scoring date is the local day of the watermark; a day is known once it is over.
#}
{%- set customer_steps = range(0, 9) -%}
{%- set lead_steps = range(0, 25) -%}
with bounds as (
    select
        {{ local_date(setting('watermark')) }} as scoring_date,
        {{ setting('watermark') }} as watermark,
        cast({{ setting('churn_window_days') }} as integer) as customer_horizon,
        cast({{ setting('lead_conversion_window_days') }} as integer) as lead_horizon
),

starts as (
    select 'customer' as subject, min(started_date) as first_date
    from (
        select min(ordered_date) as started_date from {{ ref('fct_orders') }} where is_counted and customer_id is not null
        union all
        select min(started_date) as started_date from {{ ref('fct_subscriptions') }}
    ) as begun
    union all
    select 'lead' as subject, min(created_date) as first_date from {{ ref('fct_leads') }}
    union all
    select 'deal' as subject, min(created_date) as first_date from {{ ref('fct_deals') }}
),

steps as (
    {% for step in customer_steps -%}
    select 'customer' as subject, cast({{ add_days('scoring_date', '-' ~ step ~ ' * customer_horizon') }} as date) as as_of_date, customer_horizon as horizon_days, true as is_step from bounds
    union all
    {% endfor -%}
    {% for year in [1, 2] -%}
    select 'customer' as subject, cast({{ add_days('scoring_date', year * -365) }} as date) as as_of_date, customer_horizon as horizon_days, false as is_step from bounds
    union all
    {% endfor -%}
    {% for subject in ['lead', 'deal'] -%}
    {% set is_last_subject = loop.last -%}
    {% for step in lead_steps -%}
    select '{{ subject }}' as subject, cast({{ add_days('scoring_date', '-' ~ step ~ ' * greatest(1, lead_horizon // 3)') }} as date) as as_of_date, lead_horizon as horizon_days, true as is_step from bounds
    {% if not (loop.last and is_last_subject) %}union all
    {% endif -%}
    {% endfor -%}
    {% endfor %}
),

dates as (
    select
        steps.subject,
        steps.as_of_date,
        steps.horizon_days,
        starts.first_date,
        bool_or(steps.is_step) as is_step,
        {{ day_start('steps.as_of_date') }} as starts_at,
        cast({{ add_days('steps.as_of_date', 'steps.horizon_days') }} as date) as horizon_end_date,
        cast({{ add_days('steps.as_of_date', 365) }} as date) as year_end_date
    from steps
    join starts on starts.subject = steps.subject
    where steps.as_of_date > starts.first_date
    group by steps.subject, steps.as_of_date, steps.horizon_days, starts.first_date
)

select
    dates.subject,
    dates.as_of_date,
    dates.starts_at,
    dates.horizon_days,
    dates.horizon_end_date,
    dates.year_end_date,
    {% for days in [14, 30, 90, 365] -%}
    cast({{ add_days('dates.as_of_date', -days) }} as date) as since_{{ days }}d_date,
    {% endfor -%}
    cast({{ add_days('dates.as_of_date', '-dates.horizon_days') }} as date) as since_horizon_date,
    dates.first_date,
    dates.is_step,
    dates.as_of_date = bounds.scoring_date as is_scoring,
    {{ day_start('dates.horizon_end_date') }} <= bounds.watermark as is_complete,
    {{ day_start('dates.year_end_date') }} <= bounds.watermark as is_year_complete
from dates
cross join bounds
