"""BG/NBD, MBG/NBD and Pareto/NBD against published numbers, the peer package, numerical integration and simulation."""

from __future__ import annotations

import copy
import functools

import lifetimes
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from ml.estimators import BetaGeoNBD, DegenerateDataError, ModifiedBetaGeoNBD, ParetoNBD
from ml.estimators.beta_geometric import _sum_over_counts, _transformed_series
from ml.estimators.summaries import group_histories

MODELS = (BetaGeoNBD, ModifiedBetaGeoNBD, ParetoNBD)
TRUTH = {"BG/NBD": (0.6, 5.0, 0.9, 2.5), "MBG/NBD": (0.6, 5.0, 0.9, 2.5), "Pareto/NBD": (0.6, 5.0, 0.7, 15.0)}


def with_parameters(model_class, *values):
    """A model as if it had learned these parameters."""
    model = model_class()
    for name, value in zip(model_class._names, values, strict=True):
        setattr(model, f"{name}_", value)
    model.covariance_ = np.eye(4)
    return model


@pytest.fixture(scope="module")
def fitted(cdnow):
    return {model._model: model().fit(cdnow[0]) for model in MODELS}


# -- published numbers


@pytest.mark.parametrize(
    ("model", "expected", "log_likelihood", "tolerance"),
    [
        ("BG/NBD", (0.2426, 4.4136, 0.7930, 2.4262), -9582.44, 0.0005),
        ("Pareto/NBD", (0.553, 10.578, 0.606, 11.669), -9594.99, 0.001),
        ("MBG/NBD", (0.525, 6.183, 0.891, 1.614), -9582.14, 0.001),
    ],
)
def test_cdnow_fit_equals_the_published_parameters_and_likelihood(fitted, model, expected, log_likelihood, tolerance):
    found = fitted[model]
    assert list(found.parameters_.values()) == pytest.approx(expected, rel=tolerance)
    assert log_likelihood <= found.log_likelihood_ < log_likelihood + 0.02


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("BG/NBD", (0.225, 0.523, 1.044, 1.520, 2.164, 2.654, 3.504, 6.157)),
        ("Pareto/NBD", (0.138, 0.600, 1.196, 1.714, 2.398, 2.907, 3.819, 6.403)),
    ],
)
def test_cdnow_conditional_expectation_by_frequency_class_equals_the_published_table(cdnow, fitted, model, published):
    histories, _, later = cdnow
    expected = fitted[model].conditional_expected_purchases(39, *histories.T)
    classes = np.minimum(histories[:, 0], 7)
    assert [expected[classes == k].mean() for k in range(8)] == pytest.approx(published, abs=0.0006)
    assert later.sum() == 1882


def test_cdnow_single_customers_equal_the_published_expectations(fitted):
    model = fitted["BG/NBD"]
    assert model.conditional_expected_purchases(39, 2, 30.43, 38.86) == pytest.approx(1.226, abs=0.0005)
    assert model.expected_purchases(52) == pytest.approx(1.4440, abs=0.00005)
    assert model.conditional_expected_purchases(52, 26, 30.857, 31) == pytest.approx(25.7566, rel=1e-4)
    assert model.probability_alive(26, 30.857, 31) == pytest.approx(0.96885, abs=5e-6)


# -- the peer package


def test_bg_nbd_agrees_with_the_peer_package(cdnow, fitted):
    histories = cdnow[0]
    peer = lifetimes.BetaGeoFitter().fit(*histories.T)
    model = fitted["BG/NBD"]
    assert list(model.parameters_.values()) == pytest.approx(list(peer.params_), rel=2e-3)
    same = with_parameters(BetaGeoNBD, *peer.params_)
    sample = histories[::7].T
    theirs = peer.conditional_expected_number_of_purchases_up_to_time(39, *sample)
    assert same.conditional_expected_purchases(39, *sample) == pytest.approx(np.asarray(theirs), rel=1e-6)
    assert same.probability_alive(*sample) == pytest.approx(peer.conditional_probability_alive(*sample), rel=1e-9)
    counts = np.arange(20)
    assert same.pmf(counts, 39) == pytest.approx([peer.probability_of_n_purchases_up_to_time(39, n) for n in counts], rel=1e-8)


