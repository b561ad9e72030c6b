"""Curves from hazards: the chance of still being there after each period. Holds no fitting (`train.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from ml import explanations, probability
from ml.answer import Answer
from ml.churn_timing.definition import HORIZONS, PERIODS, READINGS, with_periods

CHUNK_ROWS = 100_000   # customers whose periods are laid out at once: a million would be twelve million rows
COVERAGE = 0.8


def curves(model: Any, frame: pl.DataFrame, periods: tuple[int, ...]) -> np.ndarray:
    """Chance of still being there at the end of each period, shape [n, periods]; `model` gives the log-odds of stopping in a period at risk."""
    found = [np.empty((0, len(periods)))]
    for begin in range(0, frame.height, CHUNK_ROWS):
        hazard = expit(model.log_odds(with_periods(frame[begin : begin + CHUNK_ROWS], periods))).reshape(-1, len(periods))
        found.append(np.cumprod(1 - hazard, axis=1))
    return np.vstack(found)


def expected_days(still: np.ndarray, periods: tuple[int, ...]) -> np.ndarray:
    """Mean days until stopping, within the last period's end: the area under the curve, shape [n]."""
    whole = np.hstack([np.ones((len(still), 1)), still])
    return ((whole[:, 1:] + whole[:, :-1]) / 2) @ np.diff((0, *periods))


def days_until(still: np.ndarray, periods: tuple[int, ...], share: float) -> np.ndarray:
    """Day on which the curve falls to `share`, straight between periods; nan where it does not, shape [n]."""
    whole, days = np.hstack([np.ones((len(still), 1)), still]), np.array((0, *periods), dtype=float)
    reached = whole <= share
    after = np.argmax(reached, axis=1)
    rows = np.arange(len(still))
    high, low = whole[rows, np.maximum(after - 1, 0)], whole[rows, after]
    part = np.divide(high - share, high - low, out=np.ones(len(still)), where=high > low)
    return np.where(reached.any(axis=1), days[np.maximum(after - 1, 0)] + part * (days[after] - days[np.maximum(after - 1, 0)]), np.nan)


@dataclass(kw_only=True)
class Curve(Answer):
    """The answer of one reading. `hazards` are those of all customers (the naive rule's life table), over the periods that are known; the chance to have
    stopped is judged over `window_days`.
    """

    model: Any = None
    hazards: list[float]
    window_days: int = PERIODS[2]

    measured_as = "days"

    @property
    def periods(self) -> tuple[int, ...]:
        """Ends of the periods for which a hazard could be learned."""
        return PERIODS[: len(self.hazards)]

    def predicted(self, rows: pl.DataFrame, as_of: date) -> np.ndarray:
        """Chance to have stopped at the end of the last period within `window_days`, shape [n]."""
        periods = tuple(day for day in self.periods if day <= self.window_days) or self.periods[:1]
        return 1 - curves(self.model, rows, periods)[:, -1]

    def contributions(self, rows: pl.DataFrame, as_of: date | None = None) -> tuple[float, dict[str, np.ndarray]] | None:
        """Base and contribution of each feature, shape [n], to the log-odds of stopping in the third period by who is there then; None where everybody has the curve of all.

        `period_days` is that period's own: the same period for everybody, but trees let it count more for some.
        """
        if self.is_fallback or self.model is None:
            return None
        base, parts = self.model.explained(with_periods(rows, (self.periods[min(2, len(self.periods) - 1)],)))
        # the pause it would reach is the pause so far and the period
        pause = [parts.pop(name) for name in ("pause_days", "days_since_last_order") if name in parts]
        return base, parts | ({"days_since_last_order": np.sum(pause, axis=0)} if pause else {})

    def of_features(self, rows: pl.DataFrame) -> tuple[float, dict[str, np.ndarray]]:
        """`contributions` of what is known of people, without the period's."""
        base, parts = self.contributions(rows)
        return base, {name: part for name, part in parts.items() if name != "period_days"}

    def score(self, frame: pl.DataFrame) -> pl.DataFrame:
        """score (expected days within the year, or within what is known), its 80 % interval in days, the median, the chances at HORIZONS; no rows when nothing was learned."""
        if not self.hazards:
            frame = frame.clear()
        n, periods = frame.height, self.periods
        if self.is_fallback or self.model is None:
            still = np.tile(np.cumprod(1 - np.array(self.hazards)), (n, 1)).reshape(n, len(periods))
            reasons = pl.Series("reasons", [[]] * n, dtype=pl.List(pl.String))
        else:
            still = curves(self.model, frame, periods)
            reasons = explanations.reasons(frame, self.of_features(frame)[1], "raises the risk", "lowers the risk")
        last = float(periods[-1]) if periods else 0.0
        ends = [np.nan_to_num(days_until(still, periods, share), nan=last) for share in (0.5 + COVERAGE / 2, 0.5 - COVERAGE / 2)] if periods else [np.empty(0)] * 2
        columns = {f"still_{day}d": still[:, periods.index(day)] if day in periods else pl.Series([None] * n, dtype=pl.Float64) for day in HORIZONS}
        return pl.DataFrame({
            "score": expected_days(still, periods) if periods else np.empty(0), "lower": ends[0], "upper": ends[1],
            "median_days": days_until(still, periods, 0.5) if periods else np.empty(0), **columns, "reasons": reasons,
            "is_fallback": pl.Series([self.is_fallback] * n, dtype=pl.Boolean), "fallback_reason": pl.Series([self.fallback_reason] * n, dtype=pl.String),
        }).with_columns(pl.col("median_days").fill_nan(None))  # fmt: skip


@dataclass
class TimingModel:
    """Curves by kind ("orders", "contract")."""

    answers: dict[str, Curve]

    def score(self, frame: pl.DataFrame, window_days: int) -> pl.DataFrame:
        """One row per customer who could stop: customer_id, kind and the columns of `Curve.score`."""
        parts = []
        for reading in READINGS:
            rows = reading.population(frame, window_days)
            found = self.answers[reading.kind].score(rows)
            parts.append(pl.concat([rows.head(found.height).select("customer_id", pl.lit(reading.kind).alias("kind")), found], how="horizontal"))
        return pl.concat(parts)

    def state(self) -> dict[str, Any]:
        """Plain values from which `from_state` gives the same model."""
        return {kind: answer.plain(model=None if answer.model is None else {"kind": answer.model.name, **answer.model.state()}) for kind, answer in self.answers.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TimingModel:
        """The model kept by `state`."""
        return cls({kind: Curve(**{**kept, "model": None if kept["model"] is None else probability.restore(kept["model"])}) for kind, kept in state.items()})
