"""sBG: how many periods a contract lasts when each period's renewal is a coin of the customer's own.

Belongs here: likelihood, survival, retention and lifetime of contractual customers in discrete time.
Does not belong here: buyers without a contract (`beta_geometric.py`, `pareto_nbd.py`), churn models on features.

Source: Fader & Hardie (2007), How to Project Customer Retention, J. of Interactive Marketing 21(1); Fader & Hardie
(2010), Customer-Base Valuation in a Contractual Setting, Marketing Science 29(1), for the residual lifetime. The chance
to leave at the end of a period is beta(a, b) over customers and constant for each.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, digamma, hyp2f1, polygamma
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ml.estimators.errors import DegenerateDataError
from ml.estimators.optimise import maximise
from ml.estimators.purchase_model import FittedParametersMixin
from ml.estimators.summaries import checked_weights


class ShiftedBetaGeometric(FittedParametersMixin, BaseEstimator):
    """Shifted beta-geometric model of contract length.

    Parameters
    ----------
    penalty : weight of a prior that pulls each log-parameter towards 0; 0 is maximum likelihood.
    max_iterations : Newton iterations at most.

    Learned: ``a_``, ``b_``; ``covariance_``, ``log_likelihood_``, ``n_customers_``, ``n_iter_``.
    """

    _names = ("a", "b")
    _meaning = {
        "a": ("hardly anybody leaves", "customers do not differ in their chance to leave"),
        "b": ("customers leave at once or never", "customers do not differ in their chance to leave"),
    }

    def __init__(self, penalty: float = 0.0, max_iterations: int = 200):
        self.penalty = penalty
        self.max_iterations = max_iterations

    def fit(self, X, y=None, sample_weight=None):
        """Maximum likelihood.

        Parameters
        ----------
        X : tenure, shape [n, 1]: for a customer who left, the period (1, 2, …) in which that happened; for one who
            stays, the number of periods survived so far (0 carries no information).
        y : shape [n]: 1 (or True) where the customer left, 0 where still there.
        sample_weight : customers per row, shape [n]; 1 each by default.

        Raises
        ------
        ValueError : a tenure is not a whole number, or somebody left in period 0.
        DegenerateDataError : the parameters are not identified.
        """
        if self.penalty < 0:
            raise ValueError(f"penalty must not be negative, got {self.penalty}")
        tenure, left, weight = self._rows(X, y, sample_weight, reset=True)
        self._refuse_unlearnable(tenure, left, weight)
        found = maximise(
            _likelihood(tenure, left, weight),
            np.ones(2),
            model="sBG",
            names=self._names,
            meaning=self._meaning,
            penalty=self.penalty,
            max_iterations=self.max_iterations,
            check_identified=self.penalty == 0,
        )
        self.a_, self.b_ = found.parameters.tolist()
        self.covariance_ = found.covariance
        self.log_likelihood_ = found.log_likelihood
        self.n_customers_ = float(weight.sum())
        self.n_iter_ = found.iterations
        return self

    def log_likelihood(self, X, y, sample_weight=None) -> float:
        """Log-likelihood of tenures at the learned parameters."""
        check_is_fitted(self, "covariance_")
        return float(_likelihood(*self._rows(X, y, sample_weight, reset=False))(np.array([self.a_, self.b_]))[0])

    def score(self, X, y, sample_weight=None) -> float:
        """Mean log-likelihood per customer (higher is better)."""
        _, _, weight = self._rows(X, y, sample_weight, reset=False)
        return self.log_likelihood(X, y, sample_weight) / float(weight.sum())

    def pmf(self, period) -> np.ndarray:
        """P(a new customer leaves in `period`), period 1, 2, …"""
        check_is_fitted(self, "covariance_")
        period = _periods(period, smallest=1)
        return np.exp(betaln(self.a_ + 1, self.b_ + period - 1) - betaln(self.a_, self.b_))

    def survival(self, periods, tenure=0) -> np.ndarray:
        """P(still there after `periods` more | has survived `tenure` periods)."""
        check_is_fitted(self, "covariance_")
        periods, tenure = _periods(periods), _periods(tenure)
        return np.exp(betaln(self.a_, self.b_ + tenure + periods) - betaln(self.a_, self.b_ + tenure))

    def retention_rate(self, period) -> np.ndarray:
        """Share of those who survived ``period - 1`` periods that survives `period` too, period 1, 2, …"""
        check_is_fitted(self, "covariance_")
        before = _periods(period, smallest=1) - 1
        return (self.b_ + before) / (self.a_ + self.b_ + before)

    def expected_periods(self, tenure=0, discount_rate: float = 0.0) -> np.ndarray:
        """Expected number of further renewals after `tenure` survived periods, each discounted by ``1 + discount_rate``.

        Infinite without discounting when a is 1 or below: a share of customers practically never leaves.
        """
        check_is_fitted(self, "covariance_")
        if not discount_rate >= 0:
            raise ValueError(f"discount_rate must be 0 or more, got {discount_rate}")
        b = self.b_ + _periods(tenure)
        if discount_rate == 0:
            return b / (self.a_ - 1) if self.a_ > 1 else np.full(np.shape(b), np.inf)
        factor = 1 / (1 + discount_rate)
        # sum over k >= 1 of factor^k * S(tenure + k) / S(tenure)
        return factor * b / (self.a_ + b) * hyp2f1(1.0, b + 1, self.a_ + b + 1, factor)

    def _rows(self, X, y, sample_weight, reset: bool):
        if y is None:
            raise ValueError("y is needed: 1 where the customer left, 0 where still there")
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        if X.shape[1] != 1:
            raise ValueError(f"X must have the one column tenure; it has {X.shape[1]}")
        tenure, left = X[:, 0], np.asarray(y, dtype=float)
        if left.shape != tenure.shape:
            raise ValueError(f"y must have one value per row: {len(tenure)} rows, y of shape {left.shape}")
        rules = (
            ((tenure >= 0) & (tenure == np.floor(tenure)), "tenure must be a whole number of periods, 0 or more"),
            (np.isin(left, (0.0, 1.0)), "y must be 1 (left) or 0 (still there)"),
            ((tenure >= 1) | (left == 0), "a customer who left did so in period 1 or later"),
        )
        for holds, rule in rules:
            if not np.all(holds):
                row = int(np.argmin(holds))
                raise ValueError(f"row {row}: {rule}; got tenure = {tenure[row]:g}, y = {left[row]:g}")
        return tenure, left, checked_weights(sample_weight, len(tenure))

    def _refuse_unlearnable(self, tenure, left, weight) -> None:
        observed = weight > 0
        if not np.any(observed & (tenure > 0)):
            raise DegenerateDataError("sBG", "no customer was observed for a whole period.", "Wait until the first renewals are due.")
        if self.penalty > 0:
            return
        if not np.any(observed & (left == 1)):
            raise DegenerateDataError(
                "sBG",
                "no customer left, so the chance to leave is not bounded from below.",
                "Observe a longer period, or set penalty=0.1 (a weak prior).",
            )
        if tenure[observed].max() < 2:
            raise DegenerateDataError(
                "sBG",
                "only one renewal period was observed; how the chance to leave falls with tenure needs at least two.",
                "Observe a longer period, or set penalty=0.1 (a weak prior).",
            )


def rows_from_survivors(survivors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows for `fit` from a cohort's survivors at the end of periods 0, 1, 2, …

    Parameters
    ----------
    survivors : counts, shape [k + 1], not rising; the first is the size of the cohort.

    Returns
    -------
    X of shape [k + 1, 1], y and sample_weight of shape [k + 1].
    """
    survivors = np.asarray(survivors, dtype=float)
    if survivors.ndim != 1 or len(survivors) < 2:
        raise ValueError("survivors must be a list of at least two counts: the cohort and who is left after a period")
    if np.any(np.diff(survivors) > 0) or np.any(survivors < 0):
        raise ValueError("survivors must not rise from one period to the next, nor be negative")
    last = len(survivors) - 1
    tenure = np.append(np.arange(1, last + 1), last)
    left = np.append(np.ones(last), 0.0)
    return tenure[:, None].astype(float), left, np.append(-np.diff(survivors), survivors[-1])


