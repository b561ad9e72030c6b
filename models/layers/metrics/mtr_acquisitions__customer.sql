-- First acquisitions, with the day on which the customer's latest lead before it was created; null for who never was a lead.
select
    customers.customer_id,
    customers.acquired_date,
    max(leads.created_date) as cohort_date
from {{ ref('fct_new_customers') }} as customers
left join {{ ref('fct_leads') }} as leads
    on customers.customer_id = leads.customer_id and leads.created_at <= customers.acquired_at
group by 1, 2
