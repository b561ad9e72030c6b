"""Lifetime value as a question of the score layer. Holds no formula."""

from __future__ import annotations

from datetime import date

import polars as pl

from ml.clv.definition import SAYS, SHORT_DAYS, YEAR_DAYS, population
from ml.clv.model import ClvModel
from ml.clv.refinement import FEATURES
from ml.clv.score import score
from ml.clv.train import train
from ml.question import Frames, Question


def _train(frames: Frames) -> ClvModel:
    calendar = frames.customer_calendar
    dates = sorted({*calendar.cut_offs, *calendar.year_cut_offs, calendar.scoring_date})
    return train(frames.customers, calendar, {"bg_nbd_gamma_gamma": frames.forecasts(dates, False), "seasonal_bg_nbd_gamma_gamma": frames.forecasts(dates, True)})


def _rows(frames: Frames, as_of: date) -> dict[str, pl.DataFrame]:
    there = population(frames.customers.filter(pl.col("as_of_date") == as_of))
    return {"": there.with_columns(pl.col("year_value_amount").alias("label"))}


QUESTION = Question(
    name="clv",
    says=SAYS,
    entity="customer_id",
    columns="customer_id VARCHAR, model_id VARCHAR, as_of DATE, score DOUBLE, predicted_90d DOUBLE, lower DOUBLE, upper DOUBLE, p_alive DOUBLE, expected_purchases DOUBLE, "
            "reasons VARCHAR[], is_fallback BOOLEAN, fallback_reason VARCHAR",
    inputs=tuple(sorted({"first_purchase_date", "last_purchase_date", *FEATURES} - {"mean_value_amount"})),
    calendar=lambda frames: frames.customer_calendar,
    train=_train, score=lambda frames, model: score(model, frames.customers, frames.customer_calendar), restore=ClvModel.from_state, parts=lambda model: {"": model},
    window=lambda calendar: f"{YEAR_DAYS} days, and {SHORT_DAYS} days for the nearer value",
    rows=_rows, outcome_dates=lambda frames: frames.customer_calendar.year_cut_offs,
)  # fmt: skip
