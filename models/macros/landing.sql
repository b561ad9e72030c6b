{# How versions in landing become current rows with ids that are unique over all sources. #}

{# When a version was made. A clock that runs ahead (a row of 2999) counts as of its arrival, or it would hide every later version for ever. #}
{% macro version_time() -%}
    case when updated_at is not null then least(updated_at, _loaded_at + interval '5' minute) end
{%- endmacro %}

{#
    The current version of each row of an entity; `_gone_at` is the load in which the row had vanished from a full extract.

    entity: landing table. keys: its key columns within a source. event_time: column whose rows later than the workspace's
    as-of instant do not exist yet; `event_is_day` when that column is a local day.
    The winning version is the latest by `updated_at` (where the entity has one), then by batch, then by fingerprint, so the order
    in which files arrive and the way they are split decide nothing; `ordered_by` names another column that dates versions. A row seen again after it vanished lives again.
#}
{% macro current_version(entity, keys, event_time=none, event_is_day=false, has_updated_at=false, ordered_by=none) %}
    select
        versions.*,
        case when gone._batch_seq > versions._last_seen_seq then gone._loaded_at end as _gone_at
    from (
        select
            *,
            row_number() over (
                partition by _source, {{ keys | join(', ') }}
                order by {% if has_updated_at %}{{ version_time() }} desc nulls last, {% elif ordered_by %}{{ ordered_by }} desc nulls last, {% endif %}_batch_seq desc, _row_hash desc
            ) as _version_rank,
            max(_batch_seq) over (partition by _source, {{ keys | join(', ') }}) as _last_seen_seq
        from {{ source('landing', entity) }}
        where not coalesce(_is_tombstone, false)
        {%- if event_time and event_is_day %}
            and ({{ event_time }} is null or {{ event_time }} <= {{ local_date(setting('as_of')) }})
        {%- elif event_time %}
            and ({{ event_time }} is null or {{ event_time }} <= {{ setting('as_of') }})
        {%- endif %}
    ) as versions
    left join (
        select _source, {{ keys | join(', ') }}, max(_batch_seq) as _batch_seq, max(_loaded_at) as _loaded_at
        from {{ source('landing', entity) }}
        where _is_tombstone
        group by _source, {{ keys | join(', ') }}
    ) as gone
        on gone._source = versions._source
        {%- for key in keys %}
        and gone.{{ key }} is not distinct from versions.{{ key }}
        {%- endfor %}
    where versions._version_rank = 1
{% endmacro %}

{# An id that is unique over all sources; null stays null. #}
{% macro qualified(id) -%}
    _source || ':' || {{ id }}
{%- endmacro %}

{# ISO 4217 code in capitals. A row without a currency is in the reporting currency: sources with another default say so when they land. #}
{% macro currency_code(currency) -%}
    coalesce(nullif(upper(trim({{ currency }})), ''), {{ setting('reporting_currency') }})
{%- endmacro %}
