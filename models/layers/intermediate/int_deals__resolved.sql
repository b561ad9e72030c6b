{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
{#
    A deal that is won or lost and does not say when closed when it entered its stage by the log of its source, else with the version
    that first called it so. Of one that was closed when it was first seen nobody knows: it has no closing time, and that is told.
#}
with stages as (
    select _source, pipeline, stage, position, probability, is_won, is_lost
    from {{ ref('stg_canonical__pipeline_stages') }}
    where deleted_at is null
),

{# A source with one pipeline need not name it on each deal. #}
only_pipelines as (
    select _source, min(pipeline) as pipeline
    from stages
    group by _source
    having count(distinct pipeline) = 1
),

named as (
    select deals.*, coalesce(deals.pipeline, only_pipelines.pipeline, 'default') as known_pipeline
    from {{ ref('stg_canonical__deals') }} as deals
    left join only_pipelines on only_pipelines._source = deals._source
),

deals as (
    select
        deals.deal_id,
        coalesce(merged.survivor_id, deals.deal_id) as survivor_id,
        {{ resolved_customer(by) }} as customer_id,
        {{ survivor('contact', 'deals.contact_id') }} as contact_id,
        {{ survivor('company', 'deals.company_id') }} as company_id,
        deals.name,
        deals.known_pipeline as pipeline,
        deals.stage,
        stages.position as stage_position,
        deals.amount,
        deals.currency,
        coalesce(deals.probability, stages.probability) as probability,
        deals.forecast_category,
        deals.channel,
        deals.campaign_id,
        deals.owner_id,
        deals.created_at,
        deals.expected_close_date,
        deals.closed_at as stated_closed_at,
        -- the deal's own word goes before that of its stage: a deal may be lost in any stage
        case
            when deals.is_won or deals.is_lost then coalesce(deals.is_won, false)
            else coalesce(stages.is_won, false)
        end as is_won,
        case
            when deals.is_won or deals.is_lost then coalesce(deals.is_lost, false)
            else coalesce(stages.is_lost, false)
        end as is_lost,
        coalesce(stages.is_won or stages.is_lost, false) as is_terminal_stage,
        stages.stage is not null as is_known_stage,
        deals.lost_reason,
        deals.updated_at,
        deals.versioned_at,
        deals.deleted_at,
        deals.is_test or {{ is_test_fact(by) }} as is_test,
        merged.survivor_id is not null as is_merged,
        deals._source
    from named as deals
    -- merged into a deal that nobody delivered it stays itself, or it would be in no number
    left join (
        select merges.record_id, merges.survivor_id
        from {{ ref('int_records__merged') }} as merges
        inner join {{ ref('stg_canonical__deals') }} as survivors on survivors.deal_id = merges.survivor_id
        where merges.record_type = 'deal'
    ) as merged on merged.record_id = deals.deal_id
    left join stages
        on stages._source = deals._source and stages.pipeline = deals.known_pipeline and stages.stage = deals.stage
    {{ join_customer('deals', by) }}
),

moves as (
    select changes.deal_id, changes.new_value as stage, max(changes.changed_at) as entered_at
    from {{ ref('stg_canonical__deal_changes') }} as changes
    left join {{ ref('deal_change_fields') }} as fields on fields.source_field = lower(trim(changes.field))
    where changes.deleted_at is null and coalesce(fields.field, lower(trim(changes.field))) = 'stage'
    group by changes.deal_id, changes.new_value
),

versions as (
    select
        _source || ':' || deal_id as deal_id,
        coalesce({{ version_time() }}, _loaded_at) as versioned_at,
        case when is_won then 'is won' when is_lost then 'is lost' else stage end as state,
        row_number() over (
            partition by _source, deal_id, coalesce({{ version_time() }}, _loaded_at) order by _batch_seq desc, _row_hash desc
        ) as choice
    from {{ source('landing', 'deals') }}
    where not coalesce(_is_tombstone, false) and (updated_at is null or {{ version_time() }} <= {{ setting('as_of') }})
),

turns as (
    select deal_id, max(versioned_at) as turned_at
    from (
        select *, lag(state) over (partition by deal_id order by versioned_at) as former_state
        from versions
        where choice = 1
    ) as compared
    where former_state <> state
    group by deal_id
),

closed as (
    select
        deals.*,
        case
            when deals.is_won or deals.is_lost
                then coalesce(deals.stated_closed_at, case when deals.is_terminal_stage then moves.entered_at end, turns.turned_at)
            -- a deal that stands in an open stage is open: a closing time beside it was left over when it was opened again
            when not deals.is_known_stage then deals.stated_closed_at
        end as closed_at
    from deals
    left join moves on moves.deal_id = deals.deal_id and moves.stage = deals.stage
    left join turns on turns.deal_id = deals.deal_id
),

dated as (
    select
        *,
        {{ local_date('created_at') }} as created_date,
        {{ local_date('closed_at') }} as closed_date,
        not is_won and not is_lost and closed_at is null as is_open
    from closed
)

select
    dated.*,
    -- closed deals convert on the day they closed, open ones on the day the data speak of
    {{ rate_of('rates', 'dated.currency') }} as rate_to_reporting,
    coalesce(dated.closed_date, {{ local_date(setting('watermark')) }}) as rate_date
from dated
{{ join_rate('rates', 'dated.currency', 'coalesce(dated.closed_date, ' ~ local_date(setting('watermark')) ~ ')') }}
