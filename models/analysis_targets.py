"""What was to be reached, beside what was: targets of a snapshot against the same metrics that everything else shows.

Belongs here: choosing how each target's metric is asked, attainment. Does not belong here: what a metric means.

A target of the whole company is compared with the metric layer's number for its period. A target of a person is compared with what
counts for that person: deals won or lost for their owner at the event (or of today, when asked so), other metrics by their dimension
`owner` where they have one.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from data_contracts.errors import UsageError
from models import analysis_sales, metrics
from models.engines import sales_rates
from models.metrics import context as metric_context
from models.metrics.calendar import GRAINS, add_months
from models.scope import Connection

# Metrics that a person's closed deals answer: metric -> column of `sales_rates.win_rate_sql`.
_OF_CLOSED_DEALS = {"won_amount": "won_amount", "won_deals": "won", "win_rate": "win_rate", "sales_cycle_days": "sales_cycle_days"}
SCHEMA = {"metric": pl.String, "unit": pl.String, "period_start": pl.Date, "period_end": pl.Date, "owner_id": pl.String, "target": pl.Float64, "actual": pl.Float64,
          "attainment": pl.Float64, "is_complete": pl.Boolean, "reason": pl.String}
MONTHS = 12     # shown when no range is asked for


def attainment(con: Connection, *, metric: str | None = None, start: date | None = None, end: date | None = None, owner: str = "at_event", by: str | None = None) -> pl.DataFrame:
    """Targets whose period begins in `[start, end)`, by default the last twelve complete months and the running one; columns of `SCHEMA`.

    attainment is actual / target, 1 being all of it; null with a reason when the target is 0 or the metric cannot be asked so. A running
    period counts what has come so far and is not complete. Money is in the reporting currency. `by` sums metrics that may be summed:
    `owner` over the periods, `period` over the owners (then a company-wide target is its own row).
    """
    if owner not in analysis_sales.OWNERS:
        raise UsageError(f"there is no owner basis {owner!r}", field="--owner", remedy=f"Use {' or '.join(analysis_sales.OWNERS)}.")
    if by not in (None, "owner", "period"):
        raise UsageError(f"targets cannot be summed by {by!r}", field="--by", remedy="Use owner or period.")
    known = metric_context.read(con)
    first = start or add_months(known.calendar.floor(known.complete_until, "month"), -MONTHS)
    last = min(end or known.data_end, known.data_end)
    targets = con.execute("SELECT metric, period_start, coalesce(period_end, CAST(period_start + INTERVAL 1 MONTH AS DATE)) AS period_end, owner_id, CAST(value_reporting AS DOUBLE) AS target "
                          "FROM marts.fct_targets WHERE period_start >= $first AND period_start < $last AND ($metric IS NULL OR metric = $metric) ORDER BY ALL", {"first": first, "last": last, "metric": metric}).pl()
    if metric is not None and targets.is_empty():
        offered = [r[0] for r in con.execute("SELECT DISTINCT metric FROM marts.fct_targets ORDER BY 1").fetchall()]
        if metric not in offered:
            raise UsageError(f"there is no target for {metric!r}", field="--metric", remedy=f"There are targets for {', '.join(offered)}." if offered else "The snapshot holds no targets: declare a source with the entity targets.")
    registry = metrics.registry(con)
    answers = _Answers(con, registry, known, owner)
    rows = []
    for row in targets.iter_rows(named=True):
        value, reason = answers.actual(row["metric"], row["period_start"], row["period_end"], row["owner_id"])
        rows.append({**row, "unit": registry[row["metric"]].unit if row["metric"] in registry else None, "actual": value, "reason": reason,
                     "is_complete": known.is_complete(row["period_start"], row["period_end"]), "attainment": None})
    found = pl.DataFrame(rows, schema=SCHEMA, orient="row") if rows else pl.DataFrame(schema=SCHEMA)
    if by:
        found = _summed(found, by, registry)
    return _judged(found).sort("metric", "period_start", "owner_id", nulls_last=True)


def target_metrics(con: Connection) -> list[str]:
    """Metrics that have targets and may be summed, those with targets for people first."""
    registry = metrics.registry(con)
    found = con.execute("SELECT metric FROM marts.fct_targets GROUP BY metric ORDER BY count(owner_id) DESC, metric").fetchall()
    return [name for (name,) in found if name in registry and registry[name].is_additive]


def _judged(found: pl.DataFrame) -> pl.DataFrame:
    zero = pl.when((pl.col("target") == 0) & pl.col("reason").is_null()).then(pl.lit("the target is 0")).otherwise(pl.col("reason")).alias("reason")
    return found.with_columns(pl.when(pl.col("target") != 0).then(pl.col("actual") / pl.col("target")).alias("attainment"), zero).select(list(SCHEMA))


def _summed(found: pl.DataFrame, by: str, registry: metrics.Registry) -> pl.DataFrame:
    additive = [name for name in found["metric"].unique() if name in registry and registry[name].is_additive]
    keys = ["metric", "unit", *(["owner_id"] if by == "owner" else ["period_start", "period_end", "whole"])]
    first, last = (["period_start"], ["period_end"]) if by == "owner" else ([], [])
    lacking = pl.col("actual").is_null()
    return (found.filter(pl.col("metric").is_in(additive)).with_columns(pl.col("owner_id").is_null().alias("whole")).group_by(keys).agg(
        pl.col(first).min(), pl.col(last).max(), pl.col("target").sum(), pl.when(~lacking.any()).then(pl.col("actual").sum()).alias("actual"), pl.col("is_complete").all(), pl.col("reason").drop_nulls().first())
        .with_columns(*([] if by == "owner" else [pl.when(pl.col("whole")).then(None).otherwise(pl.lit("all owners")).alias("owner_id")]), pl.lit(None, pl.Float64).alias("attainment")).select(list(SCHEMA)))


class _Answers:
    """Actual values, asked once per metric and grain (or period) rather than once per target."""

    def __init__(self, con: Connection, registry: metrics.Registry, known: metric_context.Context, owner: str) -> None:
        self._con, self._registry, self._known, self._owner = con, registry, known, owner
        self._found: dict[tuple[Any, ...], dict[Any, float | None]] = {}

    def actual(self, metric: str, start: date, end: date, owner_id: str | None) -> tuple[float | None, str | None]:
        if metric not in self._registry:
            return None, "this snapshot defines no metric of that name"
        if owner_id is None:
            return self._of_layer(metric, start, end, None)
        if metric in _OF_CLOSED_DEALS:
            return self._of_deals(metric, start, end, owner_id)
        if "owner" not in self._registry[metric].dimensions:
            return None, "the metric is not known by owner"
        return self._of_layer(metric, start, end, owner_id)

    def _of_deals(self, metric: str, start: date, end: date, owner_id: str) -> tuple[float | None, str | None]:
        key = ("deals", start, end)
        if key not in self._found:
            rows = sales_rates.win_rate(self._con, sales_rates.ClosedDealsSpec(start, end, by="owner_id", owner_basis=self._owner))
            self._found[key] = {row["owner_id"]: row for row in rows.iter_rows(named=True)}
        row: Any = self._found[key].get(owner_id)
        value = row[_OF_CLOSED_DEALS[metric]] if row else 0 if self._registry[metric].is_additive else None
        return (None, "no deal was closed in the period") if value is None else (float(value), None)

    def _of_layer(self, metric: str, start: date, end: date, owner_id: str | None) -> tuple[float | None, str | None]:
        calendar = self._known.calendar
        grain = next((g for g in reversed(GRAINS) if calendar.floor(start, g) == start and calendar.add(start, g, 1) == end), None)
        by = ("owner",) if owner_id is not None else ()
        key = (metric, grain, by) if grain else (metric, start, end, by)
        if key not in self._found:
            frame = metrics.query(self._con, metrics.MetricRequest(names=(metric,), by=by, grain=grain, **({} if grain else {"start": start, "end": end}))).frame
            self._found[key] = {(row.get("period"), row.get("owner")): row[metric] for row in frame.iter_rows(named=True)}
        value = self._found[key].get((start if grain else None, owner_id))
        if value is None and self._registry[metric].is_additive:
            value = 0
        return (None, "the metric has no value in the period") if value is None else (float(value), None)
