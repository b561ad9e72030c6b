{# Hashing, JSON, quantiles and aggregates that engines write differently. #}

{# Value below which the share `fraction` of the rows lies, interpolated between neighbours. #}
{% macro quantile(value, fraction) %}{{ return(adapter.dispatch('quantile', 'rapport')(value, fraction)) }}{% endmacro %}
{% macro default__quantile(value, fraction) -%} quantile_cont({{ value }}, {{ fraction }}) {%- endmacro %}
{% macro spark__quantile(value, fraction) -%} percentile({{ value }}, {{ fraction }}) {%- endmacro %}

{# Text of one member of a JSON object; null when it is absent. `key` is plain text. #}
{% macro json_text(document, key) %}{{ return(adapter.dispatch('json_text', 'rapport')(document, key)) }}{% endmacro %}
{% macro default__json_text(document, key) -%} json_extract_string({{ document }}, '$."{{ key }}"') {%- endmacro %}
{% macro spark__json_text(document, key) -%} get_json_object({{ document }}, '$.{{ key }}') {%- endmacro %}

{# Distinct values in order, as one text. #}
{% macro text_list(value, separator=', ') %}{{ return(adapter.dispatch('text_list', 'rapport')(value, separator)) }}{% endmacro %}
{% macro default__text_list(value, separator) -%} string_agg(distinct {{ value }}, '{{ separator }}' order by {{ value }}) {%- endmacro %}
{% macro spark__text_list(value, separator) -%} array_join(array_sort(collect_set({{ value }})), '{{ separator }}') {%- endmacro %}

{# Value of the row in which `ordering` is greatest; rows where either is null are passed over. #}
{% macro value_at_max(value, ordering) %}{{ return(adapter.dispatch('value_at_max', 'rapport')(value, ordering)) }}{% endmacro %}
{% macro default__value_at_max(value, ordering) -%} arg_max({{ value }}, {{ ordering }}) {%- endmacro %}
{% macro spark__value_at_max(value, ordering) -%} max_by({{ value }}, {{ ordering }}) filter (where {{ value }} is not null) {%- endmacro %}

{# Hexadecimal fingerprint of texts; null parts are told apart from empty ones. #}
{% macro fingerprint(parts) -%}
    md5({% for part in parts %}coalesce(cast({{ part }} as varchar), chr(0)){% if not loop.last %} || chr(31) || {% endif %}{% endfor %})
{%- endmacro %}

{# True where a text is a member of a list of texts. #}
{% macro in_list(value, list) %}{{ return(adapter.dispatch('in_list', 'rapport')(value, list)) }}{% endmacro %}
{% macro default__in_list(value, list) -%} coalesce(list_contains({{ list }}, {{ value }}), false) {%- endmacro %}
{% macro spark__in_list(value, list) -%} coalesce(array_contains({{ list }}, {{ value }}), false) {%- endmacro %}

{# Part of an e-mail address after the last @, in small letters. #}
{% macro email_domain(email) -%}
    lower(trim(regexp_replace({{ email }}, '^.*@', '')))
{%- endmacro %}

{# Cast that gives null where the text cannot be read. #}
{% macro try_cast_to(value, type) -%} try_cast({{ value }} as {{ type }}) {%- endmacro %}

{# The latest value that is not null, up to the current row. #}
{% macro last_known(value, partition_by, order_by) %}{{ return(adapter.dispatch('last_known', 'rapport')(value, partition_by, order_by)) }}{% endmacro %}
{% macro default__last_known(value, partition_by, order_by) -%}
    last_value({{ value }} ignore nulls) over (partition by {{ partition_by }} order by {{ order_by }} rows between unbounded preceding and current row)
{%- endmacro %}
{% macro spark__last_known(value, partition_by, order_by) -%}
    last_value({{ value }}, true) over (partition by {{ partition_by }} order by {{ order_by }} rows between unbounded preceding and current row)
{%- endmacro %}

{# The first value that is not null, up to the current row. #}
{% macro first_known(value, partition_by, order_by) %}{{ return(adapter.dispatch('first_known', 'rapport')(value, partition_by, order_by)) }}{% endmacro %}
{% macro default__first_known(value, partition_by, order_by) -%}
    first_value({{ value }} ignore nulls) over (partition by {{ partition_by }} order by {{ order_by }} rows between unbounded preceding and current row)
{%- endmacro %}
{% macro spark__first_known(value, partition_by, order_by) -%}
    first_value({{ value }}, true) over (partition by {{ partition_by }} order by {{ order_by }} rows between unbounded preceding and current row)
{%- endmacro %}
