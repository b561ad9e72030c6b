"""Revenue movements: how monthly recurring revenue (MRR) of each customer went from opening to closing.

Belongs here: the classification of every change of a customer's MRR, its valuation in the reporting currency, and the
movement table per period, customer and currency. Does not belong here: rates over that table (`movements_summary`),
churn of customers without subscriptions (`movements_churn`), how a term's MRR is normalised (the marts do that).

How a change is read
  At each instant a customer's MRR over all subscriptions makes one net step per currency. Becoming active for the first
  time is `new`, becoming active again `reactivation`, ending the last active subscription `churn`; any other instant is
  `expansion` when its net value in the reporting currency is positive or nil, else `contraction`. A switch of plan or of
  currency is therefore one change, worth the difference at the rate of its date. Where one instant touches several
  currencies, every currency's signed part is booked under the customer's one kind, so that the parts add up.

How it is valued, so that the identity holds exactly
  A balance is valued at the last rate known at the close of its period; a step is valued as (balance after) - (balance
  before), both at the rate of the step's local date, each rounded once to 0.0001. `fx` is the sum of the revaluations
  between those points: nothing else can be in it, and it is 0 by construction in the reporting currency.
  opening + new + reactivation + expansion - contraction - churn + fx = closing then holds in exact decimals for every
  row, hence for any sum of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import polars as pl

from models.engines.movements_periods import MONTHLY, Periods, Query, bind, naive_utc, relation
from models.engines.movements_sql import (
    FLOWS,
    MONEY,
    assembled,
    first_rates_sql,
    has_rate_sql,
    parameters,
    period_parts,
    step_parts,
)

__all__ = [
    "AMOUNTS",
    "CHURN_DATINGS",
    "FLOWS",
    "TABLE_GRAINS",
    "MovementSpec",
    "broken_identities_query",
    "build_table",
    "build_table_sql",
    "missing_rates_query",
    "movements_query",
    "run",
]

TABLE_GRAINS = ("week", "month", "quarter", "year")
CHURN_DATINGS = ("period_end", "cancel_request")
AMOUNTS = ("reporting", "original")


@dataclass(frozen=True)
class MovementSpec:
    """What to compute and from where.

    `watermark` (naive UTC) is the last instant the data is known for: later steps, such as a cancellation that is
    scheduled but not reached, have not happened. `churn_dated` is `period_end` (a subscription stops when its last term
    ends) or `cancel_request` (a run of paid terms stops at the cancellation request that falls inside it). `amounts` is
    `reporting` or `original`; the latter keeps each currency in its own money, where fx is 0.

    Relations: terms(subscription_id, customer_id, valid_from, valid_to [null = open], mrr_amount, currency),
    subscriptions(subscription_id, cancel_requested_at), read for `cancel_request` only, and
    exchange_rates(currency, rate_date, rate_to_reporting), the value of one unit of `currency`.
    """

    time_zone: str
    reporting_currency: str
    watermark: datetime
    churn_dated: str = "period_end"
    amounts: str = "reporting"
    terms: str = "marts.fct_subscription_terms"
    subscriptions: str = "marts.fct_subscriptions"
    exchange_rates: str = "marts.fct_exchange_rates"

    def __post_init__(self) -> None:
        if self.churn_dated not in CHURN_DATINGS:
            raise ValueError(f"churn is dated by one of {', '.join(CHURN_DATINGS)}, not {self.churn_dated!r}")
        if self.amounts not in AMOUNTS:
            raise ValueError(f"amounts are one of {', '.join(AMOUNTS)}, not {self.amounts!r}")
        naive_utc(self.watermark, "watermark")


def movements_query(spec: MovementSpec, periods: Periods = MONTHLY, by_currency: bool = True) -> Query:
    """Movements per (period, customer[, currency]), one row where anything is other than 0.

    Columns: period_start, period_end (local dates, half-open), customer_id, currency (by_currency only), opening_mrr,
    new, expansion, contraction, churn, reactivation, fx, closing_mrr (all DECIMAL(18,4); contraction and churn are
    positive when MRR falls), retained_mrr = min(opening, closing) of the customer, is_opening / is_closing (the customer
    had something active at the start / close), is_churned_logo, is_new_logo, same_period (signed up and cancelled
    inside the period), is_main_row (exactly one row per period and customer: count customers there), is_complete.

    Flags are the customer's on each of its currency rows; retained_mrr is split over the currencies and adds up to the
    customer's. A subscription without a customer counts as a customer of its own, `subscription:<id>`.
    """
    if spec.amounts == "original" and not by_currency:
        raise ValueError("amounts in their original currency can only be shown by currency")
    ctes = [*step_parts(spec), *period_parts("p", periods, by_currency, spec)]
    return bind(assembled(spec, ctes) + "SELECT * FROM p_movements", parameters(spec, periods))


def build_table_sql(
    spec: MovementSpec,
    target: str = "metrics.mtr_revenue_movements",
    grains: Sequence[str] = TABLE_GRAINS,
    week_start: str = "monday",
) -> Query:
    """`CREATE OR REPLACE TABLE target`: the movements by currency for each grain, from the first term to the watermark.

    One row per (period_grain, period_start, customer_id, currency), sparse: no row where opening, closing and every
    movement are 0. Columns as in `movements_query`, led by period_grain.
    """
    if not grains:
        raise ValueError("give at least one grain")
    ctes = step_parts(spec)
    for grain in grains:
        ctes += period_parts(grain, Periods(grain, week_start), True, spec)
    union = "\nUNION ALL\n".join(f"SELECT '{grain}' AS period_grain, * FROM {grain}_movements" for grain in grains)
    sql = f"CREATE OR REPLACE TABLE {relation(target)} AS\n" + assembled(spec, ctes) + union
    return bind(sql, parameters(spec, Periods()))


def missing_rates_query(spec: MovementSpec) -> Query:
    """Terms left out because no exchange rate is known on or before their first day (or they name no currency).

    One row per term: subscription_id, customer_id, valid_from, currency, mrr_amount, first_rate_date (null = never).
    """
    sql = f"""
