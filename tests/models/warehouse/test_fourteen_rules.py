"""The rules for every number, each with tests named after it: what the warehouse must keep is worked by hand on the company of
`company.yml`; what only shows when a metric is asked for (2, 9, 10, 11, 14) on the small marts of the metric tests (`asked`).
"""

from datetime import date, datetime
from decimal import Decimal as D

import duckdb
import pytest

from models import metrics, restatements
from models.engines import sales_rates
from models.segments import compiler, grammar
from tests.models.metrics import conftest as small


@pytest.fixture
def asked():
    """The small marts, which a test may change before it asks: `asked(*statements, week_start=…)` gives a connection."""
    opened = []

    def make(*statements: str, **settings: str) -> duckdb.DuckDBPyConnection:
        con = duckdb.connect()
        opened.append(con)
        small.create(con, **settings)
        for statement in statements:
            con.execute(statement)
        small.build_layer(con)
        return con
    yield make
    for con in opened:
        con.close()


def by_period(con: duckdb.DuckDBPyConnection, name: str, **choices) -> dict:
    return dict(metrics.query(con, metrics.MetricRequest((name,), **choices)).frame.iter_rows())


def test_rule_1_days_are_local_and_have_23_or_25_hours_and_exactly_one_row(warehouse):
    days = warehouse.rows("SELECT date_day, hours_in_day, starts_at FROM marts.dim_dates WHERE date_day IN ('2026-03-29', '2026-10-25', '2026-07-01') ORDER BY 1")
    assert days == [(date(2026, 3, 29), 23.0, datetime(2026, 3, 28, 23)), (date(2026, 7, 1), 24.0, datetime(2026, 6, 30, 22)),
                    (date(2026, 10, 25), 25.0, datetime(2026, 10, 24, 22))]
    assert warehouse.rows("SELECT ordered_at, ordered_date FROM marts.fct_orders WHERE order_id = 'crm:O1'") == [(datetime(2026, 2, 28, 23, 30), date(2026, 3, 1))]


def test_rule_2_weeks_are_iso_weeks(warehouse):
    found = warehouse.rows("SELECT date_day, iso_year, iso_week, iso_week_start, week_start FROM marts.dim_dates WHERE date_day IN ('2026-01-01', '2026-12-31', '2027-01-01') ORDER BY 1")
    assert found == [(date(2026, 1, 1), 2026, 1, date(2025, 12, 29), date(2025, 12, 29)),
                     (date(2026, 12, 31), 2026, 53, date(2026, 12, 28), date(2026, 12, 28)),
                     (date(2027, 1, 1), 2026, 53, date(2026, 12, 28), date(2026, 12, 28))]


@pytest.mark.parametrize("week_start, first, expected", [
    # o3 on Thursday 1 October, o4 on Saturday 3 October, o5 on Sunday 25 October, o6 on Monday 2 November
    ("monday", date(2026, 10, 2), {date(2026, 9, 28): 1, date(2026, 10, 5): 0}), ("monday", date(2026, 10, 1), {date(2026, 9, 28): 2, date(2026, 10, 5): 0}),
    ("sunday", date(2026, 10, 2), {date(2026, 9, 27): 1, date(2026, 10, 4): 0}), ("saturday", date(2026, 10, 2), {date(2026, 9, 26): 0, date(2026, 10, 3): 1})])
def test_rule_2_a_range_that_starts_mid_week_does_not_pull_in_earlier_days(asked, week_start, first, expected):
    assert by_period(asked(week_start=week_start), "orders", grain="week", start=first, end=date(2026, 10, 8)) == expected


def test_rule_2_weeks_begin_on_monday_unless_the_workspace_says_otherwise(asked):
    whole = {"grain": "week", "start": date(2026, 10, 19), "end": date(2026, 11, 9)}
    assert by_period(asked(), "orders", **whole) == {date(2026, 10, 19): 1, date(2026, 10, 26): 0, date(2026, 11, 2): 1}
    assert by_period(asked(week_start="sunday"), "orders", **whole) == {date(2026, 10, 18): 0, date(2026, 10, 25): 1, date(2026, 11, 1): 1, date(2026, 11, 8): 0}


