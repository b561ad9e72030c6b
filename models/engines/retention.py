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
    local_date_sql,
    naive_utc,
    period_number_sql,
    period_start_sql,
    quarter_hour_sql,
    quarter_hour_start_sql,
    quoted,
    relation,
    with_parts,
)

BOUNDS = ("bounded", "unbounded")
COHORTS = ("first_time", "recurring")
BASES = ("from_start", "from_previous")
MEASURES = ("entities", "revenue", "cumulative_revenue")

_MONEY = "DECIMAL(18,4)"

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
    keys = _inner(spec)
    named = "".join(f"{key} AS {quoted(name)}, " for key, name in zip(keys, spec.breakdown, strict=True))
    start_of = f"{period_start_sql(spec.grain, 'cohort', spec.week_start)}"
    period_of = f"{period_start_sql(spec.grain, 'cohort + n', spec.week_start)}"
    shown = "true" if spec.show_incomplete else "is_complete"
    revenue = f"CASE WHEN {shown} THEN revenue END AS revenue," if spec.has_revenue else ""
    sql = _measured(spec) + f"""SELECT {start_of} AS cohort_period, {named}n AS period_number,
       {period_of} AS period_start, cohort_size, CASE WHEN {shown} THEN active END AS active, {revenue}
       CASE WHEN {shown} THEN value END AS {spec.value_column}, is_complete,
       CASE WHEN NOT ({shown}) THEN 'incomplete: the period has not ended in the data, or has an ingestion gap'
            WHEN value IS NULL THEN {_zero_reason(spec)} END AS reason
FROM measured ORDER BY {", ".join(["cohort", *keys, "n"])}
"""
    return bind(sql, _values(spec))


def mean_query(spec: RetentionSpec) -> Query:
    """The mean row: one row per (*breakdown, period_number), weighted by cohort size over complete cells only.

    Columns: breakdown columns, period_number, rate or revenue_per_head (DOUBLE), n (heads in the cells averaged),
    cohort_count, reason (why the mean is null). Incomplete cells never enter, whatever `show_incomplete` says.
    """
    keys = _inner(spec)
    named = "".join(f"{key} AS {quoted(name)}, " for key, name in zip(keys, spec.breakdown, strict=True))
    # Where the value is a count or an amount per head, the sums are exact; weighting the quotients would round.
    weighted = {
        "entities": "CAST(active AS DOUBLE)" if spec.base == "from_start" else "value * cohort_size",
        "revenue": "value * cohort_size",
        "cumulative_revenue": "CAST(cumulative AS DOUBLE)",
    }[spec.measure]
    sql = _measured(spec) + f"""SELECT {named}n AS period_number,
       sum({weighted}) FILTER (is_complete AND value IS NOT NULL)
         / sum(cohort_size) FILTER (is_complete AND value IS NOT NULL) AS {spec.value_column},
       coalesce(CAST(sum(cohort_size) FILTER (is_complete AND value IS NOT NULL) AS BIGINT), 0) AS n,
       count(*) FILTER (is_complete AND value IS NOT NULL) AS cohort_count,
       CASE WHEN count(*) FILTER (is_complete AND value IS NOT NULL) = 0 THEN 'no complete cell' END AS reason
FROM measured GROUP BY {", ".join([*keys, "measured.n"])} ORDER BY {", ".join([*keys, "period_number"])}
"""
    return bind(sql, _values(spec))


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


# -- parts of the statement --------------------------------------------------------------------------------------------


def _values(spec: RetentionSpec) -> dict[str, object]:
    values: dict[str, object] = {
        "time_zone": spec.time_zone,
        "watermark": spec.watermark,
        "cohorts_from": spec.cohorts_from,
        "cohorts_to": spec.cohorts_to,
        "max_periods": spec.max_periods,
    }
    for role, activity in (("start", spec.start), ("return", spec.return_activity)):
        values |= {f"{role}_{number}": list(allowed) for number, (_, allowed) in enumerate(activity.only)}
    return values


def _rows(activity: Activity, role: str, columns: Sequence[str]) -> str:
    """Rows of a kind of event up to the watermark: entity, day (local date) and the given columns."""
    at = f"e.{quoted(activity.occurred_at)}"
    filters = [f"e.{quoted(activity.entity)} IS NOT NULL"]
    filters += [f"list_contains(${role}_{number}, e.{quoted(name)})" for number, (name, _) in enumerate(activity.only)]
    extra = "".join(f", {column}" for column in columns)
    if activity.occurred_on is not None:
        on = f"e.{quoted(activity.occurred_on)}"
        return f"""
  SELECT e.{quoted(activity.entity)} AS entity, {on} AS day{extra} FROM {relation(activity.table)} e
  WHERE {" AND ".join([*filters, f"{on} <= (SELECT today FROM clock)"])}"""
    key = quarter_hour_sql(at)
    return f"""
  SELECT e.{quoted(activity.entity)} AS entity, q.day{extra} FROM {relation(activity.table)} e
  JOIN (SELECT key, {local_date_sql(quarter_hour_start_sql("key"))} AS day
        FROM (SELECT DISTINCT {key} AS key FROM {relation(activity.table)} e)) q ON q.key = {key}
  WHERE {" AND ".join([*filters, f"{at} <= $watermark"])}"""


