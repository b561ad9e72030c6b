select
    subscription_id || ':' || cast(valid_from as varchar) as subscription_term_id,
    subscription_id,
    customer_id,
    valid_from,
    valid_to,
    plan,
    interval,
    quantity,
    amount,
    currency,
    mrr_amount
from {{ ref('int_subscription_terms__built') }}
where rate_to_reporting is not null and not is_deleted
