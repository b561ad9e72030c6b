-- A deal leaves a stage at the instant it enters the next one, and only the last stay may be open.
select *
from (
    select
        deal_id, visit_number, exited_at, next_stage,
        lead(entered_at) over (partition by deal_id order by visit_number) as next_entered_at,
        lead(stage) over (partition by deal_id order by visit_number) as following_stage
    from {{ ref('fct_deal_stage_visits') }}
) as visits
where
    (next_entered_at is not null and exited_at is distinct from next_entered_at)
    or next_stage is distinct from following_stage