def test_rule_3_completeness_follows_the_watermark_and_not_the_clock(asked):
    """The 22nd is complete because the data reach its end; moved back by a minute it is not, whatever day it is today."""
    for minutes, complete in ((0, True), (1, False)):
        con = asked(f"update ops.settings set watermark = watermark - interval {minutes} minute")
        answer = metrics.query(con, metrics.MetricRequest(("orders",), grain="day", start=date(2026, 11, 21), end=date(2026, 11, 23)))
        assert answer.details["orders__is_complete"].to_list() == [True, complete]


def test_rule_3_a_day_is_complete_before_the_watermark_and_outside_gaps(warehouse):
    complete = dict(warehouse.rows("SELECT date_day, is_complete FROM marts.dim_dates WHERE date_day IN ('2026-05-09', '2026-05-10', '2026-05-11', '2026-11-21', '2026-11-22')"))
    assert complete == {date(2026, 5, 9): True, date(2026, 5, 10): False, date(2026, 5, 11): True, date(2026, 11, 21): True, date(2026, 11, 22): False}


def test_rule_4_flows_convert_at_the_rate_of_their_own_local_day(warehouse):
    amounts = dict(warehouse.rows("SELECT order_id, net_amount_reporting FROM marts.fct_orders WHERE order_id IN ('crm:O1', 'crm:O4', 'crm:O16')"))
    # 110 USD on 1 March local time at 1/1.25; 100 GBP at 1.20; 16,500 JPY through USD: 16,500 / 150 / 1.10
    assert amounts == {"crm:O1": D("88.0000"), "crm:O4": D("120.0000"), "crm:O16": D("100.0000")}
    spend = dict(warehouse.rows("SELECT spend_date, amount_reporting FROM marts.fct_marketing_spend WHERE cost_kind = 'ad'"))
    assert spend == {date(2026, 2, 28): D("100.0000"), date(2026, 3, 1): D("88.0000")}


def test_rule_4_a_missing_rate_lists_the_row_and_leaves_it_out_of_every_fact(warehouse):
    missing = warehouse.rows("SELECT entity, key, currency, date, amount FROM intermediate.int_missing_rates ORDER BY entity, key")
    assert missing == [
        ("marketing_spend", "crm:2026-03-01:ads:M:tool", "CHF", date(2026, 3, 1), D("50.0000")),
        ("orders", "crm:O10", "CHF", date(2026, 2, 1), D("70.0000")),
        ("refunds", "crm:R6", "CHF", date(2026, 7, 1), D("7.0000")),
        ("subscriptions", "crm:S5", "CHF", date(2026, 5, 1), D("10.0000"))]
    for table, column, key in [("fct_orders", "order_id", "crm:O10"), ("fct_order_lines", "order_id", "crm:O10"), ("fct_refunds", "refund_id", "crm:R6"),
                               ("fct_subscriptions", "subscription_id", "crm:S5"), ("fct_subscription_terms", "subscription_id", "crm:S5")]:
        assert warehouse.column(f"SELECT count(*) FROM marts.{table} WHERE {column} = ?", key) == [0], table


def test_rule_4_balances_convert_on_the_watermarks_day_and_deals_on_their_closing_day(warehouse):
    # 52 USD a month became 56.33 EUR in September; D2's 110 USD closed on 1 March local time at 1.25
    assert warehouse.one("SELECT currency, mrr_amount, mrr_amount_reporting FROM marts.fct_subscriptions WHERE subscription_id = 'crm:S3'") == {
        "currency": "EUR", "mrr_amount": D("56.3333"), "mrr_amount_reporting": D("56.3333")}
    assert warehouse.column("SELECT amount_reporting FROM marts.fct_deals WHERE deal_id = 'crm:D2'") == [D("88.0000")]


