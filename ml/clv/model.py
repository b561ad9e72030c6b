"""The published value forecast: purchases times value, its level, its intervals. Holds no fitting (`train.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ml.answer import Answer
from ml.clv.definition import SHORT_DAYS, YEAR_DAYS, same_rate_spend
from ml.clv.purchases import PurchaseForecast

COVERAGE = 0.8
DRAWS = 200
CHUNK_ROWS = 20_000   # rows simulated at once: 200 draws of them are 32 MB


@dataclass
class ValueIntervals:
    """Distances from the prediction that held 80 % of past outcomes, as a curve over the prediction."""

    at: list[float]
    half: list[float]

    def around(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower (never below 0) and upper ends."""
        half = np.interp(value, self.at, self.half)
        return np.maximum(value - half, 0.0), value + half


@dataclass(kw_only=True)
class ClvModel(Answer):
    """What is kept of a training; `forecast` is None when there is too little data for any.

    Levels are actual over predicted totals of past cut-offs; the naive rule gets one too, or it would be a multiple too high.
    """

    forecast: PurchaseForecast | None
    year_level: float = 1.0
    naive_level: float = 1.0
    naive_year_level: float = 1.0
    intervals: ValueIntervals | None = None

    measured_as = "value"

    def predicted(self, rows: pl.DataFrame, as_of: date) -> np.ndarray:
        """Expected value of rows over the short horizon, shape [n]."""
        return self.forecast.predict(rows, as_of, SHORT_DAYS)["value"].to_numpy()

    def contributions(self, rows: pl.DataFrame, as_of: date) -> tuple[float, dict[str, np.ndarray]]:
        """Base and contributions, shape [n], to the logarithm of the value over 365 days; of the naive rule where that is shown."""
        if self.forecast is None or self.is_fallback:
            year = same_rate_spend(rows, YEAR_DAYS) * self.naive_year_level
            return 0.0, {"value_365d_amount": np.log(np.maximum(year, np.finfo(float).tiny))}
        base, parts = self.forecast.explained(rows, as_of, YEAR_DAYS)
        return base + float(np.log(self.year_level / self.forecast.level)), parts

    def score(self, customers: pl.DataFrame, as_of: date) -> pl.DataFrame:
        """Columns score (365 days), predicted_90d, lower, upper (80 %), p_alive, expected_purchases (365 days), reasons, is_fallback, fallback_reason."""
        n = customers.height
        nothing = np.full(n, np.nan)
        year, short = same_rate_spend(customers, YEAR_DAYS) * self.naive_year_level, same_rate_spend(customers, SHORT_DAYS) * self.naive_level
        lower, upper, alive, purchases = nothing, nothing, nothing, nothing
        reasons = customers.select(pl.concat_list(pl.format("spent in the last 365 days: {}", pl.col("value_365d_amount").round(0).cast(pl.Int64))).alias("reasons"))["reasons"]
        if self.forecast is not None:
            found = self.forecast.predict(customers, as_of, YEAR_DAYS)
            scale = self.year_level / self.forecast.level
            alive, purchases = found["p_alive"].to_numpy(), found["expected_purchases"].to_numpy() * scale
            if not self.is_fallback:
                year = found["value"].to_numpy() * scale
                short = self.forecast.predict(customers, as_of, SHORT_DAYS)["value"].to_numpy()
                lower, upper = self.intervals.around(year) if self.intervals else self._simulated(customers, as_of, scale)
                reasons = _reasons(found, purchases)
        return pl.DataFrame({
            "score": year, "predicted_90d": short, "lower": lower, "upper": upper, "p_alive": alive, "expected_purchases": purchases, "reasons": reasons,
            "is_fallback": pl.Series([self.is_fallback] * n, dtype=pl.Boolean), "fallback_reason": pl.Series([self.fallback_reason] * n, dtype=pl.String),
        }).with_columns(pl.col("lower", "upper", "p_alive", "expected_purchases").cast(pl.Float64).fill_nan(None))  # fmt: skip

    def _simulated(self, customers: pl.DataFrame, as_of: date, scale: float) -> tuple[np.ndarray, np.ndarray]:
        ends = []
        for begin in range(0, customers.height, CHUNK_ROWS):
            drawn = self.forecast.draw(customers[begin : begin + CHUNK_ROWS], as_of, YEAR_DAYS, DRAWS, seed=begin) * scale
            lower, upper, from_nothing = np.quantile(drawn, [0.5 - COVERAGE / 2, 0.5 + COVERAGE / 2, COVERAGE], axis=0)
            # where no order at all is likely, an interval from nothing holds the coverage with less width
            ends.append(np.where(lower > 0, [lower, upper], [np.zeros_like(lower), from_nothing]))
        lower, upper = np.hstack(ends) if ends else np.empty((2, 0))
        return lower, upper

    def state(self) -> dict[str, Any]:
        """Plain values from which `from_state` gives the same model."""
        return self.plain(forecast=self.forecast.state() if self.forecast else None, intervals=[self.intervals.at, self.intervals.half] if self.intervals else None)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ClvModel:
        """The model kept by `state`."""
        forecast = PurchaseForecast.from_state(state["forecast"]) if state["forecast"] else None
        return cls(**{**state, "forecast": forecast, "intervals": ValueIntervals(*state["intervals"]) if state["intervals"] else None})


def _reasons(found: pl.DataFrame, purchases: np.ndarray) -> pl.Series:
    return found.with_columns(pl.Series("purchases", purchases)).select(
        pl.concat_list(
            pl.format("expected orders in the next 365 days: {}", pl.col("purchases").round(1)),
            pl.format("expected value of an order: {}", pl.col("mean_value").round(0).cast(pl.Int64)),
            pl.format("chance of still being a customer: {} %", (pl.col("p_alive") * 100).round(0).cast(pl.Int64)),
        ).alias("reasons")
    )["reasons"]
