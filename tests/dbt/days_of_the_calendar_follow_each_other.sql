-- Each local day is there once and ends where the next one starts.
select *
from (
    select
        date_day, ends_at,
        lead(date_day) over (order by date_day) as next_day,
        lead(starts_at) over (order by date_day) as next_starts_at
    from {{ ref('dim_dates') }}
) as days
where next_day <> cast({{ add_days('date_day', 1) }} as date) or ends_at <> next_starts_at
