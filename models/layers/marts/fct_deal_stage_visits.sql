select
    visits.deal_id || ':' || cast(visits.visit_number as varchar) as stage_visit_id,
    visits.deal_id,
    visits.pipeline,
    visits.stage,
    cast(visits.stage_position as integer) as stage_position,
    cast(visits.visit_number as integer) as visit_number,
    cast(visits.stage_visit_number as integer) as stage_visit_number,
    visits.entered_at,
    visits.exited_at,
    {{ seconds_between('visits.entered_at', 'visits.exited_at') }} / 86400 as duration_days,
    visits.next_stage
from {{ ref('int_deal_stage_visits__ordered') }} as visits
inner join {{ ref('fct_deals') }} as deals on deals.deal_id = visits.deal_id
