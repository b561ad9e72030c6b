{%- set by = {'contact': 'contact_id'} -%}
{#
    A refund belongs to its order: to its customer, and at its rate where it restates the order's period. A refund whose order is
    deleted, a test or without a rate leaves with it; one whose order no source has delivered stays, unmatched.
#}
with refunds as (
    select
        refunds.refund_id,
        refunds.order_id,
        orders.order_id is not null as is_matched,
        coalesce(orders.customer_id, {{ resolved_customer(by) }}) as customer_id,
        refunds.refunded_at,
        {{ local_date('refunds.refunded_at') }} as refunded_date,
        orders.ordered_date,
        refunds.amount,
        coalesce(refunds.currency, orders.currency, {{ setting('reporting_currency') }}) as currency,
        refunds.reason,
        refunds.deleted_at is not null as is_deleted,
        coalesce(orders.is_deleted, false) as is_order_deleted,
        coalesce(orders.is_test, false) or {{ is_test_fact(by) }} as is_test,
        coalesce(orders.is_rate_missing, false) as is_order_rate_missing,
        refunds._source
    from {{ ref('stg_canonical__refunds') }} as refunds
    left join {{ ref('int_orders__priced') }} as orders on orders.order_id = refunds.order_id
    {{ join_customer('refunds', by) }}
),

rated as (
    select
        refunds.*,
        {{ rate_of('rates', 'refunds.currency') }} as rate_to_reporting,
        case when refunds.is_matched then {{ rate_of('order_rates', 'refunds.currency') }} end as order_rate_to_reporting
    from refunds
    {{ join_rate('rates', 'refunds.currency', 'refunds.refunded_date') }}
    {{ join_rate('order_rates', 'refunds.currency', 'refunds.ordered_date') }}
)

select
    *,
    is_order_rate_missing or rate_to_reporting is null or (is_matched and order_rate_to_reporting is null) as is_rate_missing
from rated
where not is_deleted and not is_order_deleted and not is_test
