"""Train both readings of churn. Holds no table of results (`score.py`)."""

from __future__ import annotations

from typing import Any

import polars as pl

from ml import probability
from ml.churn.definition import READINGS
from ml.churn.model import ChurnModel, with_rhythm
from ml.clv.purchases import PurchaseForecast
from ml.features import Calendar
from ml.published import Published


def train(customers: pl.DataFrame, calendar: Calendar, forecasts: dict[Any, PurchaseForecast]) -> ChurnModel:
    """Learn from every cut-off whose outcome is known; `forecasts` are the purchase models of those cut-offs."""
    dates = [*calendar.cut_offs, calendar.scoring_date]
    frame = with_rhythm(customers.filter(pl.col("as_of_date").is_in(dates)), forecasts, calendar.horizon_days)
    answers = {}
    for reading in READINGS:
        rows = reading.population(frame)
        task = reading.task
        if task.own_score and rows[task.own_score].null_count():
            rows = rows.filter(pl.col(task.own_score).is_not_null())
        trained = probability.train(task, rows, first=calendar.first_date, scoring=calendar.scoring_date, horizon=calendar.horizon_days, step=calendar.step_days)
        answers[reading.kind] = Published.of(trained)
    return ChurnModel(answers)
