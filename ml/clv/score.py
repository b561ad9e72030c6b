"""Value scores of the scoring date. Holds no training and writes nothing."""

from __future__ import annotations

import polars as pl

from ml.clv.definition import population
from ml.clv.model import ClvModel
from ml.features import Calendar


def score(model: ClvModel, customers: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """One row per customer with an order: customer_id and the columns of `ClvModel.score`."""
    rows = population(customers.filter(pl.col("as_of_date") == calendar.scoring_date))
    return pl.concat([rows.select("customer_id"), model.score(rows, calendar.scoring_date)], how="horizontal")
