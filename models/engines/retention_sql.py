"""The parts of a retention statement: who belongs to which cohort, who came back, which cells are whole.

Belongs here: SQL text of one retention matrix. Does not belong here: the specification, its checks and the answers made of
these parts (`retention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.engines.movements_periods import (
    local_date_sql,
    period_number_sql,
    period_start_sql,
    quarter_hour_sql,
    quarter_hour_start_sql,
    quoted,
    relation,
    with_parts,
)

if TYPE_CHECKING:
    from models.engines.retention import Activity, RetentionSpec

_MONEY = "DECIMAL(18,4)"


def parameters(spec: RetentionSpec) -> dict[str, object]:
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


def inner_names(spec: RetentionSpec) -> list[str]:
    """Names of the breakdown columns inside the statement, which no column of the data can collide with."""
    return [f"breakdown_{number}" for number in range(len(spec.breakdown))]


def _number(spec: RetentionSpec, day: str) -> str:
    return period_number_sql(spec.grain, day, spec.week_start)


def _is_single_pass(spec: RetentionSpec) -> bool:
    """Whether an entity's first and last day answer everything, so that no join is needed."""
    return spec.bound == "unbounded" and spec.cohorts == "first_time" and spec.return_activity == spec.start


def _cohorts(spec: RetentionSpec) -> list[tuple[str, str]]:
    """`cohorts`: one row per entity and cohort, with the breakdown columns."""
    start, names, recurring = spec.start, inner_names(spec), spec.cohorts == "recurring"
    at_start = bool(names) and spec.dimensions is None
    limits = ["{day} >= $cohorts_from"] if spec.cohorts_from is not None else []
    limits += ["{day} < $cohorts_to"] if spec.cohorts_to is not None else []
    where = f"WHERE {' AND '.join(limits)}" if limits else ""

    packed, taken = [], []
    if at_start:
        # The first row by time, then the tie columns, then the values themselves, so that the answer never depends on
        # the order in which rows are stored.
        order = [f"e.{quoted(name)}" for name in (start.occurred_at, *start.tie_columns, *spec.breakdown)]
        packed = ["struct_pack(" + ", ".join(f"k{number} := {column}" for number, column in enumerate(order)) + ") AS row"]
        taken = [f"f.first_row.k{len(order) - len(names) + number} AS {name}" for number, name in enumerate(names)]
    elif names:
        taken = [f"d.{quoted(source)} AS {name}" for source, name in zip(spec.breakdown, names, strict=True)]

    keys = ["entity", f"{_number(spec, 'day')} AS cohort"] if recurring else ["entity"]
    firsts = [*keys, "min(day) AS first_day"]
    firsts += ["max(day) AS last_day"] if _is_single_pass(spec) else []
    firsts += ["min(row) AS first_row"] if at_start else []
    cohorts = ["f.entity", "f.cohort" if recurring else f"{_number(spec, 'f.first_day')} AS cohort"]
    cohorts += [f"{_number(spec, 'f.last_day')} AS last_number"] if _is_single_pass(spec) else []
    join = f"LEFT JOIN {relation(spec.dimensions)} d ON d.{quoted(start.entity)} = f.entity" if spec.dimensions else ""
    return [
        ("starts", _rows(start, "start", packed)),
        (
            "firsts",
            f"""
  SELECT {", ".join(firsts)} FROM starts
  {where.format(day="day") if recurring else ""} GROUP BY {", ".join(str(n + 1) for n in range(len(keys)))}""",
        ),
        (
            "cohorts",
            f"""
  SELECT {", ".join([*cohorts, *taken])} FROM firsts f {join if names else ""}
  {"" if recurring else where.format(day="f.first_day")}""",
        ),
    ]


def _counted(spec: RetentionSpec, keys: str) -> list[tuple[str, str]]:
    """`counts`: how many entities of a cohort are found in period n (unbounded: last seen in period n), and revenue."""
    if spec.bound == "unbounded":
        last = "c.last_number" if _is_single_pass(spec) else "r.last_number"
        since = f"greatest(coalesce({last}, c.cohort) - c.cohort, 0)"
        if spec.max_periods is not None:
            since = f"least({since}, $max_periods)"
        lasts = f"SELECT entity, {_number(spec, 'max(day)')} AS last_number FROM returns GROUP BY entity"
        join = "" if _is_single_pass(spec) else "LEFT JOIN lasts r ON r.entity = c.entity"
        counts = f"""
  SELECT c.cohort{keys}, {since} AS n, count(*) AS found, CAST(NULL AS {_MONEY}) AS revenue
  FROM cohorts c {join} GROUP BY ALL"""
        return [*([] if _is_single_pass(spec) else [("lasts", lasts)]), ("counts", counts)]
    # Two stages: an entity once per period, then cohorts; the second works on far fewer rows.
    limit = " AND r.number - c.cohort <= $max_periods" if spec.max_periods is not None else ""
    summed = f", CAST(sum(amount) AS {_MONEY}) AS amount" if spec.has_revenue else ""
    revenue = f"CAST(sum(r.amount) AS {_MONEY})" if spec.has_revenue else f"CAST(NULL AS {_MONEY})"
    return [
        ("visits", f"SELECT entity, {_number(spec, 'day')} AS number{summed} FROM returns GROUP BY ALL"),
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


def measured_parts(spec: RetentionSpec) -> str:
    """Common part of both answers: `measured` has cohort, breakdown, n, cohort_size, active, revenue, cumulative, value
    and is_complete for every cell whose period has begun."""
    names = inner_names(spec)
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
        *([] if _is_single_pass(spec) else [("returns", _rows(returns, "return", amount))]),
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


def zero_reason(spec: RetentionSpec) -> str:
    if spec.base == "from_previous":
        what = "nobody was active" if spec.measure == "entities" else "there was no revenue"
        return f"'{what} in the period before'"
    return "'there was no revenue in period 0'"
