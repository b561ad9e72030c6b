{#
    Changes of deals under the names of the deal's own columns. Where a source logs no change of a field at all, differences between the
    landed versions of a deal stand in for them, dated by the later version. Where the last logged value is not the value the deal has
    now, the missing change is added at the deal's last update, so that history ends where the deal stands.
    Whether a deal is won or lost in its own word (`is_won`, `is_lost`) is compared in every source, from "no" before the first version on: a
    deal may be lost without leaving its stage. It dates from the closing time that the version gives, else from the version, and holds
    until a change of stage is logged; where the next version says the same, it is said again at the last of those changes.
#}
{%- set tracked = {
    'stage': 'stage', 'pipeline': 'pipeline', 'amount': 'cast(amount as varchar)', 'currency': 'currency',
    'probability': 'cast(probability as varchar)', 'forecast_category': 'forecast_category',
    'expected_close_date': 'cast(expected_close_date as varchar)', 'owner_id': 'owner_id'} -%}
{%- set closings = ['is_won', 'is_lost'] -%}
with deals as (
    select * from {{ ref('int_deals__resolved') }} where not is_test
),

logged as (
    select
        changes.change_id,
        changes.deal_id,
        coalesce(fields.field, lower(trim(changes.field))) as field,
        changes.old_value as logged_old_value,
        changes.new_value as logged_new_value,
        changes.changed_at,
        changes.sequence,
        changes.changed_by,
        'source' as origin,
        changes._source
    from {{ ref('stg_canonical__deal_changes') }} as changes
    inner join deals on deals.deal_id = changes.deal_id
    left join {{ ref('deal_change_fields') }} as fields on fields.source_field = lower(trim(changes.field))
    where changes.deleted_at is null
),

readable as (
    select
        change_id,
        deal_id,
        field,
        {{ deal_field_value('field', 'logged_old_value', '_source') }} as old_value,
        {{ deal_field_value('field', 'logged_new_value', '_source') }} as new_value,
        changed_at,
        sequence,
        changed_by,
        origin,
        _source
    from logged
),

logging_sources as (
    select distinct _source, field from logged
),

versions as (
    select
        _source || ':' || deal_id as deal_id,
        _source,
        _row_hash,
        coalesce({{ version_time() }}, _loaded_at) as versioned_at,
        row_number() over (
            partition by _source, deal_id, coalesce({{ version_time() }}, _loaded_at) order by _batch_seq desc, _row_hash desc
        ) as choice,
        stage,
        pipeline,
        amount,
        {{ currency_code('currency') }} as currency,
        probability,
        forecast_category,
        expected_close_date,
        _source || ':' || owner_id as owner_id,
        closed_at,
        coalesce(is_won, false) as is_won,
        coalesce(is_lost, false) as is_lost
    from {{ source('landing', 'deals') }}
    where not coalesce(_is_tombstone, false) and (updated_at is null or {{ version_time() }} <= {{ setting('as_of') }})
),

{# A deal seen in one version only has nothing to compare. #}
compared_versions as (
    select *
    from (
        select *, count(*) over (partition by deal_id) as version_count
        from versions
        where choice = 1
    ) as counted
    where version_count > 1
),

version_values as (
    {% for field, expression in tracked.items() -%}
    select deal_id, _source, versioned_at, versioned_at as stated_at, '{{ field }}' as field, '{{ field }}' as logged_by, {{ expression }} as field_value
    from compared_versions
    union all
    {% endfor %}
    {%- for field in closings -%}
    select
        deal_id, _source, versioned_at, case when {{ field }} then coalesce(least(closed_at, versioned_at), versioned_at) else versioned_at end,
        '{{ field }}', 'stage', cast({{ field }} as varchar)
    from compared_versions
    {% if not loop.last %}union all
    {% endif %}
    {%- endfor %}
),

version_steps as (
    select
        *,
        lag(field_value, 1, case when field <> logged_by then 'false' end) over (partition by deal_id, field order by versioned_at) as former_value,
        lag(versioned_at) over (partition by deal_id, field order by versioned_at) as former_versioned_at,
        row_number() over (partition by deal_id, field order by versioned_at) as version
    from version_values
),

said_again as (
    select version_steps.deal_id, version_steps.field, version_steps.version, max(moves.changed_at) as moved_at
    from version_steps
    inner join readable as moves
        on moves.deal_id = version_steps.deal_id
        and moves.changed_at > version_steps.former_versioned_at and moves.changed_at <= version_steps.versioned_at
    where moves.field = 'stage' and version_steps.field <> version_steps.logged_by and version_steps.field_value = 'true' and version_steps.former_value = 'true'
    group by version_steps.deal_id, version_steps.field, version_steps.version
),

observed as (
    select
        version_steps.deal_id || ':' || version_steps.field || ':observed:' || cast(version_steps.versioned_at as varchar) as change_id,
        version_steps.deal_id,
        version_steps.field,
        version_steps.former_value as old_value,
        version_steps.field_value as new_value,
        coalesce(said_again.moved_at, greatest(version_steps.stated_at, coalesce(version_steps.former_versioned_at, version_steps.stated_at))) as changed_at,
        0 as sequence,
        cast(null as varchar) as changed_by,
        'observed' as origin,
        version_steps._source
    from version_steps
    inner join deals on deals.deal_id = version_steps.deal_id
    left join logging_sources on logging_sources._source = version_steps._source and logging_sources.field = version_steps.field
    left join said_again
        on said_again.deal_id = version_steps.deal_id and said_again.field = version_steps.field and said_again.version = version_steps.version
    where
        (version_steps.version > 1 or version_steps.field <> version_steps.logged_by)
        and (version_steps.field_value is distinct from version_steps.former_value or said_again.moved_at is not null)
        and logging_sources.field is null
),

known as (
    select * from readable
    union all
    select * from observed
),

latest as (
    select *
    from (
        select *, row_number() over (partition by deal_id, field order by changed_at desc, sequence desc, change_id desc) as recency
        from known
    ) as ranked
    where recency = 1
),

standing as (
    {% for field, expression in tracked.items() -%}
    select
        deal_id, _source, '{{ field }}' as field, {{ expression }} as field_value,
        {% if field == 'stage' %}coalesce(closed_at, versioned_at){% else %}versioned_at{% endif %} as versioned_at
    from deals
    {% if not loop.last %}union all
    {% endif %}
    {%- endfor %}
),

assumed as (
    select
        standing.deal_id || ':' || standing.field || ':assumed' as change_id,
        standing.deal_id,
        standing.field,
        latest.new_value as old_value,
        standing.field_value as new_value,
        greatest(standing.versioned_at, latest.changed_at) as changed_at,
        latest.sequence + 1 as sequence,
        cast(null as varchar) as changed_by,
        'assumed' as origin,
        standing._source
    from standing
    inner join latest on latest.deal_id = standing.deal_id and latest.field = standing.field
    where latest.new_value is distinct from standing.field_value
)

select *, row_number() over (partition by deal_id order by changed_at, case when field in ('is_won', 'is_lost') then 1 else 0 end, sequence, change_id) as change_number
from (
    select * from known
    union all
    select * from assumed
) as changes
