-- Identity between the two subscription facts at the as-of instant, per currency.
with running as (
    select subscription_id, currency, mrr_amount
    from {{ ref('fct_subscription_terms') }}
    where valid_from <= {{ setting('as_of') }} and (valid_to is null or valid_to > {{ setting('as_of') }})
)

select terms.currency, terms.mrr_amount, subscriptions.mrr_amount as subscriptions_mrr_amount
from (
    select currency, sum(mrr_amount) as mrr_amount from running group by currency
) as terms
full outer join (
    select subscriptions.currency, sum(subscriptions.mrr_amount) as mrr_amount
    from {{ ref('fct_subscriptions') }} as subscriptions
    where subscriptions.is_active and subscriptions.subscription_id in (select subscription_id from running)
    group by subscriptions.currency
) as subscriptions on subscriptions.currency = terms.currency
where coalesce(terms.mrr_amount, 0) <> coalesce(subscriptions.mrr_amount, 0)
