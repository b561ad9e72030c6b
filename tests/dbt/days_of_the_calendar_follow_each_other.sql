
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- Each local day is there once and ends where the next one starts.
select *
from (
    select
        date_day, ends_at,
        lead(date_day) over (order by date_day) as next_day,
        lead(starts_at) over (order by date_day) as next_starts_at
    from "warehouse"."marts"."dim_dates"
) as days
where next_day <> cast((date_day + to_days(cast(1 as integer))) as date) or ends_at <> next_starts_at
  
  
      
    ) dbt_internal_test