def test_pareto_nbd_agrees_with_the_peer_package_at_equal_parameters(cdnow):
    histories = cdnow[0][::7]
    peer = lifetimes.ParetoNBDFitter()
    peer.params_ = pd.Series({"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669})
    model = with_parameters(ParetoNBD, *peer.params_)
    theirs = peer._conditional_log_likelihood(peer.params_, *histories.T)
    assert model.log_likelihood(histories) == pytest.approx(float(np.sum(theirs)), rel=1e-9)
    assert model.probability_alive(*histories.T) == pytest.approx(peer.conditional_probability_alive(*histories.T), rel=1e-7)
    assert model.conditional_expected_purchases(39, *histories.T) == pytest.approx(peer.conditional_expected_number_of_purchases_up_to_time(39, *histories.T), rel=1e-7)


def test_mbg_nbd_likelihood_agrees_with_the_peer_package_at_equal_parameters(cdnow):
    histories = cdnow[0][::7]
    peer = lifetimes.ModifiedBetaGeoFitter()
    peer.params_ = pd.Series({"r": 0.525, "alpha": 6.183, "a": 0.891, "b": 1.614})
    model = with_parameters(ModifiedBetaGeoNBD, *peer.params_)
    log_parameters = np.log(list(peer.params_))
    mean = peer._negative_log_likelihood(log_parameters, *histories.T, np.ones(len(histories)), 0.0)
    assert model.log_likelihood(histories) == pytest.approx(-mean * len(histories), rel=1e-9)
    assert model.probability_alive(*histories.T) == pytest.approx(np.asarray(peer.conditional_probability_alive(*histories.T)), rel=1e-9)


# -- numerical integration over the unknown rates, written from the models' stories


legendre = functools.cache(np.polynomial.legendre.leggauss)


def history_densities(model, rate, other, x, t_x, T):
    """Likelihood of a history given the customer's own rate and drop-out (chance or rate): (alive at T, gone)."""
    stays = rate**x * np.exp(-rate * T)
    if model is ParetoNBD:
        alive = stays * np.exp(-other * T)
        gone = rate**x * other / (rate + other) * (np.exp(-(rate + other) * t_x) - np.exp(-(rate + other) * T))
        return alive, gone
    chances = x + (model is ModifiedBetaGeoNBD)
    alive = (1 - other) ** chances * stays
    gone = other * (1 - other) ** (chances - 1) * rate**x * np.exp(-rate * t_x) if chances else 0.0
    return alive, gone


def by_integration(model, parameters, x, t_x, T):
    """(likelihood, P(alive)) by integrating over the population's two distributions on a fine grid of quantiles."""
    r, alpha, third, fourth = parameters
    points, weights = legendre(400)
    # u^6 spreads points towards quantile 0, where gamma and beta densities with a small shape have their mass.
    u, du = (points + 1) / 2, weights / 2
    quantile, mass = u**6, 6 * u**5 * du
    rate = stats.gamma.ppf(quantile, r, scale=1 / alpha)
    other = stats.gamma.ppf(quantile, third, scale=1 / fourth) if model is ParetoNBD else stats.beta.ppf(quantile, third, fourth)
    alive, gone = history_densities(model, rate[:, None], other[None, :], x, t_x, T)
    grid = mass[:, None] * mass[None, :]
    alive, gone = float(np.sum(grid * alive)), float(np.sum(grid * gone))
    return alive + gone, alive / (alive + gone)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("history", [(0, 0.0, 20.0), (1, 3.0, 30.0), (4, 18.0, 26.0), (12, 25.0, 39.0)])
def test_likelihood_and_probability_alive_equal_integration_over_the_unknown_rates(model, history):
    parameters = (1.6, 9.0, 1.7, 6.0)
    likelihood, alive = by_integration(model, parameters, *history)
    estimator = with_parameters(model, *parameters)
    assert estimator.log_likelihood([history]) == pytest.approx(np.log(likelihood), rel=1e-5)
    assert estimator.probability_alive(*history) == pytest.approx(alive, rel=1e-4)


@pytest.mark.parametrize("parameters", [(0.24, 4.4, 0.79, 2.43), (0.24, 4.4, 1.0, 2.43), (2.0, 30.0, 0.4, 0.6),
                                        (5.0, 1.0, 3.0, 40.0), (60.0, 50.0, 0.5, 2.0), (0.3, 2.0, 300.0, 900.0)])  # fmt: skip
@pytest.mark.parametrize(("x", "T", "t"), [(0, 0.0, 52.0), (3, 20.0, 10.0), (400, 100.0, 52.0), (1, 1.0, 400.0)])
def test_expected_purchases_of_bg_nbd_equal_integration_over_the_drop_out_chance(parameters, x, T, t):
    r, alpha, a, b = parameters
    points, weights = legendre(1_000)
    # In the log-odds of the drop-out chance the beta density has no singular ends.
    reach = (-min(45 / a + 3, 600.0), min(45 / (b + x) + 3, 600.0))
    middle = np.log(a / (b + x))
    log_odds = middle + (reach[0] + (points + 1) / 2 * (reach[1] - reach[0]))
    log_odds = np.concatenate([log_odds, middle + reach[1] + (points + 1) / 2 * 10])
    weights = np.concatenate([weights * (reach[1] - reach[0]) / 2, weights * 5])
    chance = special.expit(log_odds)
    density = np.exp(a * special.log_expit(log_odds) + (b + x) * special.log_expit(-log_odds) - special.betaln(a, b + x))
    purchases = -np.expm1(-(r + x) * np.log1p(chance * t / (alpha + T))) / chance
    assert weights @ density == pytest.approx(1.0, abs=1e-9)
    model = with_parameters(BetaGeoNBD, *parameters)
    assert model._expected_while_alive(t, float(x), T) == pytest.approx(weights @ (density * purchases), rel=1e-7)


@settings(max_examples=80, deadline=None)
@given(st.floats(0.05, 15.0), st.floats(0.05, 15.0), st.floats(0.05, 15.0), st.integers(0, 50), st.floats(0.0, 0.85))
def test_both_forms_of_the_expectation_agree(r, a, b, x, z):
    series = _transformed_series(np.array([z]), np.array([a + b - 1 - r]), a, np.array([b + x]))
    counts = _sum_over_counts(np.array([z]), np.array([r + x]), a, np.array([b + x]))
    assert series == pytest.approx(counts, rel=1e-7, abs=1e-12)


# -- identities that any parameters must keep

positive = st.floats(0.05, 20.0)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), positive, st.floats(0.5, 60.0), positive, positive, st.integers(0, 60), st.floats(0.1, 0.999),
       st.floats(1.0, 100.0), st.floats(0.1, 25.0))  # fmt: skip
