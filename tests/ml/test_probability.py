"""Chances: contributions add up, calibration looks back only, weak models give way to the naive rule with a reason."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from fixtures.leaving_customers import SCORING, STEP, TASK, customers, trained
from scipy.special import expit

from ml import explanations
from ml.probability import Blend, Line, Logistic, NaiveRule, Trees, choose_line, fit_candidates, fit_line, restore, train
from ml.published import Published


@pytest.fixture(scope="module")
def strong():
    frame = customers(1.5)
    return frame, trained(frame)


@pytest.mark.parametrize("kind", [Logistic, Trees, NaiveRule])
def test_contributions_add_up_to_the_log_odds(strong, kind):
    frame, _ = strong
    known = frame.filter(pl.col("label").is_not_null())
    model = kind().fit(TASK, known, known["label"].to_numpy().astype(float))
    base, parts = model.explained(frame)
    assert np.allclose(base + sum(parts.values()), model.log_odds(frame), atol=1e-9)


def test_contributions_of_a_blend_add_up_too(strong):
    frame, _ = strong
    known = frame.filter(pl.col("label").is_not_null())
    blend = fit_candidates(TASK, known, known["label"].to_numpy().astype(float))["blend"]
    assert isinstance(blend, Blend)
    base, parts = blend.explained(frame)
    assert np.allclose(base + sum(parts.values()), blend.log_odds(frame), atol=1e-9)


def test_trees_kept_as_plain_arrays_say_what_scikit_learn_says(strong):
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame, _ = strong
    known = frame.filter(pl.col("label").is_not_null())
    label = known["label"].to_numpy().astype(float)
    ours = Trees().fit(TASK, known, label)
    theirs = HistGradientBoostingClassifier(max_iter=120, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=5.0, random_state=0)
    theirs.fit(ours.space.raw(known), label)
    assert np.allclose(ours.log_odds(frame), theirs.decision_function(ours.space.raw(frame)), atol=1e-8)


def test_every_candidate_comes_back_from_its_plain_state(strong):
    frame, _ = strong
    known = frame.filter(pl.col("label").is_not_null())
    for model in fit_candidates(TASK, known, known["label"].to_numpy().astype(float)).values():
        assert np.array_equal(restore({"kind": model.name, **model.state()}).log_odds(frame), model.log_odds(frame))


def test_a_model_with_signal_is_published_and_judged_at_the_latest_complete_cut_off(strong):
    _, result = strong
    assert result.verdict.published, result.verdict.reason
    assert max(row["cut_off"] for row in result.evaluations) == SCORING - timedelta(days=90)
    assert {"naive_rule", "logistic", "trees", "blend"} <= {row["candidate"] for row in result.evaluations}
    assert next(iter(result.importance)) == "spent_amount"


def test_without_signal_the_naive_rule_is_shown_with_the_reason():
    answer = Published.of(trained(customers(0.0, rows=250)))
    assert answer.is_fallback and "pause" in answer.verdict or "no signal" in answer.verdict
    scored = answer.score(customers(0.0, rows=20, seed=9), "raises", "lowers")
    assert scored["is_fallback"].all() and scored["fallback_reason"].null_count() == 0 and scored["lower"].null_count() == scored.height


def test_too_few_cases_give_no_model_and_say_what_is_missing():
    few = customers(1.0, rows=6)
    result = trained(few)
    assert result.champion is None and not result.verdict.published and "50 are needed" in result.verdict.reason


def test_too_short_a_history_gives_no_model_and_says_how_many_days_are_missing():
    frame = customers(1.5).filter(pl.col("as_of_date") >= SCORING - timedelta(days=180))
    result = train(TASK, frame, first=SCORING - timedelta(days=200), scoring=SCORING, horizon=90, step=STEP)
    assert result.champion is None and "Wait" in result.verdict.reason


def test_outcomes_of_the_judged_window_do_not_reach_the_judged_model():
    """Turning round every outcome of the latest cut-off changes what is measured there, but neither candidate nor earlier results."""
    frame = customers(1.5, rows=300)
    last = SCORING - timedelta(days=90)
    turned = frame.with_columns(pl.when(pl.col("as_of_date") == last).then(1 - pl.col("label")).otherwise(pl.col("label")).alias("label"))
    a, b = trained(frame), trained(turned)
    earlier = [[r for r in x.evaluations if r["cut_off"] < last] for x in (a, b)]
    assert earlier[0] == earlier[1] and a.candidate == b.candidate
    assert a.verdict.published and not b.verdict.published
    auc = [next(r["value"] for r in x.evaluations if r["cut_off"] == last and r["metric"] == "roc_auc" and r["candidate"] == "logistic") for x in (a, b)]
    assert auc[0] + auc[1] == pytest.approx(1)


def test_a_line_restores_probabilities_that_were_stretched_and_shifted():
    rng = np.random.default_rng(0)
    odds = rng.normal(size=20_000)
    label = (rng.random(20_000) < expit(odds)).astype(float)
    line = fit_line(2 * odds + 1, label, "sigmoid")
    assert line.slope == pytest.approx(0.5, abs=0.03) and line.shift == pytest.approx(-0.5, abs=0.05)
    assert fit_line(odds + 1, label, "shift").shift == pytest.approx(-1, abs=0.05)


def test_one_past_cut_off_chooses_no_calibration():
    assert choose_line([(np.zeros(10), np.array([0, 1] * 5))]) == Line()


def test_a_feature_that_knows_the_future_is_warned_of():
    frame = customers(1.0, rows=200).with_columns((pl.col("label") * 5 + pl.col("noise") * 0.1).fill_null(0).alias("noise"))
    found = trained(frame).warnings
    assert len(found) == 1 and found[0].startswith("noise alone tells the outcome")


def test_a_feature_filled_after_the_outcome_is_warned_of():
    frame = customers(1.0, rows=200).with_columns(pl.when(pl.col("label") == 1).then(pl.col("noise")).alias("noise"))
    assert any("filled almost only where" in text for text in trained(frame).warnings)


def test_reasons_are_the_strongest_contributions_in_plain_words():
    frame = pl.DataFrame({"days_since_last_order": [10, 300], "refund_count": [0, 0]})
    said = explanations.reasons(frame, {"days_since_last_order": np.array([-1.0, 1.0]), "refund_count": np.array([0.01, 0.0])}, "raises the risk", "lowers the risk").to_list()
    assert said == [["days since the last order: 10 (lowers the risk)"], ["days since the last order: 300 (raises the risk)"]]


def test_intervals_hold_the_score_and_stay_between_nought_and_one(strong):
    frame, result = strong
    scored = Published.of(result).score(frame.filter(pl.col("as_of_date") == SCORING), "raises", "lowers")
    assert scored.select(((pl.col("lower") <= pl.col("score")) & (pl.col("score") <= pl.col("upper")) & (pl.col("lower") >= 0) & (pl.col("upper") <= 1)).all()).item()
    assert scored["reasons"].list.len().max() <= 3