def _periods(values, smallest: int = 0) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if np.any(values < smallest) or np.any(values != np.floor(values)):
        raise ValueError(f"periods must be whole numbers, {smallest} or more")
    return values


def _likelihood(tenure, left, weight):
    # Equal rows count together: a cohort of a million is a few dozen (tenure, left) pairs.
    pairs, position = np.unique(np.stack([tenure, left], axis=1), axis=0, return_inverse=True)
    counts = np.bincount(np.ravel(position), weights=weight)
    left = pairs[:, 1]
    stayed = pairs[:, 0] - left
    total = float(counts.sum())

    def evaluate(parameters):
        a, b = parameters
        # ln B(a + left, b + stayed) - ln B(a, b)
        gone, kept, whole = a + left, b + stayed, a + b + left + stayed
        value = counts @ betaln(gone, kept) - total * betaln(a, b)
        common = total * digamma(a + b) - counts @ digamma(whole)
        gradient = np.array([
            counts @ digamma(gone) - total * digamma(a) + common,
            counts @ digamma(kept) - total * digamma(b) + common,
        ])  # fmt: skip
        curvature = total * polygamma(1, a + b) - counts @ polygamma(1, whole)
        hessian = np.full((2, 2), curvature)
        hessian[0, 0] += counts @ polygamma(1, gone) - total * polygamma(1, a)
        hessian[1, 1] += counts @ polygamma(1, kept) - total * polygamma(1, b)
        return value, gradient, hessian

    return evaluate
