
    
    select
      count(*) as failures,
      count(*) != 0 as should_warn,
      count(*) != 0 as should_error
    from (
      
    
  -- A sum of decimals is 38 digits wide unless it is cast; later scans of such a column are thirty times slower.
-- depends_on: "warehouse"."marts"."dim_customers" "warehouse"."marts"."fct_orders" "warehouse"."marts"."fct_rfm_scores"
select table_schema, table_name, column_name, data_type
from information_schema.columns
where
    table_catalog = 'warehouse'
    and table_schema in ('marts', 'metrics', 'features')
    and (data_type like 'DECIMAL(3%' or data_type like 'DECIMAL(2%' or data_type in ('HUGEINT', 'DECIMAL(19,4)'))
  
  
      
    ) dbt_internal_test