def test_rule_5_a_refund_belongs_to_its_order_and_a_net_may_be_negative(warehouse):
    orders = warehouse.rows("""SELECT order_id, refunded_amount_reporting, net_revenue_reporting, is_fully_refunded, is_valued FROM marts.fct_orders
                               WHERE order_id IN ('crm:O4', 'crm:O5', 'crm:O6') ORDER BY 1""")
    assert orders == [("crm:O4", D("72.0000"), D("48.0000"), False, True),
                      ("crm:O5", D("30.0000"), D("0.0000"), True, False),
                      ("crm:O6", D("25.0000"), D("-5.0000"), True, False)]
    refund = warehouse.one("SELECT customer_id, refunded_date, amount_reporting, amount_at_order_rate_reporting FROM marts.fct_refunds WHERE refund_id = 'crm:R1'")
    # paid back in April at 1.30, restated in February at 1.20
    assert refund == {"customer_id": warehouse.customer("C4"), "refunded_date": date(2026, 4, 1), "amount_reporting": D("78.0000"), "amount_at_order_rate_reporting": D("72.0000")}


def test_rule_5_a_refund_without_a_known_order_is_kept_apart(warehouse):
    refund = warehouse.one("SELECT is_matched, customer_id, amount_reporting, amount_at_order_rate_reporting FROM marts.fct_refunds WHERE refund_id = 'crm:R5'")
    assert refund == {"is_matched": False, "customer_id": warehouse.customer("C1"), "amount_reporting": D("5.0000"), "amount_at_order_rate_reporting": None}
    assert warehouse.column("SELECT count(*) FROM marts.fct_refunds WHERE refund_id = 'crm:R7'") == [0], "the refund of a deleted order leaves with it"


def test_rule_6_facts_carry_the_sources_id_and_follow_a_chain_of_merges(warehouse):
    assert warehouse.customer("C2") == warehouse.customer("C3") == warehouse.customer("C4")
    order = warehouse.one("SELECT order_id, contact_id, customer_id FROM marts.fct_orders WHERE order_id = 'crm:O4'")
    assert order == {"order_id": "crm:O4", "contact_id": "crm:C4", "customer_id": warehouse.customer("C4")}
    assert warehouse.column("SELECT count(*) FROM marts.dim_customers WHERE name LIKE '%Bell'") == [1]


def test_rule_6_records_merged_in_a_circle_are_one_customer(warehouse):
    assert warehouse.column("SELECT contact_id FROM marts.fct_orders WHERE order_id = 'crm:O16'") == ["crm:C5"]
    assert warehouse.column("SELECT count(*) FROM marts.dim_customers WHERE name LIKE '%Cole'") == [1]


def test_rule_6_merged_deals_never_appear_and_their_facts_follow(warehouse):
    assert warehouse.column("SELECT count(*) FROM marts.fct_deals WHERE deal_id = 'crm:D5'") == [0]
    assert warehouse.column("SELECT deal_id FROM marts.fct_orders WHERE order_id = 'crm:O18'") == ["crm:D6"]
    assert warehouse.column("SELECT deal_id FROM marts.fct_activities WHERE activity_id = 'crm:A6'") == ["crm:D6"]
    assert warehouse.column("SELECT converted_deal_id FROM marts.fct_leads WHERE lead_id = 'crm:L3'") == ["crm:D6"]


def test_rule_7_deleted_rows_leave_the_facts_and_stay_in_history(warehouse):
    assert warehouse.column("SELECT count(*) FROM marts.fct_orders WHERE order_id = 'crm:O14'") == [0]
    assert warehouse.column("SELECT count(*) FROM marts.fct_leads WHERE lead_id = 'crm:L5'") == [0]
    assert warehouse.column("SELECT count(*) FROM marts.fct_deals WHERE deal_id = 'crm:D7'") == [0]
    assert warehouse.rows("SELECT valid_from, valid_to, stage FROM marts.deals_history WHERE deal_id = 'crm:D7'") == [(datetime(2026, 1, 22), datetime(2026, 3, 1), "New")]
    deleted = warehouse.customer("C9")
    assert warehouse.column("SELECT is_deleted FROM marts.dim_customers WHERE customer_id = ?", deleted) == [True]
    assert warehouse.column("SELECT valid_to FROM marts.customers_history WHERE customer_id = ?", deleted) == [datetime(2026, 9, 1)]


