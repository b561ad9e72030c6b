"""Churn as a question of the score layer. Holds no formula."""

from __future__ import annotations

from datetime import date

import polars as pl

from ml.churn.definition import READINGS
from ml.churn.model import ChurnModel, with_rhythm
from ml.churn.score import score
from ml.churn.train import train
from ml.question import Frames, Question


def _train(frames: Frames) -> ChurnModel:
    calendar = frames.customer_calendar
    return train(frames.customers, calendar, frames.forecasts([*calendar.cut_offs, calendar.scoring_date], True))


def _score(frames: Frames, model: ChurnModel) -> pl.DataFrame:
    calendar = frames.customer_calendar
    return score(model, frames.customers, calendar, frames.forecasts([calendar.scoring_date], True))


def _rows(frames: Frames, as_of: date) -> dict[str, pl.DataFrame]:
    there = with_rhythm(frames.customers.filter(pl.col("as_of_date") == as_of), frames.forecasts([as_of], True), frames.customer_calendar.horizon_days)
    return {reading.kind: reading.population(there) for reading in READINGS}


QUESTION = Question(
    name="churn",
    says=" ".join(reading.says for reading in READINGS),
    entity="customer_id",
    columns="customer_id VARCHAR, model_id VARCHAR, as_of DATE, kind VARCHAR, score DOUBLE, lower DOUBLE, upper DOUBLE, reasons VARCHAR[], is_fallback BOOLEAN, fallback_reason VARCHAR",
    inputs=tuple(sorted({n for r in READINGS for n in (*r.task.numeric, *r.task.categorical)})),
    calendar=lambda frames: frames.customer_calendar,
    train=_train, score=_score, restore=ChurnModel.from_state, parts=lambda model: model.answers,
    rows=_rows, outcome_dates=lambda frames: frames.customer_calendar.cut_offs,
)  # fmt: skip
