"""What a new customer cost, as a whole and by channel, and when it paid itself back.

Belongs here: CAC with its four variants, its split by channel under an attribution model, observed payback. Does not belong
here: credits themselves (`attribution`), CLV.

CAC = spend / new customers (first ever paid) of a range of local days [start, end).
    blended  ad spend and every other sales and marketing cost
    paid     ad spend only
    lagged   all spend, of the range moved back by the median days from a lead's creation to its customer's first payment
    cohort   all spend of the range / customers whose lead was created in the range, whenever they paid
No customers give null. By channel, customers are credited under the named model; those without a touch, and spend without a
channel, stand in the row ``unattributed``, so both columns sum to the totals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines.attribution import MODELS, NO_TOUCH
from models.engines.attribution_credits import TABLE
from models.engines.funnel_range import Parameters, instant, relation

VARIANTS = ("blended", "paid", "lagged", "cohort")
UNATTRIBUTED = "unattributed"


@dataclass(frozen=True)
class CostSpec:
    """One question about the cost of acquisition. Raises UsageError for an unknown variant or model, or an empty range.

    ``lag_days`` serves ``lagged``; when it is None, ``run`` measures it by ``median_lag_days``.
    """

    start: date
    end: date
    variant: str = "blended"
    model: str = "linear"
    lag_days: int | None = None
    time_zone: str = "UTC"
    credits: str = TABLE
    spend: str = "marts.fct_marketing_spend"
    new_customers: str = "marts.fct_new_customers"
    leads: str = "marts.fct_leads"
    orders: str = "marts.fct_orders"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(f"cac has no variant '{self.variant}'", remedy=f"Use one of: {', '.join(VARIANTS)}.")
        if self.model not in MODELS:
            raise UsageError(f"there is no attribution model '{self.model}'", remedy=f"Use one of: {', '.join(MODELS)}.")
        if not self.start < self.end:
            raise UsageError("the range is empty", remedy="Give an end after the start.")


def _acquired(spec: CostSpec, params: Parameters) -> str:
    """The customers of the denominator: customer_id, acquired_at."""
    start, end = params.bind(spec.start), params.bind(spec.end)
    if spec.variant != "cohort":
        return (
            f"SELECT customer_id, acquired_at FROM {relation(spec.new_customers)} "
            f"WHERE acquired_date >= {start} AND acquired_date < {end}"
        )
    # The lead of a new customer is the latest one created at or before the first payment.
    return (
        f"SELECT n.customer_id, n.acquired_at FROM {relation(spec.new_customers)} AS n "
        f"ASOF JOIN (SELECT customer_id, created_at, created_date FROM {relation(spec.leads)} WHERE customer_id IS NOT NULL) "
        "AS l ON n.customer_id = l.customer_id AND n.acquired_at >= l.created_at "
        f"WHERE l.created_date >= {start} AND l.created_date < {end}"
    )


def _spent(spec: CostSpec, params: Parameters) -> str:
    lag = timedelta(days=spec.lag_days or 0) if spec.variant == "lagged" else timedelta(0)
    only_ads = " AND coalesce(cost_kind, 'ad') = 'ad'" if spec.variant == "paid" else ""
    return (
        f"SELECT channel, amount_reporting FROM {relation(spec.spend)} "
        f"WHERE spend_date >= {params.bind(spec.start - lag)} AND spend_date < {params.bind(spec.end - lag)}{only_ads}"
    )


def total_sql(spec: CostSpec) -> tuple[str, dict[str, Any]]:
    """One row: variant, spend DECIMAL(18,4), new_customers, cac (reporting currency; null without new customers)."""
    params = Parameters()
    text = (
        f"WITH acquired AS ({_acquired(spec, params)}), spent AS ({_spent(spec, params)}), totals AS (SELECT "
        "(SELECT CAST(coalesce(sum(amount_reporting), 0) AS DECIMAL(18,4)) FROM spent) AS spend, "
        "(SELECT count(*) FROM acquired) AS new_customers) "
        f"SELECT {params.bind(spec.variant)} AS variant, spend, new_customers, "
        "spend / nullif(new_customers, 0) AS cac FROM totals"
    )
    return text, params.values


def by_channel_sql(spec: CostSpec) -> tuple[str, dict[str, Any]]:
    """One row per channel, the row ``unattributed`` always among them and last.

    Columns: channel, model, variant, spend DECIMAL(18,4), new_customers DECIMAL(18,9), cac. Spend and new_customers sum to
    those of ``total_sql``. A channel with spend and no credited customer has a null cac.
    """
    params = Parameters()
    text = f"""WITH acquired AS ({_acquired(spec, params)}),
spent AS ({_spent(spec, params)}),
credited AS (
    SELECT a.customer_id, CASE WHEN c.channel IS NULL OR c.channel = {params.bind(NO_TOUCH)} THEN {params.bind(UNATTRIBUTED)}
        ELSE c.channel END AS channel, coalesce(c.conversions, 1) AS conversions
    FROM acquired AS a
    LEFT JOIN (SELECT * FROM {relation(spec.credits)} WHERE conversion_kind = 'new_customer' AND model = {params.bind(spec.model)})
        AS c ON c.conversion_id = a.customer_id
),
both_sides AS (
    SELECT channel, conversions, CAST(0 AS DECIMAL(18,4)) AS spend FROM credited
    UNION ALL SELECT coalesce(channel, {params.bind(UNATTRIBUTED)}), 0, amount_reporting FROM spent
    UNION ALL SELECT {params.bind(UNATTRIBUTED)}, 0, 0
),
summed AS (
    SELECT channel, CAST(sum(spend) AS DECIMAL(18,4)) AS spend, CAST(sum(conversions) AS DECIMAL(18,9)) AS new_customers
    FROM both_sides GROUP BY channel
)
SELECT channel, {params.bind(spec.model)} AS model, {params.bind(spec.variant)} AS variant, spend, new_customers,
    spend / nullif(new_customers, 0) AS cac