def test_rule_8_the_order_of_stages_is_that_of_the_time(warehouse):
    positions = dict(warehouse.rows("SELECT deal_id, stage_position FROM marts.fct_deal_stage_visits WHERE stage = 'Qualified' AND deal_id IN ('crm:D3', 'crm:D6')"))
    assert positions == {"crm:D3": 2, "crm:D6": 3}, "Qualified stood second until 1 June, third after"
    assert warehouse.column("SELECT position FROM marts.dim_pipeline_stages WHERE stage = 'Qualified'") == [3]


def test_rule_9_history_keeps_the_owner_at_the_event(warehouse):
    owners = warehouse.rows("SELECT valid_from, valid_to, owner_id FROM marts.deals_history WHERE deal_id = 'crm:D4' ORDER BY 1")
    assert owners == [(datetime(2026, 1, 20), datetime(2026, 5, 1), "crm:u1"), (datetime(2026, 5, 1), None, "crm:u2")]
    assert warehouse.column("SELECT owner_id FROM marts.fct_deals WHERE deal_id = 'crm:D4'") == ["crm:u2"]
    # every closed deal has the owner of the version that ended with its closing
    closed = warehouse.rows("""
        SELECT d.deal_id, d.closing_owner_id, arg_max(h.owner_id, h.valid_from) FROM marts.fct_deals AS d JOIN marts.deals_history AS h ON h.deal_id = d.deal_id AND h.valid_from < d.closed_at
        WHERE NOT d.is_open GROUP BY ALL""")
    assert closed and all(at_closing == then for _, at_closing, then in closed)


def test_rule_9_a_deal_counts_for_its_owner_at_the_event_with_a_switch_to_the_current_one(asked):
    """u1 won d1 and lost d2 in October and handed both to u2 in November; d3 was u2's."""
    con = asked("update marts.fct_deals set owner_id = 'u2' where deal_id in ('d1', 'd2')",
                "insert into marts.deals_history select * replace (timestamp '2026-11-05' as valid_from, 'u2' as owner_id) from marts.deals_history where deal_id in ('d1', 'd2') and valid_to is null",
                "update marts.deals_history set valid_to = '2026-11-05' where deal_id in ('d1', 'd2') and valid_to is null and owner_id = 'u1'")
    rates = {basis: {row["owner_id"]: (row["won"], row["lost"], row["win_rate"]) for row in sales_rates.win_rate(con, sales_rates.ClosedDealsSpec(
        date(2026, 10, 1), date(2026, 11, 1), by="owner_id", owner_basis=basis)).iter_rows(named=True)} for basis in ("at_event", "current")}
    assert rates == {"at_event": {"u1": (1, 1, 0.5), "u2": (1, 0, 1.0)}, "current": {"u2": (2, 1, pytest.approx(2 / 3))}}


def test_rule_10_what_cannot_be_measured_is_null_and_not_zero(warehouse):
    assert warehouse.rows("SELECT is_answered, is_satisfied FROM marts.fct_survey_responses WHERE response_id = 'crm:V2'") == [(False, None)]
    assert warehouse.rows("SELECT cycle_days, duration_days FROM marts.fct_deals JOIN marts.fct_deal_stage_visits USING (deal_id) WHERE deal_id = 'crm:D4'") == [(None, None)]


