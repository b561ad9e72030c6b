{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
{# Every order with its net amount, customer and rate; the reasons for which an order leaves the mart stand beside it. #}
with line_totals as (
    select
        order_id,
        sum(cast(quantity as decimal(28, 4)) * unit_price) as gross_amount,
        sum(cast(quantity as decimal(28, 4)) * unit_price - coalesce(discount_amount, 0)) as net_amount
    from {{ ref('stg_canonical__order_lines') }}
    where deleted_at is null
    group by order_id
),

orders as (
    select
        orders.order_id,
        {{ resolved_customer(by) }} as customer_id,
        {{ survivor('contact', 'orders.contact_id') }} as contact_id,
        {{ survivor('company', 'orders.company_id') }} as company_id,
        coalesce(deals.survivor_id, orders.deal_id) as deal_id,
        orders.ordered_at,
        {{ local_date('orders.ordered_at') }} as ordered_date,
        orders.status,
        not_counted.status is null as is_counted,
        orders.currency,
        {{ money('coalesce(orders.gross_amount, line_totals.gross_amount)') }} as gross_amount,
        orders.discount_amount,
        orders.tax_amount,
        orders.shipping_amount,
        {{ money("coalesce(
            orders.net_amount,
            line_totals.net_amount - coalesce(orders.discount_amount, 0),
            orders.gross_amount - coalesce(orders.discount_amount, 0)
        )") }} as net_amount,
        case
            when orders.net_amount is not null then 'order'
            when line_totals.net_amount is not null then 'lines'
            when orders.gross_amount is not null then 'gross'
        end as net_amount_origin,
        orders.channel,
        orders.country_code,
        orders.deleted_at is not null as is_deleted,
        orders.is_test or coalesce(deals.is_test, false) or {{ is_test_fact(by) }} as is_test,
        orders._source
    from {{ ref('stg_canonical__orders') }} as orders
    left join line_totals on line_totals.order_id = orders.order_id
    left join {{ ref('int_deals__resolved') }} as deals on deals.deal_id = orders.deal_id
    left join {{ ref('order_statuses_not_counted') }} as not_counted on not_counted.status = lower(trim(orders.status))
    {{ join_customer('orders', by) }}
),

rated as (
    select orders.*, {{ rate_of('rates', 'orders.currency') }} as rate_to_reporting
    from orders
    {{ join_rate('rates', 'orders.currency', 'orders.ordered_date') }}
)

select
    *,
    rate_to_reporting is null and coalesce(net_amount, gross_amount) is not null as is_rate_missing,
    not is_deleted and not is_test and not (rate_to_reporting is null and coalesce(net_amount, gross_amount) is not null) as is_in_facts
from rated
