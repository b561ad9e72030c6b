
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- All 125 combinations of scores have exactly one segment.
select cells.recency_score, cells.frequency_score, cells.monetary_score, count(segments.segment) as segment_count
from (
    select r.score as recency_score, f.score as frequency_score, m.score as monetary_score
    from (select distinct recency_score as score from "warehouse"."staging"."rfm_segments" union select 1 union select 2 union select 3 union select 4 union select 5) as r
    cross join (select 1 as score union select 2 union select 3 union select 4 union select 5) as f
    cross join (select 1 as score union select 2 union select 3 union select 4 union select 5) as m
) as cells
left join "warehouse"."staging"."rfm_segments" as segments
    on segments.recency_score = cells.recency_score
    and segments.frequency_score = cells.frequency_score
    and segments.monetary_score = cells.monetary_score
group by cells.recency_score, cells.frequency_score, cells.monetary_score
having count(segments.segment) <> 1 or cells.recency_score not between 1 and 5
union all
select 0, 0, 0, count(*) from "warehouse"."staging"."rfm_segments" having count(*) <> 125
  
  
      
    ) dbt_internal_test