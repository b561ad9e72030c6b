-- A missing exchange rate is never 1: the row is listed and in no fact.
select 'orders' as entity, orders.order_id as key
from {{ ref('fct_orders') }} as orders
inner join {{ ref('int_missing_rates') }} as missing on missing.entity = 'orders' and missing.key = orders.order_id
union all
select 'deals', deals.deal_id
from {{ ref('fct_deals') }} as deals
inner join {{ ref('int_missing_rates') }} as missing on missing.entity = 'deals' and missing.key = deals.deal_id
union all
select 'orders', order_id from {{ ref('fct_orders') }} where net_amount is not null and net_amount_reporting is null
union all
select 'deals', deal_id from {{ ref('fct_deals') }} where amount is not null and amount_reporting is null
union all
select 'marketing_spend', spend_id from {{ ref('fct_marketing_spend') }} where amount_reporting is null
