"""The edge cases of the definitions, worked out by hand, from canonical files through `import`, `run` and the command line.

One company in Berlin that reports in euro. Every example has years, months or channels of its own, so that none disturbs another.
"""

from __future__ import annotations

import csv
import json
import shlex
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines.cli import app

pytestmark = pytest.mark.xdist_group("edge")

Rows = list[dict[str, Any]]
AS_OF = "2026-11-22T12:00:00Z"


def order(name: str, at: str, net: Any, contact: str | None = None, **more: Any) -> dict[str, Any]:
    """One order; noon UTC where only a day is given."""
    return {"order_id": name, "contact_id": contact, "ordered_at": at if "T" in at else f"{at}T12:00:00Z", "net_amount": net, "currency": "EUR", **more}


def values() -> dict[str, Rows]:
    """January to March 2025: refunds in part, in full, later, and without an order; orders of no value, cancelled, and without a contact."""
    return {
        "orders": [order("a1", "2025-01-10", "100.00", "aov1", channel="aov"), order("a2", "2025-01-11", "200.00", "aov2", channel="aov"), order("a3", "2025-01-12", "0.00", "aov3", channel="aov"),
                   order("a4", "2025-01-13", "500.00", "aov4", channel="aov", status="Cancelled"), order("a5", "2025-01-14", "60.00"), order("a6", "2025-01-20", "40.00", "aov6", channel="aov"),
                   order("a7", "2025-02-10", "90.00", "aov7", channel="aov")],
        "refunds": [{"refund_id": f"r{n}", "order_id": of, "contact_id": contact, "refunded_at": f"{day}T12:00:00Z", "amount": amount, "currency": "EUR"} for n, (of, contact, day, amount) in enumerate(
            [("a1", None, "2025-02-05", "30.00"), ("a2", None, "2025-02-06", "200.00"), ("a6", None, "2025-01-25", "10.00"), (None, "aov7", "2025-02-20", "15.00"),
             ("a4", None, "2025-03-05", "500.00"), *(("l3", None, f"2025-04-2{n}", amount) for n, amount in enumerate(("33.33", "33.33", "33.34"))),
             ("t_test1", None, "2025-06-20", "10.00"), ("t_deleted", None, "2025-06-20", "10.00"), ("like0", None, "2026-12-05", "10.00"), ("unheard_of", None, "2024-12-20", "5.00")])],
    }


def lines() -> dict[str, Rows]:
    """April 2025: an order without a net amount, and one whose net amount differs from its lines."""
    return {
        "orders": [order("l1", "2025-04-03", None, "line1", discount_amount="4.00"), order("l2", "2025-04-04", "99.00", "line2"), order("l3", "2025-04-10", "100.00", "line3")],
        "order_lines": [{"order_id": "l1", "line_id": "1", "quantity": 2, "unit_price": "10.00"}, {"order_id": "l1", "line_id": "2", "quantity": 1, "unit_price": "5.00", "discount_amount": "1.00"},
                        {"order_id": "l2", "line_id": "1", "quantity": 1, "unit_price": "10.00"}],
    }


def currencies() -> dict[str, Rows]:
    """May 2025: dollars at 0.9 and from the 10th at 0.8 euro, pounds quoted the other way round, yen by way of the dollar, francs never."""
    def rate(day: str, base: str, quote: str, value: str) -> dict[str, Any]:
        return {"rate_date": day, "base_currency": base, "quote_currency": quote, "rate": value}
    return {
        "exchange_rates": [rate("2025-05-01", "USD", "EUR", "0.9"), rate("2025-05-10", "USD", "EUR", "0.8"), rate("2025-11-15", "USD", "EUR", "0.7"), rate("2025-05-01", "EUR", "GBP", "0.8"), rate("2025-05-01", "USD", "JPY", "150")],
        "orders": [order("c1", "2025-05-05", "100.00", "cur1", currency="USD"), order("c2", "2025-05-12", "100.00", "cur2", currency="USD"), order("c3", "2025-05-08", "80.00", "cur3", currency="GBP"),
                   order("c4", "2025-05-09", "100.00", "cur4", currency="CHF"), order("c5", "2025-05-06", "15000", "cur5", currency="JPY"), order("c6", "2025-04-30", "100.00", "cur6", currency="USD"),
                   order("c7", "2025-05-09T22:30:00Z", "10.00", "cur7", currency="USD")],
        "refunds": [{"refund_id": "rc1", "order_id": "c1", "refunded_at": "2025-05-20T12:00:00Z", "amount": "50.00", "currency": "USD"}],
        "marketing_spend": [{"spend_date": "2025-05-02", "channel": "fx", "cost_kind": "ad", "amount": "100.00", "currency": "USD"}],
    }


