"""A trained answer to a yes-or-no question, ready to score: the model when the gate let it through, the naive rule otherwise.

Belongs here: scoring with intervals and reasons, the plain state. Does not belong here: training (`ml.probability`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ml import explanations, probability
from ml.answer import Answer
from ml.probability import Line, Trained


@dataclass(kw_only=True)
class Published(Answer):
    """What is kept of a training. `model` scores; it is the naive rule where `is_fallback`, and None where nothing could be learned."""

    model: Any
    line: Line
    bands: dict[str, list[float]] | None = None
    usual: dict[str, float] | None = None

    @classmethod
    def of(cls, trained: Trained) -> Published:
        """The answer that a training allows to show."""
        kept = {name: getattr(trained, name) for name in ("evaluations", "candidate", "importance", "warnings", "training_rows", "diagnostics", "baseline", "latest")}
        if trained.verdict.published:
            return cls(model=trained.champion, line=trained.line, is_fallback=False, fallback_reason=None, bands=trained.bands, usual=trained.usual, verdict=trained.verdict.reason, **kept)
        return cls(model=trained.naive, line=Line(), is_fallback=True, fallback_reason=trained.verdict.reason, usual=trained.naive_usual, verdict=trained.verdict.reason, **kept)

    def score(self, frame: pl.DataFrame, raises: str, lowers: str) -> pl.DataFrame:
        """Columns score (0..1), lower, upper (80 %), reasons, is_fallback, fallback_reason; no rows when nothing could be learned."""
        if self.model is None:
            frame = frame.clear()
            chance = np.empty(0)
            said = pl.Series("reasons", [], dtype=pl.List(pl.String))
        else:
            base, contributions = self.model.explained(frame)
            log_odds = base + np.sum(list(contributions.values()), axis=0) if contributions else np.full(frame.height, base)
            chance = self.line.probability(np.asarray(log_odds, dtype=float))
            said = explanations.reasons(frame, contributions, raises, lowers, self.line.slope, self.usual)
        lower, upper = probability.interval(self.bands, chance)
        return pl.DataFrame({
            "score": chance, "lower": lower, "upper": upper, "reasons": said,
            "is_fallback": pl.Series([self.is_fallback] * len(chance), dtype=pl.Boolean),
            "fallback_reason": pl.Series([self.fallback_reason] * len(chance), dtype=pl.String),
        }).with_columns(pl.col("lower", "upper").fill_nan(None))  # fmt: skip

    def predicted(self, rows: pl.DataFrame, as_of: date) -> np.ndarray:
        """Chances of rows, shape [n]."""
        return self.line.probability(self.model.log_odds(rows))

    def contributions(self, rows: pl.DataFrame, as_of: date) -> tuple[float, dict[str, np.ndarray]] | None:
        """Base and contribution of each feature, shape [n]: calibrated log-odds, which they add up to (but for the limits of `LOG_ODDS_RANGE`); None where nothing was learned."""
        if self.model is None:
            return None
        base, parts = self.model.explained(rows)
        return self.line.slope * base + self.line.shift, {name: self.line.slope * values for name, values in parts.items()}

    def state(self) -> dict[str, Any]:
        """Plain values from which `from_state` gives the same answer."""
        model = None if self.model is None else {"kind": self.model.name, **self.model.state()}
        return self.plain(model=model, line=[self.line.slope, self.line.shift, self.line.name])

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Published:
        """The answer kept by `state`."""
        model = None if state["model"] is None else probability.restore(state["model"])
        return cls(**{**state, "model": model, "line": Line(*state["line"])})
