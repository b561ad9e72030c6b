"""Winning of deals as a question of the score layer: trained and scored by what all yes-or-no questions share. Holds no formula."""

from __future__ import annotations

import polars as pl

from ml import features, probability
from ml.deals.definition import SAYS, TASK, population, read_deals
from ml.published import Published
from ml.question import Frames, Question


def _calendar(frames: Frames) -> features.Calendar | None:
    return frames.of(features.read_calendar, "deal")


def _train(frames: Frames) -> Published:
    calendar = _calendar(frames)
    rows = population(frames.of(read_deals))
    return Published.of(probability.train(TASK, rows, first=calendar.first_date, scoring=calendar.scoring_date, horizon=calendar.horizon_days, step=calendar.step_days))


def _score(frames: Frames, model: Published) -> pl.DataFrame:
    rows = population(frames.of(read_deals).filter(pl.col("as_of_date") == _calendar(frames).scoring_date))
    found = model.score(rows, "raises the chance", "lowers the chance")
    kept = rows.head(found.height)
    # what the deal is worth beside its chance: the weighted pipeline by this model
    weighted = (kept["deal_amount"].cast(pl.Float64) * found["score"]).alias("expected_amount")
    return pl.concat([kept.select("deal_id", "customer_id", "stage"), found, weighted.to_frame()], how="horizontal")


QUESTION = Question(
    name="deals",
    says=SAYS,
    entity="deal_id",
    columns="deal_id VARCHAR, customer_id VARCHAR, model_id VARCHAR, as_of DATE, stage VARCHAR, score DOUBLE, lower DOUBLE, upper DOUBLE, expected_amount DOUBLE, reasons VARCHAR[], "
            "is_fallback BOOLEAN, fallback_reason VARCHAR",
    inputs=(*TASK.numeric, *TASK.categorical),
    calendar=_calendar,
    train=_train, score=_score, restore=Published.from_state, parts=lambda model: {"": model},
    rows=lambda frames, as_of: {"": population(frames.of(read_deals).filter(pl.col("as_of_date") == as_of))}, outcome_dates=lambda frames: _calendar(frames).cut_offs,
)  # fmt: skip
