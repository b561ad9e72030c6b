select customer_id, recency_days, order_count, net_revenue_reporting, recency_score, frequency_score, monetary_score, segment
from {{ ref('int_customers__rfm_scored') }}
