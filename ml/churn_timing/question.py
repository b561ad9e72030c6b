"""When customers stop as a question of the score layer. Holds no formula."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from ml.churn_timing.definition import HORIZONS, PERIODS, READINGS, read_customers, seen_days
from ml.churn_timing.model import TimingModel
from ml.churn_timing.train import train
from ml.question import Frames, Question


def _score(frames: Frames, model: TimingModel) -> pl.DataFrame:
    calendar = frames.customer_calendar
    return model.score(frames.of(read_customers).filter(pl.col("as_of_date") == calendar.scoring_date), calendar.horizon_days)


def _rows(frames: Frames, as_of: date) -> dict[str, pl.DataFrame]:
    calendar = frames.customer_calendar
    there = frames.of(read_customers).filter(pl.col("as_of_date") == as_of)
    return {reading.kind: reading.population(there, calendar.horizon_days).with_columns(seen_days(reading.event, calendar.scoring_date).alias("label")) for reading in READINGS}


def _outcome_dates(frames: Frames) -> tuple[date, ...]:
    # a model of that day, up to a month old, had itself seen a whole year: else its expected days ended sooner than what is observed
    calendar = frames.customer_calendar
    return tuple(day for day in calendar.year_cut_offs if day + timedelta(days=PERIODS[-1]) <= calendar.scoring_date and (day - calendar.first_date).days > PERIODS[-1] + 31)


QUESTION = Question(
    name="churn_timing",
    says=" ".join(reading.says for reading in READINGS),
    entity="customer_id",
    columns="customer_id VARCHAR, model_id VARCHAR, as_of DATE, kind VARCHAR, score DOUBLE, lower DOUBLE, upper DOUBLE, median_days DOUBLE, "
            + ", ".join(f"still_{day}d DOUBLE" for day in HORIZONS) + ", reasons VARCHAR[], is_fallback BOOLEAN, fallback_reason VARCHAR",
    inputs=tuple(sorted({n for r in READINGS for n in (*r.task.numeric, *r.task.categorical)})),
    calendar=lambda frames: frames.customer_calendar,
    train=lambda frames: train(frames.of(read_customers), frames.customer_calendar),
    score=_score, restore=TimingModel.from_state, parts=lambda model: model.answers,
    window=lambda calendar: f"the next {PERIODS[-1]} days, or as far as is known",
    rows=_rows, outcome_dates=_outcome_dates,
)  # fmt: skip
