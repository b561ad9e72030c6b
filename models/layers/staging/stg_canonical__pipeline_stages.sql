with current_rows as (
{{ current_version('pipeline_stages', ['pipeline', 'stage'], event_time='valid_from', ordered_by='valid_from') }}
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