def test_rule_10_a_zero_denominator_gives_null_and_says_why(asked):
    """August has no order: its average is no 0. Nobody subscribes: growth of nothing is no number either."""
    answer = metrics.query(asked(), metrics.MetricRequest(("average_order_value", "csat", "quick_ratio"), grain="month", start=date(2026, 8, 1), end=date(2026, 9, 1)))
    (row,) = answer.details.to_dicts()
    assert [row[name] for name in ("average_order_value", "csat", "quick_ratio")] == [None, None, None]
    assert row["average_order_value__null_reason"].startswith("zero denominator") and row["quick_ratio__null_reason"] == "zero denominator: no contraction and no churn"
    assert "zero denominator" in row["csat__null_reason"] and row["csat__n"] in (0, None)
    assert not [v for v in row.values() if isinstance(v, float) and v in (float("inf"), float("-inf"))]


def test_rule_10_small_n_is_shown_with_its_interval_and_greyed_below_the_threshold(asked, monkeypatch):
    """One satisfied answer of two: Wilson's interval is 9.5 % to 90.5 % (1927). The page greys it below the workspace's threshold, not at it."""
    from dashboards import figures
    answer = metrics.query(asked(), metrics.MetricRequest(("csat",), start=date(2026, 10, 1), end=date(2026, 11, 1)))
    (row,) = answer.details.to_dicts()
    assert (row["csat"], row["csat__n"]) == (0.5, 2)
    assert (row["csat__lower"], row["csat__upper"]) == (pytest.approx(0.0945, abs=5e-5), pytest.approx(0.9055, abs=5e-5))
    shown = {}
    monkeypatch.setattr(figures.queries, "definitions", metrics.registry)
    for threshold in (2, 3):
        monkeypatch.setattr(figures.queries, "settings", lambda threshold=threshold: {"small_n": threshold})
        figure = figures._figure("csat", row, answer)
        shown[threshold] = (figure.n, figure.is_few, figure.lower is not None)
    assert shown == {2: (2, False, True), 3: (2, True, True)}


def test_rule_11_a_backdated_row_restates_its_month_and_the_log_says_from_what_to_what(asked):
    before = asked()
    after = asked("insert into marts.fct_orders values ('o9', 'B', null, '2026-09-25 10:00', '2026-09-25', true, true, 'EUR', 55, 50, 50, 0, 'web', 'AT', 2, false)")
    rows = restatements.changed(restatements.measure(before), restatements.measure(after), date(2026, 11, 23))
    told = {(row["metric"], row["period"]): (row["old_value"], row["new_value"]) for row in rows.iter_rows(named=True) if row["variant"] in ("default", "restated") and row["dimension"] == "total"}
    assert told == {("orders", date(2026, 9, 1)): (2, 3), ("gross_revenue", date(2026, 9, 1)): (230, 285), ("net_revenue", date(2026, 9, 1)): (200, 250),
                    ("average_order_value", date(2026, 9, 1)): (100, pytest.approx(250 / 3))}


def test_rule_11_the_latest_version_restates_whatever_order_it_came_in(warehouse):
    order = warehouse.one("SELECT net_amount, ordered_date FROM marts.fct_orders WHERE order_id = 'crm:O18'")
    assert order == {"net_amount": D("44.0000"), "ordered_date": date(2026, 5, 1)}, "updated on 2 May, although a version of 1 May was delivered later"


def test_rule_12_customers_who_never_did_anything_are_there(warehouse):
    row = warehouse.one("SELECT order_count, net_revenue_reporting, first_paid_at, segment, is_known FROM marts.dim_customers WHERE customer_id = ?", warehouse.customer("C10"))
    assert row == {"order_count": 0, "net_revenue_reporting": D("0.0000"), "first_paid_at": None, "segment": "no orders", "is_known": True}


