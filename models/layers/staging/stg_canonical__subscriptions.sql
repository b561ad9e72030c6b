with current_rows as (
{{ current_version('subscriptions', ['subscription_id'], event_time='started_at', has_updated_at=true) }}
)

select
    {{ qualified('subscription_id') }} as subscription_id,
    {{ qualified('contact_id') }} as contact_id,
    {{ qualified('company_id') }} as company_id,
    plan,
    interval,
    quantity,
    amount,
    {{ currency_code('currency') }} as currency,
    started_at,
    trial_ends_at,
    cancel_requested_at,
    ended_at,
    updated_at,
    _gone_at as deleted_at,
    _source
from current_rows
