"""Churn as a question of the score layer. Holds no formula."""

from __future__ import annotations

import polars as pl

from ml.churn.definition import READINGS
from ml.churn.model import ChurnModel
from ml.churn.score import score
from ml.churn.train import train
from ml.question import Frames, Question


def _train(frames: Frames) -> ChurnModel:
    calendar = frames.customer_calendar
    return train(frames.customers, calendar, frames.forecasts([*calendar.cut_offs, calendar.scoring_date], True))


def _score(frames: Frames, model: ChurnModel) -> pl.DataFrame:
    calendar = frames.customer_calendar
    return score(model, frames.customers, calendar, frames.forecasts([calendar.scoring_date], True))


QUESTION = Question(
    name="churn",
    says=" ".join(reading.says for reading in READINGS),
    entity="customer_id",
    columns="customer_id VARCHAR, model_id VARCHAR, as_of DATE, kind VARCHAR, score DOUBLE, lower DOUBLE, upper DOUBLE, reasons VARCHAR[], is_fallback BOOLEAN, fallback_reason VARCHAR",
    inputs=tuple(sorted({n for r in READINGS for n in (*r.task.numeric, *r.task.categorical)})),
    calendar=lambda frames: frames.customer_calendar,
    train=_train, score=_score, restore=ChurnModel.from_state, parts=lambda model: model.answers,
)  # fmt: skip
