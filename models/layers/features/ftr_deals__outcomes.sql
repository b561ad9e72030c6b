{#
    Whether an open deal that closed within the window after the as-of day was won: the labels, kept apart from the features. A deal still
    open at the end of its window has no outcome yet: when it will close is another question than how.
#}
select
    states.deal_id,
    states.as_of_date,
    case when deals.is_won then 1 else 0 end as is_won
from {{ ref('ftr_deals__state') }} as states
join {{ ref('ftr_as_of_dates') }} as dates on dates.subject = 'deal' and dates.as_of_date = states.as_of_date and dates.is_complete
join {{ ref('fct_deals') }} as deals on deals.deal_id = states.deal_id
where (deals.is_won or deals.is_lost) and deals.closed_date >= states.as_of_date and deals.closed_date < dates.horizon_end_date
