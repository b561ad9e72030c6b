{#
    How facts find the record that survived a merge, and its customer.

    `by` maps a kind of record to the column of the fact that names it, in the order in which they decide:
    {'contact': 'contact_id', 'company': 'company_id'} takes the person of the contact, else the organisation of the company.
#}

{# Joins `resolved_<kind>` with survivor_id, customer_id and is_test for each kind in `by`. #}
{% macro join_customer(fact, by) %}
    {%- for kind, column in by.items() %}
    left join {{ ref('int_records__resolved') }} as resolved_{{ kind }}
        on resolved_{{ kind }}.record_type = '{{ kind }}' and resolved_{{ kind }}.record_id = {{ fact }}.{{ column }}
    {%- endfor %}
{% endmacro %}

{# The customer of a fact; null for a fact without one, which is kept. #}
{% macro resolved_customer(by) -%}
    coalesce({% for kind in by %}resolved_{{ kind }}.customer_id{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{# True where any record that the fact names belongs to a test account. #}
{% macro is_test_fact(by) -%}
    ({% for kind in by %}coalesce(resolved_{{ kind }}.is_test, false){{ ' or ' if not loop.last }}{% endfor %})
{%- endmacro %}

{# Survivor's id of a merged record, else the id itself. #}
{% macro survivor(kind, id) -%}
    coalesce(resolved_{{ kind }}.survivor_id, {{ id }})
{%- endmacro %}
