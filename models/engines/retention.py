"""Retention: which share of a cohort comes back, or how much of its revenue, period by period.

Belongs here: cohort matrices over any two kinds of events, their completeness and their weighted mean row. Does not
belong here: what an order or an event is (the marts), MRR-based retention (`movements_summary`), pictures of matrices.

A cohort is the entities whose start event falls in a period; cell N looks at the N-th period after it. The start itself
counts as activity, so period 0 of entities is always 100 %. A cell is complete when every period its number reads has
ended at or before the watermark and no ingestion gap touches it; unfinished cells are null unless asked for. Only periods
that have begun by the watermark have cells at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import duckdb
import polars as pl

from models.engines.movements_periods import (
    Query,
    bind,
    check_grain,
    check_weekday,
    naive_utc,
    period_start_sql,
    quoted,
    relation,
)
from models.engines.retention_sql import inner_names, measured_parts, parameters, zero_reason

BOUNDS = ("bounded", "unbounded")
COHORTS = ("first_time", "recurring")
BASES = ("from_start", "from_previous")
MEASURES = ("entities", "revenue", "cumulative_revenue")

# Columns of the answers: a breakdown cannot carry one of these names beside them.
_RESERVED = frozenset(
    ("period_grain", "cohort_period", "period_number", "period_start", "cohort_size", "active", "revenue", "rate")
    + ("revenue_per_head", "is_complete", "reason", "n", "cohort_count")
)


@dataclass(frozen=True)
class Activity:
    """A kind of event: rows of `table` whose columns hold one of the values in `only`.

    `entity` names the column that says who (rows without one are left out), `occurred_at` the naive UTC timestamp. Where
    the table has the local date already, `occurred_on` names it and no time zone is computed. `amount` is the revenue of
    a row in one currency. `tie_columns` order rows of the same instant (source sequence, then id); they matter only for
    the value that a breakdown takes from the first row.
    """

    table: str = "marts.fct_orders"
    entity: str = "customer_id"
    occurred_at: str = "ordered_at"
    occurred_on: str | None = "ordered_date"
    amount: str | None = "net_revenue_reporting"
    only: tuple[tuple[str, tuple], ...] = (("is_counted", (True,)),)
    tie_columns: tuple[str, ...] = ("order_id",)


@dataclass(frozen=True)
class RetentionSpec:
    """One retention matrix.

    `returns` = None means that the start event is also the return event. `cohorts` is `first_time` (the first start event
    ever, even when a range is set) or `recurring` (every period with a start event). `bound` is `bounded` (active in
    period N) or `unbounded` (in N or later, which falls for recent periods by construction). `base` is `from_start`
    (relative to period 0) or `from_previous`. `measure` is `entities`, `revenue` (in N relative to the base) or
    `cumulative_revenue` (up to N, per head of the cohort). `cohorts_from` / `cohorts_to` limit the start events to local
    dates in `[from, to)`. `max_periods` is the highest N. `breakdown` columns are read at the cohort's start event, or
    from `dimensions`, a relation with one row per entity. `gaps` has starts_at and ends_at (UTC, null = still open).
    """

    time_zone: str
    watermark: datetime
    start: Activity = field(default_factory=Activity)
    returns: Activity | None = None
    grain: str = "month"
    week_start: str = "monday"
    bound: str = "bounded"
    cohorts: str = "first_time"
    base: str = "from_start"
    measure: str = "entities"
    cohorts_from: date | None = None
    cohorts_to: date | None = None
    max_periods: int | None = None
    breakdown: tuple[str, ...] = ()
    dimensions: str | None = None
    gaps: str | None = None
    show_incomplete: bool = False

    def __post_init__(self) -> None:
        check_grain(self.grain)
        check_weekday(self.week_start)
        naive_utc(self.watermark, "watermark")
        for value, allowed, what in (
            (self.bound, BOUNDS, "bound"),
            (self.cohorts, COHORTS, "cohorts"),
            (self.base, BASES, "base"),
            (self.measure, MEASURES, "measure"),
        ):
            if value not in allowed:
                raise ValueError(f"{what} is one of {', '.join(allowed)}, not {value!r}")
        if self.measure != "entities" and self.bound == "unbounded":
            raise ValueError("revenue is measured in a period, so it cannot be unbounded")
        if self.measure == "cumulative_revenue" and self.base == "from_previous":
            raise ValueError("cumulative revenue is per head of the cohort, it has no period before to relate to")
        if self.measure != "entities" and self.return_activity.amount is None:
            raise ValueError("revenue retention needs the amount column of the return event")
        if self.max_periods is not None and self.max_periods < 0:
            raise ValueError(f"max_periods must not be negative: {self.max_periods}")
        if len(set(self.breakdown)) != len(self.breakdown):
            raise ValueError(f"breakdown columns are named twice: {list(self.breakdown)}")
        if taken := _RESERVED & set(self.breakdown):
            raise ValueError(f"the answer has columns named {sorted(taken)} already; rename the breakdown column")

    @property
    def return_activity(self) -> Activity:
        return self.returns or self.start

    @property
    def has_revenue(self) -> bool:
        """Whether the cells can show revenue: the return event has an amount, and a cell is a single period."""
        return self.return_activity.amount is not None and self.bound == "bounded"

    @property
    def value_column(self) -> str:
        """`revenue_per_head` (money) for cumulative revenue, else `rate` (0..1 for entities)."""
        return "revenue_per_head" if self.measure == "cumulative_revenue" else "rate"


def cells_query(spec: RetentionSpec) -> Query:
    """One row per (cohort_period, *breakdown, period_number).

    Columns: cohort_period, breakdown columns, period_number, period_start (local dates), cohort_size, active, revenue
    (DECIMAL(18,4), for bounded cells of a return event with an amount), rate or revenue_per_head (DOUBLE), is_complete, reason
    (why the value is null). active, revenue and the value of incomplete cells are null unless `show_incomplete`.
    """
    keys = inner_names(spec)
    named = "".join(f"{key} AS {quoted(name)}, " for key, name in zip(keys, spec.breakdown, strict=True))
    start_of = f"{period_start_sql(spec.grain, 'cohort', spec.week_start)}"
    period_of = f"{period_start_sql(spec.grain, 'cohort + n', spec.week_start)}"
    shown = "true" if spec.show_incomplete else "is_complete"
    revenue = f"CASE WHEN {shown} THEN revenue END AS revenue," if spec.has_revenue else ""
    sql = measured_parts(spec) + f"""SELECT {start_of} AS cohort_period, {named}n AS period_number,
       {period_of} AS period_start, cohort_size, CASE WHEN {shown} THEN active END AS active, {revenue}
       CASE WHEN {shown} THEN value END AS {spec.value_column}, is_complete,
       CASE WHEN NOT ({shown}) THEN 'incomplete: the period has not ended in the data, or has an ingestion gap'
            WHEN value IS NULL THEN {zero_reason(spec)} END AS reason