def _inner(spec: RetentionSpec) -> list[str]:
    """Names of the breakdown columns inside the statement, which no column of the data can collide with."""
    return [f"breakdown_{number}" for number in range(len(spec.breakdown))]


def _number(spec: RetentionSpec, day: str) -> str:
    return period_number_sql(spec.grain, day, spec.week_start)


def _cohorts(spec: RetentionSpec) -> list[tuple[str, str]]:
    """`cohorts`: one row per entity and cohort, with the breakdown columns."""
    start = spec.start
    limits = []
    if spec.cohorts_from is not None:
        limits.append("day >= $cohorts_from")
    if spec.cohorts_to is not None:
        limits.append("day < $cohorts_to")
    recurring = spec.cohorts == "recurring"
    period = f"{_number(spec, 'day')}"
    keys = "entity, cohort" if recurring else "entity"
    chosen = f"WHERE {' AND '.join(limits)}" if limits else ""
    names = _inner(spec)
    if not names or spec.dimensions is not None:
        first = f"""
  SELECT {keys}{"" if recurring else ", min(day) AS day"}
  FROM (SELECT entity, day{f", {period} AS cohort" if recurring else ""} FROM starts) s
  {chosen if recurring else ""} GROUP BY {keys}"""
        starts = _rows(start, "start", [])
    else:
        # The first row by time, then the tie columns, then the values themselves, so that the answer never depends on
        # the order in which rows are stored.
        order = [f"e.{quoted(start.occurred_at)}", *(f"e.{quoted(name)}" for name in start.tie_columns)]
        order += [f"e.{quoted(name)}" for name in spec.breakdown]
        packed = ", ".join(f"k{number} := {column}" for number, column in enumerate(order))
        starts = _rows(start, "start", [f"struct_pack({packed}) AS first_row"])
        offset = len(order) - len(names)
        taken = ", ".join(f"first_row.k{offset + number} AS {name}" for number, name in enumerate(names))
        first = f"""
  SELECT {keys}{"" if recurring else ", day"}, {taken} FROM (
    SELECT {keys}, min(day) AS day, min(first_row) AS first_row
    FROM (SELECT entity, day, first_row{f", {period} AS cohort" if recurring else ""} FROM starts) s
    {chosen if recurring else ""} GROUP BY {keys})"""
    if not recurring:
        carried = "".join(f", {name}" for name in names) if spec.dimensions is None else ""
        first = f"SELECT entity, {period} AS cohort{carried} FROM ({first}) f {chosen}"
    if not names or spec.dimensions is None:
        return [("starts", starts), ("cohorts", first)]
    joined = f"""
  SELECT f.entity, f.cohort, {", ".join(f"d.{quoted(source)} AS {name}" for source, name in zip(spec.breakdown, names, strict=True))}
  FROM firsts f LEFT JOIN {relation(spec.dimensions)} d ON d.{quoted(start.entity)} = f.entity"""
    return [("starts", starts), ("firsts", first), ("cohorts", joined)]


def _counted(spec: RetentionSpec, keys: str) -> list[tuple[str, str]]:
    """`counts`: how many entities of a cohort are found in period n (unbounded: last seen in period n), and revenue."""
    limit = " AND r.number - c.cohort <= $max_periods" if spec.max_periods is not None else ""
    if spec.bound == "unbounded":
        at_most = "least(%s, $max_periods)" if spec.max_periods is not None else "%s"
        since = at_most % "greatest(coalesce(r.last_number, c.cohort) - c.cohort, 0)"
        return [
            ("lasts", f"SELECT entity, {_number(spec, 'max(day)')} AS last_number FROM returns GROUP BY entity"),
            (
                "counts",
                f"""
  SELECT c.cohort{keys}, {since} AS n, count(*) AS found, CAST(NULL AS {_MONEY}) AS revenue
  FROM cohorts c LEFT JOIN lasts r ON r.entity = c.entity GROUP BY ALL""",
            ),
        ]
    # Two stages: an entity once per period, then cohorts; the second works on far fewer rows.
    summed = f", CAST(sum(amount) AS {_MONEY}) AS amount" if spec.has_revenue else ""
    revenue = f"CAST(sum(r.amount) AS {_MONEY})" if spec.has_revenue else f"CAST(NULL AS {_MONEY})"
    return [
        (
            "visits",
            f"SELECT entity, {_number(spec, 'day')} AS number{summed} FROM returns GROUP BY ALL",
        ),
        (
            "counts",
            f"""
  SELECT c.cohort{keys}, r.number - c.cohort AS n, count(*) AS found, {revenue} AS revenue
  FROM cohorts c JOIN visits r ON r.entity = c.entity AND r.number >= c.cohort{limit} GROUP BY ALL""",
        ),
    ]


