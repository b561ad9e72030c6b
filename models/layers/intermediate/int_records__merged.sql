{#
    Chains of merges are followed to their end: A into B into C gives C for A and for B. Where records were merged in a circle, the
    smallest id of the circle survives. `union` (not `union all`) ends the walk once it meets nothing new.
#}
with recursive merges as (
    select 'contact' as record_type, contact_id as record_id, merged_into_id from {{ ref('stg_canonical__contacts') }}
    where merged_into_id <> contact_id
    union all
    select 'company', company_id, merged_into_id from {{ ref('stg_canonical__companies') }} where merged_into_id <> company_id
    union all
    select 'deal', deal_id, merged_into_id from {{ ref('stg_canonical__deals') }} where merged_into_id <> deal_id
),

reached (record_type, record_id, reached_id) as (
    select record_type, record_id, merged_into_id from merges
    union
    select reached.record_type, reached.record_id, merges.merged_into_id
    from reached
    inner join merges on merges.record_type = reached.record_type and merges.record_id = reached.reached_id
),

ends as (
    select
        reached.record_type,
        reached.record_id,
        coalesce(
            min(case when merges.record_id is null then reached.reached_id end),
            min(case when circles.record_id is not null then reached.reached_id end)
        ) as survivor_id
    from reached
    left join merges on merges.record_type = reached.record_type and merges.record_id = reached.reached_id
    left join reached as circles
        on circles.record_type = reached.record_type and circles.record_id = reached.reached_id and circles.reached_id = reached.reached_id
    group by reached.record_type, reached.record_id
)

select record_type, record_id, survivor_id from ends where survivor_id <> record_id
