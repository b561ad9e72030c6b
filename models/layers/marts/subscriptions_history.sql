{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
{#
    What a subscription was on each day: from the changes its source logs, or, where a source logs none, from the versions that were
    landed, without the time in which its source did not know it. Revenue follows `fct_subscription_terms`, which knows no absence. One that was
    deleted stays in the history of the days on which it was there.
#}
with logging_sources as (
    select distinct _source from {{ ref('stg_canonical__subscription_changes') }}
),

logged as (
    select
        terms.subscription_id, terms.valid_from, terms.valid_to, terms.plan, terms.interval, terms.quantity, terms.amount, terms.currency,
        'source' as origin
    from {{ ref('int_subscription_terms__built') }} as terms
    inner join logging_sources on logging_sources._source = terms._source
),

observed as (
    select
        subscription_id, valid_from, lead(valid_from) over (partition by subscription_id order by version) as valid_to,
        plan, interval, quantity, amount, currency, 'observed' as origin
    from {{ ref('int_subscriptions__observed') }}
),

periods as (
    select * from logged
    union all
    select * from observed
),

held as (
    select
        periods.subscription_id,
        greatest(periods.valid_from, present.present_from) as valid_from,
        least(periods.valid_to, present.present_to) as valid_to,
        periods.plan,
        periods.interval,
        periods.quantity,
        periods.amount,
        periods.currency,
        periods.origin
    from periods
    left join {{ ref('int_records__present') }} as present on present.record_type = 'subscription' and present.record_id = periods.subscription_id
)

select
    held.subscription_id || ':' || cast(held.valid_from as varchar) as subscription_version_id,
    held.subscription_id,
    {{ resolved_customer(by) }} as customer_id,
    held.valid_from,
    least(held.valid_to, subscriptions.ended_at, subscriptions.deleted_at) as valid_to,
    held.plan,
    held.interval,
    held.quantity,
    held.amount,
    held.currency,
    held.origin
from held
inner join {{ ref('stg_canonical__subscriptions') }} as subscriptions on subscriptions.subscription_id = held.subscription_id
{{ join_customer('subscriptions', by) }}
where
    not {{ is_test_fact(by) }}
    and coalesce(least(held.valid_to, subscriptions.ended_at, subscriptions.deleted_at) > held.valid_from, true)
