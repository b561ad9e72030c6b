"""Gamma-Gamma: how much a customer spends per purchase, from the average so far.

Belongs here: likelihood and conditional expectation of the spending model.
Does not belong here: how often a customer buys (`beta_geometric.py`, `pareto_nbd.py`), margins and discounting.

Source: Fader, Hardie & Lee (2005), RFM and CLV, J. of Marketing Research 42(4); Fader & Hardie (2013), The Gamma-Gamma
Model of Monetary Value, eq. 1a and 5. A purchase's value is gamma(p, nu), nu is gamma(q, v) over customers, and both
are independent of the rate of buying.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, polygamma, psi
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ml.estimators.errors import DegenerateDataError
from ml.estimators.optimise import maximise
from ml.estimators.purchase_model import CHUNK_ROWS, FittedParametersMixin
from ml.estimators.summaries import START_SAMPLE, checked_weights

COLUMNS = ("frequency", "monetary_value")


class GammaGamma(FittedParametersMixin, BaseEstimator):
    """Gamma-Gamma model of the average value of a purchase.

    Parameters
    ----------
    penalty : weight of a prior that pulls each log-parameter (value measured in mean values) towards 0; 0 is maximum
        likelihood.
    max_iterations : Newton iterations at most.

    Learned: ``p_``, ``q_``, ``v_`` (unit of money); ``covariance_``, ``log_likelihood_``, ``n_customers_``, ``n_iter_``;
    ``frequency_value_correlation_``, which the model assumes to be near 0.
    """

    _names = ("p", "q", "v")
    _meaning = {
        "p": ("purchases of one customer differ without bound", "each customer always spends the same"),
        "q": ("customers differ without bound in what they spend", "customers do not differ in what they spend"),
        "v": ("customers differ without bound in what they spend", "customers do not differ in what they spend"),
    }

    def __init__(self, penalty: float = 0.0, max_iterations: int = 200):
        self.penalty = penalty
        self.max_iterations = max_iterations

    def fit(self, X, y=None, sample_weight=None):
        """Maximum likelihood on customers with at least one valued purchase.

        Parameters
        ----------
        X : shape [n, 2]: frequency (purchases averaged over), monetary_value (their mean, above 0). Rows with
            frequency 0 carry no information and are left out. A data frame may hold further columns.
        y : ignored.
        sample_weight : customers per row, shape [n]; 1 each by default.

        Raises
        ------
        ValueError : a row with purchases has a value of 0 or below, or is not finite.
        DegenerateDataError : the parameters are not identified.
        """
        if self.penalty < 0:
            raise ValueError(f"penalty must not be negative, got {self.penalty}")
        x, mean, weight = self._spenders(X, sample_weight, reset=True)
        self._refuse_unlearnable(x, mean)
        unit = float(np.average(mean, weights=weight))
        scaled = mean / unit
        start = np.array([2.0, 2.0, 1.0])
        if len(x) >= 2 * START_SAMPLE:
            rows = slice(None, None, len(x) // START_SAMPLE)
            sample = (x[rows], scaled[rows], weight[rows] * (weight.sum() / weight[rows].sum()))
            start = self._maximise(*sample, start, check_identified=False).parameters
        found = self._maximise(x, scaled, weight, start, check_identified=self.penalty == 0)
        units = np.array([1.0, 1.0, unit])
        self.p_, self.q_, self.v_ = (found.parameters * units).tolist()
        self.covariance_ = found.covariance * np.outer(units, units)
        self.log_likelihood_ = found.log_likelihood - np.log(unit) * float(weight.sum())
        self.n_customers_ = float(weight.sum())
        self.n_iter_ = found.iterations
        self.frequency_value_correlation_ = _correlation(x, mean, weight)
        return self

    def log_likelihood(self, X, sample_weight=None) -> float:
        """Log-likelihood of the average values in X, shape [n, 2], at the learned parameters."""
        check_is_fitted(self, "covariance_")
        rows = self._spenders(X, sample_weight, reset=False)
        return float(_likelihood(*rows)(np.array([self.p_, self.q_, self.v_]))[0])

    def score(self, X, y=None, sample_weight=None) -> float:
        """Mean log-likelihood per customer with a purchase (higher is better)."""
        _, _, weight = self._spenders(X, sample_weight, reset=False)
        return self.log_likelihood(X, sample_weight) / float(weight.sum())

    def expected_average_value(self) -> float:
        """Mean value of a purchase over all customers, p v / (q - 1).

        Raises
        ------
        DegenerateDataError : q is 1 or below, so the mean does not exist.
        """
        check_is_fitted(self, "covariance_")
        if self.q_ <= 1:
            raise DegenerateDataError(
                "Gamma-Gamma",
                f"q = {self.q_:.3f} is not above 1, so spending has no finite mean over customers.",
                "Cap extreme values before fitting, or set penalty=0.1 (a weak prior).",
            )
        return self.p_ * self.v_ / (self.q_ - 1)

    def conditional_expected_average_value(self, x, monetary_value) -> np.ndarray:
        """Expected value of a future purchase given the mean of x so far; the population mean where x is 0.

        Arrays broadcast. Where x is 0 the given `monetary_value` is ignored (it may be null).
        """
        check_is_fitted(self, "covariance_")
        x, mean = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(monetary_value, dtype=float))
        mean = np.where(x > 0, mean, 0.0)
        _refuse_impossible(x, mean)
        population = self.expected_average_value() if np.any(x == 0) else np.nan
        total = self.p_ * x + self.q_ - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            known = self.p_ * (self.v_ + x * mean) / total
        return np.where(x > 0, known, population)

    def _spenders(self, X, sample_weight, reset: bool):
        if hasattr(X, "columns") and set(COLUMNS) <= set(X.columns):
            X = X[list(COLUMNS)]
        X = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        if X.shape[1] != len(COLUMNS):
            raise ValueError(f"X must have the two columns {', '.join(COLUMNS)}; it has {X.shape[1]}")
        weight = checked_weights(sample_weight, len(X))
        x, mean = X[:, 0], np.where(X[:, 0] > 0, X[:, 1], 0.0)
        _refuse_impossible(x, mean)
        used = (x > 0) & (weight > 0)
        return x[used], mean[used], weight[used]

    def _maximise(self, x, mean, weight, start, check_identified):
        return maximise(
            _likelihood(x, mean, weight),
            start,
            model="Gamma-Gamma",
            names=self._names,
            meaning=self._meaning,
            penalty=self.penalty,
            max_iterations=self.max_iterations,
            check_identified=check_identified,
        )

    def _refuse_unlearnable(self, x, mean) -> None:
        if len(x) == 0:
            raise DegenerateDataError(
                "Gamma-Gamma",
                "no customer has a valued purchase (frequency above 0).",
                "Observe a longer period, or use the mean order value of all customers.",
            )
        if self.penalty > 0:
            return
        if np.ptp(mean) == 0:
            raise DegenerateDataError(
                "Gamma-Gamma",
                "all customers have the same average value, so there is nothing to learn about differences.",
                "Use that value for everybody.",
            )
        if np.ptp(x) == 0 and x[0] == 1:
            raise DegenerateDataError(
                "Gamma-Gamma",
                "every customer has exactly one valued purchase, so differences between a customer's purchases cannot be told from differences between customers.",
                "Observe a longer period, or count the first purchase too.",
            )


def _refuse_impossible(x, mean) -> None:
    rules = (
        (np.isfinite(x) & (x >= 0) & (x == np.floor(x)), "frequency must be a whole number, 0 or more"),
        ((x == 0) | (np.isfinite(mean) & (mean > 0)), "monetary_value must be above 0 where there are purchases"),
    )
    for holds, rule in rules:
        if not np.all(holds):
            row = int(np.argmin(np.ravel(holds)))
            raise ValueError(f"row {row}: {rule}; got frequency = {np.ravel(x)[row]:g}, monetary_value = {np.ravel(mean)[row]:g}")


def _likelihood(x, mean, weight):
    distinct_x, position = np.unique(x, return_inverse=True)
    x_weight = np.bincount(position, weights=weight)
    total_weight = float(weight.sum())
    spent = x * mean
    log_spent = np.log(spent)
    constant = -float(weight @ np.log(mean))
    # sum of w x ln(spent), the only part of the rows' sums in which parameters do not enter inside a logarithm
    x_log_spent = float((weight * x) @ log_spent)

    def evaluate(parameters):
        p, q, v = parameters
        shape = p * distinct_x + q
        psi_shape, psi_p = psi(shape), psi(p * distinct_x)
        curvature, curvature_p = polygamma(1, shape), polygamma(1, p * distinct_x)
        value = constant + x_weight @ (gammaln(shape) - gammaln(p * distinct_x))
        value += total_weight * (q * np.log(v) - gammaln(q)) + p * x_log_spent
        gradient = np.array([
            x_weight @ (distinct_x * (psi_shape - psi_p)) + x_log_spent,
            x_weight @ psi_shape + total_weight * (np.log(v) - psi(q)),
            total_weight * q / v,
        ])  # fmt: skip
        hessian = np.zeros((3, 3))
        hessian[0, 0] = x_weight @ (distinct_x**2 * (curvature - curvature_p))
        hessian[0, 1] = x_weight @ (distinct_x * curvature)
        hessian[1, 1] = x_weight @ curvature - total_weight * polygamma(1, q)
        hessian[1, 2] = total_weight / v
        hessian[2, 2] = -total_weight * q / v**2
        for begin in range(0, len(x), CHUNK_ROWS):
            rows = slice(begin, begin + CHUNK_ROWS)
            purchases, w = x[rows], weight[rows]
            whole = v + spent[rows]
            inverse = w / whole
            logs = w * np.log(whole)
            sum_log, sum_x_log = logs.sum(), purchases @ logs
            sum_inverse, sum_x_inverse = inverse.sum(), purchases @ inverse
            value -= p * sum_x_log + q * sum_log
            gradient -= (sum_x_log, sum_log, p * sum_x_inverse + q * sum_inverse)
            hessian[0, 2] -= sum_x_inverse
            hessian[1, 2] -= sum_inverse
            squares = inverse / whole
            hessian[2, 2] += p * (purchases @ squares) + q * squares.sum()
        return value, gradient, hessian + np.triu(hessian, 1).T

    return evaluate


def _correlation(x, mean, weight) -> float:
    """Weighted Pearson correlation; nan when either side does not vary."""
    if np.ptp(x) == 0 or np.ptp(mean) == 0:
        return float("nan")
    covariance = np.cov(x, mean, aweights=weight)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