def test_rule_12_who_did_not_order_includes_who_never_did_anything_and_the_universe_is_stated(warehouse):
    """Of the customers we know, those without an order: among them C10, who never did anything but start a trial, and not the deleted C9."""
    segment = grammar.parse("idle", {"label": "Idle", "description": "Never ordered.", "owner": "sales", "all": [{"did_not": "order"}]})
    sql, values = compiler.compile_segment(segment)
    found = {row[0] for row in warehouse.look(sql, tuple(values)).fetchall()}
    universe = set(warehouse.column(f"SELECT customer_id FROM {compiler.UNIVERSE} WHERE NOT is_deleted AND NOT is_lead_only"))
    ordered = set(warehouse.column("SELECT DISTINCT customer_id FROM marts.fct_orders WHERE is_counted AND customer_id IS NOT NULL"))
    assert found == universe - ordered and warehouse.customer("C10") in found and warehouse.customer("C9") not in found
    assert found and ordered & universe, "neither everybody nor nobody"


@pytest.mark.parametrize("contact", ["C7", "C8", "C11"])
def test_rule_13_test_accounts_are_in_no_mart(warehouse, contact):
    customer = warehouse.customer(contact)
    tables = warehouse.column("SELECT table_name FROM information_schema.columns WHERE table_schema = 'marts' AND column_name = 'customer_id' ORDER BY 1")
    assert len(tables) > 15
    assert [t for t in tables if warehouse.column(f"SELECT count(*) FROM marts.{t} WHERE customer_id = ?", customer) != [0]] == []


def test_rule_13_test_orders_deals_and_leads_are_in_no_mart(warehouse):
    assert warehouse.column("SELECT order_id FROM marts.fct_orders WHERE order_id IN ('crm:O11', 'crm:O12', 'crm:O13', 'crm:O17')") == []
    assert warehouse.column("SELECT order_line_id FROM marts.fct_order_lines WHERE order_id = 'crm:O11'") == []
    for table in ("fct_deals", "deals_history", "fct_deal_changes", "fct_deal_stage_visits"):
        assert warehouse.column(f"SELECT count(*) FROM marts.{table} WHERE deal_id = 'crm:D10'") == [0], table
    assert warehouse.column("SELECT count(*) FROM marts.fct_leads WHERE lead_id = 'crm:L4'") == [0]
    assert warehouse.column("SELECT count(*) FROM marts.fct_campaign_members WHERE member_id = '6'") == [0]


def test_rule_14_fiscal_periods_that_are_compared_start_where_the_workspace_says(warehouse):
    found = warehouse.rows("SELECT date_day, fiscal_year, fiscal_year_start, fiscal_quarter_start FROM marts.dim_dates WHERE date_day IN ('2026-03-31', '2026-04-01') ORDER BY 1")
    assert found == [(date(2026, 3, 31), 2026, date(2025, 4, 1), date(2026, 1, 1)), (date(2026, 4, 1), 2027, date(2026, 4, 1), date(2026, 4, 1))]


def test_rule_14_on_the_22nd_the_last_month_is_compared_by_its_days_1_to_22(asked):
    """November so far has o6 and o7; October had o3 and o4 up to the 22nd and o5 on the 25th, which is not compared."""
    for choices in ({"grain": "month"}, {}):
        answer = metrics.query(asked(), metrics.MetricRequest(("orders",), start=date(2026, 11, 1), end=date(2026, 12, 1), compare="previous", **choices))
        row = answer.details.to_dicts()[-1]
        assert (row["orders"], row["orders__previous"], row["orders__change"]) == (2, 2, 0)
        assert answer.previous == (date(2026, 10, 1), date(2026, 10, 23))
    whole = metrics.query(asked(), metrics.MetricRequest(("orders",), start=date(2026, 10, 1), end=date(2026, 11, 1), compare="previous"))
    assert whole.frame.to_dicts()[0]["orders__previous"] == 2 and whole.previous == (date(2026, 9, 1), date(2026, 10, 1)), "a month that is over is compared whole"


def test_what_happens_after_the_as_of_instant_does_not_exist_yet(warehouse):
    assert warehouse.column("SELECT count(*) FROM marts.fct_orders WHERE order_id = 'crm:O15'") == [0]
