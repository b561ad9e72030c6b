"""What all models of repeat buying with drop-out share: fitting on grouped histories, scoring, standard errors.

Belongs here: the scikit-learn manners of BG/NBD, MBG/NBD and Pareto/NBD and the quantities that follow from any of them.
Does not belong here: one model's formulas (`beta_geometric.py`, `pareto_nbd.py`), spending (`gamma_gamma.py`).

A customer's history is (x, t_x, T): x repeat purchases (purchase days after the first), the last of them t_x after the
first purchase, observed until T after it. All times in one unit, whatever it is; x = 0 means t_x = 0.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ml.estimators.errors import DegenerateDataError
from ml.estimators.optimise import maximise
from ml.estimators.summaries import PurchaseSummaries, checked_histories, checked_weights, group_histories

COLUMNS = ("frequency", "recency", "T")
# Rows a vectorised pass works on at once: the temporaries then stay in the processor's cache, which is 2 to 3 times
# faster than whole columns, and memory does not grow with the number of customers. Valid: 4,096 to 1,048,576.
CHUNK_ROWS = 32_768


class FittedParametersMixin:
    """Standard errors and intervals of positive parameters, from `covariance_` and the learned attributes `<name>_`."""

    _names: tuple[str, ...]

    @property
    def parameters_(self) -> dict[str, float]:
        """Learned parameters by name."""
        check_is_fitted(self, "covariance_")
        return {name: getattr(self, f"{name}_") for name in self._names}

    @property
    def standard_errors_(self) -> dict[str, float]:
        """Standard errors by name, from the inverse observed information."""
        check_is_fitted(self, "covariance_")
        return dict(zip(self._names, np.sqrt(np.diag(self.covariance_)).tolist(), strict=True))

    def confidence_intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Wald intervals on the log scale, so that they stay positive."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level}")
        quantile = norm.ppf(0.5 + level / 2)
        errors = self.standard_errors_
        return {name: (value * np.exp(-quantile * errors[name] / value), value * np.exp(quantile * errors[name] / value)) for name, value in self.parameters_.items()}


class PurchaseModel(FittedParametersMixin, BaseEstimator):
    """Base of the buy-till-you-die models. Subclasses supply the likelihood and the closed forms.

    Parameters
    ----------
    penalty : weight of a prior that pulls each log-parameter (time measured in mean ages) towards 0; 0 is maximum
        likelihood. 0.1 is weak: it counts as much as log-parameters known with standard deviation 2.2.
    max_iterations : Newton iterations at most.
    """

    _model: str
    _meaning: dict[str, tuple[str, str]]
    # Parameters measured in time; they scale with the unit of time.
    _times: tuple[str, ...]
    _chunk_rows: int = CHUNK_ROWS

    def __init__(self, penalty: float = 0.0, max_iterations: int = 200):
        self.penalty = penalty
        self.max_iterations = max_iterations

    # -- fitting

    def fit(self, X, y=None, sample_weight=None):
        """Maximum likelihood.

        Parameters
        ----------
        X : histories, shape [n, 3]: frequency, recency, T (a data frame may hold further columns, then these names are
            used).
        y : ignored.
        sample_weight : customers per row, shape [n]; 1 each by default.

        Raises
        ------
        ValueError : a row is not a possible history.
        DegenerateDataError : the parameters are not identified.
        """
        if self.penalty < 0:
            raise ValueError(f"penalty must not be negative, got {self.penalty}")
        x, t_x, T = self._histories(X, reset=True)
        summaries = group_histories(x, t_x, T, checked_weights(sample_weight, len(x)))
        self._refuse_unlearnable(summaries)
        unit = float(np.average(summaries.age, weights=summaries.weight)) or 1.0
        scaled = summaries.in_units_of(unit)
        start = np.ones(len(self._names))
        sample = scaled.start_sample()
        if sample is not None:
            start = self._maximise(sample, start, check_identified=False).parameters
        found = self._maximise(scaled, start, check_identified=True)
        units = np.array([unit if name in self._times else 1.0 for name in self._names])
        for name, value in zip(self._names, found.parameters * units, strict=True):
            setattr(self, f"{name}_", float(value))
        self.covariance_ = found.covariance * np.outer(units, units)
        # A density over x event times: measuring time in another unit multiplies it by unit^-x.
        self.log_likelihood_ = found.log_likelihood - np.log(unit) * float(summaries.weight @ summaries.frequency)
        self.n_customers_ = summaries.customers
        self.n_iter_ = found.iterations
        return self

    def _maximise(self, summaries: PurchaseSummaries, start: np.ndarray, check_identified: bool):
        return maximise(
            self._likelihood(summaries),
            start,
            model=self._model,
            names=self._names,
            meaning=self._meaning,
            penalty=self.penalty,
            max_iterations=self.max_iterations,
            check_identified=check_identified and self.penalty == 0,
        )

    def _refuse_unlearnable(self, summaries: PurchaseSummaries) -> None:
        if summaries.customers == 0:
            raise DegenerateDataError(self._model, "there is no customer with a weight above 0.", "Give at least one purchase history.")
        if self.penalty > 0:
            return
        repeat = summaries.frequency > 0
        if not np.any(repeat):
            raise DegenerateDataError(
                self._model,
                "no customer bought a second time, so the rate of buying cannot be told from dropping out.",
                "Observe a longer period, or forecast with the share of customers who return.",
            )
        if np.count_nonzero(repeat) < len(self._names):
            raise DegenerateDataError(
                self._model,
                f"only {np.count_nonzero(repeat)} distinct histories with a repeat purchase, fewer than the {len(self._names)} parameters.",
                "Observe more customers or a longer period, or set penalty=0.1 (a weak prior).",
            )

    def _histories(self, X, reset: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if hasattr(X, "columns") and set(COLUMNS) <= set(X.columns):
            X = X[list(COLUMNS)]
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        if X.shape[1] != len(COLUMNS):
            raise ValueError(f"X must have the three columns {', '.join(COLUMNS)}; it has {X.shape[1]}")
        return checked_histories(X[:, 0], X[:, 1], X[:, 2])

    # -- what a fitted model says of histories

    def log_likelihood(self, X, sample_weight=None) -> float:
        """Log-likelihood of histories X, shape [n, 3], at the learned parameters."""
        check_is_fitted(self, "covariance_")
        x, t_x, T = self._histories(X, reset=False)
        summaries = group_histories(x, t_x, T, checked_weights(sample_weight, len(x)))
        return float(self._likelihood(summaries)(self._vector())[0])

    def score(self, X, y=None, sample_weight=None) -> float:
        """Mean log-likelihood per customer (higher is better), so that scikit-learn's model selection works."""
        weight = checked_weights(sample_weight, len(X))
        return self.log_likelihood(X, sample_weight) / float(weight.sum())

    def probability_alive(self, x, t_x, T) -> np.ndarray:
        """Probability that the customer has not dropped out at T. Arrays broadcast; result 0..1 of their shape."""
        return self._chunked(self._probability_alive, x, t_x, T)

    def conditional_expected_purchases(self, t, x, t_x, T) -> np.ndarray:
        """Expected purchases in (T, T + t] given the history. `t` a duration in the unit of time, scalar or array."""
        return self._chunked(
            lambda x, t_x, T, t: self._probability_alive(x, t_x, T) * self._expected_while_alive(t, x, T),
            x, t_x, T, _duration(t),
        )  # fmt: skip

    def conditional_pmf(self, n, t, x, t_x, T) -> np.ndarray:
        """P(exactly n purchases in (T, T + t]) given the history; ``n = 0`` is the probability of no order at all."""
        n = _counts(n)

        def probability(x, t_x, T, t, n):
            alive = self._probability_alive(x, t_x, T)
            return alive * self._pmf_while_alive(n, t, x, T) + (1 - alive) * (n == 0)

        return self._chunked(probability, x, t_x, T, _duration(t), n)

    @abstractmethod
    def expected_purchases(self, t) -> np.ndarray:
        """Expected repeat purchases of a random new customer in (0, t]."""

    @abstractmethod
    def pmf(self, n, t) -> np.ndarray:
        """P(X(t) = n): a random new customer makes n repeat purchases in (0, t]."""

    # -- supplied by each model

    @abstractmethod
    def _likelihood(self, summaries: PurchaseSummaries):
        """A function of the natural parameters that returns log-likelihood, gradient and Hessian."""

    @abstractmethod
    def _probability_alive(self, x, t_x, T): ...

    @abstractmethod
    def _expected_while_alive(self, t, x, T):
        """Expected purchases in (T, T + t] of a customer who is alive at T after x purchases."""

    @abstractmethod
    def _pmf_while_alive(self, n, t, x, T):
        """P(n purchases in (T, T + t]) of a customer who is alive at T after x purchases."""

    # -- helpers

    def _vector(self) -> np.ndarray:
        return np.array([getattr(self, f"{name}_") for name in self._names])

    def _chunked(self, function, x, t_x, T, *others) -> np.ndarray:
        check_is_fitted(self, "covariance_")
        x, t_x, T = checked_histories(x, t_x, T)
        arrays = np.broadcast_arrays(x, t_x, T, *others)
        shape = arrays[0].shape
        flat = [np.ravel(array) for array in arrays]
        result = np.empty(flat[0].shape)
        for begin in range(0, len(result), self._chunk_rows):
            rows = slice(begin, begin + self._chunk_rows)
            result[rows] = function(*(array[rows] for array in flat))
        return result.reshape(shape)


def _duration(t) -> np.ndarray:
    t = np.asarray(t, dtype=float)
    if not np.all(np.isfinite(t)) or np.any(t < 0):
        raise ValueError("t must be a finite duration, 0 or more")
    return t


def _counts(n) -> np.ndarray:
    n = np.asarray(n, dtype=float)
    if np.any(n < 0) or np.any(n != np.floor(n)):
        raise ValueError("n must be a whole number of purchases, 0 or more")
    return n
