with current_rows as (
{{ current_version('targets', ['metric', 'period_start', 'owner_id']) }}
)

select
    _source || ':' || metric || ':' || cast(period_start as varchar) || ':' || coalesce(owner_id, '') as target_id,
    metric,
    period_start,
    period_end,
    {{ qualified('owner_id') }} as owner_id,
    value,
    nullif(upper(trim(currency)), '') as currency,
    _gone_at as deleted_at,
    _source
from current_rows
