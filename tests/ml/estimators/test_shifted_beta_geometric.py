"""sBG against the published cohorts, brute-force sums and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ml.estimators import DegenerateDataError, ShiftedBetaGeometric, rows_from_survivors
from ml.estimators.shifted_beta_geometric import _likelihood

# Fader & Hardie (2007), table 1: survivors of 1,000 customers after 0 to 12 years; the first seven years are fitted.
REGULAR = [1000, 631, 468, 382, 326, 289, 262, 241, 223, 207, 194, 183, 173]
HIGH_END = [1000, 869, 743, 653, 593, 551, 517, 491, 468, 445, 427, 409, 394]


@pytest.mark.parametrize(("survivors", "a", "b", "log_likelihood"), [(REGULAR, 0.704, 1.182, -1680.27), (HIGH_END, 0.668, 3.806, -1611.16)])
def test_published_cohorts_are_reproduced_and_projected(survivors, a, b, log_likelihood):
    model = ShiftedBetaGeometric().fit(*rows_from_survivors(survivors[:8]))
    assert (model.a_, model.b_) == pytest.approx((a, b), abs=0.0006)
    assert model.log_likelihood_ == pytest.approx(log_likelihood, abs=0.01)
    # The paper's point: five years beyond the data the projection is within a point or two.
    assert 1000 * model.survival(np.arange(8, 13)) == pytest.approx(survivors[8:], abs=25)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 10), st.floats(0.1, 10), st.integers(0, 20), st.floats(0.05, 1.0))
def test_quantities_agree_with_sums_over_periods(a, b, tenure, discount_rate):
    model = ShiftedBetaGeometric()
    model.a_, model.b_, model.covariance_ = a, b, np.eye(2)
    periods = np.arange(1, 600)
    pmf, survival = model.pmf(periods), model.survival(periods)
    assert 1 - np.cumsum(pmf) == pytest.approx(survival, abs=1e-9)
    assert np.cumprod(model.retention_rate(periods)) == pytest.approx(survival, rel=1e-7)
    further = model.survival(periods, tenure)
    assert further * model.survival(tenure) == pytest.approx(model.survival(periods + tenure), rel=1e-8)
    discounted = np.sum(further / (1 + discount_rate) ** periods)
    assert model.expected_periods(tenure, discount_rate) == pytest.approx(discounted, rel=1e-6)


def test_expected_periods_without_discount():
    model = ShiftedBetaGeometric()
    model.a_, model.b_, model.covariance_ = 3.0, 4.0, np.eye(2)
    periods = np.arange(1, 200_000)
    assert model.expected_periods(2) == pytest.approx(model.survival(periods, 2).sum(), rel=1e-4)
    model.a_ = 0.9
    assert model.expected_periods([0, 2]).tolist() == [np.inf, np.inf]
    with pytest.raises(ValueError, match="discount_rate"):
        model.expected_periods(0, -0.1)


def test_simulated_truth_is_recovered_from_censored_rows():
    rng = np.random.default_rng(0)
    chance = rng.beta(1.2, 4.0, 30_000)
    lifetime = rng.geometric(chance)
    seen = rng.integers(1, 25, 30_000)
    left = lifetime <= seen
    model = ShiftedBetaGeometric().fit(np.minimum(lifetime, seen)[:, None], left)
    for name, truth in {"a": 1.2, "b": 4.0}.items():
        assert abs(np.log(model.parameters_[name] / truth)) < 4 * model.standard_errors_[name] / model.parameters_[name]
    alive = lifetime > 10
    assert model.survival(5, 10) == pytest.approx(np.mean(lifetime[alive] > 15), abs=0.015)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.2, 8.0), st.floats(0.2, 8.0), st.integers(0, 2**32 - 1))
def test_gradient_and_hessian_equal_central_differences(a, b, seed):
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 2, 20).astype(float)
    evaluate = _likelihood(rng.integers(1, 9, 20).astype(float), left, rng.uniform(0.5, 3, 20))
    theta = np.array([a, b])
    value, gradient, hessian = evaluate(theta)
    for k in range(2):
        step = np.zeros(2)
        step[k] = 1e-4 * theta[k]
        above, below = evaluate(theta + step), evaluate(theta - step)
        scale = 1 + abs(value) / theta[k]
        assert (above[0] - below[0]) / (2 * step[k]) == pytest.approx(gradient[k], rel=1e-4, abs=1e-6 * scale)
        assert (above[1] - below[1]) / (2 * step[k]) == pytest.approx(hessian[k], rel=1e-3, abs=1e-4 * scale / theta[k])


@pytest.mark.parametrize(
    ("tenure", "left", "missing"),
    [
        ([0, 0], [0, 0], "no customer was observed for a whole period"),
        ([3, 5], [0, 0], "no customer left"),
        ([1, 1], [1, 0], "only one renewal period"),
    ],
)
def test_degenerate_data_are_refused_with_what_is_missing(tenure, left, missing):
    rows = np.array(tenure)[:, None]
    with pytest.raises(DegenerateDataError, match=missing):
        ShiftedBetaGeometric().fit(rows, left)
    if max(tenure):
        assert ShiftedBetaGeometric(penalty=0.1).fit(rows, left).a_ > 0


def test_customers_with_one_common_chance_to_leave_are_refused():
    survivors = np.round(100_000 * 0.8 ** np.arange(9))
    with pytest.raises(DegenerateDataError, match="do not differ in their chance to leave"):
        ShiftedBetaGeometric().fit(*rows_from_survivors(survivors))


def test_impossible_rows_are_refused():
    model = ShiftedBetaGeometric()
    for tenure, left, message in [
        ([1.5], [0], "row 0: tenure must be a whole number"),
        ([2], [2], "row 0: y must be 1"),
        ([0], [1], "row 0: a customer who left"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(np.array(tenure)[:, None], left)
    with pytest.raises(ValueError, match="y is needed"):
        model.fit([[1]])
    with pytest.raises(ValueError, match="y must have one value per row"):
        model.fit([[1], [2]], [1])
    with pytest.raises(ValueError, match="must not rise"):
        rows_from_survivors([10, 5, 6])
    with pytest.raises(ValueError, match="at least two counts"):
        rows_from_survivors([10])


def test_manners():
    model = ShiftedBetaGeometric()
    with pytest.raises(NotFittedError):
        model.survival(1)
    rows = rows_from_survivors(REGULAR[:8])
    assert model.fit(*rows) is model
    assert model.score(*rows) == pytest.approx(model.log_likelihood_ / 1000)
    assert clone(model).get_params() == {"penalty": 0.0, "max_iterations": 200}
    assert set(model.standard_errors_) == {"a", "b"}
    with pytest.raises(ValueError, match="whole numbers, 1 or more"):
        model.pmf(0)
