"""What the page of models says of a model that is not published."""

from __future__ import annotations

from datetime import date

import polars as pl

from dashboards import queries

MEASURES = pl.DataFrame(
    [(candidate, day, "roc_auc", value, False, candidate == "naive_rule") for day in (date(2026, 1, 1), date(2026, 2, 1)) for candidate, value in (("blend", 0.79), ("logistic", 0.77), ("naive_rule", 0.72))],
    schema=["candidate", "cut_off", "metric", "value", "is_published", "is_naive"], orient="row",
)  # fmt: skip
CARD = {"model": "churn", "parts": {"orders": {"candidate": "logistic"}, "contract": {"candidate": "trees"}}}


def test_of_an_unpublished_model_the_chosen_candidate_is_shown_though_another_has_a_higher_value():
    rows, names = queries.against_naive(MEASURES, "roc_auc", queries.chosen_candidate(CARD, "churn_orders"))
    assert names == ("chosen candidate (logistic), not published", "naive rule")
    assert rows.filter(~pl.col("is_naive"))["value"].to_list() == [0.77, 0.77]


def test_a_published_model_is_shown_as_published_and_one_without_a_choice_not_at_all():
    published = MEASURES.with_columns(is_published=pl.col("candidate") == "blend")
    assert queries.against_naive(published, "roc_auc", "logistic")[1] == ("published model", "naive rule")
    assert queries.chosen_candidate({"model": "deals", "parts": {"deals": {"candidate": "blend"}}}, "deals") == "blend"
    assert queries.chosen_candidate(None, "deals") is None
    assert queries.against_naive(MEASURES, "roc_auc", None)[1] == ("naive rule",)


def test_the_card_names_the_window_that_was_used():
    card = {"model_id": "uplift-1", "trained_on": date(2026, 1, 1), "window": "30 days", "horizon_days": 30}
    told = dict(queries.card_fields(card).iter_rows())
    assert told["Window asked about"] == "30 days" and "Horizon" not in told
    assert dict(queries.card_fields({"model_id": "clv-1", "trained_on": date(2026, 1, 1), "horizon_days": 90}).iter_rows())["Window asked about"] == "not kept", "90 days is the calendar's, a year is asked about"