def accounts() -> dict[str, Rows]:
    """June 2025: test accounts by mark, by domain, by company and by order; deleted rows. July 2025: a chain of merges and versions of one order."""
    contacts = [{"contact_id": "test1", "is_test": "true"}, {"contact_id": "test2", "email": "robot@qa.example"}, {"contact_id": "test3", "company_id": "testco"}, {"contact_id": "real", "email": "ann@real.example"},
                {"contact_id": "chain_a", "merged_into_id": "chain_b"}, {"contact_id": "chain_b", "merged_into_id": "chain_c"}, {"contact_id": "chain_c"}]
    return {
        "companies": [{"company_id": "testco", "name": "Test Co", "is_test": "true"}],
        "contacts": [{"created_at": "2025-06-01T08:00:00Z", **row} for row in contacts],
        "orders": [*(order(f"t_{who}", "2025-06-05", "10.00", who) for who in ("test1", "test2", "test3", "real")), order("t_marked", "2025-06-06", "10.00", "real", is_test="true"),
                   order("t_deleted", "2025-06-07", "10.00", "real", deleted_at="2025-06-08T10:00:00Z"), order("t_company", "2025-06-09", "10.00", company_id="testco"),
                   *(order(f"m_{who}", f"2025-07-0{day}", "10.00", who) for day, who in enumerate(("chain_a", "chain_b", "chain_c"), 1)),
                   order("dup", "2025-07-20", "70.00", "dup", updated_at="2025-07-22T10:00:00Z"), order("dup", "2025-07-20", "50.00", "dup", updated_at="2025-07-21T10:00:00Z")],
        "leads": [{"lead_id": "q1", "email": "bot@qa.example", "created_at": "2025-06-10T10:00:00Z"}, {"lead_id": "q2", "email": "bob@else.example", "created_at": "2025-06-10T10:00:00Z"},
                  {"lead_id": "q3", "contact_id": "test1", "created_at": "2025-06-10T10:00:00Z"}, {"lead_id": "q4", "created_at": "2025-06-10T10:00:00Z", "deleted_at": "2025-06-11T10:00:00Z"}],
    }


def sales() -> dict[str, Rows]:
    """Deals closed in February and March 2025; leads of August 2025 and of the last weeks."""
    def deal(name: str, amount: int, created: str, closed: str = "", outcome: str = "", **more: Any) -> dict[str, Any]:
        return {"deal_id": name, "stage": outcome or "Open", "amount": amount, "currency": "EUR", "created_at": f"{created}T12:00:00Z", "closed_at": closed and f"{closed}T12:00:00Z",
                "is_won": outcome == "Won", "is_lost": outcome == "Lost", **more}

    def lead(name: str, created: str, converted: str = "") -> dict[str, Any]:
        return {"lead_id": name, "channel": "window", "created_at": f"{created}T10:00:00Z", "converted_at": converted and f"{converted}T10:00:00Z"}
    return {
        "pipeline_stages": [{"pipeline": "staged", "stage": stage, "position": n, "is_won": stage == "Signed", "is_lost": stage == "Dropped"} for n, stage in enumerate(("New", "Signed", "Dropped"), 1)],
        "deals": [deal("d1", 100, "2025-01-10", "2025-02-09", "Won"), deal("d2", 500, "2025-01-01", "2025-02-15", "Won"), deal("d3", 200, "2025-01-05", "2025-02-20", "Lost"), deal("d4", 999, "2025-02-01"),
                  deal("d5", 800, "2025-01-05", "2025-02-21", "Won", is_test="true"), deal("d6", 700, "2025-01-05", "2025-02-22", "Won", deleted_at="2025-02-23T10:00:00Z"),
                  deal("p1", 100, "2025-05-01", "2025-05-10", stage="Signed", pipeline="staged"), deal("p2", 200, "2025-05-01", "2025-05-11", stage="Dropped", pipeline="staged", currency="USD"),
                  deal("d7", 600, "2025-01-05", "2025-02-21", "Won", merged_into_id="d1"), deal("d8", 100, "2025-03-20", "2025-03-10", "Won")],
        "leads": [lead("w1", "2025-08-01", "2025-08-11"), lead("w2", "2025-08-02", "2025-12-01"), lead("w3", "2025-08-03"), lead("w4", "2025-08-04", "2025-11-01"),
                  lead("w5", "2025-07-20", "2025-08-10"), lead("w6", "2025-07-21", "2025-08-12"), lead("w7", "2026-11-02", "2026-11-05"), lead("w8", "2025-04-10", "2025-04-01")],
    }


def service() -> dict[str, Rows]:
    """September 2025: answers, offers without an answer, and an answer without a score."""
    scores = {"csat": ["5", "4", "3", "2", None, ""], "nps": ["10", "9", "8", "6", None], "ces": ["7", "5", None]}
    return {"survey_responses": [{"response_id": f"{kind}{n}", "kind": kind, "contact_id": f"sv{n}", "offered_at": "2025-09-04T10:00:00Z", "responded_at": None if score is None else "2025-09-05T10:00:00Z", "score": score}
                                 for kind, given in scores.items() for n, score in enumerate(given)]}


