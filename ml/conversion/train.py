"""Train conversion on past open leads. Holds no table of results (`score.py`)."""

from __future__ import annotations

import polars as pl

from ml import probability
from ml.conversion.definition import TASK, population
from ml.features import Calendar
from ml.published import Published


def train(leads: pl.DataFrame, calendar: Calendar) -> Published:
    """Learn from every cut-off whose outcome is known."""
    rows = population(leads)
    trained = probability.train(TASK, rows, first=calendar.first_date, scoring=calendar.scoring_date, horizon=calendar.horizon_days, step=calendar.step_days)
    return Published.of(trained)
