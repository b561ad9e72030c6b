with current_rows as (
{{ current_version('pipeline_stages', ['pipeline', 'stage']) }}
)

select
    _source || ':' || pipeline || ':' || stage as pipeline_stage_id,
    pipeline,
    stage,
    position,
    probability,
    is_won,
    is_lost,
    valid_from,
    _gone_at as deleted_at,
    _source
from current_rows
