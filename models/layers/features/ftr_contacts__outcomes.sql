{# Whether a member of either group of a campaign ordered within the response window from the day it began: the labels, kept apart from the features. #}
select
    contacts.contact_id,
    max(case when orders.customer_id is not null then 1 else 0 end) as has_ordered,
    sum(coalesce(cast(orders.net_revenue_reporting as double), 0)) as ordered_amount
from {{ ref('ftr_contacts__assigned') }} as contacts
left join {{ ref('fct_orders') }} as orders
    on orders.customer_id = contacts.customer_id and orders.is_counted and orders.ordered_date >= contacts.as_of_date
    and orders.ordered_date < cast({{ add_days('contacts.as_of_date', 'contacts.window_days') }} as date)
where contacts.campaign_id is not null and contacts.is_complete
group by contacts.contact_id
