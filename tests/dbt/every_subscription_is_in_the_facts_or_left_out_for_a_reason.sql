-- No row is lost silently: subscriptions in the facts, vanished, of test accounts and without a rate add up to all subscriptions.
select subscriptions.subscription_id
from {{ ref('stg_canonical__subscriptions') }} as subscriptions
left join {{ ref('fct_subscriptions') }} as facts on facts.subscription_id = subscriptions.subscription_id
left join (
    select distinct subscription_id from {{ ref('int_subscription_terms__built') }} where rate_to_reporting is null
) as without_rate on without_rate.subscription_id = subscriptions.subscription_id
{{ join_customer('subscriptions', {'contact': 'contact_id', 'company': 'company_id'}) }}
where
    facts.subscription_id is null
    and without_rate.subscription_id is null
    and subscriptions.deleted_at is null
    and not {{ is_test_fact({'contact': 'contact_id', 'company': 'company_id'}) }}