FROM summed ORDER BY channel = {params.bind(UNATTRIBUTED)}, spend DESC, channel"""
    return text, params.values


def median_lag_days(con: duckdb.DuckDBPyConnection, spec: CostSpec) -> int:
    """Median whole days from a lead's creation to its customer's first payment, over all new customers acquired before the
    range's end who had a lead; 0 when there are none."""
    row = con.execute(
        "SELECT CAST(round(coalesce(median((epoch_us(n.acquired_at) - epoch_us(l.created_at)) / 86400e6), 0)) AS INTEGER) "
        f"FROM {relation(spec.new_customers)} AS n ASOF JOIN (SELECT customer_id, created_at FROM {relation(spec.leads)} "
        "WHERE customer_id IS NOT NULL) AS l ON n.customer_id = l.customer_id AND n.acquired_at >= l.created_at "
        "WHERE n.acquired_date < $end",
        {"end": spec.end},
    ).fetchone()
    return int(row[0]) if row else 0


def _with_lag(con: duckdb.DuckDBPyConnection, spec: CostSpec) -> CostSpec:
    if spec.variant != "lagged" or spec.lag_days is not None:
        return spec
    return CostSpec(**{**spec.__dict__, "lag_days": median_lag_days(con, spec)})


def run(con: duckdb.DuckDBPyConnection, spec: CostSpec) -> pl.DataFrame:
    """CAC of the range as a whole; see ``total_sql``."""
    return con.execute(*total_sql(_with_lag(con, spec))).pl()


def by_channel(con: duckdb.DuckDBPyConnection, spec: CostSpec) -> pl.DataFrame:
    """CAC by channel; see ``by_channel_sql``."""
    return con.execute(*by_channel_sql(_with_lag(con, spec))).pl()


def observed_payback_sql(spec: CostSpec, gross_margin: float, watermark: date) -> tuple[str, dict[str, Any]]:
    """The first month in which the cohort's cumulative gross profit covers its CAC, as one row.

    The cohort is the denominator of ``total_sql``; a month is a month of each customer's own life, counted from 1, so month 1
    ends where every customer has had one month. Columns: spend, new_customers, payback_months (null until reached, or
    without customers), months_observed (complete months that the youngest customer has had by the watermark; later months
    are not looked at, because not everybody has lived them), cumulative_profit in the last observed month.
    """
    if not 0 < gross_margin <= 1:
        raise UsageError(f"a gross margin of {gross_margin} is not possible", remedy="Give more than 0 and at most 1.")
    params = Parameters()
    until = params.bind(instant(watermark, spec.time_zone))
    text = f"""WITH acquired AS ({_acquired(spec, params)}),
spent AS ({_spent(spec, params)}),
totals AS (
    SELECT (SELECT CAST(coalesce(sum(amount_reporting), 0) AS DECIMAL(18,4)) FROM spent) AS spend, count(*) AS new_customers,
        coalesce(min(date_diff('month', acquired_at, {until}) - CASE WHEN acquired_at + to_months(CAST(
            date_diff('month', acquired_at, {until}) AS INTEGER)) > {until} THEN 1 ELSE 0 END), 0) AS months_observed
    FROM acquired
),
profits AS (
    SELECT date_diff('month', a.acquired_at, o.ordered_at) - CASE WHEN a.acquired_at + to_months(CAST(
            date_diff('month', a.acquired_at, o.ordered_at) AS INTEGER)) > o.ordered_at THEN 1 ELSE 0 END + 1 AS life_month,
        CAST(sum(o.net_revenue_reporting) AS DECIMAL(18,4)) * {params.bind(float(gross_margin))} AS profit
    FROM acquired AS a JOIN {relation(spec.orders)} AS o ON o.customer_id = a.customer_id AND o.ordered_at >= a.acquired_at
    WHERE o.is_counted AND o.ordered_at < {until}
    GROUP BY 1
),
growing AS (
    SELECT p.life_month, sum(p.profit) OVER (ORDER BY p.life_month) AS cumulative
    FROM profits AS p, totals AS t WHERE p.life_month <= t.months_observed
)
SELECT t.spend, t.new_customers,
    CASE WHEN t.new_customers > 0 THEN CAST((SELECT min(life_month) FROM growing WHERE cumulative >= t.spend) AS INTEGER) END
        AS payback_months,
    CAST(t.months_observed AS INTEGER) AS months_observed,
    coalesce((SELECT max_by(cumulative, life_month) FROM growing), 0) AS cumulative_profit
FROM totals AS t"""
    return text, params.values


def observed_payback(
    con: duckdb.DuckDBPyConnection, spec: CostSpec, gross_margin: float, watermark: date
) -> pl.DataFrame:
    """Observed payback of the customers acquired in the range; see ``observed_payback_sql``."""
    return con.execute(*observed_payback_sql(_with_lag(con, spec), gross_margin, watermark)).pl()
