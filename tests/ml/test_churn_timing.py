"""Curves of time to churn: a published life table, simulated lives of known law, a gate that sees no signal where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from fixtures.feature_world import build_features, empty_world

from ml import challenge
from ml.churn_timing import definition, train
from ml.churn_timing.definition import PERIODS, READINGS
from ml.churn_timing.model import TimingModel, days_until, expected_days
from ml.features import Calendar

SCORING = date(2026, 1, 1)
CUT_OFFS = tuple(SCORING - timedelta(days=90 * step) for step in range(8, 0, -1))
CALENDAR = Calendar(SCORING, SCORING - timedelta(days=1_000), 90, 90, CUT_OFFS, ())
CONTRACTS = READINGS[1]


def subscribers(seed: int, n: int = 700, effect: float = 1.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Subscribers whose lives are Weibull (shape 1.3) with a scale that depends on open tickets, many of whom began before the data; with each one's true curve."""
    rng = np.random.default_rng(seed)
    tickets = rng.integers(0, 3, n)
    scale = 700 * np.exp(-0.7 * effect * (tickets - 1))
    begins = rng.integers(-1_500, 900, n)
    ends = begins + scale * rng.weibull(1.3, n)
    rows, truth = [], []
    for cut_off in (*CUT_OFFS, SCORING):
        at = (cut_off - CALENDAR.first_date).days
        for i in np.flatnonzero((begins < at) & (ends > at)):
            left = int(np.ceil(ends[i] - at))
            rows.append((f"p{i}", cut_off, 1, int(at - begins[i]), int(tickets[i]), left if at + left <= 1_000 else None))
            if cut_off == SCORING:
                age = at - begins[i]
                truth.append((f"p{i}", *(float(np.exp((age / scale[i]) ** 1.3 - ((age + day) / scale[i]) ** 1.3)) for day in (90, 180, 365))))
    frame = pl.DataFrame(rows, schema=["customer_id", "as_of_date", "active_subscription_count", "subscription_tenure_days", "open_ticket_count", "contract_end_days"], orient="row")
    others = [c for c in (*definition.CONTRACT, *definition.BEHAVIOUR) if c not in frame.columns]
    blank = {c: pl.lit(None, dtype=pl.Float64) for c in others} | {"subscription_plan": pl.lit("basic"), "subscription_interval": pl.lit("month"), "lapse_days": pl.lit(None, dtype=pl.Int64)}
    return frame.with_columns(**blank), pl.DataFrame(truth, schema=["customer_id", "90", "180", "365"], orient="row")


@pytest.fixture(scope="module")
def learned() -> tuple[TimingModel, pl.DataFrame, pl.DataFrame]:
    frame, truth = subscribers(1, n=1_500)
    return train.train(frame, CALENDAR), frame, truth


def test_curves_of_simulated_lives_are_the_true_ones_although_most_began_before_the_data(learned):
    model, frame, truth = learned
    answer = model.answers["contract"]
    assert not answer.is_fallback, answer.verdict
    found = model.score(frame.filter(pl.col("as_of_date") == SCORING), 90).join(truth, on="customer_id")
    assert found.height > 300
    for day in (90, 180, 365):
        told, true = found[f"still_{day}d"].to_numpy(), found[str(day)].to_numpy()
        assert told.mean() == pytest.approx(true.mean(), abs=0.04), day
        assert np.abs(told - true).mean() < 0.10 and np.corrcoef(told, true)[0, 1] > 0.85, day


def test_a_curve_falls_and_its_numbers_fit_together(learned):
    model, frame, _ = learned
    found = model.score(frame.filter(pl.col("as_of_date") == SCORING), 90)
    still = found.select("still_30d", "still_60d", "still_90d", "still_180d", "still_365d").to_numpy()
    assert (np.diff(np.hstack([np.ones((len(still), 1)), still]), axis=1) <= 1e-12).all() and (still >= 0).all()
    assert found.filter((pl.col("lower") > pl.col("upper")) | (pl.col("score") > 365)).height == 0
    assert found.filter(pl.col("median_days").is_null() != (pl.col("still_365d") > 0.5)).height == 0
    assert found["reasons"].list.join(" ").str.contains("support tickets still open").any() and not found["reasons"].list.join(" ").str.contains("period").any()
    assert TimingModel.from_state(model.state()).score(frame.filter(pl.col("as_of_date") == SCORING), 90).equals(found)