def test_counts_have_total_probability_one_and_mean_the_expectation(model, r, alpha, third, fourth, x, last, T, t):
    estimator = with_parameters(model, r, alpha, third, fourth)
    counts = np.arange(2_500)
    t_x = last * T if x else 0.0
    for pmf, expected in (
        (estimator.pmf(counts, t), estimator.expected_purchases(t)),
        (estimator.conditional_pmf(counts, t, x, t_x, T), estimator.conditional_expected_purchases(t, x, t_x, T)),
    ):
        assert np.all((pmf >= 0) & (pmf <= 1))
        assert pmf.sum() == pytest.approx(1.0, abs=1e-6)
        assert pmf @ counts == pytest.approx(float(expected), rel=1e-4, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(MODELS), st.lists(st.floats(0.05, 8.0), min_size=4, max_size=4), st.integers(0, 2**32 - 1))
def test_gradient_and_hessian_equal_central_differences(model, parameters, seed):
    rng = np.random.default_rng(seed)
    T = rng.uniform(1, 9, 12)
    x = rng.integers(0, 8, 12).astype(float)
    t_x = np.where(x > 0, T * rng.uniform(0.01, 1, 12), 0)
    evaluate = with_parameters(model, *parameters)._likelihood(group_histories(x, t_x, T, rng.uniform(0.5, 3, 12)))
    theta = np.array(parameters)
    _, gradient, hessian = evaluate(theta)
    assert hessian == pytest.approx(hessian.T, rel=1e-9, abs=1e-9)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-4 * theta[k]
        above, below = evaluate(theta + step), evaluate(theta - step)
        scale = 1 + np.abs(evaluate(theta)[0]) / theta[k]
        assert (above[0] - below[0]) / (2 * step[k]) == pytest.approx(gradient[k], rel=1e-4, abs=1e-6 * scale)
        assert (above[1] - below[1]) / (2 * step[k]) == pytest.approx(hessian[k], rel=1e-3, abs=1e-4 * scale / theta[k])


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(MODELS), st.lists(positive, min_size=4, max_size=4), st.integers(1, 5_000), st.floats(0.01, 1.0),
       st.floats(0.1, 1_000.0), st.floats(0.0, 1_000.0))  # fmt: skip
def test_heavy_buyers_and_long_periods_stay_finite_and_in_range(model, parameters, x, last, T, t):
    estimator = with_parameters(model, *parameters)
    alive = estimator.probability_alive(x, last * T, T)
    expected = estimator.conditional_expected_purchases(t, x, last * T, T)
    assert 0 <= alive <= 1
    assert 0 <= expected <= (parameters[0] + x) / (parameters[1] + T) * t * (1 + 1e-9)


# -- fitting


