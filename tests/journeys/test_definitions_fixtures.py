"""The worked examples of the definitions, from canonical files through `import`, `run` and the command line."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest


def f1() -> dict[str, list[dict[str, Any]]]:
    """Opening book A 100, B 100, C 100; in October A 150, B 60, C cancels, D (churned in August) returns at 30, E is new at 80."""
    def subscription(name: str, amount: int, started: str, ended: str = "", number: int = 1) -> dict[str, Any]:
        return {"subscription_id": f"{name}{number}", "contact_id": f"f1_{name}", "interval": "month", "amount": amount, "currency": "USD", "started_at": started, "ended_at": ended}
    return {
        "subscriptions": [subscription("A", 100, "2026-01-05T10:00:00Z"), subscription("B", 100, "2026-01-05T10:00:00Z"), subscription("C", 100, "2026-01-05T10:00:00Z", "2026-10-15T10:00:00Z"),
                          subscription("D", 50, "2026-01-05T10:00:00Z", "2026-08-15T10:00:00Z"), subscription("D", 30, "2026-10-10T10:00:00Z", number=2), subscription("E", 80, "2026-10-20T10:00:00Z"),
                          {"subscription_id": "Y1", "contact_id": "f1_A", "interval": "year", "amount": 0, "currency": "USD", "started_at": "2026-01-05T10:00:00Z", "ended_at": ""}],
        "subscription_changes": [{"subscription_id": "A1", "changed_at": "2026-10-05T10:00:00Z", "amount": 150}, {"subscription_id": "B1", "changed_at": "2026-10-06T10:00:00Z", "amount": 60}],
    }


def f2() -> list[dict[str, Any]]:
    """Cohorts by first order: September 10 people, October 20, November 5; returns as the definitions say."""
    orders = []

    def order(contact: str, day: str) -> None:
        orders.append({"order_id": f"f2_{len(orders)}", "contact_id": contact, "ordered_at": f"{day}T12:00:00Z", "net_amount": "20.00", "currency": "USD"})
    for cohort, size, day in (("sep", 10, "2026-09-10"), ("oct", 20, "2026-10-10"), ("nov", 5, "2026-11-10")):
        for person in range(size):
            order(f"f2_{cohort}{person}", day)
    for person in range(6):
        order(f"f2_sep{person}", "2026-10-20")
    for person in range(3):
        order(f"f2_sep{person}", "2026-11-15")
    for person in range(4):
        order(f"f2_oct{person}", "2026-11-16")
    return orders


def f3() -> list[dict[str, Any]]:
    """The funnel logs."""
    rows = []

    def log(contact: str, *events: tuple[str, str]) -> None:
        for sequence, (name, at) in enumerate(events):
            rows.append({"event_id": f"{contact}_{sequence}", "contact_id": contact, "name": name, "occurred_at": f"2026-11-02T{at}:00Z", "sequence": sequence})
    log("f3_window", ("A", "13:00"), ("A", "13:30"), ("B", "13:45"), ("C", "14:15"))
    log("f3_totals", *((name, f"10:{minute:02d}") for minute, name in enumerate(("TA", "TA", "TA", "TB", "TC", "TC", "TA", "TB", "TC"))))
    log("f3_page", ("onboarding", "09:00"), ("page", "09:05"), ("page", "09:05"), ("page", "09:06"))
    return rows


def f4() -> dict[str, list[dict[str, Any]]]:
    """D1 New, Qualified, Proposal, Qualified, Proposal, Won. D2 New, Proposal, Won. D3 New, Qualified, Lost. D4 New."""
    stages = ["New", "Qualified", "Proposal", "Won", "Lost"]
    paths = {"D1": ["New", "Qualified", "Proposal", "Qualified", "Proposal", "Won"], "D2": ["New", "Proposal", "Won"], "D3": ["New", "Qualified", "Lost"], "D4": ["New"]}
    deals, changes = [], []
    for deal, path in paths.items():
        closed = path[-1] in ("Won", "Lost")
        day = date(2026, 6, 1)
        for number, (before, after) in enumerate(zip(path, path[1:], strict=False), 1):
            changes.append({"deal_id": deal, "field": "stage", "old_value": before, "new_value": after, "changed_at": f"{day + timedelta(days=5 * number)}T10:00:00Z", "sequence": number})
        deals.append({"deal_id": deal, "pipeline": "sales", "stage": path[-1], "amount": 100, "currency": "USD", "created_at": "2026-06-01T10:00:00Z",
                      "closed_at": f"{day + timedelta(days=5 * (len(path) - 1))}T10:00:00Z" if closed else "", "is_won": path[-1] == "Won", "is_lost": path[-1] == "Lost"})
    return {"pipeline_stages": [{"pipeline": "sales", "stage": s, "position": n, "is_won": s == "Won", "is_lost": s == "Lost"} for n, s in enumerate(stages, 1)],
            "deals": deals, "deal_changes": changes}


def attribution() -> dict[str, list[dict[str, Any]]]:
    """Conversion 1 worth 100 by A then B, conversion 2 worth 900 by A; in 2025, so that no other example sees it."""
    touches = [("c1", "A", "2025-03-01"), ("c1", "B", "2025-03-02"), ("c2", "A", "2025-03-01")]
    return {"touchpoints": [{"touchpoint_id": f"t{n}", "contact_id": f"at_{c}", "occurred_at": f"{day}T08:00:00Z", "channel": channel} for n, (c, channel, day) in enumerate(touches)],
            "orders": [{"order_id": f"at_{c}", "contact_id": f"at_{c}", "ordered_at": "2025-03-10T08:00:00Z", "net_amount": amount, "currency": "USD"} for c, amount in (("c1", "100.00"), ("c2", "900.00"))]}


@pytest.fixture(scope="module")
def cli(build_home):
    touched = attribution()
    return build_home("fixtures", {**f1(), "orders": [*f2(), *touched["orders"]], "events": f3(), **f4(), "touchpoints": touched["touchpoints"]}, as_of="2026-11-22T12:00:00Z")


OCTOBER = ("--grain", "month", "--from", "2026-10-01", "--to", "2026-11-01")


def test_f1_the_waterfall_of_october(cli):
    (row,) = cli.rows("metric", "query", "opening_mrr", "new_mrr", "reactivation_mrr", "expansion_mrr", "contraction_mrr", "churned_mrr", "fx_mrr", "mrr", *OCTOBER)
    assert row == {"period": "2026-10-01", "opening_mrr": 300, "new_mrr": 80, "reactivation_mrr": 30, "expansion_mrr": 50, "contraction_mrr": 40, "churned_mrr": 100, "fx_mrr": 0, "mrr": 320}


def test_f1_rates_of_october(cli):
    (row,) = cli.rows("metric", "query", "grr", "nrr", "churn_rate", "quick_ratio", "gross_mrr_churn_rate", "net_mrr_churn_rate", *OCTOBER)
    assert row["grr"] == pytest.approx(160 / 300)
    assert row["nrr"] == pytest.approx(210 / 300)
    assert row["churn_rate"] == pytest.approx(1 / 3)
    assert row["quick_ratio"] == pytest.approx(130 / 140)
    assert row["gross_mrr_churn_rate"] == pytest.approx(140 / 300)
    assert row["net_mrr_churn_rate"] == pytest.approx(60 / 300)


@pytest.mark.parametrize("variant, expected", [("net_churn_complement", 0.8), ("net_of_expansion", 1 - 50 / 300)])
def test_f1_variants_of_net_revenue_retention(cli, variant, expected):
    (row,) = cli.rows("metric", "query", "nrr", "--variant", variant, *OCTOBER)
    assert row[f"nrr__{variant}"] == pytest.approx(expected)


def test_f1_without_a_grain_the_range_is_one_period(cli):
    (row,) = cli.rows("metric", "query", "mrr", "nrr", "--from", "2026-10-01", "--to", "2026-11-01")
    assert row["mrr"] == 320 and row["nrr"] == pytest.approx(0.7)


def test_f2_incomplete_cells_are_null(cli):
    cells = {(r["cohort_period"], r["period_number"]): r for r in cli.rows("retention", "--grain", "month", "--from", "2026-09-01")}
    assert cells["2026-09-01", 1]["rate"] == pytest.approx(0.6)
    assert cells["2026-09-01", 2]["rate"] is None and cells["2026-10-01", 1]["rate"] is None
    assert cells["2026-09-01", 0]["cohort_size"] == 10 and cells["2026-10-01", 0]["cohort_size"] == 20


def test_f2_the_mean_is_over_complete_cells_only(cli):
    mean = {r["period_number"]: r for r in cli.rows("retention", "--grain", "month", "--from", "2026-09-01", "--mean")}
    assert mean[1]["rate"] == pytest.approx(0.6) and mean[1]["n"] == 10


def counts(rows):
    return [r["entries"] for r in rows]


def test_f3_first_entry_is_not_reset(cli):
    assert counts(cli.rows("funnel", "--steps", "A; B; C", "--window", "1h")) == [1, 1, 0]


def test_f3_best_entry_takes_the_one_that_converts(cli):
    assert counts(cli.rows("funnel", "--steps", "A; B; C", "--window", "1h", "--reentry", "best_entry")) == [1, 1, 1]


def test_f3_totals_may_enter_again(cli):
    assert counts(cli.rows("funnel", "--steps", "TA; TB; TC", "--window", "1h", "--entry", "totals"))[-1] == 2


def test_f3_the_same_event_twice_needs_two_occurrences(cli):
    assert counts(cli.rows("funnel", "--steps", "onboarding; page; page", "--window", "1h")) == [1, 1, 1]


def test_f4_three_counts_of_stages(cli):
    rows = cli.rows("funnel", "--steps", "New; Qualified; Proposal; Won")
    assert [(r["in_order"], r["any_stage"], r["imputed"]) for r in rows] == [(4, 4, 4), (2, 2, 3), (1, 2, 2), (1, 2, 2)]
    assert counts(rows) == [4, 2, 1, 1]
    assert counts(cli.rows("funnel", "--steps", "New; Qualified; Proposal; Won", "--order", "imputed")) == [4, 3, 2, 2]


def test_attribution_conserves_conversions_and_revenue(cli):
    rows = {r["channel"]: r for r in cli.rows("attribution", "--model", "linear", "--from", "2025-01-01", "--to", "2026-01-01")}
    assert (rows["A"]["conversions"], rows["B"]["conversions"]) == (1.5, 0.5)
    assert (rows["A"]["revenue"], rows["B"]["revenue"]) == (950, 50)


def test_sequences_of_one_model_sum_to_the_whole(cli):
    for model in ("first", "last", "u_shaped", "w_shaped", "time_decay", "markov", "shapley"):
        rows = cli.rows("attribution", "--model", model, "--from", "2025-01-01", "--to", "2026-01-01")
        assert sum(r["conversions"] for r in rows) == pytest.approx(2) and sum(r["revenue"] for r in rows) == pytest.approx(1000)
