-- First acquisitions, with the day the customer's first lead was created; who never was a lead counts from the day of acquisition.
select
    customers.customer_id,
    customers.acquired_date,
    coalesce(min(leads.created_date), customers.acquired_date) as cohort_date
from {{ ref('fct_new_customers') }} as customers
left join {{ ref('fct_leads') }} as leads
    on customers.customer_id = leads.customer_id and leads.created_date <= customers.acquired_date
group by 1, 2
