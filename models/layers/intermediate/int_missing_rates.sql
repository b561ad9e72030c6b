{# Rows that no fact holds, because no exchange rate is known on or before their day. One row per left-out row. #}
select 'orders' as entity, _source as source, order_id as key, currency, ordered_date as date, {{ money('net_amount') }} as amount
from {{ ref('int_orders__priced') }}
where is_rate_missing and not is_test and not is_deleted
union all
select 'refunds', _source, refund_id, currency, refunded_date, {{ money('amount') }}
from {{ ref('int_refunds__matched') }}
where is_rate_missing
union all
select 'deals', _source, deal_id, currency, rate_date, {{ money('amount') }}
from {{ ref('int_deals__resolved') }}
where rate_to_reporting is null and amount is not null and not is_test and not is_merged and deleted_at is null
union all
select 'subscriptions', _source, subscription_id, currency, valid_from_date, amount
from {{ ref('int_subscription_terms__built') }}
where rate_to_reporting is null and not is_deleted
union all
select 'marketing_spend', _source, spend_id, currency, spend_date, {{ money('amount') }}
from {{ ref('int_marketing_spend__converted') }}
where rate_to_reporting is null
