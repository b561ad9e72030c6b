
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- Scores follow values: no two customers with one value have two scores, and more is never scored lower.

select 'recency_score' as score, cast(recency_days as double) as value
from (
    select
        recency_days, min(recency_score) as lowest, max(recency_score) as highest,
        max(max(recency_score)) over (order by -recency_days rows between unbounded preceding and 1 preceding) as highest_below
    from "warehouse"."marts"."fct_rfm_scores"
    group by recency_days
) as scores
where lowest <> highest or lowest < highest_below
union all

select 'frequency_score' as score, cast(order_count as double) as value
from (
    select
        order_count, min(frequency_score) as lowest, max(frequency_score) as highest,
        max(max(frequency_score)) over (order by order_count rows between unbounded preceding and 1 preceding) as highest_below
    from "warehouse"."marts"."fct_rfm_scores"
    group by order_count
) as scores
where lowest <> highest or lowest < highest_below
union all

select 'monetary_score' as score, cast(net_revenue_reporting as double) as value
from (
    select
        net_revenue_reporting, min(monetary_score) as lowest, max(monetary_score) as highest,
        max(max(monetary_score)) over (order by net_revenue_reporting rows between unbounded preceding and 1 preceding) as highest_below
    from "warehouse"."marts"."fct_rfm_scores"
    group by net_revenue_reporting
) as scores
where lowest <> highest or lowest < highest_below


  
  
      
    ) dbt_internal_test