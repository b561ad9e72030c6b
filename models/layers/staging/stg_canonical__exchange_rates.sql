with current_rows as (
{{ current_version('exchange_rates', ['rate_date', 'base_currency', 'quote_currency'], event_time='rate_date', event_is_day=true) }}
)

select
    _source || ':' || cast(rate_date as varchar) || ':' || base_currency || ':' || quote_currency as exchange_rate_id,
    rate_date,
    upper(trim(base_currency)) as base_currency,
    upper(trim(quote_currency)) as quote_currency,
    rate,
    _gone_at as deleted_at,
    _source
from current_rows
