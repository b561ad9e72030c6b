{#
    How models become tables and views in DuckDB. dbt's own way (build beside, rename the old away, rename the new, drop the old, five
    hooks in between) is for databases with readers. Nobody reads the warehouse while it is built: readers have their snapshot. So a model
    is replaced within one transaction, which a failed model rolls back, and costs two statements instead of eight.
#}

{% materialization table, adapter='duckdb', supported_languages=['sql', 'python'] %}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='table') -%}
    {%- if model['language'] == 'python' -%}
        {# a Python model writes through a cursor of its own, which sees only what is committed: it is built beside and renamed #}
        {%- set beside = make_intermediate_relation(target) -%}
        {{ drop_relation_if_exists(load_cached_relation(beside)) }}
        {% call statement('main', language='python') -%}
            {{- create_table_as(False, beside, compiled_code, 'python') }}
        {%- endcall %}
        {% call statement('replace') -%}
            {% if existing is not none %}drop {{ existing.type }} if exists {{ existing }};{% endif %}
            alter table {{ beside }} rename to {{ adapter.quote_as_configured(target.identifier, 'identifier') }}
        {%- endcall %}
    {%- else -%}
        {% call statement('main') -%}
            {% if existing is not none %}drop {{ existing.type }} if exists {{ existing }};{% endif %}
            {{ create_table_as(False, target, compiled_code) }}
        {%- endcall %}
    {%- endif -%}
    {{ adapter.commit() }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{% materialization view, adapter='duckdb' %}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='view') -%}
    {% call statement('main') -%}
        {% if existing is not none %}drop {{ existing.type }} if exists {{ existing }};{% endif %}
        {{ create_view_as(target, compiled_code) }}
    {%- endcall %}
    {{ adapter.commit() }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}
