"""Gamma-Gamma against CDNOW's published fit, the peer package, integration and simulation."""

from __future__ import annotations

import lifetimes
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ml.estimators import DegenerateDataError, GammaGamma
from ml.estimators.gamma_gamma import _likelihood


def simulate(p=6.0, q=4.0, v=15.0, customers=20_000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.geometric(0.4, customers).astype(float)
    nu = rng.gamma(q, 1 / v, customers)
    return np.stack([x, rng.gamma(p * x, 1 / nu) / x], axis=1), p / nu


def with_parameters(p, q, v):
    model = GammaGamma()
    model.p_, model.q_, model.v_, model.covariance_ = p, q, v, np.eye(3)
    return model


def test_cdnow_fit_equals_the_published_parameters_and_likelihood(cdnow):
    histories, values, _ = cdnow
    model = GammaGamma().fit(np.stack([histories[:, 0], values], axis=1))
    assert model.n_customers_ == 946
    assert list(model.parameters_.values()) == pytest.approx((6.25, 3.74, 15.44), rel=0.005)
    assert -4055.925 < model.log_likelihood_ < -4055.91
    assert model.frequency_value_correlation_ == pytest.approx(0.11, abs=0.01)


def test_conditional_expectation_agrees_with_the_peer_package(cdnow):
    histories, values, _ = cdnow
    peer = lifetimes.GammaGammaFitter()
    peer.params_ = pd.Series({"p": 6.25, "q": 3.74, "v": 15.44})
    model = with_parameters(6.25, 3.74, 15.44)
    theirs = peer.conditional_expected_average_profit(histories[:, 0], values)
    assert model.conditional_expected_average_value(histories[:, 0], values) == pytest.approx(np.asarray(theirs), rel=1e-12)
    repeat = histories[:, 0] > 0
    mean = peer._negative_log_likelihood(np.log([6.25, 3.74, 15.44]), histories[repeat, 0], values[repeat], np.ones(946), 0)
    rows = np.stack([histories[:, 0], values], axis=1)
    assert model.log_likelihood(rows) == pytest.approx(-mean * 946, rel=1e-9)
    assert model.score(rows) == pytest.approx(-mean, rel=1e-9)


def test_likelihood_and_posterior_mean_equal_integration_over_the_unknown_scale():
    p, q, v = 3.0, 2.5, 12.0
    for x, mean in [(1, 5.0), (4, 30.0), (9, 14.0)]:

        def density(nu, x=x, mean=mean):
            return stats.gamma.pdf(mean, p * x, scale=1 / (nu * x)) * stats.gamma.pdf(nu, q, scale=1 / v)

        likelihood = integrate.quad(density, 0, 20, limit=200)[0]
        posterior = integrate.quad(lambda nu: p / nu * density(nu), 1e-9, 20, limit=200)[0] / likelihood  # noqa: B023
        model = with_parameters(p, q, v)
        assert model.log_likelihood([[x, mean]]) == pytest.approx(np.log(likelihood), rel=1e-7)
        assert model.conditional_expected_average_value(x, mean) == pytest.approx(posterior, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.3, 8.0), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_gradient_and_hessian_equal_central_differences(parameters, seed):
    rng = np.random.default_rng(seed)
    evaluate = _likelihood(rng.integers(1, 9, 15).astype(float), rng.gamma(2, 0.5, 15) + 0.05, rng.uniform(0.5, 3, 15))
    theta = np.array(parameters)
    value, gradient, hessian = evaluate(theta)
    for k in range(3):
        step = np.zeros(3)
        step[k] = 1e-4 * theta[k]
        above, below = evaluate(theta + step), evaluate(theta - step)
        scale = 1 + abs(value) / theta[k]
        assert (above[0] - below[0]) / (2 * step[k]) == pytest.approx(gradient[k], rel=1e-4, abs=1e-6 * scale)
        assert (above[1] - below[1]) / (2 * step[k]) == pytest.approx(hessian[k], rel=1e-3, abs=1e-4 * scale / theta[k])


@pytest.mark.parametrize("customers", [20_000, 60_000])
def test_simulated_truth_is_recovered_with_and_without_a_start_sample(customers):
    rows, true_mean = simulate(customers=customers)
    model = GammaGamma().fit(rows)
    for name, truth in {"p": 6.0, "q": 4.0, "v": 15.0}.items():
        assert abs(np.log(model.parameters_[name] / truth)) < 4 * model.standard_errors_[name] / model.parameters_[name]
    expected = model.conditional_expected_average_value(*rows.T)
    for chosen in np.array_split(np.argsort(expected), 10):
        assert expected[chosen].mean() == pytest.approx(true_mean[chosen].mean(), rel=0.04)


def test_unit_of_money_scales_only_v_and_rows_without_purchases_do_not_matter():
    rows, _ = simulate(customers=3_000)
    euros = GammaGamma().fit(rows)
    cents = GammaGamma().fit(rows * [1, 100])
    assert cents.v_ == pytest.approx(100 * euros.v_, rel=1e-5)
    assert (cents.p_, cents.q_) == pytest.approx((euros.p_, euros.q_), rel=1e-5)
    assert cents.log_likelihood_ == pytest.approx(euros.log_likelihood_ - 3_000 * np.log(100), abs=1e-5)
    more = np.vstack([rows, [[0, np.nan], [0, 0]]])
    assert GammaGamma().fit(more).parameters_ == euros.parameters_
    twice = GammaGamma().fit(rows, sample_weight=np.full(3_000, 2.0))
    assert twice.p_ == pytest.approx(euros.p_, rel=1e-6)
    assert twice.standard_errors_["q"] == pytest.approx(euros.standard_errors_["q"] / np.sqrt(2), rel=1e-5)


def test_customers_without_a_purchase_get_the_population_mean():
    model = with_parameters(6.0, 4.0, 15.0)
    assert model.conditional_expected_average_value([0, 0], [np.nan, 99.0]).tolist() == [30.0, 30.0]
    assert model.expected_average_value() == 30.0
    no_mean = with_parameters(6.0, 0.9, 15.0)
    with pytest.raises(DegenerateDataError, match="q = 0.900 is not above 1.*Cap extreme values"):
        no_mean.conditional_expected_average_value(0, np.nan)
    assert np.isfinite(no_mean.conditional_expected_average_value(2, 10.0))


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([[0, 0], [0, 0]], "no customer has a valued purchase"),
        ([[1, 5.0], [2, 5.0], [3, 5.0]], "the same average value"),
        ([[1, 5.0], [1, 7.0], [1, 9.0]], "exactly one valued purchase"),
    ],
)
def test_degenerate_data_are_refused_with_what_is_missing(rows, missing):
    with pytest.raises(DegenerateDataError, match=missing):
        GammaGamma().fit(rows)


