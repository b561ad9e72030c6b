{#
    For each currency and day the rate that held: the latest on or before it. A quotation of the pair itself, in either direction, goes
    before one through a third currency; among third currencies the most recently quoted, then the first by name.
#}
with quotations as (
    select base_currency as from_currency, quote_currency as to_currency, rate_date, cast(rate as double) as rate, 1 as preference, _source
    from {{ ref('stg_canonical__exchange_rates') }}
    where deleted_at is null and base_currency <> quote_currency
    union all
    select quote_currency, base_currency, rate_date, 1 / cast(rate as double), 2, _source
    from {{ ref('stg_canonical__exchange_rates') }}
    where deleted_at is null and base_currency <> quote_currency
),

ranked as (
    select
        *,
        row_number() over (partition by from_currency, to_currency, rate_date order by preference, _source) as choice
    from quotations
),

periods as (
    select
        from_currency,
        to_currency,
        rate_date as valid_from,
        lead(rate_date) over (partition by from_currency, to_currency order by rate_date) as next_date,
        rate
    from ranked
    where choice = 1
),

-- Taken apart into days, not joined with a calendar: planned together, the two legs below met before their days did, and the 161
-- currencies of an ordinary CRM took more memory than the machine had.
pairs_daily as (
    select
        from_currency,
        to_currency,
        {{ each_day(
            "valid_from",
            "least(" ~ add_days("next_date", -1) ~ ", " ~ add_days(local_date(setting('as_of')), 1) ~ ", " ~ add_days("valid_from", setting('exchange_rate_max_age_days')) ~ ")") }} as rate_date,
        valid_from,
        rate
    from periods
),

direct as (
    select from_currency as currency, rate_date, valid_from, rate, 1 as legs, '' as via_currency
    from pairs_daily
    where to_currency = {{ setting('reporting_currency') }}
),

crossed as (
    select
        first_leg.from_currency as currency,
        first_leg.rate_date,
        least(first_leg.valid_from, second_leg.valid_from) as valid_from,
        first_leg.rate * second_leg.rate as rate,
        2 as legs,
        first_leg.to_currency as via_currency
    from pairs_daily as first_leg
    inner join pairs_daily as second_leg
        on second_leg.from_currency = first_leg.to_currency and second_leg.rate_date = first_leg.rate_date
    where
        second_leg.to_currency = {{ setting('reporting_currency') }}
        and first_leg.from_currency <> {{ setting('reporting_currency') }}
        and first_leg.to_currency <> {{ setting('reporting_currency') }}
),

candidates as (
    select * from direct
    union all
    select * from crossed
),

chosen as (
    select
        *,
        row_number() over (partition by currency, rate_date order by legs, valid_from desc, via_currency) as choice
    from candidates
)

select
    currency,
    rate_date,
    rate as rate_to_reporting,
    valid_from as quoted_date,
    nullif(via_currency, '') as via_currency
from chosen
where choice = 1
