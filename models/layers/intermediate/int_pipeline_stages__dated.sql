{# Where a stage stood in its pipeline, and from when to when. The first known position also holds for all time before it. #}
with versions as (
    select
        *,
        row_number() over (
            partition by _source, pipeline, stage, valid_from order by _batch_seq desc, _row_hash desc
        ) as _version_rank
    from {{ source('landing', 'pipeline_stages') }}
    where
        not coalesce(_is_tombstone, false)
        and (valid_from is null or valid_from <= {{ setting('as_of') }})
)

select
    _source,
    pipeline,
    stage,
    position,
    is_won,
    is_lost,
    probability,
    case
        when row_number() over (partition by _source, pipeline, stage order by valid_from nulls first) = 1 then timestamp '1900-01-01 00:00:00'
        else valid_from
    end as valid_from,
    lead(valid_from) over (partition by _source, pipeline, stage order by valid_from nulls first) as valid_to
from versions
where _version_rank = 1
