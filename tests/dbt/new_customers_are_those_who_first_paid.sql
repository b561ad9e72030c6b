
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- Both sides of one fact: the day a customer first paid stands in the customer and in the acquisition.
select customers.customer_id
from "warehouse"."marts"."dim_customers" as customers
full outer join "warehouse"."marts"."fct_new_customers" as acquired on acquired.customer_id = customers.customer_id
where customers.customer_id is null or customers.first_paid_at is distinct from acquired.acquired_at
  
  
      
    ) dbt_internal_test