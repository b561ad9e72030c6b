select
    targets.target_id,
    targets.metric,
    targets.period_start,
    targets.period_end,
    targets.owner_id,
    targets.value,
    targets.currency,
    case
        when targets.currency is null then targets.value
        else {{ converted('targets.value', rate_of('rates', 'targets.currency')) }}
    end as value_reporting
from {{ ref('stg_canonical__targets') }} as targets
{{ join_rate('rates', 'targets.currency', 'least(targets.period_start, ' ~ local_date(setting('as_of')) ~ ')') }}
where targets.deleted_at is null
