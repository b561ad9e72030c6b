
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- Identity between the two subscription facts at the as-of instant, per currency.
select terms.currency, terms.mrr_amount, subscriptions.mrr_amount as subscriptions_mrr_amount
from (
    select currency, sum(mrr_amount) as mrr_amount
    from "warehouse"."marts"."fct_subscription_terms"
    where valid_from <= (select as_of from "warehouse"."ops"."settings") and (valid_to is null or valid_to > (select as_of from "warehouse"."ops"."settings"))
    group by currency
) as terms
full outer join (
    select subscriptions.currency, sum(subscriptions.mrr_amount) as mrr_amount
    from "warehouse"."marts"."fct_subscriptions" as subscriptions
    where subscriptions.is_active and exists (
        select 1 from "warehouse"."marts"."fct_subscription_terms" as running
        where
            running.subscription_id = subscriptions.subscription_id
            and running.valid_from <= (select as_of from "warehouse"."ops"."settings") and (running.valid_to is null or running.valid_to > (select as_of from "warehouse"."ops"."settings"))
    )
    group by subscriptions.currency
) as subscriptions on subscriptions.currency = terms.currency
where coalesce(terms.mrr_amount, 0) <> coalesce(subscriptions.mrr_amount, 0)
  
  
      
    ) dbt_internal_test