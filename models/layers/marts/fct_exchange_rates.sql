{# Days on which a rate stays the same become one row; the reporting currency is 1 for all time. #}
with steps as (
    select
        *,
        lag(rate_to_reporting) over (partition by currency order by rate_date) as former_rate,
        lag(rate_date) over (partition by currency order by rate_date) as former_date
    from {{ ref('int_exchange_rates__daily') }}
    where currency <> {{ setting('reporting_currency') }}
),

starts as (
    select *
    from steps
    where
        former_rate is null or former_rate <> rate_to_reporting
        or {{ days_between('former_date', 'rate_date') }} > 1
),

runs as (
    select
        currency,
        rate_date,
        rate_to_reporting,
        quoted_date,
        via_currency,
        lead(rate_date) over (partition by currency order by rate_date) as next_date
    from starts
)

select
    currency,
    rate_date,
    rate_to_reporting,
    rate_date as valid_from,
    next_date as valid_to,
    quoted_date,
    via_currency
from runs
union all
select
    {{ setting('reporting_currency') }},
    date '1900-01-01',
    cast(1 as double),
    date '1900-01-01',
    cast(null as date),
    cast(null as date),
    cast(null as varchar)