FROM measured ORDER BY {", ".join(["cohort", *keys, "n"])}
"""
    return bind(sql, parameters(spec))


def mean_query(spec: RetentionSpec) -> Query:
    """The mean row: one row per (*breakdown, period_number), weighted by cohort size over complete cells only.

    Columns: breakdown columns, period_number, rate or revenue_per_head (DOUBLE), n (heads in the cells averaged),
    cohort_count, reason (why the mean is null). Incomplete cells never enter, whatever `show_incomplete` says.
    """
    keys = inner_names(spec)
    named = "".join(f"{key} AS {quoted(name)}, " for key, name in zip(keys, spec.breakdown, strict=True))
    # Where the value is a count or an amount per head, the sums are exact; weighting the quotients would round.
    weighted = {
        "entities": "CAST(active AS DOUBLE)" if spec.base == "from_start" else "value * cohort_size",
        "revenue": "value * cohort_size",
        "cumulative_revenue": "CAST(cumulative AS DOUBLE)",
    }[spec.measure]
    sql = measured_parts(spec) + f"""SELECT {named}n AS period_number,
       sum({weighted}) FILTER (is_complete AND value IS NOT NULL)
         / sum(cohort_size) FILTER (is_complete AND value IS NOT NULL) AS {spec.value_column},
       coalesce(CAST(sum(cohort_size) FILTER (is_complete AND value IS NOT NULL) AS BIGINT), 0) AS n,
       count(*) FILTER (is_complete AND value IS NOT NULL) AS cohort_count,
       CASE WHEN count(*) FILTER (is_complete AND value IS NOT NULL) = 0 THEN 'no complete cell' END AS reason
FROM measured GROUP BY {", ".join([*keys, "measured.n"])} ORDER BY {", ".join([*keys, "period_number"])}
"""
    return bind(sql, parameters(spec))


def build_table_sql(spec: RetentionSpec, target: str, grains: Sequence[str] = ("week", "month", "quarter")) -> Query:
    """`CREATE OR REPLACE TABLE target`: the cells of each grain, led by period_grain. Other choices as in `spec`.

    One row per (period_grain, cohort_period, *breakdown, period_number). Columns as in `cells_query`.
    """
    if not grains:
        raise ValueError("give at least one grain")
    parts, params = [], {}
    for grain in grains:
        query = cells_query(replace(spec, grain=grain))
        parts.append(f"SELECT '{grain}' AS period_grain, * FROM ({query.sql})")
        params |= query.params
    return Query(f"CREATE OR REPLACE TABLE {relation(target)} AS\n" + "\nUNION ALL\n".join(parts), params)


def build_table(
    con: duckdb.DuckDBPyConnection,
    spec: RetentionSpec,
    target: str,
    grains: Sequence[str] = ("week", "month", "quarter"),
) -> None:
    """Create or replace the table of cells. See `build_table_sql`."""
    check_dimensions(con, spec)
    con.execute(*build_table_sql(spec, target, grains))


def run(con: duckdb.DuckDBPyConnection, spec: RetentionSpec) -> pl.DataFrame:
    """The cells; see `cells_query`."""
    check_dimensions(con, spec)
    return cells_query(spec).run(con)


def run_mean(con: duckdb.DuckDBPyConnection, spec: RetentionSpec) -> pl.DataFrame:
    """The mean row; see `mean_query`."""
    check_dimensions(con, spec)
    return mean_query(spec).run(con)


def check_dimensions(con: duckdb.DuckDBPyConnection, spec: RetentionSpec) -> None:
    """ValueError when `dimensions` lists an entity twice: it would be counted twice."""
    if spec.dimensions is None:
        return
    entity = quoted(spec.start.entity)
    twice = con.execute(
        f"SELECT {entity} FROM {relation(spec.dimensions)} GROUP BY {entity} HAVING count(*) > 1 LIMIT 1"
    ).fetchone()
    if twice:
        raise ValueError(f"{spec.dimensions} has more than one row for {spec.start.entity} {twice[0]!r}")
