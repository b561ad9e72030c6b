{# Time arithmetic that engines write differently. Instants are naive UTC timestamps; days are dates. #}

{% macro utc_to_zone(instant, zone) %}{{ return(adapter.dispatch('utc_to_zone', 'rapport')(instant, zone)) }}{% endmacro %}
{% macro default__utc_to_zone(instant, zone) -%}
    timezone({{ zone }}, cast({{ instant }} as timestamp) at time zone 'UTC')
{%- endmacro %}
{% macro spark__utc_to_zone(instant, zone) -%}
    from_utc_timestamp({{ instant }}, {{ zone }})
{%- endmacro %}

{% macro zone_to_utc(wall_clock, zone) %}{{ return(adapter.dispatch('zone_to_utc', 'rapport')(wall_clock, zone)) }}{% endmacro %}
{% macro default__zone_to_utc(wall_clock, zone) -%}
    timezone('UTC', timezone({{ zone }}, {{ wall_clock }}))
{%- endmacro %}
{% macro spark__zone_to_utc(wall_clock, zone) -%}
    to_utc_timestamp({{ wall_clock }}, {{ zone }})
{%- endmacro %}

{# Timestamp `days` whole days after a timestamp or the start of a day. Cast it back where a day is wanted. #}
{% macro add_days(moment, days) %}{{ return(adapter.dispatch('add_days', 'rapport')(moment, days)) }}{% endmacro %}
{% macro default__add_days(moment, days) -%}
    ({{ moment }} + to_days(cast({{ days }} as integer)))
{%- endmacro %}
{% macro spark__add_days(moment, days) -%}
    ({{ moment }} + make_dt_interval({{ days }}))
{%- endmacro %}

{% macro add_months(day, months) %}{{ return(adapter.dispatch('add_months', 'rapport')(day, months)) }}{% endmacro %}
{% macro default__add_months(day, months) -%}
    cast({{ day }} + to_months(cast({{ months }} as integer)) as date)
{%- endmacro %}
{% macro spark__add_months(day, months) -%}
    add_months({{ day }}, {{ months }})
{%- endmacro %}

{# First day of the calendar period that holds a day: week (ISO), month, quarter or year. #}
{% macro date_trunc_to(unit, day) -%}
    cast(date_trunc('{{ unit }}', {{ day }}) as date)
{%- endmacro %}

{# Whole days from one day to another; negative when `until` comes first. #}
{% macro days_between(since, until) %}{{ return(adapter.dispatch('days_between', 'rapport')(since, until)) }}{% endmacro %}
{% macro default__days_between(since, until) -%}
    date_diff('day', {{ since }}, {{ until }})
{%- endmacro %}
{% macro spark__days_between(since, until) -%}
    datediff({{ until }}, {{ since }})
{%- endmacro %}

{# Elapsed seconds between two instants, with fractions, as double. #}
{% macro seconds_between(since, until) %}{{ return(adapter.dispatch('seconds_between', 'rapport')(since, until)) }}{% endmacro %}
{% macro default__seconds_between(since, until) -%}
    (date_diff('microsecond', {{ since }}, {{ until }}) / 1000000.0e0)
{%- endmacro %}
{% macro spark__seconds_between(since, until) -%}
    (unix_micros({{ until }}) - unix_micros({{ since }})) / 1000000.0e0
{%- endmacro %}

{# One row per day from `first_day` to `last_day`, both inside, in the column `date_day`. #}
{% macro day_series(first_day, last_day) %}{{ return(adapter.dispatch('day_series', 'rapport')(first_day, last_day)) }}{% endmacro %}
{% macro default__day_series(first_day, last_day) -%}
    select cast(unnest(generate_series(cast({{ first_day }} as timestamp), cast({{ last_day }} as timestamp), interval 1 day)) as date) as date_day
{%- endmacro %}
{% macro spark__day_series(first_day, last_day) -%}
    select explode(sequence({{ first_day }}, {{ last_day }}, interval 1 day)) as date_day
{%- endmacro %}

{# In a select list: a row for each day of a range that each row states itself. A bound that is null is none. #}
{% macro each_day(first_day, last_day) %}{{ return(adapter.dispatch('each_day', 'rapport')(first_day, last_day)) }}{% endmacro %}
{% macro default__each_day(first_day, last_day) -%}
    cast(unnest(generate_series(cast({{ first_day }} as timestamp), cast({{ last_day }} as timestamp), interval 1 day)) as date)
{%- endmacro %}
{% macro spark__each_day(first_day, last_day) -%}
    explode(sequence({{ first_day }}, {{ last_day }}, interval 1 day))
{%- endmacro %}

{% macro iso_year(day) %}{{ return(adapter.dispatch('iso_year', 'rapport')(day)) }}{% endmacro %}
{% macro default__iso_year(day) -%} isoyear({{ day }}) {%- endmacro %}
{% macro spark__iso_year(day) -%} extract(yearofweek from {{ day }}) {%- endmacro %}

{# 1 = Monday … 7 = Sunday. #}
{% macro iso_weekday(day) %}{{ return(adapter.dispatch('iso_weekday', 'rapport')(day)) }}{% endmacro %}
{% macro default__iso_weekday(day) -%} isodow({{ day }}) {%- endmacro %}
{% macro spark__iso_weekday(day) -%} extract(dayofweek_iso from {{ day }}) {%- endmacro %}