def test_row_order_and_grouping_do_not_change_the_fit(cdnow):
    histories = cdnow[0]
    model = BetaGeoNBD().fit(histories)
    shuffled = BetaGeoNBD().fit(np.random.default_rng(1).permutation(histories))
    assert shuffled.parameters_ == model.parameters_
    rows, counts = np.unique(histories, axis=0, return_counts=True)
    grouped = BetaGeoNBD().fit(rows, sample_weight=counts)
    assert grouped.parameters_ == model.parameters_
    assert grouped.log_likelihood_ == pytest.approx(model.log_likelihood_, rel=1e-12)
    assert grouped.n_customers_ == 2357


@pytest.mark.parametrize("model", MODELS)
def test_unit_of_time_scales_only_the_time_parameters_and_their_errors(cdnow, fitted, model):
    weeks, days = fitted[model._model], model().fit(cdnow[0] * [1, 7, 7])
    for name in model._names:
        unit = 7 if name in ("alpha", "beta") else 1
        assert days.parameters_[name] == pytest.approx(weeks.parameters_[name] * unit, rel=1e-6)
        assert days.standard_errors_[name] == pytest.approx(weeks.standard_errors_[name] * unit, rel=1e-5)
    repeats = cdnow[0][:, 0].sum()
    assert days.log_likelihood_ == pytest.approx(weeks.log_likelihood_ - repeats * np.log(7), abs=1e-6)
    assert weeks.log_likelihood(cdnow[0]) == pytest.approx(weeks.log_likelihood_, abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_simulated_truth_lies_within_four_standard_errors_and_expectation_meets_the_outcome(simulated, model):
    histories, _, later = simulated(model._model, TRUTH[model._model])
    found = model().fit(histories)
    for (name, value), truth in zip(found.parameters_.items(), TRUTH[model._model], strict=True):
        assert abs(np.log(value / truth)) < 4 * found.standard_errors_[name] / value, name
    expected = found.conditional_expected_purchases(52, *histories.T)
    assert expected.sum() == pytest.approx(later.sum(), rel=0.05)
    none = found.conditional_pmf(0, 52, *histories.T)
    assert none.mean() == pytest.approx(np.mean(later == 0), abs=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_probability_alive_is_calibrated_within_three_points_per_decile(simulated, model):
    histories, alive, _ = simulated(model._model, TRUTH[model._model], customers=40_000, seed=4)
    found = model().fit(histories)
    probability = found.probability_alive(*histories.T)
    # In BG/NBD everybody without a repeat purchase is alive with certainty, so deciles are taken over the others.
    uncertain = probability < 1
    probability, alive = probability[uncertain], alive[uncertain]
    for rows in np.array_split(np.argsort(probability, kind="stable"), 10):
        assert abs(probability[rows].mean() - alive[rows].mean()) < 0.03


def test_standard_errors_equal_the_spread_of_estimates_over_repeated_samples(simulated):
    fits = [BetaGeoNBD().fit(simulated("BG/NBD", TRUTH["BG/NBD"], customers=4_000, seed=seed)[0]) for seed in range(60)]
    for name in BetaGeoNBD._names:
        spread = np.std([np.log(fit.parameters_[name]) for fit in fits], ddof=1)
        claimed = np.mean([fit.standard_errors_[name] / fit.parameters_[name] for fit in fits])
        assert 0.7 < spread / claimed < 1.4, name
        covered = np.mean([low <= truth <= high for fit in fits for low, high in [fit.confidence_intervals()[name]]
                           for truth in [TRUTH["BG/NBD"][BetaGeoNBD._names.index(name)]]])  # fmt: skip
        assert covered >= 0.85, name


def test_start_from_a_sample_reaches_the_same_maximum(simulated, monkeypatch):
    histories = simulated("BG/NBD", TRUTH["BG/NBD"], customers=20_000)[0]
    direct = BetaGeoNBD().fit(histories)
    sample = group_histories(*histories.T, np.ones(len(histories))).start_sample(1_000)
    assert sample.customers == pytest.approx(20_000)
    assert len(sample.weight) <= 1_000
    start = direct._maximise(sample, np.ones(4), check_identified=False).parameters
    summaries = group_histories(*histories.T, np.ones(len(histories)))
    found = direct._maximise(summaries, start, check_identified=True)
    assert found.parameters == pytest.approx(list(direct.parameters_.values()), rel=1e-5)


# -- data that cannot be learned from


@pytest.mark.parametrize("model", MODELS)
def test_without_a_repeat_purchase_the_error_says_what_is_missing(model):
    with pytest.raises(DegenerateDataError, match="no customer bought a second time.*Observe a longer period") as caught:
        model().fit([[0, 0, 10], [0, 0, 20], [0, 0, 30]])
    assert caught.value.missing.startswith("no customer bought a second time")
    assert copy.copy(caught.value).remedy == caught.value.remedy


@pytest.mark.parametrize("model", MODELS)
def test_identical_customers_are_refused_and_a_prior_remedies_it(model):
    one_kind = np.tile([3.0, 20.0, 21.0], (500, 1))
    with pytest.raises(DegenerateDataError, match="fewer than the 4 parameters.*penalty=0.1"):
        model().fit(one_kind)
    helped = model(penalty=0.1).fit(one_kind)
    assert np.all(np.isfinite(list(helped.parameters_.values())))
    assert np.isfinite(helped.conditional_expected_purchases(10, 3, 20, 21))


def test_customers_who_never_drop_out_are_refused_with_the_parameter_named():
    rng = np.random.default_rng(0)
    T = np.full(3_000, 40.0)
    rate = rng.gamma(1.0, 0.5, 3_000)
    x = rng.poisson(rate * T).astype(float)
    t_x = np.where(x > 0, T * rng.random(3_000) ** (1 / np.maximum(x, 1)), 0.0)
    with pytest.raises(DegenerateDataError, match="not identified and drifts"):
        BetaGeoNBD().fit(np.stack([x, t_x, T], axis=1))
    model = BetaGeoNBD(penalty=0.1).fit(np.stack([x, t_x, T], axis=1))
    assert model.a_ / (model.a_ + model.b_) < 0.02


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((-1, 0, 5), "row 1: frequency must be a whole number"),
        ((1.5, 2, 5), "row 1: frequency must be a whole number"),
        ((1, 6, 5), "row 1: recency .* must not exceed T"),
        ((0, 2, 5), "row 1: recency must be 0"),
        ((2, 0, 5), "row 1: recency must be above 0"),
        ((0, 0, -5), "row 1: recency and T must not be negative"),
    ],
)
def test_impossible_histories_are_refused_with_row_and_rule(row, message):
    with pytest.raises(ValueError, match=message):
        BetaGeoNBD().fit([[1, 2, 5], row])


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="sample_weight"):
        BetaGeoNBD().fit([[1, 2, 5], [0, 0, 5]], sample_weight=weights)


