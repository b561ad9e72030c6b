{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
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
    left join {{ ref('int_records__merged') }} as merged on merged.record_type = 'deal' and merged.record_id = deals.deal_id
    left join stages
        on stages._source = deals._source and stages.pipeline = deals.known_pipeline and stages.stage = deals.stage
    {{ join_customer('deals', by) }}
),

closed as (
    select
        *,
        -- a deal that stands in an open stage is open: a closing time beside it was left over when it was opened again
        case when is_won or is_lost or not is_known_stage then stated_closed_at end as closed_at
    from deals
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