def test_curves_are_judged_divided_explained_and_watched_like_other_scores(learned):
    model, frame, _ = learned
    answer = model.answers["contract"]
    assert answer.diagnostics["model_reliability"] and answer.diagnostics["model_lift"] and next(iter(answer.importance)) == "open_ticket_count"
    assert "period_days" not in answer.importance and "open_ticket_count" in answer.baseline and not answer.warnings
    there = CONTRACTS.population(frame.filter(pl.col("as_of_date") == SCORING), 90)
    base, parts = answer.contributions(there)
    assert np.allclose(base + sum(parts.values()), answer.model.log_odds(definition.with_periods(there, (PERIODS[2],))))


def test_a_challenger_whose_curves_are_worse_on_the_same_people_is_refused(learned):
    model, _, _ = learned
    parts = {"contract": model.answers["contract"]}
    latest = parts["contract"].latest
    assert np.allclose(latest.scores["naive_rule"], latest.scores["naive_rule"][0]) and 0 < latest.truth.mean() < 1
    assert challenge.decide(parts, SCORING, parts).promoted
    turned = replace(parts["contract"], latest=replace(latest, scores={**latest.scores, "naive_rule": 1 - latest.scores[parts["contract"].candidate]}), candidate="naive_rule")
    decision = challenge.decide(parts, SCORING, {"contract": turned})
    assert not decision.promoted and decision.comparisons[0]["metric"] == "log_loss" and "worse beyond chance" in decision.reason
    assert challenge.decide(parts, CUT_OFFS[0], parts).comparisons[0]["n"] == len(latest.truth), "a champion of before says itself what it foresees"


def test_lives_that_depend_on_nothing_known_get_the_curve_of_all_labelled():
    frame, _ = subscribers(2, effect=0.0)
    frame = frame.with_columns(pl.lit(100).alias("subscription_tenure_days"))
    model = train.train(frame, CALENDAR)
    answer = model.answers["contract"]
    assert answer.is_fallback and ("no signal" in answer.verdict or "not better" in answer.verdict), answer.verdict
    found = model.score(frame.filter(pl.col("as_of_date") == SCORING), 90)
    assert found["still_180d"].n_unique() == 1 and found["is_fallback"].all() and found["fallback_reason"][0] == answer.verdict


def test_the_life_table_is_that_of_a_textbook():
    """Freireich et al. (1963), 6-MP arm, weeks: deaths at 6,6,6,7,10,13,16,22,23, censored at 6+,9+,10+,11+,17+,19+,20+,25+,32+,32+,34+,35+ (Collett, "Modelling Survival
    Data"): S(6) = .857, S(7) = .807, S(10) = .753, S(13) = .690, S(16) = .627, S(22) = .538, S(23) = .448. Here a week is a period."""
    lives = [(6, 1)] * 3 + [(7, 1), (10, 1), (13, 1), (16, 1), (22, 1), (23, 1)] + [(t, 0) for t in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)]
    rows = [(week, int(died and week == length)) for length, died in lives for week in range(1, length + 1)]
    table = pl.DataFrame(rows, schema=["week", "stops"], orient="row").group_by("week").agg(pl.col("stops").mean()).sort("week")
    hazards = []
    for begin in range(0, 24, len(PERIODS)):
        part = table.filter(pl.col("week").is_between(begin + 1, begin + len(PERIODS)))
        named = pl.DataFrame(rows, schema=["week", "stops"], orient="row").filter(pl.col("week").is_in(part["week"].to_list()))
        named = named.with_columns((pl.col("week") - begin).replace_strict(dict(enumerate(PERIODS, 1))).alias("period_days"))
        hazards += train.life_table(named)
    still = np.cumprod(1 - np.array(hazards))
    for week, known in ((6, 0.857), (7, 0.807), (10, 0.753), (13, 0.690), (16, 0.627), (22, 0.538), (23, 0.448)):
        assert still[week - 1] == pytest.approx(known, abs=0.0006), week


