-- All 125 combinations of scores have exactly one segment, and there is no other.
with scores as (
    select 1 as score union all select 2 union all select 3 union all select 4 union all select 5
),

cells as (
    select r.score as recency_score, f.score as frequency_score, m.score as monetary_score
    from scores as r
    cross join scores as f
    cross join scores as m
)

select
    coalesce(cells.recency_score, segments.recency_score) as recency_score,
    coalesce(cells.frequency_score, segments.frequency_score) as frequency_score,
    coalesce(cells.monetary_score, segments.monetary_score) as monetary_score,
    count(segments.segment) as segment_count
from cells
full outer join {{ ref('rfm_segments') }} as segments
    on segments.recency_score = cells.recency_score
    and segments.frequency_score = cells.frequency_score
    and segments.monetary_score = cells.monetary_score
group by 1, 2, 3
having count(segments.segment) <> 1 or count(cells.recency_score) <> 1
