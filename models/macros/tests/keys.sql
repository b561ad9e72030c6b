{# Generic tests of keys and grain. Each returns the rows that break the rule. #}

{# Neither null nor twice. One scan instead of the two of `unique` and `not_null`. #}
{% test primary_key(model, column_name) %}
    select {{ column_name }}, count(*) as row_count
    from {{ model }}
    group by {{ column_name }}
    having count(*) > 1 or {{ column_name }} is null
{% endtest %}

{# The columns together are a key; nulls count as a value of their own. #}
{% test unique_together(model, columns) %}
    select {{ columns | join(', ') }}, count(*) as row_count
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}

{# None of the columns is ever null. #}
{% test all_present(model, columns) %}
    select *
    from {{ model }}
    where {% for column in columns %}{{ column }} is null{{ ' or ' if not loop.last }}{% endfor %}
{% endtest %}

{# Fan-out guard: a join may drop rows of the table it starts from, never multiply them. #}
{% test no_fan_out(model, of) %}
    select counted.model_rows, counted.origin_rows
    from (
        select (select count(*) from {{ model }}) as model_rows, (select count(*) from {{ of }}) as origin_rows
    ) as counted
    where counted.model_rows > counted.origin_rows
{% endtest %}

{# Every id that is given is there at the other end. #}
{% test belongs_to(model, column_name, to, key, only='true') %}
    select child.{{ column_name }}
    from (select {{ column_name }} from {{ model }} where {{ column_name }} is not null and {{ only }}) as child
    left join {{ to }} as parent on parent.{{ key }} = child.{{ column_name }}
    where parent.{{ key }} is null
{% endtest %}

{# Half-open periods: each ends after it starts, and not after the next one of the same entity starts. #}
{% test no_overlap(model, of, start, end) %}
    select *
    from (
        select
            {{ of }}, {{ start }}, {{ end }},
            lead({{ start }}) over (partition by {{ of }} order by {{ start }}) as next_start
        from {{ model }}
    ) as periods
    where {{ end }} <= {{ start }} or (next_start is not null and ({{ end }} is null or {{ end }} > next_start)) or next_start = {{ start }}
{% endtest %}

{# The condition holds in every row; a condition that is null does not hold. #}
{% test always(model, condition) %}
    select * from {{ model }} where not coalesce({{ condition }}, false)
{% endtest %}
