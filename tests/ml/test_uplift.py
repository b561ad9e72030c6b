"""Uplift: found where it is, not where it is not, and refused where nothing was held back at random."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from ml import scoring
from ml.estimators.uplift import GRID, doubly_robust_scores, effects, standardised_differences
from ml.features import Calendar
from ml.uplift import definition
from ml.uplift.model import UpliftModel
from ml.uplift.train import train

SEEDS = 100


def members(seed: int, n: int = 1_500, active_gain: float = 0.0, everybody_gain: float = 0.0, assigned=None) -> tuple[pl.DataFrame, np.ndarray]:
    """Members of two campaigns, a third held back, and each one's true effect: `active_gain` for those who bought in the last 90 days."""
    rng = np.random.default_rng(seed)
    recent, since, value = rng.poisson(0.7, n), rng.integers(1, 400, n), rng.gamma(2, 100, n)
    without = 1 / (1 + np.exp(1.8 - 0.5 * recent + since / 400))
    effect = np.where(recent > 0, active_gain, 0.0) + everybody_gain
    contacted = rng.random(n) < (0.67 if assigned is None else assigned(recent))
    ordered = rng.random(n) < np.clip(without + contacted * effect, 0, 1)
    frame = pl.DataFrame({
        "contact_id": [f"c{i}" for i in range(n)], "campaign_id": np.where(np.arange(n) < n // 2, "a", "b"), "customer_id": [f"p{i % (n - n // 5)}" for i in range(n)],
        "as_of_date": [date(2026, 1, 1)] * n, "is_contacted": contacted.astype(int), "window_days": [30] * n, "has_ordered": ordered.astype(int),
        "days_since_last_order": pl.Series(since).cast(pl.Float64).replace(399.0, None), "days_since_first_order": since + rng.integers(0, 200, n), "purchase_day_count": recent + 1,
        "purchase_days_90d_count": recent, "purchase_days_365d_count": recent, "value_365d_amount": value, "campaigns_365d_count": rng.integers(0, 9, n),
        "campaign_response_rate": rng.random(n), "is_unsubscribed": (rng.random(n) < 0.05).astype(int), "active_subscription_count": [0] * n,
    })  # fmt: skip
    return frame, effect


def test_no_effect_gives_no_evidence_in_at_least_90_of_100_companies():
    found = [train(members(seed)[0]) for seed in range(SEEDS)]
    claimed = [m for m in found if not m.is_fallback]
    assert len(claimed) <= SEEDS - 90, [m.verdict for m in claimed]
    covered = sum(m.average[1] <= 0 <= m.average[2] for m in found)
    assert covered >= 90, f"the average effect's 95 % interval holds 0 in {covered} of {SEEDS}"
    assert sum("no evidence of an effect" in m.verdict for m in found) == covered


def test_an_effect_on_some_is_found_and_ranked_most_of_the_time():
    told, caught, predicted, true = 0, 0, [], []
    for seed in range(20):
        frame, effect = members(seed, n=4_000, active_gain=0.18)
        model = train(frame)
        told += not model.is_fallback
        caught += model.average[1] <= effect.mean() <= model.average[2]
        if not model.is_fallback:
            first = model.score(frame)["score"].arg_sort(descending=True).head(1_000).to_numpy()
            predicted.append(model.score(frame)["score"].to_numpy()[first].mean())
            true.append(effect[first].mean())
    assert told >= 16, f"found in {told} of 20"
    assert caught >= 17, f"the interval of the average holds the truth in {caught} of 20"
    assert np.mean(true) > 0.15 > 0.1 > effect.mean(), "those ranked first are those who are changed"
    assert np.mean(predicted) == pytest.approx(np.mean(true), abs=0.03), "and the scored effect is the true one"


def test_an_equal_effect_on_everybody_shows_the_average_only():
    model = train(members(3, n=6_000, everybody_gain=0.1)[0])
    assert model.is_fallback and "Only the average is shown" in model.fallback_reason
    scores = model.score(members(3, n=50)[0])
    assert scores["score"].n_unique() == 1 and scores["score"][0] == pytest.approx(0.1, abs=0.04)
    assert scores["lower"][0] > 0, "the average itself is beyond doubt"


def test_campaigns_without_a_control_group_are_refused():
    frame, _ = members(1)
    model = train(frame.with_columns(is_contacted=pl.lit(1)))
    assert model.verdict.startswith("refused: no campaign with a recorded control group")
    assert model.score(frame).height == 0 and model.curve_frame().height == 0


def test_a_group_held_back_by_choice_is_refused_and_the_reason_names_what_gave_it_away():
    frame, _ = members(1, assigned=lambda recent: np.where(recent > 0, 0.8, 0.5))
    verdict = train(frame).verdict
    assert "not held back at random" in verdict and "differed from the contacted in purchase_day" in verdict


def test_different_shares_of_control_in_campaigns_to_different_people_are_no_imbalance():
    rng = np.random.default_rng(0)
    share = np.repeat([0.9, 0.5], 5_000)
    treated = rng.random(10_000) < share
    values = np.repeat([0.0, 3.0], 5_000)[:, None] + rng.normal(size=(10_000, 1))
    assert abs(standardised_differences(values, treated, share)[0]) < 0.05
    assert abs(values[treated].mean() - values[~treated].mean()) > 0.5, "the plain means do differ"


def test_too_few_members_say_what_is_missing():
    assert "200 and 30 are needed" in train(members(1, n=150)[0]).verdict


def test_a_model_is_restored_as_it_was():
    frame, _ = members(2, n=4_000, active_gain=0.25)
    model = train(frame)
    again = UpliftModel.from_state(model.state())
    assert not model.is_fallback and again.score(frame).equals(model.score(frame)) and again.curve_frame().equals(model.curve_frame())
    scored = model.score(frame)
    assert scored.filter((pl.col("lower") > pl.col("score")) | (pl.col("score") > pl.col("upper"))).height == 0
    assert model.verdict.endswith("per 1,000 contacted.") and set(definition.FEATURES) >= set(model.importance)


def test_the_qini_curve_equals_sums_by_hand():
    """Four rows, everybody's effect known: 1, 0, 0, 1 in order of priority. Gains after each row: .25, .25, .25, .5 of an order a row."""
    found = effects([1.0, 0.0, 0.0, 1.0], [4.0, 3.0, 2.0, 1.0], ["a", "b", "c", "d"], tops=(0.25, 0.5), resamples=20)
    assert found.average[0] == 0.5
    # trapezoids .125/4 + .25/4 + .25/4 + .375/4 = .25, less the triangle .25
    assert found.qini[0] == pytest.approx(0.25 - 0.25)
    assert found.at_top[0.25][0] == pytest.approx(1.0) and found.at_top[0.5][0] == pytest.approx(0.5)
    assert found.curve[0][GRID.tolist().index(0.25)] == pytest.approx(0.25)
    tied = effects([1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], ["a", "b", "c", "d"], resamples=20)
    assert tied.qini[0] == pytest.approx(0.0), "without a ranking there is no gain over a random order"


def test_doubly_robust_scores_are_right_when_the_outcome_models_are_wrong():
    rng = np.random.default_rng(5)
    n = 60_000
    treated, base, effect = rng.random(n) < 0.8, rng.random(n) * 0.3, 0.1
    outcome = (rng.random(n) < base + treated * effect).astype(float)
    for one, zero in ((np.zeros(n), np.zeros(n)), (np.full(n, 0.9), np.full(n, 0.1)), (base + effect, base)):
        told = doubly_robust_scores(treated, outcome, np.full(n, 0.8), one, zero)
        assert told.mean() == pytest.approx(effect, abs=0.02)


def test_what_contact_did_since_a_training_is_measured_on_campaigns_it_had_not_seen_to_their_end():
    frame, effect = members(5, n=20_000, everybody_gain=0.1)
    late = definition.effects_since(frame, date(2026, 1, 30))
    assert late.height == frame.height and late["label"].mean() == pytest.approx(effect.mean(), abs=4 * late["label"].std() / late.height**0.5)
    assert definition.effects_since(frame, date(2026, 1, 31)).height == 0


def test_the_effect_within_groups_and_what_drift_is_measured_against_are_kept():
    frame, effect = members(3, n=6_000, active_gain=0.3)
    model = train(frame, frame)
    assert set(model.baseline) == set(definition.FEATURES) and not model.warnings
    groups = [row for row in model.diagnostics["model_subgroups"] if row["dimension"] == "days with an order in the last 365 days"]
    few = next(row for row in groups if row["subgroup"].startswith("1"))
    inside = (frame["purchase_days_365d_count"] < 2).to_numpy()
    assert few["n"] == inside.sum() and few["lower"] < 1000 * effect[inside].mean() < few["upper"]
    base, parts = model.contributions(frame)
    assert np.allclose(base + sum(parts.values()), model.contacted.log_odds(frame) - model.held_back.log_odds(frame))
    assert train(members(3, n=6_000, everybody_gain=0.1)[0]).contributions(frame) is None, "everybody has the average: nothing to explain"


def test_measures_are_told_in_extra_orders_per_thousand_with_their_intervals():
    """Told per customer with three digits, a Qini coefficient of 0.00097 read 0.001."""
    model = train(members(2, n=4_000, active_gain=0.25)[0])
    told = {row["metric"]: row for row in model.evaluations}
    assert set(told) == {"average_effect_per_1000", "qini_per_1000", *(f"effect_at_top_{top}_per_1000" for top in (10, 20, 30))}
    assert [told["average_effect_per_1000"][end] for end in ("value", "lower", "upper")] == pytest.approx([1000 * v for v in model.average])
    gains = [1000 * (gain - by_lot) for _, gain, _, _, by_lot in model.curve]
    assert told["qini_per_1000"]["value"] == pytest.approx(np.trapezoid(gains, GRID), rel=0.05), "the area between the curve and a random order"
    assert f"Qini {told['qini_per_1000']['value']:.2f} ({told['qini_per_1000']['lower']:.2f} to {told['qini_per_1000']['upper']:.2f}, 95 % interval) extra orders per 1,000 customers" in model.verdict
    found = scoring.backtest_frame(scoring.QUESTIONS["uplift"], model)
    assert found["metric"].str.ends_with("_per_1000").all()
    end = found.filter(dimension="share contacted", subgroup="1.00").row(0, named=True)
    assert end["value"] == pytest.approx(told["average_effect_per_1000"]["value"]), "contacting everybody gains the average effect"


def test_the_window_of_uplift_is_the_response_window_and_its_dates_those_of_the_campaigns():
    customers = Calendar(date(2026, 3, 1), date(2024, 1, 1), 90, 90, (date(2025, 12, 1),), (date(2025, 3, 1),))
    found = definition.over_response_window(customers, (30, (date(2025, 6, 1), date(2025, 9, 9))))
    assert (found.horizon_days, found.cut_offs) == (30, (date(2025, 6, 1), date(2025, 9, 9))) and found.scoring_date == customers.scoring_date
    assert definition.over_response_window(None, (30, ())) is None
    assert scoring.QUESTIONS["uplift"].window(found) == "30 days" and scoring.QUESTIONS["clv"].window(customers).startswith("365 days")
