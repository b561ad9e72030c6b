-- Scores follow values: customers with one value have one score, and a better value never scores lower.
{%- set measures = [('recency_days', 'recency_score', '-'), ('order_count', 'frequency_score', ''), ('net_revenue_reporting', 'monetary_score', '')] %}
{% for value, score, sign in measures %}
select '{{ score }}' as score, cast({{ value }} as double) as value
from (
    select
        {{ value }}, lowest, highest,
        max(highest) over (order by {{ sign }}{{ value }} rows between unbounded preceding and 1 preceding) as highest_below
    from (
        select {{ value }}, min({{ score }}) as lowest, max({{ score }}) as highest
        from {{ ref('fct_rfm_scores') }}
        group by {{ value }}
    ) as values_scored
) as ordered
where lowest <> highest or lowest < highest_below
{% if not loop.last %}union all{% endif %}
{% endfor %}
