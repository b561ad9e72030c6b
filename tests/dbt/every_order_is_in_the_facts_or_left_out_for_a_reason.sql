-- No row is lost silently: orders in the facts, deleted, of test accounts and without a rate add up to all orders.
select *
from (
    select
        (select count(*) from {{ ref('stg_canonical__orders') }}) as all_orders,
        (select count(*) from {{ ref('fct_orders') }}) as in_facts,
        (select count(*) from {{ ref('int_orders__priced') }} where is_deleted or is_test) as deleted_or_test,
        (select count(*) from {{ ref('int_missing_rates') }} where entity = 'orders') as without_rate
) as counts
where all_orders <> in_facts + deleted_or_test + without_rate
