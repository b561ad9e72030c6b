"""Conformal intervals cover what they promise, on smooth, skewed and zero-inflated outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from ml.estimators import DegenerateDataError, SplitConformalInterval


def values(seed, rows=4_000, zeros=0.0):
    rng = np.random.default_rng(seed)
    expected = rng.gamma(0.8, 80, rows)
    bought = rng.random(rows) >= zeros
    return expected, np.where(bought, rng.gamma(1.5, expected / 1.5) / (1 - zeros), 0.0)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("bins", [1, 4])
def test_eighty_per_cent_intervals_cover_about_eighty_per_cent_of_later_rows(zeros, bins):
    model = SplitConformalInterval(coverage=0.8, bins=bins).fit(*values(0, zeros=zeros))
    prediction, outcome = values(1, rows=20_000, zeros=zeros)
    lower, upper = model.predict_interval(prediction)
    assert 0.77 < np.mean((lower <= outcome) & (outcome <= upper)) < 0.83
    assert np.all((lower >= 0) & (lower <= upper))


def test_bins_even_out_coverage_over_classes_of_prediction():
    rng = np.random.default_rng(3)
    prediction = rng.uniform(1, 100, 20_000)
    # Errors of changing shape: uniform for small, heavy-tailed for large predictions.
    noise = np.where(prediction < 50, rng.uniform(-1, 1, 20_000), rng.standard_t(1.5, 20_000))
    outcome = prediction + 5 * noise
    model = SplitConformalInterval(coverage=0.8, bins=4, floor=None).fit(prediction[:10_000], outcome[:10_000])
    lower, upper = model.predict_interval(prediction[10_000:])
    covered = (lower <= outcome[10_000:]) & (outcome[10_000:] <= upper)
    for low in (0, 25, 50, 75):
        rows = (prediction[10_000:] >= low) & (prediction[10_000:] < low + 25)
        assert covered[rows].mean() == pytest.approx(0.8, abs=0.04)


@settings(max_examples=100, deadline=None)
@given(st.integers(5, 60), st.sampled_from([0.5, 0.75, 0.8]), st.integers(0, 2**32 - 1))
def test_the_asked_share_of_the_calibration_rows_themselves_is_covered(rows, coverage, seed):
    rng = np.random.default_rng(seed)
    prediction = np.round(rng.uniform(0, 10, rows), 1)
    outcome = prediction * rng.integers(0, 3, rows)
    lower, upper = SplitConformalInterval(coverage).fit(prediction, outcome).predict_interval(prediction)
    slack = 1e-9 * (1 + outcome)
    assert np.mean((lower - slack <= outcome) & (outcome <= upper + slack)) >= coverage - 1e-12


def test_too_few_rows_are_refused_with_the_number_needed():
    with pytest.raises(DegenerateDataError, match="8 rows in 1 bins; 90% coverage needs 9 in each"):
        SplitConformalInterval(0.9).fit(np.arange(8.0), np.arange(8.0))
    with pytest.raises(DegenerateDataError, match="holds only 0 rows because predictions are equal"):
        SplitConformalInterval(0.8, bins=3).fit(np.ones(100), np.arange(100.0))


def test_manners_and_impossible_arguments():
    model = SplitConformalInterval(coverage=0.7, bins=2, floor=None)
    assert clone(model).get_params() == {"coverage": 0.7, "bins": 2, "floor": None}
    with pytest.raises(ValueError, match="coverage must lie"):
        SplitConformalInterval(1.0).fit([1.0], [1.0])
    with pytest.raises(ValueError, match="bins must be 1"):
        SplitConformalInterval(bins=0).fit([1.0], [1.0])
    with pytest.raises(ValueError, match="of one length"):
        SplitConformalInterval().fit([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="must be finite"):
        SplitConformalInterval().fit([1.0, np.nan], [1.0, 2.0])
