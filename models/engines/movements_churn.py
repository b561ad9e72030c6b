"""Transactional churn: customers who stopped ordering, for businesses without subscriptions.

Belongs here: who ordered in one window and not in the next, at the close of each period. Does not belong here: churn of
subscriptions (`movements`), scores that predict churn (the ml room).

At the close D of a period and for a churn window of W days, the base is every customer with an order in [D-2W, D-W); of
these, whoever has no order in [D-W, D) has churned. Windows are whole local days. In the running period D is the local
day of the watermark, so that a day not yet seen is never read as "did not order".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import polars as pl

from models.engines.movements_periods import (
    MONTHLY,
    Periods,
    Query,
    bind,
    local_date_sql,
    naive_utc,
    period_number_sql,
    period_start_sql,
    quoted,
    relation,
)


@dataclass(frozen=True)
class TransactionalChurnSpec:
    """`orders` needs customer_id and a local date `day_column`; rows where `counted_column` is not true are left out
    (None: all count). `dimensions` has one row per customer_id. `churn_window_days` is the workspace's W, at least 1."""

    time_zone: str
    watermark: datetime
    churn_window_days: int = 90
    orders: str = "marts.fct_orders"
    day_column: str = "ordered_date"
    counted_column: str | None = "is_counted"
    dimensions: str | None = None
    breakdown: Sequence[str] = ()

    def __post_init__(self) -> None:
        naive_utc(self.watermark, "watermark")
        if self.churn_window_days < 1:
            raise ValueError(f"the churn window must be at least one day, not {self.churn_window_days}")
        if self.breakdown and self.dimensions is None:
            raise ValueError("a relation with one row per customer_id is needed to break down by its columns")


def transactional_churn_query(spec: TransactionalChurnSpec, periods: Periods = MONTHLY) -> Query:
    """Churn per (period_start, period_end, *breakdown): base_customers, churned_customers, churn_rate (DOUBLE, null with
    churn_rate_reason where nobody is in the base), churn_rate_n = base_customers, is_complete.

    Each order stands for the days on which it is the customer's last: D in (day + W, next order's day + W], at most
    day + 2W, finds the customer in the base by this order; churned while D is no later than the next order's day. So
    every (customer, D) is counted once without a distinct.
    """
    today = local_date_sql("$watermark")
    counted = f"AND {quoted(spec.counted_column)}" if spec.counted_column else ""
    day = quoted(spec.day_column)
    columns = [quoted(name) for name in spec.breakdown]
    join = f"LEFT JOIN {relation(spec.dimensions)} d USING (customer_id)" if spec.breakdown else ""
    dims = "".join(f", d.{name}" for name in columns)
    # With a breakdown each of its values gets a row in each period, or a period without base would be missing.
    values = f"(SELECT DISTINCT {', '.join(columns)} FROM counts)" if columns else "(SELECT 1)"
    on = "".join(f" AND c.{name} IS NOT DISTINCT FROM v.{name}" for name in columns)
    sql = f"""
WITH order_days AS (
  SELECT DISTINCT customer_id, {day} AS day FROM {relation(spec.orders)}
  WHERE customer_id IS NOT NULL AND {day} IS NOT NULL AND {day} < {today} {counted}
), {_closes(periods, today)},
links AS (
  SELECT customer_id, day, lead(day) OVER (PARTITION BY customer_id ORDER BY day) AS next_day FROM order_days
), spans AS (
  -- least() passes over the null of a customer's last order
  SELECT customer_id, next_day, day + $window AS after, least(day + 2 * $window, next_day + $window) AS last_in_base
  FROM links
), counts AS (
  SELECT p.ordinal{dims}, count(*) AS base, count(*) FILTER (s.next_day IS NULL OR p.closed_on <= s.next_day) AS churned
  FROM closes p JOIN spans s ON p.closed_on > s.after AND p.closed_on <= s.last_in_base {join}
  GROUP BY ALL
)
SELECT p.period_start, p.period_end{"".join(f", v.{name}" for name in columns)},
       coalesce(c.base, 0) AS base_customers, coalesce(c.churned, 0) AS churned_customers,
       c.churned / c.base AS churn_rate, coalesce(c.base, 0) AS churn_rate_n,
       CASE WHEN c.base IS NULL THEN 'no customer was active in the window before' END AS churn_rate_reason,
       p.period_end <= {today} AS is_complete
FROM closes p CROSS JOIN {values} v LEFT JOIN counts c ON c.ordinal = p.ordinal{on}
ORDER BY ALL
"""
    return bind(
        sql,
        {
            "time_zone": spec.time_zone,
            "watermark": spec.watermark,
            "window": spec.churn_window_days,
            "period_starts": [start for start, _ in periods.listed],
            "period_ends": [end for _, end in periods.listed],
        },
    )


def _closes(periods: Periods, today: str) -> str:
    if periods.listed:
        listed = "SELECT unnest($period_starts) AS period_start, unnest($period_ends) AS period_end"
    else:
        grain, week = periods.grain or "month", periods.week_start
        listed = f"""
    SELECT {period_start_sql(grain, "number", week)} AS period_start,
           {period_start_sql(grain, "number + 1", week)} AS period_end
    FROM (SELECT unnest(range({period_number_sql(grain, "first_day", week)},
                              {period_number_sql(grain, today, week)} + 1)) AS number
          FROM (SELECT min(day) AS first_day FROM order_days))"""
    return f"""closes AS (
  SELECT row_number() OVER (ORDER BY period_start) AS ordinal, period_start, period_end,
         least(period_end, {today}) AS closed_on
  FROM ({listed}) WHERE period_start <= {today}
)"""


def run(
    con: duckdb.DuckDBPyConnection, spec: TransactionalChurnSpec, periods: Periods = MONTHLY
) -> pl.DataFrame:
    """Transactional churn per period; see `transactional_churn_query`."""
    return transactional_churn_query(spec, periods).run(con)