def marketing() -> dict[str, Rows]:
    """October 2025: one campaign. November 2025: activities. January and February 2024: what customers cost."""
    def member(name: str, **more: Any) -> dict[str, Any]:
        return {"campaign_id": "k1", "member_id": name, "contact_id": f"cm_{name}", "sent_at": "2025-10-05T07:00:00Z", "delivered_at": "2025-10-05T08:00:00Z", **more}

    def activity(number: int, kind: str, contact: str, direction: str = "", **more: Any) -> dict[str, Any]:
        return {"activity_id": f"act{number}", "kind": kind, "direction": direction, "contact_id": contact, "occurred_at": "2025-11-06T10:00:00Z", **more}

    def spend(day: str, channel: str, amount: str, kind: str | None = None) -> dict[str, Any]:
        return {"spend_date": day, "channel": channel, "cost_kind": kind, "amount": amount, "currency": "EUR"}
    return {
        "campaigns": [{"campaign_id": "k1", "name": "Autumn", "channel": "newsletter"}, {"campaign_id": "k2", "name": "Summer", "channel": "newsletter"}],
        "campaign_members": [member("replied", first_replied_at="2025-10-07T08:00:00Z"), member("bot", first_clicked_at="2025-10-05T08:00:01Z", is_suspected_bot="true"),
                             member("late", first_clicked_at="2025-11-20T08:00:00Z"), member("bounced", delivered_at=None, bounced_at="2025-10-05T08:00:00Z"), member("silent"),
                             member("clicked", first_clicked_at="2025-10-09T08:00:00Z", responded_at="2025-10-10T08:00:00Z"),
                             *(member(name, campaign_id="k2", delivered_at="2024-09-01T08:00:00Z", first_replied_at=at) for name, at in (
                                 ("before", "2024-09-01T07:59:59Z"), ("at_once", "2024-09-01T08:00:00Z"), ("last", "2024-10-01T07:59:59Z"), ("after", "2024-10-01T08:00:00Z")))],
        "activities": [activity(1, "email", "in1", "inbound"), activity(2, "call", "in1", "outbound"), activity(3, "note", "in1"), activity(4, "task", "in1"), activity(5, "email", "in1", "outbound"),
                       activity(6, "meeting", "in1"), activity(7, "chat", "in2", "inbound"), activity(8, "note", "in3", "inbound"), activity(9, "task", "in4", "inbound")],
        "marketing_spend": [spend("2024-01-05", "search", "100.00"), spend("2024-01-05", "social", "50.00", "ad"), spend("2024-01-31", "team", "60.00", "salary"), spend("2024-02-05", "search", "80.00", "ad")],
        "touchpoints": [{"touchpoint_id": f"tp{n}", "contact_id": who, "occurred_at": f"2024-01-0{n}T10:00:00Z", "channel": channel} for n, (who, channel) in enumerate(
            [("cac1", "search"), ("cac2", "search"), ("cac2", "social"), ("cac4", "search")], 2)] + [{"touchpoint_id": "tp_after", "contact_id": "cac5", "occurred_at": "2024-10-12T10:00:00Z", "channel": "search"}],
        "orders": [order("n1", "2024-01-20", "10.00", "cac1"), order("n2", "2024-01-21", "10.00", "cac2"), order("n3", "2024-01-22", "10.00", "cac3"), order("n4", "2024-02-10", "10.00", "cac1"),
                   order("n5", "2024-10-10", "10.00", "cac4"), order("n6", "2024-10-10", "10.00", "cac5"), order("n7", "2024-11-05", "0.00", "cac6"), order("n8", "2024-12-05", "10.00", "cac6")],
    }


def recurring() -> dict[str, Rows]:
    """2022: subscriptions of all intervals and everything that moves them."""
    def subscription(name: str, interval: str, amount: str, started: str, ended: str = "", **more: Any) -> dict[str, Any]:
        return {"subscription_id": name, "contact_id": f"sub_{name.split('-')[0]}", "interval": interval, "amount": amount, "currency": "EUR", "started_at": f"{started}T10:00:00Z" if len(started) == 10 else started,
                "ended_at": ended and f"{ended}T10:00:00Z" if len(ended) in (0, 10) else ended, **more}
    return {
        "subscriptions": [
            subscription("year", "year", "2000.00", "2022-01-05"), subscription("quarter", "quarter", "300.00", "2022-01-05"), subscription("week", "week", "12.00", "2022-01-05"),
            subscription("day", "day", "1.20", "2022-01-05"), subscription("open", "month", "50.00", "2022-01-05"),
            subscription("trial", "month", "70.00", "2022-01-10", trial_ends_at="2022-02-10T10:00:00Z"), subscription("pause", "month", "40.00", "2022-01-05"),
            subscription("same", "month", "30.00", "2022-02-03", "2022-02-20"), subscription("back-1", "month", "20.00", "2022-01-05", "2022-02-15"), subscription("back-2", "month", "25.00", "2022-04-05"),
            subscription("two-1", "month", "10.00", "2022-01-05", "2022-05-10"), subscription("two-2", "month", "15.00", "2022-03-05"),
            subscription("edge", "month", "5.00", "2022-05-31T22:00:00Z", "2022-08-31T22:00:00Z"), subscription("asked", "month", "8.00", "2022-08-05", "2022-11-15", cancel_requested_at="2022-10-15T10:00:00Z"),
            subscription("up-1", "month", "20.00", "2024-03-05", "2024-05-10"), subscription("up-2", "month", "30.00", "2024-05-10"), subscription("seats", "month", "20.00", "2024-03-05", quantity=2),
            subscription("plan", "month", "10.00", "2024-03-05"), subscription("firm", "month", "7.00", "2024-03-06", contact_id=None, company_id="firm"),
            subscription("gap-1", "month", "9.00", "2024-03-07", "2024-06-10"), subscription("gap-2", "month", "9.00", "2024-06-20"), subscription("robot", "month", "99.00", "2024-03-05", contact_id="test1"),
            subscription("dollar", "month", "100.00", "2025-10-05", currency="USD"), subscription("franc", "month", "100.00", "2025-10-05", currency="CHF"),
        ],
        "subscription_changes": [{"subscription_id": "pause", "changed_at": "2022-03-10T10:00:00Z", "amount": "0.00"}, {"subscription_id": "pause", "changed_at": "2022-04-10T10:00:00Z", "amount": "40.00"},
                                 {"subscription_id": "seats", "changed_at": "2024-05-12T10:00:00Z", "quantity": 3}, {"subscription_id": "plan", "changed_at": "2024-05-20T10:00:00Z", "interval": "year", "amount": "60.00"}],
    }


