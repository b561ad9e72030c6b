"""Churn scores of the scoring date. Holds no training and writes nothing."""

from __future__ import annotations

from typing import Any

import polars as pl

from ml.churn.definition import READINGS
from ml.churn.model import ChurnModel, with_rhythm
from ml.clv.purchases import PurchaseForecast
from ml.features import Calendar


def score(model: ChurnModel, customers: pl.DataFrame, calendar: Calendar, forecasts: dict[Any, PurchaseForecast]) -> pl.DataFrame:
    """One row per customer in the population of a reading: customer_id, kind, score, lower, upper, reasons, is_fallback, fallback_reason."""
    today = with_rhythm(customers.filter(pl.col("as_of_date") == calendar.scoring_date), forecasts, calendar.horizon_days)
    parts = []
    for reading in READINGS:
        rows = reading.population(today)
        answer = model.answers[reading.kind]
        if reading.task.own_score and not answer.is_fallback:
            rows = rows.filter(pl.col(reading.task.own_score).is_not_null())
        found = answer.score(rows, "raises the risk", "lowers the risk")
        if found.height:
            parts.append(pl.concat([rows.select("customer_id", pl.lit(reading.kind).alias("kind")), found], how="horizontal"))
    return pl.concat(parts) if parts else EMPTY


EMPTY = pl.DataFrame(schema={"customer_id": pl.String, "kind": pl.String, "score": pl.Float64, "lower": pl.Float64, "upper": pl.Float64,
                             "reasons": pl.List(pl.String), "is_fallback": pl.Boolean, "fallback_reason": pl.String})
