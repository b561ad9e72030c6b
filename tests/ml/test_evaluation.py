"""Measures against scikit-learn, SciPy and hand-worked cases; intervals and the gate against simulation."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from ml import evaluation as ev

# Few distinct scores, so that ties are everywhere.
scored = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=1, max_size=60).map(lambda rows: (np.array([y for y, _ in rows]), np.array([s / 8 for _, s in rows])))
valued = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 12)), min_size=1, max_size=60).map(
    lambda rows: (np.array([float(y) for y, _ in rows]), np.array([float(s) for _, s in rows]))
)


@settings(max_examples=200, deadline=None)
@given(scored)
def test_probability_measures_equal_scikit_learn(rows):
    outcome, score = rows
    assert ev.brier_score(outcome, score) == pytest.approx(metrics.brier_score_loss(outcome, score, pos_label=1))
    assert ev.log_loss(outcome, score) == pytest.approx(metrics.log_loss(outcome, np.clip(score, 1e-15, 1 - 1e-15), labels=[0, 1]))
    if outcome.sum():
        assert ev.average_precision(outcome, score) == pytest.approx(metrics.average_precision_score(outcome, score))
    else:
        assert math.isnan(ev.average_precision(outcome, score))
    if 0 < outcome.sum() < len(outcome):
        auc = metrics.roc_auc_score(outcome, score)
        assert ev.roc_auc(outcome, score) == pytest.approx(auc)
        assert ev.normalised_gini(outcome, score) == pytest.approx(2 * auc - 1)
        rate = outcome.mean()
        assert ev.area_under_lift_curve(outcome, score) == pytest.approx((1 - rate) * auc + rate / 2)
    else:
        assert math.isnan(ev.roc_auc(outcome, score))


@settings(max_examples=150, deadline=None)
@given(valued)
def test_value_measures_equal_their_definitions_and_scipy(rows):
    outcome, score = rows
    if np.ptp(outcome) and np.ptp(score):
        assert ev.spearman(outcome, score) == pytest.approx(stats.spearmanr(outcome, score).statistic)
        assert ev.normalised_gini(outcome, outcome) == pytest.approx(1)
        assert ev.normalised_gini(outcome, -outcome) == pytest.approx(-1)
    if outcome.sum() > 0:
        # The gain curve point by point, ties as straight lines, integrated by the trapezoidal rule.
        levels = np.unique(score)[::-1]
        x = np.array([0.0] + [np.mean(score >= level) for level in levels])
        gain = np.array([0.0] + [outcome[score >= level].sum() / outcome.sum() for level in levels])
        assert ev.area_under_lift_curve(outcome, score) == pytest.approx(np.trapezoid(gain, x))
        for top in (0.0, 0.1, 0.37, 1.0):
            assert ev.share_at_top(outcome, score, top) == pytest.approx(np.interp(top, x, gain))


@settings(max_examples=100, deadline=None)
@given(scored, st.randoms(use_true_random=False))
def test_no_measure_depends_on_the_order_of_rows(rows, random):
    outcome, score = rows
    order = list(range(len(outcome)))
    random.shuffle(order)
    for name, measure in (ev.PROBABILITY_MEASURES | ev.VALUE_MEASURES).items():
        assert measure(outcome[order], score[order]) == pytest.approx(measure(outcome, score), nan_ok=True), name
    if outcome.sum():
        assert ev.lift_table(outcome[order], score[order]).equals(ev.lift_table(outcome, score))


def test_gini_of_four_customers_worked_by_hand():
    # Values 0, 0, 10, 30 and ranking 30 first, then a 0, then 10, then the other 0: ranks ascending 1, 3, 2, 4.
    # C = 2 * (10 * 2 + 30 * 4) / (4 * 40) - 5/4 = 0.5; best: ranks 1.5, 1.5, 3, 4: 2 * 150 / 160 - 1.25 = 0.625.
    assert ev.normalised_gini([0, 0, 10, 30], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert ev.share_at_top([0, 0, 10, 30], [1, 3, 2, 4], 0.25) == pytest.approx(0.75)
    assert ev.share_at_top([0, 0, 10, 30], [1, 1, 1, 1], 0.25) == pytest.approx(0.25)


def test_biases_worked_by_hand():
    outcome, score = [10, 20, 30, 40], [30, 10, 20, 50]
    assert ev.total_bias(outcome, score) == pytest.approx(0.10)
    # Two bins by score: {10, 20} predicted for {20, 30}, {30, 50} for {10, 40}: (|30 - 50| + |80 - 50|) / 100.
    assert ev.decile_error(outcome, score, bins=2) == pytest.approx(0.5)
    table = ev.decile_table(outcome, score, bins=2)
    assert table["predicted_total"].to_list() == [80, 30]
    assert table["actual_total"].to_list() == [50, 50]
    assert table["bias"].to_list() == pytest.approx([0.6, -0.4])
    assert math.isnan(ev.total_bias([0, 0], [1, 1]))
    assert ev.decile_table([0, 0], [1, 1])["bias"].to_list() == [None]


@pytest.mark.parametrize("happens", [0.0, 1.0])
def test_the_interval_of_an_observed_rate_holds_the_rate_where_nothing_or_everything_happened(happens):
    for rows in range(1, 200):
        (row,) = ev.reliability_table(np.full(rows, happens), np.full(rows, 0.3)).iter_rows(named=True)
        assert row["lower"] <= row["observed_rate"] <= row["upper"] and happens in (row["lower"], row["upper"])


def test_calibration_error_and_reliability_worked_by_hand():
    probability = np.repeat([0.1, 0.3, 0.8, 0.9], 5)
    outcome = np.array([0, 0, 0, 0, 1] + [0, 0, 0, 1, 1] + [1, 1, 1, 1, 0] + [1, 1, 1, 1, 1])
    # |0.5 - 1| + |1.5 - 2| + |4 - 4| + |4.5 - 5| over 20 rows
    assert ev.expected_calibration_error(outcome, probability, bins=4) == pytest.approx(1.5 / 20)
    table = ev.reliability_table(outcome, probability, bins=4)
    assert table["n"].to_list() == [5, 5, 5, 5]
    assert table["mean_predicted"].to_list() == pytest.approx([0.1, 0.3, 0.8, 0.9])
    assert table["observed_rate"].to_list() == pytest.approx([0.2, 0.4, 0.8, 1.0])
    wilson = stats.binomtest(4, 5).proportion_ci(method="wilson")
    assert table.row(2)[4:] == pytest.approx((wilson.low, wilson.high))
    assert ev.expected_calibration_error([0, 1], [0.5, 0.5]) == 0


def test_lift_table_worked_by_hand():
    score = np.arange(10)[::-1]
    outcome = np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0])
    table = ev.lift_table(outcome, score, bins=5)
    assert table["outcome_total"].to_list() == [2, 1, 0, 1, 0]
    assert table["lowest_score"].to_list() == [8, 6, 4, 2, 0]
    assert table["lift"].to_list() == pytest.approx([2.5, 1.25, 0, 1.25, 0])
    assert table["cumulative_gain"].to_list() == pytest.approx([0.5, 0.75, 0.75, 1, 1])
    assert table["cumulative_lift"].to_list() == pytest.approx([2.5, 1.875, 1.25, 1.25, 1])
    assert ev.lift_table(np.zeros(4), score[:4], bins=2)["lift"].to_list() == [None, None]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=100), st.integers(1, 12))
def test_bins_are_of_equal_mass_and_never_separate_equal_scores(scores, bins):
    of = ev.equal_mass_bins(scores, bins)
    assert of.min() >= 0
    assert of.max() < bins
    ordered = of[np.argsort(scores, kind="stable")]
    assert np.all(np.diff(ordered) >= 0)
    assert all(len(set(of[np.array(scores) == value])) == 1 for value in scores)
    distinct = ev.equal_mass_bins(np.arange(len(scores)), bins)
    sizes = np.bincount(distinct, minlength=bins)
    assert sizes.max() - sizes.min() <= 1


def test_tables_of_no_rows_are_empty():
    for table in (ev.lift_table([], []), ev.decile_table([], []), ev.reliability_table([], [])):
        assert table.height == 0
    assert all(math.isnan(measure([], [])) for measure in (ev.PROBABILITY_MEASURES | ev.VALUE_MEASURES).values())


# -- intervals


def company(seed, rows=600, signal=1.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=rows)
    probability = 1 / (1 + np.exp(-signal * z))
    return (rng.random(rows) < probability).astype(float), probability, z + rng.normal(size=rows)


def test_interval_covers_the_true_auc_in_most_of_a_hundred_samples():
    outcome, probability, _ = company(10_000, rows=400_000)
    truth = ev.roc_auc(outcome, probability)
    found = [ev.interval(ev.roc_auc, *company(seed, rows=300)[:2], resamples=100, level=0.9) for seed in range(100)]
    assert 80 <= sum(e.lower <= truth <= e.upper for e in found) <= 99


def test_paired_interval_is_narrower_than_that_of_either_scorer():
    outcome, probability, noisy = company(1)
    nearly = probability + 0.01 * noisy
    difference = ev.paired_difference(ev.roc_auc, outcome, probability, nearly)
    alone = ev.interval(ev.roc_auc, outcome, probability)
    assert difference.upper - difference.lower < 0.25 * (alone.upper - alone.lower)
    assert difference.value == pytest.approx(ev.roc_auc(outcome, probability) - ev.roc_auc(outcome, nearly))


def test_large_data_get_the_interval_that_full_resampling_would_give(monkeypatch):
    outcome, probability, _ = company(3, rows=4_000)
    full = ev.interval(ev.roc_auc, outcome, probability, resamples=600)
    monkeypatch.setattr(ev, "MOST_RESAMPLED_ROWS", 500)
    small = ev.interval(ev.roc_auc, outcome, probability, resamples=600)
    assert (small.upper - small.lower) == pytest.approx(full.upper - full.lower, rel=0.2)
    assert small.lower < small.value < small.upper


def test_resampling_whole_customers_widens_the_interval_of_repeated_rows():
    outcome, probability, _ = company(5, rows=300)
    repeated = [np.tile(array, 4) for array in (outcome, probability)]
    rows = ev.interval(ev.roc_auc, *repeated)
    customers = ev.interval(ev.roc_auc, *repeated, groups=np.tile(np.arange(300), 4))
    single = ev.interval(ev.roc_auc, outcome, probability)
    assert customers.upper - customers.lower == pytest.approx(single.upper - single.lower, rel=0.25)
    assert rows.upper - rows.lower < 0.65 * (customers.upper - customers.lower)


def test_strata_are_measured_one_by_one():
    # Within each cut-off the ranking is perfect; pooled, the second cut-off's higher level spoils it.
    outcome = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    cutoffs = np.repeat(["2025-01", "2025-04"], 4)
    assert ev.interval(ev.roc_auc, outcome, score, strata=cutoffs).value == 1.0
    assert ev.interval(ev.roc_auc, outcome, score).value == pytest.approx(0.75)


def test_an_undefined_measure_says_why():
    nobody = ev.interval(ev.roc_auc, np.zeros(50), np.linspace(0, 1, 50))
    assert (nobody.value, nobody.lower, nobody.reason) == (None, None, "every outcome is 0")
    assert ev.interval(ev.roc_auc, [], []).reason == "there are no rows"
    assert str(nobody) == "not defined (every outcome is 0)"


def test_intervals_are_repeatable_by_seed():
    outcome, probability, _ = company(1, rows=200)
    same = [ev.interval(ev.brier_score, outcome, probability, seed=7, resamples=50) for _ in range(2)]
    assert same[0] == same[1]
    assert ev.interval(ev.brier_score, outcome, probability, seed=8, resamples=50) != same[0]


def test_report_holds_every_measure_for_every_label():
    outcome, probability, _ = company(2, rows=400)
    labels = np.repeat(["north", "south"], 200)
    report = ev.evaluate(outcome, probability, "probability", by=labels, resamples=20, groups=np.arange(400))
    assert report.height == 2 * len(ev.PROBABILITY_MEASURES)
    assert report.filter(pl.col("label") == "south")["n"].unique().to_list() == [200]
    north = report.filter(label="north", measure="roc_auc").row(0, named=True)
    assert north["value"] == pytest.approx(metrics.roc_auc_score(outcome[:200], probability[:200]))
    assert north["lower"] < north["value"] < north["upper"]
    with pytest.raises(ValueError, match="kind must be one of"):
        ev.evaluate(outcome, probability, "rank")


# -- the gate


def test_gate_publishes_a_calibrated_model_that_beats_the_naive_rule():
    outcome, probability, noisy = company(1, rows=2_000)
    verdict = ev.gate(outcome, probability, noisy, kind="probability", naive_name="recency")
    assert verdict.published
    assert verdict.reason.startswith("better than recency: AUC 0.")
    assert verdict.difference.lower > 0


def test_gate_refuses_a_model_that_is_only_as_good_as_the_naive_rule():
    outcome, probability, noisy = company(1, rows=2_000)
    same = ev.gate(outcome, probability, probability * 5, kind="probability")
    assert not same.published
    assert same.reason.startswith("not better than the naive rule")
    worse = ev.gate(outcome, 1 / (1 + np.exp(-noisy)), probability, kind="probability")
    assert worse.reason.startswith("worse than the naive rule")


def test_gate_refuses_a_model_that_is_not_calibrated():
    outcome, probability, noisy = company(1, rows=2_000)
    verdict = ev.gate(outcome, probability**3, noisy, kind="probability")
    assert not verdict.published
    assert verdict.reason.startswith("not calibrated: expected calibration error 0.")


def _stretched(rows: int, seed: int, by: float = 1.0) -> ev.Verdict:
    """The gate on outcomes drawn from chances whose log-odds are then stretched; 1 leaves them perfectly calibrated."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0, 2, rows)
    outcome = (rng.random(rows) < 1 / (1 + np.exp(-log_odds))).astype(float)
    return ev.gate(outcome, 1 / (1 + np.exp(-by * log_odds)), rng.random(rows), kind="probability", seed=seed)


