-- The metric layer's days. `is_elapsed` marks those that data exist for, the running one included: rates per 30 days divide by them.
select
    date_day,
    date_day <= {{ local_date(setting('watermark')) }} as is_elapsed
from {{ ref('dim_dates') }}