def test_concordance_counts_pairs_as_a_plain_loop_does():
    rng = np.random.default_rng(0)
    stopped_in, still = rng.integers(0, 5, 80).astype(float), rng.integers(0, 8, 80) / 8
    right = pairs = 0.0
    for i in range(80):
        for j in range(80):
            if stopped_in[i] < stopped_in[j]:
                pairs += 1
                right += 1.0 if still[i] < still[j] else 0.5 if still[i] == still[j] else 0.0
    assert train.concordance(stopped_in, still) == pytest.approx(right / pairs)


def test_days_are_read_off_a_curve():
    still = np.array([[0.8, 0.5, 0.4], [1.0, 1.0, 0.95]])
    assert expected_days(still, (30, 60, 90))[0] == pytest.approx(30 * (1.8 + 1.3 + 0.9) / 2)
    assert days_until(still, (30, 60, 90), 0.5)[0] == pytest.approx(60) and days_until(still, (30, 60, 90), 0.9)[0] == pytest.approx(15)
    assert np.isnan(days_until(still, (30, 60, 90), 0.5)[1])


def test_a_period_that_is_not_over_teaches_nothing():
    frame = pl.DataFrame({"customer_id": ["a", "b", "c"], "as_of_date": [date(2026, 1, 1)] * 3, "days_since_last_order": [1, 1, 1], "contract_end_days": [45, 20, None]},
                         schema_overrides={"contract_end_days": pl.Int64})
    rows = definition.at_risk(frame, "contract_end_days", date(2026, 2, 20))   # 50 days: the first period of 30 is over, the second is not
    assert rows.select("customer_id", "period_days", "stops").rows() == [("a", 30, 0), ("b", 30, 1), ("c", 30, 0)]


def test_ends_are_those_of_the_last_running_subscription_and_of_a_whole_window_without_an_order():
    con = empty_world("2026-01-01")
    con.execute("INSERT INTO marts.dim_customers SELECT unnest(['a', 'b', 'c', 'd']), 'person', false, NULL, NULL, NULL")
    for who, start, end in (("a", "2025-01-01", "2025-08-01"), ("a", "2025-07-01", "2025-11-15"), ("a", "2025-12-20", None), ("b", "2025-01-01", "2026-03-01")):
        con.execute("INSERT INTO marts.fct_subscriptions VALUES (?, ?, ?, ?, NULL, NULL)", [who, start, end, end])
    for who, on in (("c", "2025-06-01"), ("c", "2025-08-30"), ("d", "2025-09-20")):
        con.execute("INSERT INTO marts.fct_orders VALUES (?, ?, ?, true, 5, 5, 0, 5)", [who, on, on])
    build_features(con)
    # as-of days: 2026-01-01 and every 90 days before it, among them 2025-10-03 and 2025-07-05
    found = {(who, str(day)): (contract, lapse) for who, day, contract, lapse in con.execute("SELECT customer_id, as_of_date, contract_end_days, lapse_days FROM features.ftr_customers__ends").fetchall()}
    assert found["a", "2025-07-05"][0] == (date(2025, 11, 15) - date(2025, 7, 5)).days, "two overlapping subscriptions are one stretch"
    assert found["a", "2026-01-01"][0] is None and found["b", "2025-10-03"][0] is None, "a planned end has not happened"
    # 90 days after 1 June is 30 August: an order on the last day of the window keeps; the next lapse is 91 days after 30 August
    assert found["c", "2025-07-05"][1] == (date(2025, 11, 29) - date(2025, 7, 5)).days
    assert found["d", "2025-10-03"][1] == (date(2025, 12, 20) - date(2025, 10, 3)).days
