{#
    Scores 1 to 5 by value quantile: a value scores by how many of the four quintile borders it exceeds, so equal values always score
    alike, however many there are. The window is everything up to the watermark.
#}
{%- set borders = [0.2, 0.4, 0.6, 0.8] -%}
{%- set measures = ['recency_days', 'order_count', 'net_revenue_reporting'] -%}
with customers as (
    select
        customer_id,
        {{ days_between('max(case when not is_fully_refunded then ordered_date end)', local_date(setting('watermark'))) }} as recency_days,
        count(case when not is_fully_refunded then 1 end) as order_count,
        {{ money('sum(net_revenue_reporting)') }} as net_revenue_reporting
    from {{ ref('fct_orders') }}
    where is_counted and customer_id is not null and ordered_at <= {{ setting('watermark') }}
    group by customer_id
    having count(case when not is_fully_refunded then 1 end) > 0
),

borders as (
    select
        {%- for measure in measures %}
        {%- set measure_loop = loop %}
        {%- for border in borders %}
        {{ quantile(measure, border) }} as {{ measure }}_{{ loop.index }}{{ ',' if not (loop.last and measure_loop.last) }}
        {%- endfor %}
        {%- endfor %}
    from customers
),

scored as (
    select
        customers.*,
        {% for measure in measures -%}
        {% if measure == 'recency_days' %}5 - ({% else %}1 + ({% endif -%}
        {% for border in borders %}case when customers.{{ measure }} > borders.{{ measure }}_{{ loop.index }} then 1 else 0 end{{ ' + ' if not loop.last }}{% endfor -%}
        ) as {{ {'recency_days': 'recency_score', 'order_count': 'frequency_score', 'net_revenue_reporting': 'monetary_score'}[measure] }}{{ ',' if not loop.last }}
        {% endfor %}
    from customers
    cross join borders
)

select
    scored.customer_id,
    scored.recency_days,
    scored.order_count,
    scored.net_revenue_reporting,
    cast(scored.recency_score as integer) as recency_score,
    cast(scored.frequency_score as integer) as frequency_score,
    cast(scored.monetary_score as integer) as monetary_score,
    segments.segment
from scored
left join {{ ref('rfm_segments') }} as segments
    on segments.recency_score = scored.recency_score
    and segments.frequency_score = scored.frequency_score
    and segments.monetary_score = scored.monetary_score
