"""The worked examples of the definitions, from canonical files through `import`, `run` and the command line."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def cli(examples_home):
    return examples_home


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