def returning() -> dict[str, Rows]:
    """2021: one cohort over three months. 2023: customers who stop ordering."""
    bought = {"2021-01-10": {"u1": 10, "u2": 10, "u3": 10, "u4": 10}, "2021-02-10": {"u1": 5, "u2": 15}, "2021-03-10": {"u1": 10, "u3": 10}, "2023-01-10": {"x1": 10}, "2023-01-15": {"x2": 10}, "2023-05-01": {"x1": 10}}
    return {"orders": [order(f"{who}_{day}", day, f"{amount}.00", f"ret_{who}") for day, people in bought.items() for who, amount in people.items()]}


def calendar() -> dict[str, Rows]:
    """2020: days of 23 and 25 hours, and a week cut by the range. 2026: the running month and the one before."""
    instants = {"dst": ["2020-03-28T22:59:59Z", "2020-03-28T23:00:00Z", "2020-03-29T21:59:59Z", "2020-03-29T22:00:00Z", "2020-10-24T21:59:59Z", "2020-10-24T22:00:00Z", "2020-10-25T00:30:00Z", "2020-10-25T01:30:00Z",
                        "2020-10-25T22:59:59Z", "2020-10-25T23:00:00Z"],
                "weeks": ["2020-06-01", "2020-06-03", "2020-06-04", "2020-06-08", "2020-12-31"], "like": ["2026-10-10", "2026-10-22", "2026-10-25", "2026-11-05", "2026-11-20", "2026-12-01"]}
    return {"orders": [order(f"{channel}{n}", at, "10.00", f"{channel}{n}", channel=channel) for channel, times in instants.items() for n, at in enumerate(times)]}


@pytest.fixture(scope="module")
def cli(build_home):
    entities: dict[str, Rows] = {}
    for example in (values, lines, currencies, accounts, sales, service, marketing, recurring, returning, calendar):
        for entity, rows in example().items():
            entities.setdefault(entity, []).extend(rows)
    made = build_home("edge", entities, time_zone="Europe/Berlin", currency="EUR", run=False)
    settings = made.home / "workspace.yml"
    settings.write_text(settings.read_text().replace("test_email_domains: []", "test_email_domains: [qa.example]"))
    made.build("--as-of", AS_OF)
    return made


