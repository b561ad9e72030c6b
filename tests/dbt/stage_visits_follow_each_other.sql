
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- A deal leaves a stage at the instant it enters the next one, and only the last stay may be open.
select *
from (
    select
        deal_id, visit_number, exited_at, next_stage,
        lead(entered_at) over (partition by deal_id order by visit_number) as next_entered_at,
        lead(stage) over (partition by deal_id order by visit_number) as following_stage
    from "warehouse"."marts"."fct_deal_stage_visits"
) as visits
where exited_at is distinct from next_entered_at and next_entered_at is not null or next_stage is distinct from following_stage
  
  
      
    ) dbt_internal_test