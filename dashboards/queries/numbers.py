"""Metrics and engines for the pages: the same calls the command line makes, cached."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from dashboards.queries.door import per_snapshot
from models import analysis, metrics, scope, warehouse

HEADLINE = ("cac", "clv", "churn_rate", "sales_conversion_rate", "average_order_value", "csat", "interaction_frequency",
            "funnel_conversion_rate", "retention_rate", "campaign_response_rate")


# -- settings and choices ----------------------------------------------------------------------------------------------

@per_snapshot
def settings(reading: warehouse.Reading) -> dict[str, Any]:
    """The settings of the snapshot."""
    return analysis.settings(reading.con)


@per_snapshot
def choices(reading: warehouse.Reading) -> dict[str, list[str]]:
    """Values a page can be filtered by, most customers first."""
    wanted = {"channel": "acquisition_channel", "country": "country_code", "segment": "segment"}
    return {name: [r[0] for r in reading.con.execute(f"SELECT {column} FROM marts.dim_customers WHERE {column} IS NOT NULL AND NOT is_deleted GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 40").fetchall()]
            for name, column in wanted.items()}


# -- metrics -----------------------------------------------------------------------------------------------------------

@per_snapshot
def definitions(reading: warehouse.Reading) -> dict[str, Any]:
    """The metric registry of the snapshot."""
    return dict(metrics.registry(reading.con))


@per_snapshot
def metric(reading: warehouse.Reading, names: tuple[str, ...], *, by: tuple[str, ...] = (), grain: str | None = None, start: date | None = None, end: date | None = None,
           where: str | None = None, compare: bool = False) -> metrics.MetricAnswer:
    """An answer of the metric layer; the same call the command line makes."""
    return metrics.query(reading.con, metrics.MetricRequest(names=names, by=by, grain=grain, start=start, end=end, where=where, compare="previous" if compare else None))


def where_text(metric_id: str, filters: dict[str, str]) -> tuple[str | None, list[str]]:
    """(filter expression, names of filters the metric does not know) for the chosen filters of a page.

    A page's channel is the one that won the customer; the channel of an order or a ticket is another thing of the same name, so a
    metric's own channel serves only where it offers no other.
    """
    known = definitions()
    offered = known[metric_id].dimensions if metric_id in known else ()
    parts, ignored = [], []
    for name, value in filters.items():
        column = next((c for c in (("acquisition_channel", "channel") if name == "channel" else (name,)) if c in offered), None)
        if column is None:
            ignored.append(name)
        else:
            parts.append("{} = '{}'".format(column, value.replace("'", "''")))
    return (" and ".join(parts) or None), ignored


@per_snapshot
def mature_range(reading: warehouse.Reading, rule: str, start: date, end: date) -> tuple[date, date] | None:
    """The newest range of the same length whose outcomes are known, when the given one is too young."""
    return analysis.mature_range(reading.con, rule, start, end)


# -- engines -----------------------------------------------------------------------------------------------------------

@per_snapshot
def retention(reading: warehouse.Reading, variants: tuple[str, ...], grain: str, start: date | None = None, end: date | None = None, where: str | None = None, periods: int = 12) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(cells, mean row) of the retention engine over the customers that a filter keeps."""
    con = scope.scoped(reading.con, "customers", where)
    return analysis.retention(con, analysis.retention_spec(con, variants=variants, grain=grain, start=start, end=end, max_periods=periods))


@per_snapshot
def cost_by_channel(reading: warehouse.Reading, start: date | None, end: date, channel: str | None = None, where: str | None = None) -> pl.DataFrame:
    """Spend, credited new customers and CAC of each channel; see `analysis.cost_by_channel`."""
    return analysis.cost_by_channel(reading.con, start, end, channel=channel, where=where)


@per_snapshot
def pipelines(reading: warehouse.Reading) -> list[str]:
    """Sales pipelines, most deals first."""
    return [r[0] for r in reading.con.execute("SELECT pipeline FROM marts.fct_deals WHERE pipeline IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC").fetchall()]


@per_snapshot
def deal_stages(reading: warehouse.Reading, pipeline: str, start: date | None, end: date | None, where: str | None = None) -> pl.DataFrame:
    """Deals of a pipeline by stage, counted three ways; see the funnel engine."""
    return analysis.deal_stages(scope.scoped(reading.con, "deals", where), pipeline, start, end)