def test_gate_lets_a_perfectly_calibrated_model_pass_on_sixty_rows(monkeypatch):
    monkeypatch.setattr(ev, "FEWEST_OUTCOMES", 10)
    found = [_stretched(60, seed) for seed in range(40)]
    refused = [v.reason for v in found if v.reason.startswith("not calibrated")]
    assert len(refused) <= 4, refused
    assert sum(v.miscalibration > 0.1 for v in found) > len(found) / 2, "chance alone gives more than a fixed bound of 0.1"
    assert sum(v.published for v in found) >= 36, [v.reason for v in found if not v.published]


def test_gate_refuses_chances_stretched_by_two():
    found = [_stretched(1_000, seed, by=2.0) for seed in range(20)]
    assert all(v.reason.startswith("not calibrated") for v in found), [v.reason for v in found]


def test_gate_finds_no_signal_in_noise_for_nearly_every_seed():
    refused = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        outcome = (rng.random(800) < 0.5).astype(float)
        verdict = ev.gate(outcome, rng.uniform(0.4, 0.6, 800), rng.random(800), kind="probability", seed=seed)
        refused += not verdict.published
    assert refused >= 19


def test_gate_of_values_judges_gini_and_total_bias():
    rng = np.random.default_rng(0)
    expected = rng.gamma(0.7, 50, 3_000)
    outcome = rng.gamma(2.0, expected / 2) * (rng.random(3_000) < 0.8) / 0.8
    naive = expected * rng.lognormal(0, 1.5, 3_000)
    good = ev.gate(outcome, expected, naive, kind="value", naive_name="same-rate spend")
    assert good.published, good.reason
    high = ev.gate(outcome, expected * 1.6, naive, kind="value")
    assert not high.published
    assert high.reason.startswith("not calibrated: total bias 0.")
    no_signal = ev.gate(outcome, rng.permutation(expected), naive, kind="value")
    assert no_signal.reason.startswith("no signal: the model's normalised Gini")


