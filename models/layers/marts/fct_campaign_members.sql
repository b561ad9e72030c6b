{%- set by = {'contact': 'contact_id', 'lead': 'lead_id'} -%}
{#
    A response is a reply, a form, a click or an order, on or after delivery and within the workspace's window; the earliest one counts
    and is named. Scanners click, so the clicks of a suspected bot are no response.
#}
{%- set kinds = {'reply': 'first_replied_at', 'form': 'responded_at', 'click': 'first_clicked_at', 'order': 'converted_at'} -%}
with members as (
    select
        members.*,
        {{ resolved_customer(by) }} as customer_id,
        campaigns.channel as campaign_channel,
        {{ add_days('members.delivered_at', setting('response_window_days')) }} as window_ends_at,
        case when not members.is_suspected_bot then members.first_clicked_at end as human_clicked_at
    from {{ ref('stg_canonical__campaign_members') }} as members
    left join {{ ref('stg_canonical__campaigns') }} as campaigns on campaigns.campaign_id = members.campaign_id
    {{ join_customer('members', by) }}
    where members.deleted_at is null and not {{ is_test_fact(by) }}
),

windowed as (
    select
        *,
        {%- for kind, column in kinds.items() %}
        {%- set column = 'human_clicked_at' if kind == 'click' else column %}
        case when {{ column }} >= delivered_at and {{ column }} < window_ends_at then {{ column }} end as {{ kind }}_at{{ ',' if not loop.last }}
        {%- endfor %}
    from members
),

answered as (
    select *, least(reply_at, form_at, click_at, order_at) as first_response_at
    from windowed
)

select
    campaign_member_id,
    campaign_id,
    campaign_channel,
    member_id,
    customer_id,
    lead_id,
    variant,
    is_control,
    sent_at,
    delivered_at,
    {{ local_date('delivered_at') }} as delivered_date,
    bounced_at,
    first_opened_at,
    first_clicked_at,
    first_replied_at,
    responded_at,
    converted_at,
    unsubscribed_at,
    is_suspected_bot,
    case first_response_at when reply_at then 'reply' when form_at then 'form' when click_at then 'click' when order_at then 'order' end as response_kind,
    first_response_at,
    delivered_at is not null as is_delivered,
    first_response_at is not null as is_responded,
    {{ seconds_between('delivered_at', 'first_response_at') }} / 86400 as response_days,
    coalesce(window_ends_at <= {{ setting('watermark') }}, false) as is_mature
from answered
