{#
    Where a period of a history ends, an open end in a far future, so that it compares with two columns and no `or`: a left join on
    `valid_to is null or valid_to > at` is a nested loop over both sides.
#}
{% macro end_of(period) -%}
    coalesce({{ period }}.valid_to, timestamp '9999-12-31 00:00:00')
{%- endmacro %}
