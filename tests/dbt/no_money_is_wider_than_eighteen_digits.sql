-- A sum of decimals is 38 digits wide unless it is cast; later scans of such a column are thirty times slower.
-- depends_on: {{ ref('dim_customers') }} {{ ref('fct_orders') }} {{ ref('fct_rfm_scores') }}
select table_schema, table_name, column_name, data_type
from information_schema.columns
where
    table_catalog = '{{ target.database }}'
    and table_schema = 'marts'
    and (data_type = 'HUGEINT' or (data_type like 'DECIMAL%' and numeric_precision > 18))
