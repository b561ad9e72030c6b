"""Random rows for the small warehouse, made by DuckDB's hash so that they are the same on every machine."""

from __future__ import annotations

import duckdb


def fill(con: duckdb.DuckDBPyConnection, customers: int = 300, facts: int = 600) -> None:
    """Replace the hand-worked facts by random ones between 2025-01-05 and 2026-11-22, with null dimensions among them."""
    for name in ("dim_customers", "fct_new_customers", "fct_orders", "fct_refunds", "fct_leads", "fct_deals", "deals_history", "fct_deal_stage_visits", "fct_touchpoints", "fct_campaign_members",
                 "fct_marketing_spend", "fct_activities", "fct_tickets", "fct_survey_responses"):
        con.execute(f"delete from marts.{name}")
    con.execute("create macro pick(i, salt, n) as cast(hash(i * 1000 + salt) % n as integer)")
    con.execute("create macro chance(i, salt, share) as pick(i, salt, 1000) < share * 1000")
    con.execute("create macro day(i, salt) as date '2025-01-05' + pick(i, salt, 687)")
    con.execute("create macro one_of(i, salt, list) as list[1 + pick(i, salt, len(list))]")
    person = f"case when not chance(i, 1, 0.1) then 'p' || pick(i, 2, {customers}) end"
    channel = "one_of(i, 3, ['web', 'shop', 'email', null])"
    con.execute(f"""insert into marts.dim_customers by name select 'p' || i as customer_id, one_of(i, 1, ['person', 'organisation']) as customer_type,
        one_of(i, 2, ['DE', 'AT', null]) as country_code, one_of(i, 3, ['search', 'email', null]) as acquisition_channel,
        one_of(i, 4, ['champions', 'at risk']) as segment, cast(null as date) as first_paid_date, pick(i, 5, 900) as net_revenue_reporting from range({customers}) t(i)""")
    con.execute(f"""insert into marts.fct_orders by name select * exclude (number), coalesce(number = 1, false) as is_first_order, is_counted and net_revenue_reporting > 0 as is_valued,
        number as order_number, 0 as refunded_amount_reporting from (select 'o' || i as order_id, {person} as customer_id, cast(day(i, 4) as timestamp) + interval 10 hour as ordered_at,
        day(i, 4) as ordered_date, not chance(i, 5, 0.1) as is_counted, 'EUR' as currency, pick(i, 6, 200) + 1 as gross_amount_reporting,
        pick(i, 6, 200) as net_amount_reporting, pick(i, 6, 200) as net_revenue_reporting, {channel} as channel, one_of(i, 7, ['DE', 'AT', null]) as country_code,
        case when customer_id is not null and is_counted then row_number() over (partition by customer_id, is_counted order by ordered_at, order_id) end as number
        from range({facts}) t(i))""")
    con.execute(f"""insert into marts.fct_refunds by name select 'r' || i as refund_id, case when chance(i, 1, 0.8) then 'o' || pick(i, 2, {facts}) end as order_id,
        chance(i, 1, 0.8) as is_matched, 'p' || pick(i, 3, {customers}) as customer_id, day(i, 4) as refunded_date, 'EUR' as currency,
        pick(i, 5, 50) as amount_reporting, one_of(i, 6, ['damaged', 'late', null]) as reason from range({facts // 5}) t(i)""")
    con.execute("""insert into marts.fct_new_customers by name select customer_id, min(ordered_date) as acquired_date, min(ordered_at) as acquired_at, 'order' as acquisition_kind, 10 as first_amount_reporting from marts.fct_orders
        where is_counted and customer_id is not null group by 1""")
    con.execute("""update marts.dim_customers set first_paid_date = n.acquired_date from marts.fct_new_customers n where n.customer_id = dim_customers.customer_id""")
    con.execute(f"""insert into marts.fct_leads by name select *, converted_at is not null as is_converted, cast(converted_at as date) as converted_date,
        created_date + 90 <= date '2026-11-22' as is_mature, coalesce(converted_at < created_at + interval 90 day, false) as is_converted_in_window
        from (select 'l' || i as lead_id, {person} as customer_id, {channel} as channel, day(i, 4) as created_date,
        cast(day(i, 4) as timestamp) + interval 8 hour as created_at, case when chance(i, 5, 0.4) then cast(day(i, 4) + 1 + pick(i, 6, 120) as timestamp) end as converted_at,
        one_of(i, 7, ['open', 'converted']) as status, 'u' || pick(i, 8, 3) as owner_id from range({facts}) t(i)) where converted_at is null or converted_at < timestamp '2026-11-22'""")
    con.execute(f"""insert into marts.fct_deals by name select *, not is_won and not is_lost as is_open, cast(created_date as timestamp) as created_at,
        cast(closed_date as timestamp) as closed_at, date_diff('day', created_date, closed_date) as cycle_days from (
        select 'd' || i as deal_id, {person} as customer_id, {channel} as channel, 'new business' as pipeline, 'Proposal' as stage, 2 as stage_position, 'EUR' as currency,
        pick(i, 4, 9000) as amount_reporting, day(i, 5) as created_date, pick(i, 6, 3) = 0 as is_won, pick(i, 6, 3) = 1 as is_lost,
        case when pick(i, 6, 3) < 2 then least(day(i, 5) + pick(i, 7, 60), date '2026-11-22') end as closed_date, 'u' || pick(i, 8, 3) as owner_id, 'u' || pick(i, 10, 3) as closing_owner_id,
        one_of(i, 9, ['price', 'timing', null]) as lost_reason from range({facts}) t(i))""")
    con.execute("""insert into marts.deals_history by name select deal_id, customer_id, pipeline, currency, amount_reporting, owner_id, created_at as valid_from,
        case when is_open then null else closed_at end as valid_to, case when hash(deal_id) % 2 = 0 then 'New' else 'Proposal' end as stage,
        1 + hash(deal_id) % 2 as stage_position, true as is_open, false as is_won from marts.fct_deals""")
    con.execute("""insert into marts.deals_history by name select deal_id, customer_id, pipeline, currency, amount_reporting, owner_id, closed_at as valid_from,
        case when is_won then 'Won' else 'Lost' end as stage, 3 as stage_position, false as is_open, is_won from marts.fct_deals where not is_open""")
    con.execute("""insert into marts.fct_deal_stage_visits by name select deal_id, pipeline, stage, valid_from as entered_at, valid_to as exited_at, 1 as visit_number,
        case when valid_to is not null then hash(deal_id) % 50 + 0.5 end as duration_days from marts.deals_history where is_open""")
    con.execute(f"""insert into marts.fct_touchpoints by name select 'w' || i as touchpoint_id, {person} as customer_id,
        cast(day(i, 4) as timestamp) as occurred_at, one_of(i, 3, ['web', 'shop', 'email']) as channel, i as sequence from range({facts}) t(i)""")
    con.execute(f"""insert into marts.fct_campaign_members by name select 'm' || i as campaign_member_id, 'c' || pick(i, 1, 4) as campaign_id, {channel} as campaign_channel,
        {person} as customer_id, day(i, 4) as delivered_date, chance(i, 5, 0.1) as is_suspected_bot, chance(i, 6, 0.9) as is_delivered, chance(i, 7, 0.3) as is_responded,
        pick(i, 8, 300) / 10.0 as response_days, cast(day(i, 4) as timestamp) as delivered_at, case when chance(i, 7, 0.5) then cast(day(i, 4) + 1 as timestamp) end as first_clicked_at, one_of(i, 9, ['click', 'reply', null]) as response_kind from range({facts}) t(i)""")
    con.execute(f"""insert into marts.fct_marketing_spend by name select 's' || i as spend_id, day(i, 1) as spend_date, one_of(i, 2, ['web', 'shop', 'email']) as channel,
        one_of(i, 3, ['ad', 'tool', 'salary']) as cost_kind, 'EUR' as currency, pick(i, 4, 30) as amount_reporting from range({facts // 4}) t(i)""")
    con.execute(f"""insert into marts.fct_activities by name select 'a' || i as activity_id, one_of(i, 1, ['call', 'email', 'note']) as kind, chance(i, 2, 0.7) as is_interaction,
        {person} as customer_id, 'u' || pick(i, 8, 3) as owner_id, day(i, 4) as occurred_date from range({facts}) t(i)""")
    con.execute(f"""insert into marts.fct_tickets by name select 't' || i as ticket_id, {person} as customer_id, {channel} as channel, one_of(i, 5, ['bug', 'how-to']) as category,
        day(i, 4) as created_date, cast(day(i, 4) as timestamp) + interval 9 hour as created_at, case when chance(i, 6, 0.9) then pick(i, 7, 500) / 10.0 end as first_response_hours,
        case when chance(i, 6, 0.9) then cast(day(i, 4) as timestamp) + interval 9 hour + pick(i, 7, 500) * interval 6 minute end as first_response_at,
        case when chance(i, 8, 0.7) then pick(i, 9, 5000) / 10.0 end as resolution_hours, case when chance(i, 8, 0.7) then cast(day(i, 4) as timestamp) end as solved_at,
        pick(i, 10, 3) as reopen_count from range({facts}) t(i)""")
    con.execute(f"""insert into marts.fct_survey_responses by name select *, score is not null as is_answered, score >= 4 as is_satisfied,
        case when score is not null then offered_date + 1 end as responded_date from (select 'q' || i as response_id, one_of(i, 1, ['csat', 'nps', 'ces']) as kind,
        {person} as customer_id, {channel} as channel, day(i, 4) as offered_date, case when chance(i, 5, 0.6) then pick(i, 6, 6) end as score from range({facts}) t(i))""")
