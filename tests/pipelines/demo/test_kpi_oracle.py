"""The recomputation of the headline KPIs says what a person with pencil and paper says, and is sane on the demo company."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from oracles import demo_kpis as oracle
from oracles.demo_kpis import Settings

SETTINGS = Settings(watermark=datetime(2026, 11, 21, 23), time_zone="Europe/Berlin", test_email_domains=("fernwood.example",))
_NOVEMBER = (date(2026, 11, 1), date(2026, 12, 1))
_OCTOBER = (date(2026, 10, 1), date(2026, 11, 1))


def _frame(columns: str, *rows: tuple) -> pl.DataFrame:
    names = columns.split()
    return pl.DataFrame({name: [row[position] for row in rows] for position, name in enumerate(names)}, strict=False)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _order(number: str, contact: str | None, moment: str, net: float, status: str = "completed", currency: str = "EUR") -> tuple:
    return (number, contact, _at(moment), Decimal(str(net)), status, currency)


def _orders(*rows: tuple) -> pl.DataFrame:
    return _frame("order_id contact_id ordered_at net_amount status currency", *rows)


def test_cac_counts_all_costs_and_only_first_ever_customers():
    frames = {
        "orders": _orders(_order("1", "old", "2026-09-05", 10), _order("2", "old", "2026-10-05", 10), _order("3", "new", "2026-10-06", 10), _order("4", "free", "2026-10-07", 0)),
        "subscriptions": _frame(
            "subscription_id contact_id amount started_at trial_ends_at ended_at",
            ("s", "payer", Decimal(9), _at("2026-09-20"), _at("2026-10-04"), None),
            ("t", "never paid", Decimal(9), _at("2026-10-01"), _at("2026-10-15"), _at("2026-10-15")),
        ),
        "marketing_spend": _frame("spend_date amount currency cost_kind", (date(2026, 10, 3), Decimal(60), "EUR", "ad"), (date(2026, 10, 4), Decimal(44), "USD", "salary"), (date(2026, 11, 1), Decimal(99), "EUR", "ad")),
        "exchange_rates": _frame("rate_date base_currency quote_currency rate", (date(2026, 10, 2), "EUR", "USD", Decimal("1.1"))),
    }  # fmt: skip
    assert oracle.cac(frames, SETTINGS, *_OCTOBER) == pytest.approx((60 + 44 / 1.1) / 2)
    assert oracle.cac(frames, SETTINGS, date(2026, 8, 1), date(2026, 9, 1)) is None


def test_an_order_at_local_midnight_belongs_to_the_local_day():
    frames = {"orders": _orders(_order("1", "a", "2026-09-30 22:00", 10), _order("2", "b", "2026-10-31 23:00", 30))}
    assert oracle.average_order_value(frames, SETTINGS, *_OCTOBER) == 10
    assert oracle.average_order_value(frames, SETTINGS, *_NOVEMBER) == 30


def test_refunds_lower_their_orders_period_and_full_ones_take_the_order_out():
    frames = {
        "orders": _orders(
            _order("1", "a", "2026-10-05", 100), _order("2", None, "2026-10-06", 50), _order("3", "a", "2026-10-07", 0), _order("4", "a", "2026-10-08", 70),
            _order("5", "a", "2026-10-09", 500, "cancelled"),
        ),
        "refunds": _frame("refund_id order_id amount currency refunded_at", ("r", "1", Decimal(30), "EUR", _at("2026-11-15")), ("s", "4", Decimal(20), "EUR", _at("2026-10-20")), ("t", "4", Decimal(50), "EUR", _at("2026-11-02"))),
    }  # fmt: skip
    assert oracle.average_order_value(frames, SETTINGS, *_OCTOBER) == pytest.approx((70 + 50) / 2)
    assert oracle.average_order_value(frames, SETTINGS, *_NOVEMBER) is None


def test_a_net_amount_that_is_missing_is_its_lines_less_the_discount():
    frames = {
        "orders": _frame("order_id contact_id ordered_at net_amount discount_amount status currency", ("1", "a", _at("2026-10-05"), None, Decimal(5), "completed", "EUR")),
        "order_lines": _frame("order_id line_id quantity unit_price discount_amount", ("1", "1", Decimal(2), Decimal(20), Decimal(3)), ("1", "2", Decimal(1), Decimal(8), None)),
    }
    assert oracle.average_order_value(frames, SETTINGS, *_OCTOBER) == 40


def test_amounts_convert_through_a_third_currency_and_leave_without_a_rate():
    rates = _frame("rate_date base_currency quote_currency rate", (date(2026, 10, 2), "USD", "EUR", Decimal("0.5")), (date(2026, 10, 2), "USD", "GBP", Decimal("0.4")), (date(2026, 10, 9), "USD", "GBP", Decimal("9")))  # fmt: skip
    frames = {
        "orders": _orders(
            _order("1", "a", "2026-10-05", 80, currency="GBP"), _order("2", "a", "2026-10-05", 80, currency="JPY"), _order("3", "a", "2026-10-01", 80, currency="GBP")
        ),
        "exchange_rates": rates,
    }
    assert oracle.average_order_value(frames, SETTINGS, *_OCTOBER) == pytest.approx(80 / 0.4 * 0.5)


def test_historic_value_is_net_of_refunds_and_joins_one_persons_records():
    frames = {
        "contacts": _frame("contact_id email phone merged_into_id is_test", ("a", "Ann@Example.com", None, None, False), ("b", "ann+shop@example.com", None, None, False), ("c", "c@x.example", None, "a", False), ("t", "qa@fernwood.example", None, None, False)),
        "orders": _orders(_order("1", "a", "2026-09-05", 100), _order("2", "b", "2026-10-05", 50), _order("3", "c", "2026-10-06", 5), _order("4", "t", "2026-10-06", 999)),
        "refunds": _frame("refund_id order_id amount currency refunded_at", ("r", "1", Decimal(100), "EUR", _at("2026-11-01"))),
    }  # fmt: skip
    assert sorted(oracle.historic_value(frames, SETTINGS, date(2026, 12, 1)).values()) == [55]
    assert oracle.clv_historic(frames, SETTINGS, date(2026, 9, 1), date(2026, 12, 1)) == 55
    assert oracle.clv_historic(frames, SETTINGS, *_NOVEMBER) is None


def test_logo_churn_of_fixture_f1_is_one_of_three():
    amounts = {"A": (100, 150), "B": (100, 60), "C": (100, None), "D": (None, 30), "E": (None, 80)}
    rows, changes = [], []
    for name, (before, after) in amounts.items():
        start = _at("2026-06-01") if before else _at("2026-10-10")
        rows.append((name, name, Decimal(before or after), start, _at("2026-10-20") if after is None else None))
        if before and after:
            changes.append((name, _at("2026-10-12"), Decimal(after), None))
    rows.append(("D earlier", "D", Decimal(30), _at("2026-01-01"), _at("2026-08-10")))
    frames = {
        "subscriptions": _frame("subscription_id contact_id amount started_at ended_at", *rows),
        "subscription_changes": _frame("subscription_id changed_at amount quantity", *changes),
    }
    assert oracle.churn_rate(frames, SETTINGS, *_OCTOBER) == pytest.approx(1 / 3)


def test_a_planned_end_is_no_churn_of_the_running_month_and_a_pause_is():
    frames = {
        "subscriptions": _frame(
            "subscription_id contact_id quantity amount started_at ended_at",
            ("1", "leaving later", Decimal(1), Decimal(10), _at("2026-01-01"), _at("2026-11-25")),
            ("2", "paused", Decimal(1), Decimal(10), _at("2026-01-01"), None),
            ("3", "kept", Decimal(2), Decimal(10), _at("2026-01-01"), None),
        ),
        "subscription_changes": _frame("subscription_id changed_at amount quantity", ("2", _at("2026-11-10"), Decimal(0), None), ("3", _at("2026-11-10"), None, Decimal(1))),
    }
    assert oracle.churn_rate(frames, SETTINGS, *_NOVEMBER) == pytest.approx(1 / 3)
    assert oracle.churn_rate(frames, SETTINGS, date(2026, 12, 1), date(2027, 1, 1)) is None


def test_only_mature_leads_count_and_only_conversions_within_the_window():
    frames = {
        "leads": _frame(
            "lead_id email created_at converted_at deleted_at",
            ("exactly in time", None, _at("2026-08-01 08:00"), _at("2026-10-30 08:00"), None),
            ("a second late", None, _at("2026-08-02 08:00"), _at("2026-10-31 08:00:01"), None),
            ("never", None, _at("2026-08-03"), None, None),
            ("young", None, _at("2026-08-30"), _at("2026-08-31"), None),
            ("deleted", None, _at("2026-08-03"), None, _at("2026-08-04")),
            ("internal", "x@fernwood.example", _at("2026-08-03"), None, None),
        )
    }
    assert oracle.sales_conversion_rate(frames, SETTINGS, date(2026, 8, 1), date(2026, 9, 1)) == pytest.approx(1 / 3)


def test_csat_ignores_those_who_did_not_answer():
    scores = [(str(n), "csat", score, _at("2026-10-05") if score else None) for n, score in enumerate([5, 4, 3, None, None, 1])]
    frames = {"survey_responses": _frame("response_id kind score responded_at", *scores, ("n", "nps", 10, _at("2026-10-05")), ("l", "csat", 1, _at("2026-11-05")))}
    assert oracle.csat(frames, SETTINGS, *_OCTOBER) == 0.5


def test_interactions_are_two_way_and_per_active_customer():
    columns = "activity_id contact_id kind direction is_customer_facing outcome occurred_at"
    rows = [
        ("1", "a", "email", "inbound", True, None), ("2", "a", "email", "outbound", True, None), ("3", "a", "call", "outbound", True, "reached"),
        ("4", "a", "call", "outbound", True, "no answer"), ("5", "a", "note", None, False, None), ("6", None, "email", "inbound", True, None),
    ]  # fmt: skip
    frames = {"activities": _frame(columns, *((*row, _at("2026-10-05")) for row in rows)), "orders": _orders(_order("1", "b", "2026-10-05", 10))}
    assert oracle.interaction_frequency(frames, SETTINGS, *_OCTOBER) == pytest.approx(2 / 2 / 31 * 30)
    november = {**frames, "orders": _orders(_order("1", "b", "2026-11-05", 10)), "activities": _frame(columns, ("1", "a", "chat", "inbound", True, None, _at("2026-11-05")))}
    assert oracle.interaction_frequency(november, SETTINGS, *_NOVEMBER) == pytest.approx(1 / 2 / 21 * 30)


def test_the_funnel_needs_conversion_and_a_purchase_inside_the_window():
    day = _at("2026-06-01")
    leads = [
        ("ordered", day, day + timedelta(days=5), "c1", None),
        ("deal won", day, day + timedelta(days=5), "c2", "d2"),
        ("ordered late", day, day + timedelta(days=5), "c3", None),
        ("customer before", day, day + timedelta(days=5), "c4", None),
        ("not converted", day, None, None, None),
        ("deal lost", day, day + timedelta(days=5), "c6", "d6"),
        ("maturing", _at("2026-06-20") + timedelta(days=80), None, None, None),
    ]
    frames = {
        "leads": _frame("lead_id created_at converted_at converted_contact_id converted_deal_id", *leads),
        "deals": _frame("deal_id is_won closed_at", ("d2", True, day + timedelta(days=80)), ("d6", False, day + timedelta(days=20))),
        "orders": _orders(_order("1", "c1", "2026-06-08", 10), _order("3", "c3", "2026-09-30", 10), _order("4", "c4", "2026-05-01", 10), _order("5", "c4", "2026-06-20", 10)),
    }
    assert oracle.funnel_conversion_rate(frames, SETTINGS, date(2026, 6, 1), date(2026, 12, 1)) == pytest.approx(2 / 6)


def test_retention_of_fixture_f2_is_sixty_percent_over_one_cohort():
    rows, number = [], iter(range(1_000))
    for cohort, size, returns in (("2026-09", 10, {"2026-10": 6, "2026-11": 3}), ("2026-10", 20, {"2026-11": 4}), ("2026-11", 5, {})):
        for person in range(size):
            moments = [cohort] + [month for month, count in returns.items() if person < count]
            rows += [_order(str(next(number)), f"{cohort} {person}", f"{month}-05", 10) for month in moments]
    frames = {"orders": _orders(*rows)}
    span = (date(2026, 9, 1), date(2026, 12, 1))
    cells = oracle.retention_cells(frames, SETTINGS, *span)
    assert cells[date(2026, 9, 1), 1] == (6, 10)
    assert cells[date(2026, 9, 1), 2] is None
    assert cells[date(2026, 10, 1), 1] is None
    assert oracle.retention_rate(frames, SETTINGS, *span) == 0.6
    gap = Settings(watermark=SETTINGS.watermark, gaps=((_at("2026-10-03"), _at("2026-10-04")),))
    assert oracle.retention_rate(frames, gap, *span) is None


def test_responses_count_within_the_window_and_without_bots():
    sent = _at("2026-10-05")
    columns = "member_id contact_id delivered_at first_replied_at responded_at first_clicked_at converted_at is_suspected_bot"
    members = [
        ("reply", "a", sent, sent + timedelta(days=3), None, None, None, False),
        ("order on the last day", "b", sent, None, None, None, sent + timedelta(days=30), False),
        ("too late", "c", sent, None, None, sent + timedelta(days=31), None, False),
        ("bot", "d", sent, None, None, sent, None, True),
        ("held back", "e", None, None, None, None, sent, False),
    ]
    frames = {"campaign_members": _frame(columns, *members)}
    assert oracle.campaign_response_rate(frames, SETTINGS, *_OCTOBER) == pytest.approx(2 / 3)
    assert oracle.campaign_response_time(frames, SETTINGS, *_OCTOBER) == pytest.approx((3 + 30) / 2)


def test_given_members_decide_who_is_who():
    members = _frame("node_type source_id customer_id", ("contact", "a", "p_1"), ("contact", "b", "p_1"))
    frames = {"orders": _orders(_order("1", "a", "2026-09-05", 100), _order("2", "b", "2026-10-05", 50))}
    settings = Settings(watermark=SETTINGS.watermark, members=members)
    assert oracle.historic_value(frames, settings, date(2026, 12, 1)) == {"p_1": 150}


def test_months_are_whole_months_only():
    assert oracle.months(date(2026, 9, 15), date(2026, 11, 22)) == [_OCTOBER]


def test_every_kpi_of_the_demo_company_is_at_a_sane_level(medium):
    settings = Settings(watermark=SETTINGS.watermark, test_email_domains=("fernwood.example",))
    levels = {
        "cac": (40, 250), "clv_historic": (80, 700), "churn_rate": (0.005, 0.07), "sales_conversion_rate": (0.1, 0.25), "average_order_value": (60, 120),
        "csat": (0.65, 0.92), "interaction_frequency": (0.03, 3), "funnel_conversion_rate": (0.03, 0.22), "retention_rate": (0.1, 0.6), "campaign_response_rate": (0.05, 0.3),
    }  # fmt: skip
    assert levels.keys() == oracle.KPIS.keys()
    for name, (least, most) in levels.items():
        span = (date(2026, 8, 1), date(2026, 9, 1)) if name == "churn_rate" else (date(2025, 1, 1), date(2026, 7, 1))
        total = oracle.KPIS[name](medium.typed, settings, *span)
        assert least < total < most, f"{name}: {total}"


def test_the_oracle_joins_what_the_truth_calls_one_person(medium):
    joined = dict(oracle._joined(medium.typed))
    truth = medium.truth["duplicates"].filter(pl.col("kind") == "person")
    clusters = truth.group_by("cluster_id").agg(pl.col("record_id")).filter(pl.col("record_id").list.len() > 1)
    found = sum(len({joined["contact", f"P{record}"] for record in records}) == 1 for records in clusters["record_id"])
    assert found > 0.95 * clusters.height