@pytest.fixture(scope="module")
def rows(cli):
    """The rows that a command line prints, the command being run in this process: a start of Python for each question would cost more than the question."""
    def ask(line: str) -> Rows:
        done = CliRunner().invoke(app, [*shlex.split(line), "--home", str(cli.home), "--format", "json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)
    return ask


@pytest.fixture(scope="module")
def months(rows):
    """One metric query by month as {"2025-01": {column: value}}."""
    return lambda names, start, end, *more: {r.pop("period")[:7]: r for r in rows(f"metric query {names} --grain month --from {start} --to {end} {' '.join(more)}")}


# -- orders and refunds ------------------------------------------------------------------------------------------------------

def test_a_restated_refund_lowers_its_orders_month_and_a_cash_refund_its_own(months):
    found = months("average_order_value", "2025-01-01", "2025-03-01", "--variant all")
    # of value in January: 100 less 30, 60, and 40 less 10; the fully refunded, the free and the cancelled order are out
    assert found["2025-01"] == {"average_order_value": pytest.approx(160 / 3), "average_order_value__cash": pytest.approx(190 / 3)}
    # February takes the 30 back; the full refund goes with its order, and the refund without an order touches no order's value
    assert found["2025-02"] == {"average_order_value": 90, "average_order_value__cash": 60}


def test_net_revenue_may_be_negative_and_takes_a_refund_without_an_order_where_it_was_paid(months):
    found = months("net_revenue orders refunds", "2025-01-01", "2025-03-01", "--variant all")
    assert found["2025-01"] == {"net_revenue": 70 + 0 + 0 + 60 + 30, "net_revenue__cash": 100 + 200 + 60 + 40 - 10, "orders": 5, "refunds": 10}
    assert found["2025-02"] == {"net_revenue": 90 - 15, "net_revenue__cash": 90 - 30 - 200 - 15, "orders": 1, "refunds": 245}


def test_the_refund_of_a_cancelled_order_is_paid_and_lowers_no_revenue(rows):
    assert rows("metric query refunds net_revenue --variant all --from 2025-03-01 --to 2025-04-01") == [{"refunds": 500, "net_revenue": 0, "net_revenue__cash": 0}]


def test_refunds_of_test_and_deleted_orders_and_of_the_future_are_out(rows):
    assert rows("metric query refunds --from 2025-06-01 --to 2025-07-01") == [{"refunds": 0}]
    assert rows("metric query refunds net_revenue --from 2026-10-01 --to 2027-01-01") == [{"refunds": 0, "net_revenue": 50}]


def test_a_refund_of_an_order_nobody_delivered_lowers_its_own_month(rows):
    assert rows("metric query net_revenue --variant all --from 2024-12-01 --to 2025-01-01") == [{"net_revenue": 10 - 5, "net_revenue__cash": 10 - 5}]


def test_parts_that_add_up_to_the_order_are_a_full_refund(rows):
    assert rows("metric query average_order_value --variant all --from 2025-04-01 --to 2025-05-01") == [{"average_order_value": (20 + 99) / 2, "average_order_value__cash": (20 + 99) / 2}]


def test_an_average_over_no_orders_is_null_with_a_reason(rows):
    (row,) = rows("metric query average_order_value orders --from 2025-03-01 --to 2025-04-01 --details")
    assert row["average_order_value"] is None and row["orders"] == 0
    assert row["average_order_value__null_reason"].startswith("zero denominator")


def test_an_order_without_a_contact_counts_and_has_no_customer(rows):
    (row,) = rows("metric query orders ordering_customers --from 2025-01-01 --to 2025-02-01")
    assert row == {"orders": 5, "ordering_customers": 4}


def test_a_dimension_without_a_value_is_a_row_of_its_own(rows):
    assert rows("metric query orders --by channel --from 2025-01-01 --to 2025-02-01") == [{"channel": "(none)", "orders": 1}, {"channel": "aov", "orders": 4}]


def test_an_order_without_a_net_amount_is_worth_its_lines_less_both_discounts(rows):
    assert rows("metric query net_revenue --grain day --from 2025-04-03 --to 2025-04-05") == [{"period": "2025-04-03", "net_revenue": 2 * 10 + 5 - 1 - 4}, {"period": "2025-04-04", "net_revenue": 99}]


# -- currencies --------------------------------------------------------------------------------------------------------------

def test_orders_convert_at_the_latest_rate_on_or_before_their_local_day(rows):
    found = {r["period"]: r["net_revenue__cash"] for r in rows("metric query net_revenue --variant cash --grain day --from 2025-05-05 --to 2025-05-13")}
    assert found == {"2025-05-05": 90, "2025-05-06": 90, "2025-05-07": 0, "2025-05-08": 100, "2025-05-09": 0, "2025-05-10": 8, "2025-05-11": 0, "2025-05-12": 80}


def test_a_refund_restates_at_its_orders_rate_and_is_paid_at_its_own(rows):
    (row,) = rows("metric query net_revenue refunds --variant all --from 2025-05-01 --to 2025-06-01")
    assert row == {"net_revenue": 368 - 50 * 0.9, "net_revenue__cash": 368 - 50 * 0.8, "refunds": 40}


def test_spend_converts_at_its_day(rows):
    assert rows("metric query spend --by channel --from 2025-05-01 --to 2025-06-01") == [{"channel": "fx", "spend": 90}]


def test_an_order_without_a_rate_is_left_out_and_shown(cli, rows):
    assert rows("metric query orders --by currency --from 2025-04-30 --to 2025-06-01") == [{"currency": "GBP", "orders": 1}, {"currency": "JPY", "orders": 1}, {"currency": "USD", "orders": 3}]
    listed = {(r["entity"], r["reason"], r["status"], r["rows"]) for r in rows("quarantine list")}
    assert listed == {("orders", "has no exchange rate: CHF", "open", 1), ("orders", "has no exchange rate: USD", "open", 1), ("subscriptions", "has no exchange rate: CHF", "open", 1)}
    assert {json.loads(r["raw"])["key"] for r in rows("quarantine show --entity orders")} == {"crm:c4", "crm:c6"}
    assert "no rate for CHF" in CliRunner().invoke(app, ["status", "--home", str(cli.home)]).output


# -- whose rows count --------------------------------------------------------------------------------------------------------

def test_test_accounts_and_deleted_rows_count_nowhere(rows):
    assert rows("metric query orders net_revenue ordering_customers leads --from 2025-06-01 --to 2025-07-01") == [{"orders": 1, "net_revenue": 10, "ordering_customers": 1, "leads": 1}]
    assert rows("query \"select count(*) as n from marts.dim_customers where email like '%qa.example'\"") == [{"n": 0}]


def test_a_chain_of_merges_moves_the_facts_to_the_last_survivor(rows):
    assert rows("metric query orders ordering_customers new_customers net_revenue --from 2025-07-01 --to 2025-07-10") == [{"orders": 3, "ordering_customers": 1, "new_customers": 1, "net_revenue": 30}]
    assert rows("query \"select order_count, net_revenue_reporting from marts.dim_customers where customer_id in (select customer_id from marts.fct_orders where order_id like 'crm:m_chain%')\"") == [
        {"order_count": 3, "net_revenue_reporting": 30}]
    assert rows("query \"select count(*) as n, count(distinct contact_id) as contacts from marts.fct_orders where contact_id like 'crm:chain%'\"") == [{"n": 3, "contacts": 1}]


def test_of_two_versions_in_one_batch_the_latest_update_wins(rows):
    assert rows("metric query orders net_revenue --from 2025-07-20 --to 2025-07-21") == [{"orders": 1, "net_revenue": 70}]


# -- sales -------------------------------------------------------------------------------------------------------------------

def test_win_rate_by_count_and_by_amount_without_open_deleted_test_and_merged_deals(months):
    found = months("win_rate won_deals", "2025-02-01", "2025-03-01", "--variant all")
    assert found["2025-02"] == {"win_rate": pytest.approx(2 / 3), "win_rate__by_amount": 600 / 800, "won_deals": 2}


def test_the_sales_cycle_is_a_median_and_never_negative(months):
    found = months("sales_cycle_days won_deals", "2025-02-01", "2025-04-01")
    assert found["2025-02"] == {"sales_cycle_days": (30 + 45) / 2, "won_deals": 2}
    assert found["2025-03"] == {"sales_cycle_days": None, "won_deals": 1}


def test_a_stage_says_what_is_won_where_the_deal_does_not(months):
    # 100 euro won and 200 dollars lost, at 0.8 on the day of closing
    assert months("win_rate", "2025-05-01", "2025-06-01", "--variant all")["2025-05"] == {"win_rate": 0.5, "win_rate__by_amount": pytest.approx(100 / 260)}


def test_a_lead_converted_before_its_creation_converts_in_no_window(rows):
    assert rows("metric query sales_conversion_rate leads --from 2025-04-01 --to 2025-05-01") == [{"sales_conversion_rate": 0, "leads": 1}]


def test_sales_conversion_of_mature_leads_and_of_the_period(rows):
    # 10 and 89 days are within the window of 90, 121 days are not; the period counts August's three conversions, two of them of July's leads
    assert rows("metric query sales_conversion_rate leads --variant all --from 2025-08-01 --to 2025-09-01") == [{"sales_conversion_rate": 0.5, "sales_conversion_rate__period": 0.75, "leads": 4}]
    assert rows("metric query sales_conversion_rate leads --variant all --from 2026-11-01 --to 2026-12-01") == [{"sales_conversion_rate": None, "sales_conversion_rate__period": 1, "leads": 1}]


# -- service and marketing ---------------------------------------------------------------------------------------------------

def test_no_answer_is_no_dissatisfaction(rows):
    (row,) = rows("metric query csat nps ces --from 2025-09-01 --to 2025-10-01 --details")
    assert (row["csat"], row["csat__n"], row["csat__response_rate"]) == (0.5, 4, pytest.approx(4 / 6))
    assert (row["nps"], row["nps__n"]) == (25, 4)
    assert (row["ces"], row["ces__n"]) == (6, 2)


def test_campaign_responses_without_and_with_bots(rows):
    # delivered: replied, bot, late, silent, clicked; the late click is after the window of 30 days
    assert rows("metric query campaign_response_rate --variant all --from 2025-10-01 --to 2025-11-01") == [{"campaign_response_rate": 2 / 4, "campaign_response_rate__with_bots": 3 / 5}]
    assert rows("metric query campaign_response_time --from 2025-10-01 --to 2025-11-01") == [{"campaign_response_time": 3}]
    assert rows("query \"select response_kind, count(*) as n from marts.fct_campaign_members where is_responded and campaign_id = 'crm:k1' group by 1 order by 1\"") == [{"response_kind": "click", "n": 1}, {"response_kind": "reply", "n": 1}]


def test_notes_tasks_and_outbound_mail_are_no_interactions(rows):
    assert rows("metric query interactions active_customers interaction_frequency --from 2025-11-01 --to 2025-12-01") == [{"interactions": 4, "active_customers": 2, "interaction_frequency": 4 / 2}]
    parts = {r["channel"]: r["interaction_frequency"] for r in rows("metric query interaction_frequency --by channel --from 2025-11-01 --to 2025-12-01")}
    assert {k: v for k, v in parts.items() if v} == {"email": 0.5, "call": 0.5, "meeting": 0.5, "chat": 0.5}


def test_customers_who_only_order_are_active_with_no_interaction(rows):
    (row,) = rows("metric query interaction_frequency active_customers --from 2024-01-01 --to 2024-02-01")
    assert row == {"interaction_frequency": 0, "active_customers": 3}


def test_cac_blended_and_paid_and_null_without_new_customers(months):
    found = months("cac new_customers", "2024-01-01", "2024-03-01", "--variant all")
    assert (found["2024-01"]["cac"], found["2024-01"]["cac__paid"], found["2024-01"]["new_customers"]) == (210 / 3, 150 / 3, 3)
    assert (found["2024-02"]["cac"], found["2024-02"]["cac__paid"], found["2024-02"]["new_customers"]) == (None, None, 0)


def test_cac_by_channel_adds_up_to_all_customers_and_all_spend(rows):
    found = {r.pop("channel"): r for r in rows("metric query cac attributed_customers spend --by channel --from 2024-01-01 --to 2024-02-01")}
    assert found == {"search": {"cac": pytest.approx(100 / 1.5), "attributed_customers": 1.5, "spend": 100}, "social": {"cac": 100, "attributed_customers": 0.5, "spend": 50},
                     "team": {"cac": None, "attributed_customers": 0, "spend": 60}, "unattributed": {"cac": 0, "attributed_customers": 1, "spend": 0}}


def test_a_response_comes_on_or_after_delivery_and_before_the_window_closes(rows):
    # a second before delivery and thirty days to the second after it are out; at once and a second less are in
    assert rows("metric query campaign_response_rate campaign_deliveries --from 2024-09-01 --to 2024-10-01") == [{"campaign_response_rate": 2 / 4, "campaign_deliveries": 4}]


def test_touches_too_old_or_after_the_purchase_leave_a_customer_unattributed(rows):
    assert rows("metric query attributed_customers --by channel --from 2024-10-01 --to 2024-11-01") == [{"channel": "unattributed", "attributed_customers": 2}]


def test_a_free_order_acquires_nobody(months):
    assert [row["new_customers"] for row in months("new_customers", "2024-10-01", "2025-01-01").values()] == [2, 0, 1]


# -- recurring revenue and retention -------------------------------------------------------------------------------------------

def test_recurring_amounts_of_every_interval_become_monthly(months):
    found = months("mrr paying_customers", "2022-01-01", "2022-03-01")
    # year, quarter, week, day, open, pause, back and two; the trial pays nothing before the tenth of February
    january = 2000 / 12 + 300 / 3 + 12 * 52 / 12 + 1.2 * 365 / 12 + 50 + 40 + 20 + 10
    assert found["2022-01"] == {"mrr": pytest.approx(january, abs=1e-4), "paying_customers": 8}
    assert found["2022-02"] == {"mrr": pytest.approx(january + 70 - 20, abs=1e-4), "paying_customers": 8}


MOVEMENTS = ("new_mrr", "reactivation_mrr", "expansion_mrr", "contraction_mrr", "churned_mrr")


def test_every_movement_has_its_kind_and_the_waterfall_closes(months):
    found = months(" ".join(("opening_mrr", *MOVEMENTS, "fx_mrr", "mrr")), "2022-01-01", "2023-01-01")
    moved = {month: tuple(row[name] for name in MOVEMENTS) for month, row in found.items() if month > "2022-01" and any(row[name] for name in MOVEMENTS)}
    assert moved == {
        "2022-02": (70 + 30, 0, 0, 0, 20 + 30),  # a trial pays; one signs up and cancels within the month; one leaves
        "2022-03": (0, 0, 15, 0, 40),            # a second subscription; one pauses, which leaves nothing that is paid
        "2022-04": (0, 25 + 40, 0, 0, 0),        # who left and who paused pay again
        "2022-05": (0, 0, 0, 10, 0),             # one of two subscriptions is cancelled
        "2022-06": (5, 0, 0, 0, 0),              # begins at the first instant of June in Berlin
        "2022-08": (8, 0, 0, 0, 0),
        "2022-09": (0, 0, 0, 0, 5),              # ends at the first instant of September in Berlin
        "2022-11": (0, 0, 0, 0, 8)}
    for row in found.values():
        assert row["opening_mrr"] + row["new_mrr"] + row["reactivation_mrr"] + row["expansion_mrr"] - row["contraction_mrr"] - row["churned_mrr"] + row["fx_mrr"] == pytest.approx(row["mrr"], abs=1e-6)


def test_who_signs_up_and_cancels_within_a_month_is_flagged_and_in_no_denominator(rows, months):
    assert rows("query \"select cast(period as varchar) as period, \\\"new\\\", churn from metrics.mtr_revenue_movements__month where same_period\"") == [{"period": "2022-02-01", "new": 30, "churn": 30}]
    # of the eight of January one left; of February's eight one paused
    assert {month: row["churn_rate"] for month, row in months("churn_rate", "2022-01-01", "2022-04-01").items()} == {"2022-01": None, "2022-02": 1 / 8, "2022-03": 1 / 8}


def test_churn_is_dated_by_the_end_or_by_the_request(months):
    found = months("churned_mrr churn_rate", "2022-10-01", "2022-12-01", "--variant cancel_request")
    assert [row["churned_mrr__cancel_request"] for row in found.values()] == [8, 0]
    assert [row["churn_rate__cancel_request"] for row in found.values()] == [1 / 10, 0]
    assert [row["churned_mrr"] for row in months("churned_mrr", "2022-10-01", "2022-12-01").values()] == [0, 8]


def test_transactional_churn_measures_the_window_against_the_one_before(rows):
    # at the close of June 2023 both had ordered 181 to 91 days ago, and one of them since
    (row,) = rows("metric query churn_rate --variant transactional --from 2023-06-01 --to 2023-07-01 --grain month --details")
    assert (row["churn_rate__transactional"], row["churn_rate__transactional__n"]) == (0.5, 2)


@pytest.mark.parametrize("variant, value, expected", [
    ("bounded", "rate", [1, 0.5, 0.5]), ("unbounded", "rate", [1, 0.75, 0.5]), ("from_previous", "rate", [1, 0.5, 1]),
    ("revenue", "rate", [1, 0.5, 0.5]), ("cumulative_revenue", "revenue_per_head", [10, 15, 20])])
def test_readings_of_retention(rows, variant, value, expected):
    found = rows(f"retention --grain month --variant {variant} --from 2021-01-01 --to 2021-02-01 --periods 2")
    assert [r[value] for r in found] == expected and {r["cohort_size"] for r in found} == {4}


def test_recurring_retention_lets_everybody_start_again(rows):
    found = {(r["cohort_period"], r["period_number"]): r["rate"] for r in rows("retention --grain month --variant recurring --from 2021-01-01 --to 2021-04-01 --periods 1")}
    assert found == {("2021-01-01", 0): 1, ("2021-01-01", 1): 0.5, ("2021-02-01", 0): 1, ("2021-02-01", 1): 0.5, ("2021-03-01", 0): 1, ("2021-03-01", 1): 0}


def test_an_upgrade_is_an_expansion_though_one_subscription_replaces_another(months):
    found = months(" ".join((*MOVEMENTS, "churn_rate")), "2024-03-01", "2024-07-01")
    # 20 + 20 + 10 + 9 of people and 7 of a company; the test account's 99 count nowhere
    assert found["2024-03"] == {"new_mrr": 66, "reactivation_mrr": 0, "expansion_mrr": 0, "contraction_mrr": 0, "churned_mrr": 0, "churn_rate": 0}
    # 20 becomes 30 by a new subscription that begins with the end of the old, two seats for 20 become three, and 10 a month becomes 60 a year
    assert found["2024-05"] == {"new_mrr": 0, "reactivation_mrr": 0, "expansion_mrr": 10 + 10, "contraction_mrr": 5, "churned_mrr": 0, "churn_rate": 0}
    # ten days without a subscription: money that left and came back, and a customer who is there at the close
    assert found["2024-06"] == {"new_mrr": 0, "reactivation_mrr": 9, "expansion_mrr": 0, "contraction_mrr": 0, "churned_mrr": 9, "churn_rate": 0}


def test_a_rate_that_moves_is_no_contraction(months):
    found = months("new_mrr contraction_mrr fx_mrr opening_mrr mrr", "2025-10-01", "2025-12-01", "--where \"currency = 'USD'\"")
    assert found == {"2025-10": {"new_mrr": 80, "contraction_mrr": 0, "fx_mrr": 0, "opening_mrr": 0, "mrr": 80}, "2025-11": {"new_mrr": 0, "contraction_mrr": 0, "fx_mrr": -10, "opening_mrr": 80, "mrr": 70}}


# -- time --------------------------------------------------------------------------------------------------------------------

def test_days_of_23_and_25_hours_are_one_row_each(rows):
    assert [r["orders"] for r in rows("metric query orders --grain day --from 2020-03-28 --to 2020-03-31")] == [1, 2, 1]
    assert [r["orders"] for r in rows("metric query orders --grain day --from 2020-10-24 --to 2020-10-27")] == [1, 4, 1]
    assert rows("query \"select cast(date_day as varchar) as day, hours_in_day from marts.dim_dates where year(date_day) = 2020 and hours_in_day <> 24 order by 1\"") == [
        {"day": "2020-03-29", "hours_in_day": 23}, {"day": "2020-10-25", "hours_in_day": 25}]


def test_a_range_that_starts_mid_week_pulls_in_no_earlier_day(rows):
    assert rows("metric query orders --grain week --from 2020-06-03 --to 2020-06-10") == [{"period": "2020-06-01", "orders": 2}, {"period": "2020-06-08", "orders": 1}]
    assert rows("metric query orders --grain week --from 2020-12-28 --to 2021-01-04") == [{"period": "2020-12-28", "orders": 1}]


@pytest.mark.parametrize("grain", ["", "--grain month"])
def test_the_running_month_is_compared_with_as_many_days_of_the_one_before(rows, grain):
    (row,) = rows(f"metric query orders --from 2026-11-01 --to 2026-12-01 {grain} --compare previous")
    assert (row["orders"], row["orders__previous"], row["orders__change"]) == (2, 2, 0)


def test_a_whole_month_is_compared_with_the_whole_one_before(rows):
    (row,) = rows("metric query orders --from 2025-02-01 --to 2025-03-01 --compare previous")
    assert row == {"orders": 1, "orders__previous": 5, "orders__change": -4, "orders__change_rate": -0.8}


# -- shape of the output -----------------------------------------------------------------------------------------------------

def test_csv_and_parquet_hold_the_same_rows_as_json(cli, rows, tmp_path):
    line = "metric query orders net_revenue --variant all --grain month --by channel --from 2025-01-01 --to 2025-03-01"
    asked = rows(line)
    assert [list(r) for r in asked] == [["period", "channel", "orders", "net_revenue", "net_revenue__cash"]] * 4
    assert asked[2] == {"period": "2025-02-01", "channel": "(none)", "orders": 0, "net_revenue": -15, "net_revenue__cash": -15}  # the refund without an order has no channel
    for form in ("csv", "parquet"):
        cli.run(*shlex.split(line), "--format", form, "--output", str(tmp_path / f"answer.{form}"))
    with open(tmp_path / "answer.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [(r["period"], r["channel"], int(r["orders"]), float(r["net_revenue"]), float(r["net_revenue__cash"])) for r in read] == [tuple(r.values()) for r in asked]
    parquet = pl.read_parquet(tmp_path / "answer.parquet")
    assert parquet.with_columns(pl.col("period").cast(pl.String)).rows() == [tuple(r.values()) for r in asked]
