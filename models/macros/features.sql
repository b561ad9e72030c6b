{#
    Employees of the organisation behind each row of `population` (as_of_date, starts_at, customer_id and the key), as its history said at the
    start of the as-of day: a person's own record names the organisation it belonged to then. Columns: as_of_date, key, latest_date, employee_count.
#}
{% macro organisations_as_of(population, key) -%}
    select
        {{ population }}.as_of_date,
        {{ population }}.{{ key }},
        {{ local_date('greatest(people.valid_from, organisations.valid_from)') }} as latest_date,
        coalesce(organisations.employee_count, people.employee_count) as employee_count
    from {{ population }}
    join {{ ref('customers_history') }} as people
        on people.customer_id = {{ population }}.customer_id and people.valid_from < {{ population }}.starts_at
        and {{ end_of("people") }} >= {{ population }}.starts_at
    left join {{ ref('customers_history') }} as organisations
        on organisations.customer_id = people.organisation_id and organisations.valid_from < {{ population }}.starts_at
        and {{ end_of("organisations") }} >= {{ population }}.starts_at
{%- endmacro %}