def test_weights_of_zero_leave_nobody():
    with pytest.raises(DegenerateDataError, match="no customer with a weight"):
        BetaGeoNBD().fit([[1, 2, 5]], sample_weight=[0])


# -- scikit-learn manners


@pytest.mark.parametrize("model", MODELS)
def test_models_have_scikit_learn_manners(cdnow, model):
    histories = cdnow[0][::4]
    estimator = model(penalty=0.01)
    with pytest.raises(NotFittedError):
        estimator.probability_alive(1, 2, 3)
    assert estimator.fit(histories) is estimator
    assert estimator.get_params() == {"penalty": 0.01, "max_iterations": 200}
    assert estimator.n_features_in_ == 3
    unfitted = clone(estimator)
    assert unfitted.get_params() == estimator.get_params()
    assert not hasattr(unfitted, "r_")
    again = copy.deepcopy(estimator)
    assert again.score(histories) == estimator.score(histories)
    assert np.all(np.isfinite(cross_val_score(model(), histories, cv=3)))
    with pytest.raises(ValueError, match="three columns"):
        model().fit(histories[:, :2])
    with pytest.raises(ValueError, match="penalty must not be negative"):
        model(penalty=-1).fit(histories)


def test_data_frames_are_read_by_column_name(cdnow):
    histories = cdnow[0]
    expected = BetaGeoNBD().fit(histories).parameters_
    columns = {
        "T": histories[:, 2],
        "customer_id": np.arange(len(histories)),
        "frequency": histories[:, 0],
        "recency": histories[:, 1],
    }
    assert BetaGeoNBD().fit(pl.DataFrame(columns)).parameters_ == expected
    assert BetaGeoNBD().fit(pd.DataFrame(columns)).parameters_ == expected


def test_arguments_broadcast_and_durations_are_checked(cdnow, fitted):
    model = fitted["BG/NBD"]
    table = model.conditional_expected_purchases(np.array([[10.0], [20.0]]), *cdnow[0][:5].T)
    assert table.shape == (2, 5)
    assert np.all(table[1] > table[0])
    assert model.conditional_expected_purchases(0, 2, 30.43, 38.86) == 0
    with pytest.raises(ValueError, match="duration"):
        model.expected_purchases(-1)
    with pytest.raises(ValueError, match="whole number of purchases"):
        model.pmf(0.5, 10)
    with pytest.raises(ValueError, match="level"):
        model.confidence_intervals(1.5)