def test_biases_of_several_cut_offs_do_not_cancel_in_the_gate():
    rng = np.random.default_rng(0)
    expected = rng.gamma(2, 50, 4_000)
    outcome = rng.gamma(4.0, expected / 4)
    cutoffs = np.repeat([1, 2], 2_000)
    swinging = np.where(cutoffs == 1, 1.4, 0.6) * expected
    naive = expected * rng.lognormal(0, 2, 4_000)
    verdict = ev.gate(outcome, swinging, naive, kind="value", strata=cutoffs)
    assert abs(ev.total_bias(outcome, swinging)) < 0.05
    assert not verdict.published
    assert verdict.miscalibration == pytest.approx(0.4, abs=0.05)


def test_gate_says_what_is_missing_below_the_minimum_data():
    verdict = ev.gate([1] * 10 + [0] * 90, np.linspace(0, 1, 100), np.zeros(100), kind="probability")
    assert not verdict.published
    assert verdict.reason == "too little data: only 10 of 100 rows with the outcome, 30 are needed to judge a model."
    assert "without the outcome" in ev.gate([1] * 90 + [0] * 10, np.full(100, 0.9), np.zeros(100), kind="probability").reason


@pytest.mark.parametrize(
    ("outcome", "score", "message"),
    [
        ([0, 1], [0.5], "of one length"),
        ([0, math.nan], [0.5, 0.5], "must be finite"),
        ([0, 2], [0.5, 0.5], "outcome must be 0 or 1"),
        ([0, 1], [0.5, 1.5], "probabilities must lie"),
    ],
)
def test_impossible_input_is_refused(outcome, score, message):
    with pytest.raises(ValueError, match=message):
        ev.brier_score(outcome, score)


