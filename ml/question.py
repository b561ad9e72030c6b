"""What a scored question is, and the frames that questions share.

Belongs here: the form in which a room (`ml/<question>/question.py`) offers its question, and reading each frame once. Does not belong
here: any one question, the order of work and the tables (`ml.scoring`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from ml import features


@dataclass(frozen=True)
class Question:
    """One model: how it is trained, scored, restored and what its parts said.

    `columns` are those of its score table, `entity` the key's name. `train` gives a model with `state()`; `parts` gives its answers by
    kind ("" for the only one), each with candidate, is_fallback, verdict, training_rows and evaluations. `more` are further tables of
    the `scores` schema by name, each with its columns and what fills it from the model (`model_id` and `as_of` are added). `rows` gives
    the population of each part at a date, with what happened as `label` (null where not known yet), and `outcome_dates` the dates whose
    outcome is known: with both, features and outcomes are watched for drift. Where nobody's own outcome can be seen (an effect), `observed`
    gives what happened since the day up to which a model had learned: score and label, whose means are compared. `window` says in words how far ahead is asked.
    """

    name: str
    says: str
    entity: str
    columns: str
    inputs: tuple[str, ...]
    calendar: Callable[[Frames], features.Calendar | None]
    train: Callable[[Frames], Any]
    score: Callable[[Frames, Any], pl.DataFrame]
    restore: Callable[[dict[str, Any]], Any]
    parts: Callable[[Any], dict[str, Any]]
    more: dict[str, tuple[str, Callable[[Any], pl.DataFrame]]] = field(default_factory=dict)
    rows: Callable[[Frames, date], dict[str, pl.DataFrame]] | None = None
    outcome_dates: Callable[[Frames], tuple[date, ...]] = lambda frames: ()
    observed: Callable[[Frames, Any, date], pl.DataFrame] | None = None
    window: Callable[[features.Calendar], str] = lambda calendar: f"{calendar.horizon_days} days"


class Frames:
    """What models read, each frame once and only when asked for."""

    def __init__(self, con: Any) -> None:
        self._con = con
        self._read: dict[Any, Any] = {}
        self._forecasts: dict[tuple[date, bool], Any] = {}

    def of(self, reader: Callable[..., Any], *arguments: Any) -> Any:
        """What `reader(connection, *arguments)` gives, read once."""
        key = (reader, arguments)
        if key not in self._read:
            self._read[key] = reader(self._con, *arguments)
        return self._read[key]

    @property
    def fingerprint(self) -> str:
        """Of everything read so far: the same data give the same, whatever the order of rows."""
        frames = sorted(((reader.__name__, str(arguments), frame) for (reader, arguments), frame in self._read.items() if isinstance(frame, pl.DataFrame)), key=lambda item: item[:2])
        read = [(name, arguments, frame.height, int(frame.hash_rows(seed=0).cast(pl.UInt64).bitwise_xor() or 0)) for name, arguments, frame in frames]
        return hashlib.sha256(repr(read).encode()).hexdigest()[:16]

    @property
    def customer_calendar(self) -> features.Calendar | None:
        return self.of(features.read_calendar, "customer")

    @property
    def customers(self) -> pl.DataFrame:
        return self.of(features.read_customers)

    def forecasts(self, dates: list[date], seasonal: bool) -> dict[date, Any]:
        """Purchase models of dates, each fitted once."""
        from ml.clv.train import fit_forecasts
        missing = [d for d in dates if (d, seasonal) not in self._forecasts]
        found = fit_forecasts(self.customers, self.of(features.read_purchases), missing, seasonal)
        self._forecasts |= {(d, seasonal): found.get(d) for d in missing}
        return {d: self._forecasts[d, seasonal] for d in dates if self._forecasts[d, seasonal] is not None}
