"""The uplift model: two outcome models and what their difference is worth, ready to score. Holds no fitting (`train.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from ml import explanations
from ml.answer import Answer
from ml.probability import Logistic

EMPTY = pl.DataFrame(schema={"customer_id": pl.String, "score": pl.Float64, "lower": pl.Float64, "upper": pl.Float64, "chance_without_contact": pl.Float64, "reasons": pl.List(pl.String),
                             "is_fallback": pl.Boolean, "fallback_reason": pl.String})
CURVE = pl.DataFrame(schema={"share": pl.Float64, "gain": pl.Float64, "lower": pl.Float64, "upper": pl.Float64, "random": pl.Float64})


def difference(contacted: Logistic, held_back: Logistic, rows: pl.DataFrame) -> tuple[float, dict[str, np.ndarray]]:
    """Base and contribution of each feature, shape [n], to the log-odds with contact less those without."""
    (base, one), (less, zero) = contacted.explained(rows), held_back.explained(rows)
    nothing = np.zeros(rows.height)
    return base - less, {name: one.get(name, nothing) - zero.get(name, nothing) for name in one | zero}


@dataclass(kw_only=True)
class UpliftModel(Answer):
    """What is kept of a training.

    `contacted` and `held_back` predict an order with and without contact; they are None when no effect may be told. `line` (shift,
    slope) turns their difference into an effect; `bands` (at, below, above) say how far observed effects lay from predicted ones.
    `average` is the average effect with its 95 % interval, given to everybody where `is_fallback`.
    """

    contacted: Logistic | None = None
    held_back: Logistic | None = None
    line: list[float] = field(default_factory=lambda: [0.0, 1.0])
    average: list[float] | None = None
    bands: dict[str, list[float]] | None = None
    curve: list[list[float]] = field(default_factory=list)

    measured_as = "effect"

    def contributions(self, rows: pl.DataFrame, as_of: date | None = None) -> tuple[float, dict[str, np.ndarray]] | None:
        """Base and contribution of each feature, shape [n], to the log-odds of an order with contact less those without; None where everybody has the average."""
        if self.is_fallback or self.contacted is None or self.held_back is None:
            return None
        return difference(self.contacted, self.held_back, rows)

    def score(self, customers: pl.DataFrame) -> pl.DataFrame:
        """One row per customer: score is the extra chance of an order (-1..1), with an 80 % interval; everybody has the average (95 %) where `is_fallback`."""
        if self.contacted is None or self.held_back is None or not customers.height:
            return EMPTY
        without = expit(self.held_back.log_odds(customers))
        n = customers.height
        if self.is_fallback:
            score, lower, upper = (np.full(n, value) for value in self.average)
            reasons = pl.Series("reasons", [[]] * n, dtype=pl.List(pl.String))
        else:
            shift, slope = self.line
            score = shift + slope * (expit(self.contacted.log_odds(customers)) - without)
            lower, upper = score - np.interp(score, self.bands["at"], self.bands["below"]), score + np.interp(score, self.bands["at"], self.bands["above"])
            reasons = explanations.reasons(customers, self.contributions(customers)[1], "contact helps more", "contact helps less")
        return pl.DataFrame({
            "customer_id": customers["customer_id"], "score": score, "lower": np.maximum(lower, -1), "upper": np.minimum(upper, 1), "chance_without_contact": without, "reasons": reasons,
            "is_fallback": pl.Series([self.is_fallback] * n, dtype=pl.Boolean), "fallback_reason": pl.Series([self.fallback_reason] * n, dtype=pl.String),
        })  # fmt: skip

    def curve_frame(self) -> pl.DataFrame:
        """The Qini curve: share of customers contacted, best first; gain in orders per customer of all, with its interval; gain of a random order."""
        return pl.DataFrame(self.curve, schema=CURVE.schema, orient="row") if self.curve else CURVE

    def state(self) -> dict[str, Any]:
        """Plain values from which `from_state` gives the same model."""
        return self.plain(**{side: None if model is None else model.state() for side, model in (("contacted", self.contacted), ("held_back", self.held_back))})

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> UpliftModel:
        """The model kept by `state`."""
        kept = {side: None if state[side] is None else Logistic.from_state(state[side]) for side in ("contacted", "held_back")}
        return cls(**{**state, **kept})
