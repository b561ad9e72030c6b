select pipeline_stage_id, _source as source, pipeline, stage, cast(position as integer) as position, probability, is_won, is_lost, valid_from
from {{ ref('stg_canonical__pipeline_stages') }}
where deleted_at is null
