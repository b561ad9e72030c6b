{# Whether an open lead was reached within the lead window after the as-of day: the labels, kept apart from the features. #}
select
    leads.lead_id,
    leads.as_of_date,
    case when reached.reached_date >= leads.as_of_date and reached.reached_date < dates.horizon_end_date then 1 else 0 end as is_reached
from {{ ref('ftr_leads__conversion') }} as leads
join {{ ref('ftr_as_of_dates') }} as dates on dates.subject = 'lead' and dates.as_of_date = leads.as_of_date and dates.is_complete
join {{ ref('ftr_leads__reached') }} as reached on reached.lead_id = leads.lead_id
