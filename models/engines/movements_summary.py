"""Rates over the movement table: MRR, waterfall totals, churn, retention of revenue, quick ratio and ARPA.

Belongs here: sums of movements per period and breakdown value, and the ratios of those sums. Does not belong here: how a
single movement is classified or valued (`movements`), churn of customers without subscriptions (`movements_churn`).

Every ratio is computed from exact sums, is null with a reason where its denominator is 0, and carries n, the number of
customers it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import polars as pl

from models.engines.movements import FLOWS
from models.engines.movements_periods import Query, check_grain, quoted, relation

# metric -> (numerator, denominator, customers it rests on, why it may be null). Names refer to the sums below.
RATIOS: dict[str, tuple[str, str, str, str]] = {
    "gross_mrr_churn_rate": ("churn + contraction", "opening_mrr", "opening_customers", "no opening MRR"),
    "net_mrr_churn_rate": (
        "churn + contraction - expansion - reactivation",
        "opening_mrr",
        "opening_customers",
        "no opening MRR",
    ),
    "grr": ("retained_mrr", "opening_mrr", "opening_customers", "no opening MRR"),
    "nrr": ("closing_of_opening_mrr", "opening_mrr", "opening_customers", "no opening MRR"),
    "nrr__net_churn_complement": (
        "opening_mrr - (churn + contraction - expansion - reactivation)",
        "opening_mrr",
        "opening_customers",
        "no opening MRR",
    ),
    "nrr__net_of_expansion": ("opening_mrr - (churn - expansion)", "opening_mrr", "opening_customers", "no opening MRR"),
    "churn_rate": ("churned_customers", "opening_customers", "opening_customers", "no customers in the opening book"),
    "quick_ratio": ("new + expansion", "contraction + churn", "moving_customers", "no contraction or churn"),
    "arpa": ("mrr", "paying_customers", "paying_customers", "no paying customers"),
}


def table_rows_query(table: str = "metrics.mtr_revenue_movements", grain: str = "month") -> Query:
    """The rows of one grain of the stored movement table, in the shape of `movements.movements_query`."""
    return Query(
        f"SELECT * EXCLUDE (period_grain) FROM {relation(table)} WHERE period_grain = $period_grain",
        {"period_grain": check_grain(grain)},
    )


def summary_query(movements: Query, breakdown: Sequence[str] = (), dimensions: str | None = None) -> Query:
    """Totals and rates per (period_start, period_end, *breakdown).

    `movements` is `movements.movements_query(...)` or `table_rows_query(...)`. Breakdown columns are read from
    `dimensions`, a relation with one row per customer_id (a customer it lacks falls under null); `currency` is read from
    the movements themselves. Columns: opening_mrr, new, expansion, contraction, churn, reactivation, fx, mrr,
    retained_mrr, closing_of_opening_mrr (DECIMAL(18,4)); opening_customers, churned_customers, new_customers,
    paying_customers, moving_customers, same_period_customers; and for every metric of `RATIOS` the ratio (DOUBLE), its
    `<metric>_n` and `<metric>_reason` (why it is null, else null); is_complete.
    """
    if len(set(breakdown)) != len(breakdown):
        raise ValueError(f"breakdown columns are named twice: {list(breakdown)}")
    taken = {*RATIOS, *FLOWS, "opening_mrr", "fx", "mrr", "period_start", "period_end", "is_complete"} & set(breakdown)
    if taken:
        raise ValueError(f"the answer has columns named {sorted(taken)} already; rename the breakdown column")
    from_dimensions = [name for name in breakdown if name != "currency"]
    if from_dimensions and dimensions is None:
        raise ValueError(f"a relation with the columns {from_dimensions} per customer_id is needed to break down by them")
    keys = [f"m.{quoted(name)}" if name == "currency" else f"d.{quoted(name)}" for name in breakdown]
    join = f"LEFT JOIN {relation(dimensions)} d ON d.customer_id = m.customer_id" if from_dimensions else ""
    amounts = ["opening_mrr", *FLOWS, "fx"]
    sums = [f"CAST(sum(m.{name}) AS DECIMAL(18,4)) AS {name}" for name in amounts]
    moved = " OR ".join(f"m.{name} <> 0" for name in FLOWS)
    ratios = ",\n  ".join(
        f"CAST({top} AS DOUBLE) / nullif({bottom}, 0) AS {name}, CAST({n} AS BIGINT) AS {name}_n, "
        f"CASE WHEN {bottom} = 0 THEN '{reason}' END AS {name}_reason"
        for name, (top, bottom, n, reason) in RATIOS.items()
    )
    grouped = ", ".join(["m.period_start", "m.period_end", *keys])
    order = ", ".join(["period_start", *(quoted(name) for name in breakdown)])
    sql = f"""
WITH movements AS ({movements.sql}),
sums AS (
  SELECT {grouped},
    {", ".join(sums)},
    CAST(sum(m.closing_mrr) AS DECIMAL(18,4)) AS mrr,
    CAST(sum(m.retained_mrr) AS DECIMAL(18,4)) AS retained_mrr,
    CAST(coalesce(sum(m.closing_mrr) FILTER (m.is_opening), 0) AS DECIMAL(18,4)) AS closing_of_opening_mrr,
    count(*) FILTER (m.is_main_row AND m.is_opening) AS opening_customers,
    count(*) FILTER (m.is_main_row AND m.is_churned_logo) AS churned_customers,
    count(*) FILTER (m.is_main_row AND m.is_new_logo) AS new_customers,
    count(*) FILTER (m.is_main_row AND m.is_closing) AS paying_customers,
    count(DISTINCT m.customer_id) FILTER ({moved}) AS moving_customers,
    count(*) FILTER (m.is_main_row AND m.same_period) AS same_period_customers,
    bool_and(m.is_complete) AS is_complete
  FROM movements m {join}
  GROUP BY {grouped}
)
SELECT *,
  {ratios}
FROM sums ORDER BY {order}
"""
    return Query(sql, movements.params)


def run(
    con: duckdb.DuckDBPyConnection, movements: Query, breakdown: Sequence[str] = (), dimensions: str | None = None
) -> pl.DataFrame:
    """Totals and rates; see `summary_query`. ValueError when `dimensions` lists a customer twice, which would count its
    revenue twice."""
    if dimensions is not None:
        twice = con.execute(
            f"SELECT customer_id FROM {relation(dimensions)} GROUP BY customer_id HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice:
            raise ValueError(f"{dimensions} has more than one row for customer {twice[0]!r}: its revenue would double")
    return summary_query(movements, breakdown, dimensions).run(con)