def test_customers_who_all_spend_alike_are_refused_and_a_prior_remedies_it():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 9, 2_000).astype(float)
    rows = np.stack([x, rng.gamma(5 * x, 1.0) / x], axis=1)
    with pytest.raises(DegenerateDataError, match="not identified and drifts towards infinity"):
        GammaGamma().fit(rows)
    helped = GammaGamma(penalty=0.1).fit(rows)
    assert helped.conditional_expected_average_value(3, 9.0) == pytest.approx(5.0, rel=0.2)


def test_impossible_values_are_refused_with_the_row():
    with pytest.raises(ValueError, match="row 1: monetary_value must be above 0"):
        GammaGamma().fit([[1, 5.0], [2, -1.0]])
    with pytest.raises(ValueError, match="row 0: frequency must be a whole number"):
        GammaGamma().fit([[1.5, 5.0], [2, 1.0]])
    with pytest.raises(ValueError, match="row 1: monetary_value must be above 0"):
        GammaGamma().fit([[1, 5.0], [2, np.nan]])


def test_manners():
    model = GammaGamma(penalty=0.01)
    with pytest.raises(NotFittedError):
        model.expected_average_value()
    rows, _ = simulate(customers=2_000)
    assert model.fit(rows) is model
    assert clone(model).get_params() == {"penalty": 0.01, "max_iterations": 200}
    low, high = model.confidence_intervals()["q"]
    assert 0 < low < model.q_ < high
    frame = pl.DataFrame({"customer_id": range(2_000), "monetary_value": rows[:, 1], "frequency": rows[:, 0]})
    assert GammaGamma(penalty=0.01).fit(frame).parameters_ == model.parameters_
    with pytest.raises(ValueError, match="two columns"):
        GammaGamma().fit(rows[:, :1])