def _wholes(spec: RetentionSpec) -> str:
    """Which periods are whole: ended at or before the watermark and touched by no gap."""
    ends = period_start_sql(spec.grain, "number + 1", spec.week_start)
    starts = period_start_sql(spec.grain, "number", spec.week_start)
    numbers = "SELECT unnest(range((SELECT min(cohort) FROM sizes), (SELECT this_period FROM clock) + 1)) AS number"
    whole = f"{ends} <= (SELECT today FROM clock)"
    if spec.gaps is not None:
        whole += f""" AND NOT EXISTS (
           SELECT 1 FROM gap_days g WHERE g.first_day < {ends} AND (g.last_day IS NULL OR g.last_day >= {starts}))"""
    return f"SELECT number, {whole} AS is_whole FROM ({numbers}) p"


def _measured(spec: RetentionSpec) -> str:
    """Common part of both answers: `measured` has cohort, breakdown, n, cohort_size, active, revenue, cumulative, value
    and is_complete for every cell whose period has begun."""
    names = _inner(spec)
    keys = "".join(f", c.{name}" for name in names)
    plain = "".join(f", {name}" for name in names)
    same = "".join(f" AND k.{name} IS NOT DISTINCT FROM g.{name}" for name in names)
    highest = "(SELECT this_period FROM clock) - cohort"
    if spec.max_periods is not None:
        highest = f"least({highest}, $max_periods)"
    returns = spec.return_activity
    amount = [f"CAST(e.{quoted(returns.amount)} AS {_MONEY}) AS amount"] if spec.has_revenue else []
    today = local_date_sql("$watermark")
    found = (
        "CAST(sum(coalesce(k.found, 0)) OVER (PARTITION BY g.cohort" + "".join(f", g.{name}" for name in names)
        + " ORDER BY g.n DESC) AS BIGINT)"
        if spec.bound == "unbounded"
        else "coalesce(k.found, 0)"
    )
    gap_days = f"""
  SELECT {local_date_sql("starts_at")} AS first_day,
         {local_date_sql("greatest(starts_at, ends_at - INTERVAL 1 MICROSECOND)")} AS last_day
  FROM (SELECT starts_at, CASE WHEN ends_at IS NULL THEN TIMESTAMP '9999-01-01' ELSE ends_at END AS ends_at
        FROM {relation(spec.gaps)})""" if spec.gaps is not None else None
    ctes = [
        ("clock", f"SELECT {today} AS today, {_number(spec, today)} AS this_period"),
        *_cohorts(spec),
        ("returns", _rows(returns, "return", amount)),
        *_counted(spec, keys),
        ("sizes", f"SELECT cohort{plain}, count(*) AS cohort_size FROM cohorts GROUP BY ALL"),
        *([("gap_days", gap_days)] if gap_days else []),
        ("periods", _wholes(spec)),
        ("grid", f"SELECT cohort{plain}, cohort_size, unnest(range(0, {highest} + 1)) AS n FROM sizes"),
        (
            "filled",
            f"""
  SELECT g.*, CASE WHEN g.n = 0 THEN g.cohort_size ELSE {found} END AS active,
         coalesce(k.revenue, 0) AS revenue, p.is_whole
  FROM grid g JOIN periods p ON p.number = g.cohort + g.n
  LEFT JOIN counts k ON k.cohort = g.cohort AND k.n = g.n{same}""",
        ),
        (
            "framed",
            f"""
  SELECT *, CAST(sum(revenue) OVER w AS {_MONEY}) AS cumulative, bool_and(is_whole) OVER w AS all_whole,
         lag(active) OVER w AS active_before, lag(revenue) OVER w AS revenue_before, lag(is_whole) OVER w AS whole_before,
         first_value(revenue) OVER w AS revenue_at_start, first_value(is_whole) OVER w AS whole_at_start
  FROM filled WINDOW w AS (PARTITION BY cohort{plain} ORDER BY n ROWS UNBOUNDED PRECEDING)""",
        ),
        ("measured", f"SELECT *, {_value(spec)} AS value, {_complete(spec)} AS is_complete FROM framed"),
    ]
    return with_parts(ctes, [spec.start.table, returns.table, spec.dimensions, spec.gaps])


def _value(spec: RetentionSpec) -> str:
    if spec.measure == "cumulative_revenue":
        return "CAST(cumulative AS DOUBLE) / cohort_size"
    top = "active" if spec.measure == "entities" else "revenue"
    if spec.base == "from_previous":
        bottom = f"CASE WHEN n = 0 THEN {top} ELSE {top}_before END"
    else:
        bottom = "cohort_size" if spec.measure == "entities" else "revenue_at_start"
    return f"CAST({top} AS DOUBLE) / nullif({bottom}, 0)"


def _complete(spec: RetentionSpec) -> str:
    if spec.measure == "cumulative_revenue":
        return "all_whole"
    if spec.base == "from_previous":
        return "is_whole AND coalesce(whole_before, true)"
    return "is_whole" if spec.measure == "entities" else "is_whole AND whole_at_start"


def _zero_reason(spec: RetentionSpec) -> str:
    if spec.base == "from_previous":
        what = "nobody was active" if spec.measure == "entities" else "there was no revenue"
        return f"'{what} in the period before'"
    return "'there was no revenue in period 0'"
