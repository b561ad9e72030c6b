{# Whether an open deal was won within the window after the as-of day: the labels, kept apart from the features. #}
select
    states.deal_id,
    states.as_of_date,
    case when deals.is_won and deals.closed_date >= states.as_of_date and deals.closed_date < dates.horizon_end_date then 1 else 0 end as is_won_in_window
from {{ ref('ftr_deals__state') }} as states
join {{ ref('ftr_as_of_dates') }} as dates on dates.subject = 'deal' and dates.as_of_date = states.as_of_date and dates.is_complete
join {{ ref('fct_deals') }} as deals on deals.deal_id = states.deal_id
