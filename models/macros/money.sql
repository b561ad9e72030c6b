{# Conversion into the workspace's reporting currency. A missing rate gives null, never 1. #}

{# Joins the rate of a currency that holds on a local day, under the alias `rates`. #}
{% macro join_rate(rates, currency, local_day) %}
    left join {{ ref('int_exchange_rates__daily') }} as {{ rates }}
        on {{ rates }}.currency = {{ currency }} and {{ rates }}.rate_date = {{ local_day }}
{% endmacro %}

{# Reporting currency per unit of `currency`; the reporting currency itself is 1 on any day. #}
{% macro rate_of(rates, currency) -%}
    case when {{ currency }} = {{ setting('reporting_currency') }} then cast(1 as double) else {{ rates }}.rate_to_reporting end
{%- endmacro %}

{# The type of every money column of the marts; a sum of decimals would otherwise stay 38 digits wide, thirty times slower to scan. #}
{% macro money(expression) -%}
    cast({{ expression }} as decimal(18, 4))
{%- endmacro %}

{# An amount at a rate. Rates are doubles: an inverse quotation of a small currency would lose its digits in eight decimals. #}
{% macro converted(amount, rate) -%}
    cast(cast({{ amount }} as double) * {{ rate }} as decimal(18, 4))
{%- endmacro %}

{# Factor from an amount per interval to an amount per month. #}
{% macro months_share(interval) -%}
    (case {{ interval }} when 'year' then 1 / 12e0 when 'quarter' then 1 / 3e0 when 'month' then 1e0 when 'week' then 52 / 12e0 when 'day' then 365 / 12e0 end)
{%- endmacro %}
