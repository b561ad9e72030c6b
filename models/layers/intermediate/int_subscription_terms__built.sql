{%- set by = {'contact': 'contact_id', 'company': 'company_id'} -%}
{#
    What a subscription cost, and from when to when. It starts with the values of the subscription itself (or of a change before its
    start), each change replaces what it names, and the end of a trial splits a term in two. Of a source that logs no changes the versions
    of the row are the changes: one that rewrites a row when it is upgraded does not say that the months before were paid at the new price.
    Deleted subscriptions are here for the sake of their history; no number holds them.
    A change that gives a quantity but no amount scales the amount; since scaling composes, the amount at any change is the last given
    amount times the ratio of the quantity now to the quantity then.
#}
with subscriptions as (
    select
        subscriptions.*,
        {{ resolved_customer(by) }} as customer_id
    from {{ ref('stg_canonical__subscriptions') }} as subscriptions
    {{ join_customer('subscriptions', by) }}
    where not {{ is_test_fact(by) }}
),

statements as (
    select
        subscriptions.subscription_id,
        subscriptions.started_at as stated_at,
        0 as kind
        {%- for name in ['plan', 'interval', 'quantity', 'amount', 'currency'] %},
        case when observed.subscription_id is not null then observed.{{ name }} else subscriptions.{{ name }} end as {{ name }}
        {%- endfor %}
    from subscriptions
    left join {{ ref('int_subscriptions__observed') }} as observed on observed.subscription_id = subscriptions.subscription_id and observed.version = 1
    union all
    select subscription_id, valid_from, 1, plan, interval, quantity, amount, currency
    from {{ ref('int_subscriptions__observed') }}
    where version > 1
    union all
    select subscription_id, changed_at, 1, plan, interval, quantity, amount, currency
    from {{ ref('stg_canonical__subscription_changes') }}
    where deleted_at is null
    union all
    select subscription_id, trial_ends_at, 2, null, null, null, null, null
    from subscriptions
    where trial_ends_at > started_at
),

{# A change before the start would otherwise be overruled by the subscription's own row. #}
ordered as (
    select
        statements.*,
        subscriptions.customer_id,
        subscriptions.trial_ends_at,
        subscriptions.ended_at,
        subscriptions.deleted_at is not null as is_deleted,
        subscriptions._source,
        greatest(statements.stated_at, subscriptions.started_at) as valid_from,
        row_number() over (
            partition by statements.subscription_id
            order by case when statements.kind = 0 then 0 else 1 end, statements.stated_at, statements.kind
        ) as statement_number
    from statements
    inner join subscriptions on subscriptions.subscription_id = statements.subscription_id
),

carried as (
    select
        *,
        {{ last_known('plan', 'subscription_id', 'statement_number') }} as plan_now,
        {{ last_known('interval', 'subscription_id', 'statement_number') }} as interval_now,
        {{ last_known('currency', 'subscription_id', 'statement_number') }} as currency_now,
        {{ last_known('quantity', 'subscription_id', 'statement_number') }} as quantity_now,
        {{ last_known('amount', 'subscription_id', 'statement_number') }} as amount_given,
        count(amount) over (partition by subscription_id order by statement_number rows between unbounded preceding and current row) as amounts_given,
        lead(valid_from) over (partition by subscription_id order by statement_number) as next_from
    from ordered
),

scaled as (
    select
        *,
        {{ money("amount_given * coalesce(quantity_now / nullif(" ~ first_known('quantity_now', 'subscription_id, amounts_given', 'statement_number') ~ ", 0), 1)") }} as amount_now,
        least(next_from, ended_at) as valid_to
    from carried
),

terms as (
    select
        subscription_id,
        customer_id,
        valid_from,
        valid_to,
        plan_now as plan,
        interval_now as interval,
        quantity_now as quantity,
        amount_now as amount,
        currency_now as currency,
        {{ money("case when valid_from < trial_ends_at then 0 else amount_now * " ~ months_share('interval_now') ~ " end") }} as mrr_amount,
        {{ local_date('valid_from') }} as valid_from_date,
        is_deleted,
        _source
    from scaled
    where valid_to is null or valid_to > valid_from
)

select terms.*, {{ rate_of('rates', 'terms.currency') }} as rate_to_reporting
from terms
{# a term that begins later is worth what the newest rate says #}
{{ join_rate('rates', 'terms.currency', 'least(terms.valid_from_date, ' ~ local_date(setting('as_of')) ~ ')') }}
