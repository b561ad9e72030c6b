"""Conversion of leads as a question of the score layer. Holds no formula."""

from __future__ import annotations

import polars as pl

from ml import features
from ml.conversion.definition import SAYS, TASK, population
from ml.conversion.score import score
from ml.conversion.train import train
from ml.published import Published
from ml.question import Frames, Question


def _calendar(frames: Frames) -> features.Calendar | None:
    return frames.of(features.read_calendar, "lead")


QUESTION = Question(
    name="conversion",
    says=SAYS,
    entity="lead_id",
    columns="lead_id VARCHAR, model_id VARCHAR, as_of DATE, score DOUBLE, lower DOUBLE, upper DOUBLE, reasons VARCHAR[], is_fallback BOOLEAN, fallback_reason VARCHAR",
    inputs=(*TASK.numeric, *TASK.categorical),
    calendar=_calendar,
    train=lambda frames: train(frames.of(features.read_leads), _calendar(frames)),
    score=lambda frames, model: score(model, frames.of(features.read_leads), _calendar(frames)),
    restore=Published.from_state, parts=lambda model: {"": model},
    rows=lambda frames, as_of: {"": population(frames.of(features.read_leads).filter(pl.col("as_of_date") == as_of))}, outcome_dates=lambda frames: _calendar(frames).cut_offs,
)  # fmt: skip
