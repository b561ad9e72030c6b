"""Conversion scores of the scoring date. Holds no training and writes nothing."""

from __future__ import annotations

import polars as pl

from ml.conversion.definition import population
from ml.features import Calendar
from ml.published import Published


def score(model: Published, leads: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """One row per open lead: lead_id, score, lower, upper, reasons, is_fallback, fallback_reason."""
    rows = population(leads.filter(pl.col("as_of_date") == calendar.scoring_date))
    found = model.score(rows, "raises the chance", "lowers the chance")
    return pl.concat([rows.select("lead_id").head(found.height), found], how="horizontal")
