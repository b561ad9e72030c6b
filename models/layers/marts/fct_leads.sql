with leads as (
    select
        leads.*,
        coalesce(leads.country_code, customers.country_code) as known_country_code,
        coalesce(by_contact.customer_id, by_converted.customer_id, by_lead.customer_id) as customer_id,
        coalesce(by_contact.survivor_id, by_converted.survivor_id, leads.contact_id, leads.converted_contact_id) as resolved_contact_id,
        coalesce(deals.survivor_id, leads.converted_deal_id) as resolved_deal_id,
        {{ add_days('leads.created_at', setting('lead_conversion_window_days')) }} as window_ends_at
    from {{ ref('stg_canonical__leads') }} as leads
    left join {{ ref('int_records__resolved') }} as by_contact
        on by_contact.record_type = 'contact' and by_contact.record_id = leads.contact_id
    left join {{ ref('int_records__resolved') }} as by_converted
        on by_converted.record_type = 'contact' and by_converted.record_id = leads.converted_contact_id
    left join {{ ref('int_records__resolved') }} as by_lead
        on by_lead.record_type = 'lead' and by_lead.record_id = leads.lead_id
    left join {{ ref('int_customers__described') }} as customers
        on customers.customer_id = coalesce(by_contact.customer_id, by_converted.customer_id, by_lead.customer_id)
    left join {{ ref('int_deals__resolved') }} as deals on deals.deal_id = leads.converted_deal_id
    where
        leads.deleted_at is null
        and not coalesce(by_contact.is_test, false)
        and not coalesce(by_converted.is_test, false)
        and not coalesce(by_lead.is_test, false)
        and not coalesce(deals.is_test, false)
)

select
    lead_id,
    customer_id,
    resolved_contact_id as contact_id,
    channel,
    campaign_id,
    status,
    rating,
    owner_id,
    known_country_code as country_code,
    created_at,
    {{ local_date('created_at') }} as created_date,
    converted_at,
    {{ local_date('converted_at') }} as converted_date,
    resolved_deal_id as converted_deal_id,
    converted_at is not null as is_converted,
    window_ends_at <= {{ setting('watermark') }} as is_mature,
    coalesce(converted_at >= created_at and converted_at < window_ends_at, false) as is_converted_in_window,
    case when converted_at >= created_at then {{ seconds_between('created_at', 'converted_at') }} / 86400 end as days_to_convert,
    disqualified_at,
    disqualified_reason,
    custom_fields
from leads
