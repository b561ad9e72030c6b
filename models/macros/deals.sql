{#
    A logged value in the form in which the deal's own column prints: sources log amounts as `1000` or `1000.00`, days with a time, and
    owners by their own id. A value that cannot be read stays as it was logged.
#}
{% macro deal_field_value(field, value, source) -%}
    case {{ field }}
        when 'amount' then coalesce(cast({{ try_cast_to(value, 'decimal(18, 4)') }} as varchar), {{ value }})
        when 'probability' then coalesce(cast({{ try_cast_to(value, 'decimal(18, 8)') }} as varchar), {{ value }})
        when 'expected_close_date' then coalesce(cast(cast({{ try_cast_to(value, 'timestamp') }} as date) as varchar), {{ value }})
        when 'currency' then upper(trim({{ value }}))
        when 'owner_id' then {{ source }} || ':' || {{ value }}
        else {{ value }}
    end
{%- endmacro %}
