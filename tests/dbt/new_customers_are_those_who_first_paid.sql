-- Both sides of one fact: the instant a customer first paid stands in the customer and in the acquisition.
select customers.customer_id
from {{ ref('dim_customers') }} as customers
full outer join {{ ref('fct_new_customers') }} as acquired on acquired.customer_id = customers.customer_id
where customers.customer_id is null or customers.first_paid_at is distinct from acquired.acquired_at
