{#
    What the landed versions of a subscription said in turn, for sources that log no change of subscriptions: each row from the version
    that said it first; the first one from the start of the subscription, since nothing older is known. Of versions with one time the last counts.
#}
{%- set terms = ['plan', 'interval', 'quantity', 'amount', 'currency'] -%}
with logging_sources as (
    select distinct _source from {{ ref('stg_canonical__subscription_changes') }}
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
        {{ fingerprint(terms) }} as state,
        lag({{ fingerprint(terms) }}) over (partition by subscription_id order by versioned_at) as former_state
    from versions
    where choice = 1
)

select
    subscription_id,
    row_number() over (partition by subscription_id order by versioned_at) as version,
    case when former_state is null then started_at else greatest(versioned_at, started_at) end as valid_from,
    plan,
    interval,
    quantity,
    amount,
    currency
from compared
where former_state is null or former_state <> state
