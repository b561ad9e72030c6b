{#
    Workspace settings and the calendar they define.

    A setting is read from its table while the query runs, so the SQL text is the same for every workspace and a parsed
    project can be kept between runs.
#}

{# Value of one workspace setting, as a scalar sub-query. #}
{% macro setting(name) -%}
    (select {{ name }} from {{ source('ops', 'settings') }})
{%- endmacro %}

{# Wall-clock time in the reporting time zone of a UTC instant. #}
{% macro local_timestamp(instant) -%}
    {{ utc_to_zone(instant, setting('time_zone')) }}
{%- endmacro %}

{# Calendar day in the reporting time zone of a UTC instant. #}
{% macro local_date(instant) -%}
    cast({{ local_timestamp(instant) }} as date)
{%- endmacro %}

{# UTC instant at which a local calendar day starts. Where daylight saving skips midnight, the first instant that exists. #}
{% macro day_start(local_day) -%}
    {{ zone_to_utc('cast(' ~ local_day ~ ' as timestamp)', setting('time_zone')) }}
{%- endmacro %}

{# UTC instant `days` calendar days after `instant`, at the same local wall-clock time. #}
{% macro add_local_days(instant, days) -%}
    {{ zone_to_utc(add_days(local_timestamp(instant), days), setting('time_zone')) }}
{%- endmacro %}

{#
    First day of the period that holds a local day.
    grain: day, week (begins as the workspace says), month, quarter, year, fiscal_quarter or fiscal_year.
#}
{% macro period_start(grain, local_day) -%}
    {%- if grain == 'day' -%}
        cast({{ local_day }} as date)
    {%- elif grain == 'week' -%}
        cast({{ add_days(date_trunc_to('week', add_days(local_day, week_shift())), '-' ~ week_shift()) }} as date)
    {%- elif grain in ('month', 'quarter', 'year') -%}
        {{ date_trunc_to(grain, local_day) }}
    {%- elif grain in ('fiscal_quarter', 'fiscal_year') -%}
        {{ add_months(date_trunc_to(grain | replace('fiscal_', ''), add_months(local_day, '-' ~ fiscal_shift())), fiscal_shift()) }}
    {%- else -%}
        {{ exceptions.raise_compiler_error('period_start knows no grain ' ~ grain) }}
    {%- endif -%}
{%- endmacro %}

{# Days by which the workspace's week begins before the ISO week's Monday. #}
{% macro week_shift() -%}
    (case {{ setting('week_start') }} when 'sunday' then 1 when 'saturday' then 2 else 0 end)
{%- endmacro %}

{# Months by which the fiscal year begins after January. #}
{% macro fiscal_shift() -%}
    ({{ setting('fiscal_year_start_month') }} - 1)
{%- endmacro %}