WITH first_rates AS ({first_rates_sql(spec)})
SELECT t.subscription_id, t.customer_id, t.valid_from, t.currency, t.mrr_amount, r.first_rate_date
FROM {relation(spec.terms)} t LEFT JOIN first_rates r ON r.currency = t.currency
WHERE t.mrr_amount <> 0 AND t.valid_from <= $watermark AND (t.valid_to IS NULL OR t.valid_to > t.valid_from)
  AND NOT ({has_rate_sql("t", "r")})
ORDER BY t.subscription_id, t.valid_from
"""
    return bind(sql, parameters(spec, Periods()))


def broken_identities_query(
    spec: MovementSpec, table: str = "metrics.mtr_revenue_movements", grain: str = "month"
) -> Query:
    """Rows that contradict the movement table; none means it may be published.

    Checks, per period of `grain` and currency: `waterfall` (opening plus movements is not closing), `chain` (a closing
    is not the next opening), `fx` (revaluation of the reporting currency itself) and `terms` (the closing of the last
    period differs from the terms that run at the watermark, taken straight from the mart, in the reporting currency).
    Columns: check_name, period_start, currency, expected, found (DECIMAL).
    """
    if spec.churn_dated != "period_end" or spec.amounts != "reporting":
        raise ValueError("the check against the terms reads churn dated by period_end in the reporting currency")
    sql = f"""
WITH sums AS (
  SELECT period_start, currency,
         sum(opening_mrr) AS opening, sum(closing_mrr) AS closing, sum(fx) AS fx,
         sum(opening_mrr + new + reactivation + expansion - contraction - churn + fx) AS walked
  FROM {relation(table)} WHERE period_grain = $grain GROUP BY ALL
), periods AS (
  SELECT period_start, lead(period_start) OVER (ORDER BY period_start) AS next_start
  FROM (SELECT DISTINCT period_start FROM sums)
), running AS (
  SELECT sum(CAST(mrr_amount AS {MONEY})) AS mrr FROM {relation(spec.terms)}
  WHERE currency = $reporting_currency AND valid_from <= $watermark
    AND (valid_to IS NULL OR valid_to > greatest($watermark, valid_from))
)
SELECT 'waterfall' AS check_name, period_start, currency, walked AS expected, closing AS found
FROM sums WHERE walked <> closing
UNION ALL
SELECT 'chain', p.next_start, coalesce(a.currency, b.currency), coalesce(a.closing, 0), coalesce(b.opening, 0)
FROM (SELECT * FROM sums JOIN periods USING (period_start) WHERE next_start IS NOT NULL) a
FULL JOIN (SELECT * FROM sums WHERE period_start > (SELECT min(period_start) FROM periods)) b
  ON b.period_start = a.next_start AND b.currency = a.currency
LEFT JOIN periods p ON p.next_start = coalesce(a.next_start, b.period_start)
WHERE coalesce(a.closing, 0) <> coalesce(b.opening, 0)
UNION ALL
SELECT 'fx', period_start, currency, 0, fx FROM sums WHERE currency = $reporting_currency AND fx <> 0
UNION ALL
SELECT 'terms', last.period_start, $reporting_currency, coalesce(running.mrr, 0), last.closing
FROM running, (
  SELECT max(period_start) AS period_start,
         coalesce(sum(closing) FILTER (
           currency = $reporting_currency AND period_start = (SELECT max(period_start) FROM periods)), 0) AS closing
  FROM sums) last
WHERE last.closing <> coalesce(running.mrr, 0)
"""
    return bind(sql, {**parameters(spec, Periods()), "grain": grain})


def run(
    con: duckdb.DuckDBPyConnection, spec: MovementSpec, periods: Periods = MONTHLY, by_currency: bool = True
) -> pl.DataFrame:
    """Movements of any periods, ordered by period, customer and currency. See `movements_query`."""
    keys = ["period_start", "customer_id", *(["currency"] if by_currency else [])]
    return movements_query(spec, periods, by_currency).run(con).sort(keys)


def build_table(
    con: duckdb.DuckDBPyConnection,
    spec: MovementSpec,
    target: str = "metrics.mtr_revenue_movements",
    grains: Sequence[str] = TABLE_GRAINS,
    week_start: str = "monday",
) -> None:
    """Create or replace the movement table. See `build_table_sql`."""
    con.execute(*build_table_sql(spec, target, grains, week_start))
