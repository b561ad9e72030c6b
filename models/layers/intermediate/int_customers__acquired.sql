{# When a customer first paid: the first counted order with a positive net, or the first subscription term that costs something. #}
with payments as (
    select customer_id, ordered_at as paid_at, 'order' as acquisition_kind, order_id as reference_id, net_amount_reporting as amount_reporting
    from {{ ref('fct_orders') }}
    where customer_id is not null and is_counted and net_amount > 0
    union all
    select customer_id, valid_from, 'subscription', subscription_id, {{ converted('mrr_amount', 'rate_to_reporting') }}
    from {{ ref('int_subscription_terms__built') }}
    where
        customer_id is not null and not is_deleted and mrr_amount > 0 and rate_to_reporting is not null
        and valid_from <= {{ setting('as_of') }}
)

select customer_id, paid_at as acquired_at, acquisition_kind, amount_reporting as first_amount_reporting
from (
    select *, row_number() over (partition by customer_id order by paid_at, acquisition_kind, reference_id) as payment_number
    from payments
) as numbered
where payment_number = 1
