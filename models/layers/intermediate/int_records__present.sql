{#
    From when to when a record was there, for records that were away and came back: gone from a full extract or marked as deleted, and
    later delivered again. Histories keep the gap. A record that never came back ends where staging says it was deleted.
    Nobody knows when a vanished record went: it is gone from the load that missed it. It is back when its source says that it changed it
    in between, else with the load that brought it.
#}
{%- set kinds = {'contact': 'contacts', 'company': 'companies', 'deal': 'deals', 'subscription': 'subscriptions'} -%}
with landed as (
    {%- for kind, entity in kinds.items() %}
    select
        '{{ kind }}' as record_type,
        _source || ':' || {{ kind }}_id as record_id,
        coalesce(_is_tombstone, false) as is_tombstone,
        {{ 'cast(null as timestamp)' if kind == 'subscription' else 'deleted_at' }} as deleted_at,
        {{ version_time() }} as changed_at,
        coalesce({{ version_time() }}, _loaded_at) as versioned_at,
        _loaded_at,
        _batch_seq,
        _row_hash
    from {{ source('landing', entity) }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

touched as (
    select distinct record_type, record_id
    from landed
    where is_tombstone or deleted_at is not null
),

versions as (
    select landed.*
    from landed
    inner join touched on touched.record_type = landed.record_type and touched.record_id = landed.record_id
),

delivered as (
    select
        *,
        lag(is_tombstone) over (partition by record_type, record_id order by _batch_seq, versioned_at, _row_hash) as was_gone,
        lag(_loaded_at) over (partition by record_type, record_id order by _batch_seq, versioned_at, _row_hash) as gone_at
    from versions
),

stated as (
    select *, lead(versioned_at) over (partition by record_type, record_id order by versioned_at) as returned_at
    from (
        select *, row_number() over (partition by record_type, record_id, versioned_at order by _batch_seq desc, _row_hash desc) as choice
        from versions
        where not is_tombstone
    ) as ranked
    where choice = 1
),

absences as (
    select
        record_type,
        record_id,
        gone_at,
        case when changed_at > gone_at and changed_at < _loaded_at then changed_at else _loaded_at end as returned_at
    from delivered
    where was_gone and not is_tombstone
    union all
    select record_type, record_id, least(deleted_at, versioned_at), returned_at
    from stated
    where deleted_at is not null and returned_at is not null
),

bounded as (
    select
        record_type,
        record_id,
        gone_at,
        max(returned_at) over (
            partition by record_type, record_id order by gone_at, returned_at rows between unbounded preceding and 1 preceding
        ) as present_from
    from absences
)

select record_type, record_id, present_from, gone_at as present_to
from bounded
where present_from is null or gone_at > present_from
union all
select record_type, record_id, max(returned_at), cast(null as timestamp)
from absences
group by record_type, record_id