def test_gain_of_tenths_has_the_interval_of_the_share_at_the_top():
    rng = np.random.default_rng(3)
    score = rng.random(3_000)
    outcome = (rng.random(3_000) < score**2).astype(float)
    table = ev.lift_with_intervals(outcome, score, resamples=300)
    best = table.row(0, named=True)
    top = ev.interval(ev.SHARES["share_at_top_10"], outcome, score)
    assert best["cumulative_gain"] == pytest.approx(top.value, abs=0.002)
    assert (best["gain_lower"], best["gain_upper"]) == (pytest.approx(top.lower, abs=0.006), pytest.approx(top.upper, abs=0.006))
    assert (best["lift_lower"], best["lift_upper"]) == (pytest.approx(10 * best["gain_lower"], abs=0.1), pytest.approx(10 * best["gain_upper"], abs=0.1))
    assert all(row["bias_lower"] <= row["bias"] <= row["bias_upper"] for row in table.iter_rows(named=True) if row["bias"] is not None)
    nothing = ev.lift_with_intervals(np.zeros(50), rng.random(50))
    assert nothing["gain_lower"].null_count() == nothing.height and nothing["bias_upper"].null_count() == nothing.height


def test_the_interval_of_an_absolute_error_holds_the_error_itself():
    rng = np.random.default_rng(5)
    for seed in range(10):
        score = np.random.default_rng(seed).random(60)
        found = ev.interval(ev.expected_calibration_error, (rng.random(60) < score).astype(float), score)
        assert 0 <= found.lower <= found.value <= found.upper, found
