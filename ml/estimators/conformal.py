"""Split-conformal intervals: a range around any predicted value that holds what it promises on exchangeable rows.

Belongs here: intervals from the errors a model made on rows it did not learn from.
Does not belong here: choosing those rows (`ml.splits`), intervals of measures (`ml.evaluation`).

Source: Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), Distribution-Free Predictive Inference for Regression, JASA
113, section 5.2 (locally weighted residuals).
"""

from __future__ import annotations

import math

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from ml.estimators.errors import DegenerateDataError

# 0.9 / (1 - 0.9) is a hair above 9 in floating point; ranks are whole numbers.
ROUNDING = 1e-9


class SplitConformalInterval(BaseEstimator):
    """Intervals ``prediction -/+ quantile * scale(prediction)``.

    The scale is the mean absolute error as a rising function of the prediction, so that small predictions get narrow and
    large ones wide intervals. Promised is coverage over all rows (with ``bins=1``): where most outcomes are exactly 0, an
    interval that holds 0 covers more than asked, and rows with large predictions then less. ``bins`` above 1 evens this
    out within classes of prediction; total coverage then lies above `coverage` if many rows are near-certain zeros.

    Parameters
    ----------
    coverage : share of outcomes to be covered, 0..1.
    bins : classes of prediction, of equal size, with a quantile of their own.
    floor : lowest possible outcome; intervals end there. None: no limit.

    Learned: ``quantiles_`` [bins], ``edges_`` [bins - 1], ``scale_`` (isotonic regression).
    """

    def __init__(self, coverage: float = 0.8, bins: int = 1, floor: float | None = 0.0):
        self.coverage = coverage
        self.bins = bins
        self.floor = floor

    def fit(self, prediction, outcome):
        """Learn from predictions and outcomes of rows that the model has not seen, shapes [n].

        Raises
        ------
        DegenerateDataError : too few rows in a bin for the wanted coverage.
        """
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage must lie between 0 and 1, got {self.coverage}")
        if self.bins < 1:
            raise ValueError(f"bins must be 1 or more, got {self.bins}")
        prediction, outcome = np.asarray(prediction, dtype=float), np.asarray(outcome, dtype=float)
        if prediction.ndim != 1 or prediction.shape != outcome.shape:
            raise ValueError(f"prediction and outcome must be of one length, got {prediction.shape} and {outcome.shape}")
        if not (np.all(np.isfinite(prediction)) and np.all(np.isfinite(outcome))):
            raise ValueError("prediction and outcome must be finite")
        # With n errors the largest one is exceeded with probability 1 / (n + 1); fewer rows cannot promise the coverage.
        fewest = math.ceil(self.coverage / (1 - self.coverage) - ROUNDING)
        if len(prediction) < fewest * self.bins:
            raise DegenerateDataError(
                "Conformal interval",
                f"{len(prediction)} rows in {self.bins} bins; {self.coverage:.0%} coverage needs {fewest} in each.",
                "Calibrate on more rows, or use fewer bins.",
            )
        error = np.abs(outcome - prediction)
        self.scale_ = IsotonicRegression(out_of_bounds="clip").fit(prediction, error)
        self.edges_ = np.quantile(prediction, np.arange(1, self.bins) / self.bins)
        relative = error / self._scale(prediction)
        bin_of = self._bin(prediction)
        self.quantiles_ = np.empty(self.bins)
        for number in range(self.bins):
            ordered = np.sort(relative[bin_of == number])
            rank = math.ceil((len(ordered) + 1) * self.coverage - ROUNDING)
            if rank > len(ordered):
                raise DegenerateDataError(
                    "Conformal interval",
                    f"bin {number + 1} of {self.bins} holds only {len(ordered)} rows because predictions are equal.",
                    "Use fewer bins.",
                )
            self.quantiles_[number] = ordered[rank - 1]
        return self

    def predict_interval(self, prediction) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends for predictions of shape [n]."""
        check_is_fitted(self, "quantiles_")
        prediction = np.asarray(prediction, dtype=float)
        half = self.quantiles_[self._bin(prediction)] * self._scale(prediction)
        lower, upper = prediction - half, prediction + half
        if self.floor is not None:
            lower, upper = np.maximum(lower, self.floor), np.maximum(upper, self.floor)
        return lower, upper

    def _bin(self, prediction) -> np.ndarray:
        return np.searchsorted(self.edges_, prediction, side="right")

    def _scale(self, prediction) -> np.ndarray:
        # A class of predictions that was never wrong still gets a width: a millionth of the largest error.
        smallest = max(1e-6 * float(self.scale_.y_thresholds_.max()), np.finfo(float).tiny)
        return np.maximum(self.scale_.predict(prediction), smallest)
