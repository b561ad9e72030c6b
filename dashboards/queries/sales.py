"""Sales history for the pages: the same questions the command line asks, cached.

Belongs here: asking `models.analysis_sales` and `models.analysis_targets`, names of owners for those who may see them. Does not belong here: what a
number means, or how it is shown.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from dashboards.queries.door import per_snapshot, sees_personal_data
from models import analysis_sales, analysis_targets, warehouse


@per_snapshot
def has_deals(reading: warehouse.Reading) -> bool:
    """Whether there is, or was, any deal."""
    return analysis_sales.has_deals(reading.con)


@per_snapshot
def newest_day(reading: warehouse.Reading) -> date:
    """The local day of the newest data."""
    return analysis_sales.newest_day(reading.con)


def _named(reading: warehouse.Reading, rows: pl.DataFrame) -> pl.DataFrame:
    if sees_personal_data(reading.viewer.role):
        return analysis_sales.with_owner_names(reading.con, rows)
    return rows.with_columns(pl.col("owner_id").alias("owner")) if "owner_id" in rows.columns else rows


@per_snapshot
def pipeline_on(reading: warehouse.Reading, day: date, by: str | None, pipeline: str | None, where: str | None) -> pl.DataFrame:
    """The open pipeline at the end of a day; see `analysis_sales.pipeline`."""
    return _named(reading, analysis_sales.pipeline(reading.con, day, by, pipeline=pipeline, where=where))


@per_snapshot
def movement(reading: warehouse.Reading, first: date, last: date, pipeline: str | None, where: str | None) -> pl.DataFrame:
    """What moved the open pipeline between the ends of two days; see `analysis_sales.movement`."""
    return analysis_sales.movement(reading.con, first, last, pipeline=pipeline, where=where)


@per_snapshot
def forecasts(reading: warehouse.Reading, pipeline: str | None, where: str | None) -> pl.DataFrame:
    """Forecasts made on the eve of each of the last months, one row a month: period_start, crm, learned, actual, is_complete; see `analysis_sales.forecasts`."""
    rows = analysis_sales.forecasts(reading.con, pipeline=pipeline, where=where)
    return rows.group_by("made_on", "period_start", "period_end", maintain_order=True).agg(
        *(pl.col(column).filter(pl.col("basis") == basis).first().alias(name) for basis in analysis_sales.BASES for column, name in (("forecast", basis), ("error_rate", f"{basis}_error_rate"))),
        pl.col("actual").first(), pl.col("open_deals").first(), pl.col("is_complete").first())


@per_snapshot
def durations(reading: warehouse.Reading, start: date | None, end: date, pipeline: str | None, where: str | None) -> pl.DataFrame:
    """Days in each stage, first visit and all visits side by side: pipeline, stage, visits, open_visits, median_days of each basis."""
    rows = analysis_sales.durations(reading.con, pipeline=pipeline, start=start, end=end, where=where)
    return rows.group_by("pipeline", "stage", maintain_order=True).agg(*(
        pl.col(column).filter(pl.col("visit_basis") == basis).first().alias(f"{basis}_{column}") for basis in ("first", "all") for column in ("visits", "open_visits", "median_days")))


@per_snapshot
def performance(reading: warehouse.Reading, start: date | None, end: date, by: str | None, owner: str, pipeline: str | None, where: str | None) -> pl.DataFrame:
    """Win rate, cycle and velocity of deals closed in a range; see `analysis_sales.performance`."""
    return _named(reading, analysis_sales.performance(reading.con, start, end, by, owner=owner, pipeline=pipeline, where=where))


@per_snapshot
def target_metrics(reading: warehouse.Reading) -> list[str]:
    """Metrics that have targets which can be summed, those of people first."""
    return analysis_targets.target_metrics(reading.con)


@per_snapshot
def targets(reading: warehouse.Reading, start: date | None, end: date, metric: str, by: str, owner: str) -> pl.DataFrame:
    """Targets of a metric, summed by owner or by period; see `analysis_targets.attainment`."""
    return _named(reading, analysis_targets.attainment(reading.con, metric=metric, start=start, end=end, owner=owner, by=by))
