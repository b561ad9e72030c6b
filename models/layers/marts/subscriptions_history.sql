{#
    What a subscription was on each day: from the changes its source logs, or, where a source logs none, from the versions that were
    landed, without the time in which its source did not know it; of versions with one time the last one counts. Revenue follows `fct_subscription_terms`, where the latest version of a row replaces what was said before.
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

versions as (
    select
        landed._source || ':' || landed.subscription_id as subscription_id,
        landed.plan,
        landed.interval,
        landed.quantity,
        landed.amount,
        {{ currency_code('landed.currency') }} as currency,
        landed.started_at,
        landed.ended_at,
        coalesce({{ version_time() }}, landed._loaded_at) as versioned_at,
        row_number() over (
            partition by landed._source, landed.subscription_id, coalesce({{ version_time() }}, landed._loaded_at)
            order by landed._batch_seq desc, landed._row_hash desc
        ) as choice
    from {{ source('landing', 'subscriptions') }} as landed
    left join logging_sources on logging_sources._source = landed._source
    where not coalesce(landed._is_tombstone, false) and logging_sources._source is null
),

compared as (
    select
        *,
        {{ fingerprint(['plan', 'interval', 'quantity', 'amount', 'currency']) }} as state,
        lag({{ fingerprint(['plan', 'interval', 'quantity', 'amount', 'currency']) }}) over (partition by subscription_id order by versioned_at) as former_state
    from versions
    where choice = 1
),

started as (
    select *, case when former_state is null then started_at else greatest(versioned_at, started_at) end as valid_from
    from compared
    where former_state is null or former_state <> state
),

observed as (
    select
        subscription_id, valid_from, lead(valid_from) over (partition by subscription_id order by versioned_at) as valid_to,
        plan, interval, quantity, amount, currency, 'observed' as origin
    from started
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
    subscriptions.customer_id,
    held.valid_from,
    least(held.valid_to, subscriptions.ended_at) as valid_to,
    held.plan,
    held.interval,
    held.quantity,
    held.amount,
    held.currency,
    held.origin
from held
inner join {{ ref('fct_subscriptions') }} as subscriptions on subscriptions.subscription_id = held.subscription_id
where
    (held.valid_to is null or held.valid_to > held.valid_from)
    and (subscriptions.ended_at is null or subscriptions.ended_at > held.valid_from)
