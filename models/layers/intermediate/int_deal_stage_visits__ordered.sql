{#
    The stages a deal went through. The stage before the first logged change is that change's old value; a deal without changes has been
    in its stage since it was created, or, in a stage that ends a pipeline, since it closed. Entries at the same instant keep the
    source's order.
#}
with deals as (
    select * from {{ ref('int_deals__resolved') }}
    where not is_test and not is_merged and deleted_at is null
),

changes as (
    select *, row_number() over (partition by deal_id order by change_number) as stage_change_number
    from {{ ref('int_deal_changes__logged') }}
    where field = 'stage'
),

entries as (
    select
        deals.deal_id,
        0 as entry_number,
        coalesce(changes.old_value, deals.stage) as stage,
        case
            when changes.deal_id is not null then least(deals.created_at, changes.changed_at)
            when deals.is_terminal_stage then greatest(coalesce(deals.closed_at, deals.created_at), deals.created_at)
            else deals.created_at
        end as entered_at
    from deals
    left join changes on changes.deal_id = deals.deal_id and changes.stage_change_number = 1
    where changes.deal_id is null or changes.old_value is not null
    union all
    select changes.deal_id, changes.stage_change_number, changes.new_value, changes.changed_at
    from changes
    inner join deals on deals.deal_id = changes.deal_id
    where changes.new_value is not null
),

distinct_entries as (
    select *
    from (
        select *, lag(stage) over (partition by deal_id order by entry_number) as former_stage
        from entries
    ) as compared
    where former_stage is null or former_stage <> stage
),

visits as (
    select
        distinct_entries.deal_id,
        distinct_entries.stage,
        distinct_entries.entered_at,
        row_number() over (partition by distinct_entries.deal_id order by distinct_entries.entry_number) as visit_number,
        row_number() over (partition by distinct_entries.deal_id, distinct_entries.stage order by distinct_entries.entry_number) as stage_visit_number,
        lead(distinct_entries.stage) over (partition by distinct_entries.deal_id order by distinct_entries.entry_number) as next_stage,
        lead(distinct_entries.entered_at) over (partition by distinct_entries.deal_id order by distinct_entries.entry_number) as next_entered_at
    from distinct_entries
)

select
    visits.deal_id,
    coalesce(periods.pipeline, deals.pipeline) as pipeline,
    visits.stage,
    stages.position as stage_position,
    visits.visit_number,
    visits.stage_visit_number,
    visits.entered_at,
    case
        when visits.next_entered_at is not null then visits.next_entered_at
        when not deals.is_open then greatest(coalesce(deals.closed_at, visits.entered_at), visits.entered_at)
    end as exited_at,
    visits.next_stage
from visits
inner join deals on deals.deal_id = visits.deal_id
left join {{ ref('int_deals__dated') }} as periods
    on periods.deal_id = visits.deal_id
    and visits.entered_at >= periods.valid_from and visits.entered_at < {{ end_of('periods') }}
left join {{ ref('int_pipeline_stages__dated') }} as stages
    on stages._source = deals._source and stages.pipeline = coalesce(periods.pipeline, deals.pipeline) and stages.stage = visits.stage
    and visits.entered_at >= stages.valid_from and visits.entered_at < {{ end_of('stages') }}
