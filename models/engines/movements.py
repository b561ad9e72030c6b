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
    with_parts,
)

TABLE_GRAINS = ("week", "month", "quarter", "year")
FLOWS = ("new", "expansion", "contraction", "churn", "reactivation")
CHURN_DATINGS = ("period_end", "cancel_request")
AMOUNTS = ("reporting", "original")

# 14 digits before the point and 4 after: the money type of the warehouse. Rates get 12 decimals because one unit of a
# small currency is worth as little as 0.00004 of a large one. Their product still fits DECIMAL(38,16).
_MONEY = "DECIMAL(18,4)"
_RATE = "DECIMAL(20,12)"


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
    ctes = [*_step_ctes(spec), *_period_ctes("p", periods, by_currency, spec)]
    return bind(_with(spec, ctes) + "SELECT * FROM p_movements", _values(spec, periods))


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
    ctes = _step_ctes(spec)
    for grain in grains:
        ctes += _period_ctes(grain, Periods(grain, week_start), True, spec)
    union = "\nUNION ALL\n".join(f"SELECT '{grain}' AS period_grain, * FROM {grain}_movements" for grain in grains)
    sql = f"CREATE OR REPLACE TABLE {relation(target)} AS\n" + _with(spec, ctes) + union
    return bind(sql, _values(spec, Periods()))


def missing_rates_query(spec: MovementSpec) -> Query:
    """Terms left out because no exchange rate is known on or before their first day (or they name no currency).

    One row per term: subscription_id, customer_id, valid_from, currency, mrr_amount, first_rate_date (null = never).
    """
    sql = f"""
WITH first_rates AS ({_first_rates(spec)})
SELECT t.subscription_id, t.customer_id, t.valid_from, t.currency, t.mrr_amount, r.first_rate_date
FROM {relation(spec.terms)} t LEFT JOIN first_rates r ON r.currency = t.currency
WHERE t.mrr_amount <> 0 AND t.valid_from <= $watermark AND (t.valid_to IS NULL OR t.valid_to > t.valid_from)
  AND NOT ({_has_rate("t", "r")})
ORDER BY t.subscription_id, t.valid_from
"""
    return bind(sql, _values(spec, Periods()))


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
  SELECT sum(CAST(mrr_amount AS {_MONEY})) AS mrr FROM {relation(spec.terms)}
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
    return bind(sql, {**_values(spec, Periods()), "grain": grain})


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


# -- parts of the statement --------------------------------------------------------------------------------------------


def _values(spec: MovementSpec, periods: Periods) -> dict[str, object]:
    return {
        "time_zone": spec.time_zone,
        "reporting_currency": spec.reporting_currency,
        "watermark": spec.watermark,
        "period_starts": [start for start, _ in periods.listed],
        "period_ends": [end for _, end in periods.listed],
    }


def _with(spec: MovementSpec, ctes: Sequence[tuple[str, str]]) -> str:
    return with_parts(ctes, [spec.terms, spec.subscriptions, spec.exchange_rates])


def _first_rates(spec: MovementSpec) -> str:
    return f"""SELECT currency, min(rate_date) AS first_rate_date
  FROM {relation(spec.exchange_rates)} WHERE rate_to_reporting IS NOT NULL GROUP BY currency"""


def _has_rate(term: str, rate: str) -> str:
    # CASE and not OR: zone arithmetic is only paid for by terms in a foreign currency.
    return f"""CASE WHEN {term}.currency = $reporting_currency THEN true
    ELSE coalesce({rate}.first_rate_date <= {local_date_sql(f"{term}.valid_from")}, false) END"""


def _valued(balance: str, currency: str, rate: str) -> str:
    # round() before the cast: casting a product of 38 digits straight to 18 takes three times as long.
    return (
        f"CASE WHEN {currency} = $reporting_currency THEN {balance} "
        f"ELSE CAST(round({balance} * {rate}, 4) AS {_MONEY}) END"
    )


def _paid_ctes(spec: MovementSpec) -> list[tuple[str, str]]:
    """Terms that bring revenue, cut at the cancellation request where churn is dated by it."""
    paid = f"""
  SELECT t.subscription_id, coalesce(t.customer_id, 'subscription:' || t.subscription_id) AS customer_id,
         t.currency, CAST(t.mrr_amount AS {_MONEY}) AS mrr, t.valid_from, t.valid_to
  FROM {relation(spec.terms)} t LEFT JOIN first_rates r ON r.currency = t.currency
  WHERE t.mrr_amount <> 0 AND t.valid_from <= $watermark AND (t.valid_to IS NULL OR t.valid_to > t.valid_from)
    AND {_has_rate("t", "r")}"""
    ctes = [("first_rates", _first_rates(spec))]
    if spec.churn_dated == "period_end":
        return [*ctes, ("paid", paid)]
    # A request ends the run of adjoining paid terms it falls in; a run that starts after a pause is a restart.
    return [
        *ctes,
        ("dated", paid),
        (
            "links",
            f"""
  SELECT d.*, s.cancel_requested_at,
         CASE WHEN d.valid_from <= lag(d.valid_to) OVER (PARTITION BY d.subscription_id ORDER BY d.valid_from)
              THEN 0 ELSE 1 END AS starts_run
  FROM dated d LEFT JOIN {relation(spec.subscriptions)} s USING (subscription_id)""",
        ),
        (
            "runs",
            """
  SELECT *, sum(starts_run) OVER (PARTITION BY subscription_id ORDER BY valid_from) AS run FROM links""",
        ),
        (
            "requests",
            """
  SELECT *, cancel_requested_at >= min(valid_from) OVER w
            AND cancel_requested_at < max(coalesce(valid_to, TIMESTAMP 'infinity')) OVER w AS ends_run
  FROM runs WINDOW w AS (PARTITION BY subscription_id, run)""",
        ),
        (
            "paid",
            """
  SELECT subscription_id, customer_id, currency, mrr, valid_from,
         CASE WHEN ends_run THEN least(coalesce(valid_to, cancel_requested_at), cancel_requested_at)
              ELSE valid_to END AS valid_to
  FROM requests WHERE ends_run IS NOT TRUE OR valid_from < cancel_requested_at""",
        ),
    ]


def _step_ctes(spec: MovementSpec) -> list[tuple[str, str]]:
    """`steps`: every change of a customer's balance in a currency, classified and valued; one row per instant."""
    money = "reporting" if spec.amounts == "reporting" else "original"
    valued_after, valued_before = _valued("balance_after", "b.currency", "r.rate"), _valued(
        "balance_before", "b.currency", "r.rate"
    )
    return [
        *_paid_ctes(spec),
        (
            "mixed",
            "SELECT customer_id FROM paid GROUP BY customer_id HAVING min(currency) <> max(currency)",
        ),
        (
            "known_rates",
            f"""
  SELECT currency, rate_date, CAST(rate_to_reporting AS {_RATE}) AS rate
  FROM {relation(spec.exchange_rates)} WHERE currency <> $reporting_currency AND rate_to_reporting IS NOT NULL""",
        ),
        (
            "deltas",
            f"""
  SELECT customer_id, currency, changed_at, CAST(sum(delta) AS {_MONEY}) AS delta FROM (
    SELECT customer_id, currency, valid_from AS changed_at, mrr AS delta FROM paid
    UNION ALL
    SELECT customer_id, currency, valid_to, -mrr FROM paid WHERE valid_to <= $watermark
  ) GROUP BY ALL HAVING sum(delta) <> 0""",
        ),
        (
            "balances",
            f"""
  SELECT *, balance_after - delta AS balance_before FROM (
    SELECT *, {local_date_sql("changed_at")} AS changed_on,
           CAST(sum(delta) OVER (PARTITION BY customer_id, currency ORDER BY changed_at
                                 ROWS UNBOUNDED PRECEDING) AS {_MONEY}) AS balance_after
    FROM deltas)""",
        ),
        (
            "step_rates",
            """
  SELECT k.currency, k.changed_on, r.rate
  FROM (SELECT DISTINCT currency, changed_on FROM balances WHERE currency <> $reporting_currency) k
  ASOF JOIN known_rates r ON r.currency = k.currency AND r.rate_date <= k.changed_on""",
        ),
        (
            "valued",
            f"""
  SELECT b.customer_id, b.currency, b.changed_at, b.changed_on, b.balance_before, b.balance_after,
         {valued_after if money == "reporting" else "b.balance_after"}
         - {valued_before if money == "reporting" else "b.balance_before"} AS step,
         {valued_after} - {valued_before} AS reporting_step,
         CAST(balance_after > 0 AS INTEGER) - CAST(balance_before > 0 AS INTEGER) AS activity_step
  FROM balances b LEFT JOIN step_rates r ON r.currency = b.currency AND r.changed_on = b.changed_on""",
        ),
        (
            # RANGE frames take in all currencies of one instant: it is one change of the customer.
            "customer_steps",
            """
  SELECT *,
         sum(activity_step) OVER history AS active_after,
         sum(activity_step) OVER instant AS activity_change,
         sum(reporting_step) OVER instant AS net_step,
         min(changed_at) FILTER (activity_step > 0) OVER (PARTITION BY customer_id) AS first_paid_at
  FROM valued
  WINDOW history AS (PARTITION BY customer_id ORDER BY changed_at RANGE UNBOUNDED PRECEDING),
         instant AS (PARTITION BY customer_id, changed_at)""",
        ),
        (
            "steps",
            """
  SELECT *, CASE
      WHEN active_after = 0 AND activity_change < 0 THEN 'churn'
      WHEN active_after > 0 AND active_after = activity_change
        THEN CASE WHEN changed_at = first_paid_at THEN 'new' ELSE 'reactivation' END
      WHEN net_step >= 0 THEN 'expansion' ELSE 'contraction' END AS kind
  FROM customer_steps""",
        ),
    ]


def _bounds(prefix: str, periods: Periods) -> list[tuple[str, str]]:
    """`<prefix>_bounds`: consecutively numbered periods that have begun by the watermark. Stretches between listed
    periods are numbered too (is_listed = false), so that a balance is carried across them."""
    today = local_date_sql("$watermark")
    if periods.listed:
        return [
            (
                f"{prefix}_edges",
                """
  SELECT starts_on AS edge, true AS is_listed FROM (SELECT unnest($period_starts) AS starts_on)
  UNION ALL
  SELECT ends_on, false FROM (SELECT unnest($period_ends) AS ends_on)""",
            ),
            (
                f"{prefix}_bounds",
                f"""
  SELECT * FROM (
    SELECT row_number() OVER (ORDER BY edge) AS ordinal, edge AS starts_on,
           lead(edge) OVER (ORDER BY edge) AS ends_on, bool_or(is_listed) AS is_listed
    FROM {prefix}_edges GROUP BY edge)
  WHERE starts_on <= {today}""",
            ),
        ]
    grain, week = periods.grain or "month", periods.week_start
    return [
        (
            f"{prefix}_numbers",
            f"""
  SELECT unnest(range({period_number_sql(grain, "first_day", week)},
                      {period_number_sql(grain, today, week)} + 1)) AS number
  FROM (SELECT min(changed_on) AS first_day FROM steps)""",
        ),
        (
            f"{prefix}_bounds",
            f"""
  SELECT row_number() OVER (ORDER BY number) AS ordinal, {period_start_sql(grain, "number", week)} AS starts_on,
         {period_start_sql(grain, "number + 1", week)} AS ends_on, true AS is_listed
  FROM {prefix}_numbers""",
        ),
    ]


def _period_ctes(prefix: str, periods: Periods, by_currency: bool, spec: MovementSpec) -> list[tuple[str, str]]:
    """`<prefix>_movements`: the steps folded into periods, with a row for each period a balance stood still in."""
    p = prefix
    flows = ",\n         ".join(
        f"coalesce(sum({sign}step) FILTER (kind = '{kind}'), 0) AS {quoted(kind)}"
        for kind, sign in zip(FLOWS, ("", "", "-", "-", ""), strict=True)
    )
    no_flows = ", ".join("0" for _ in FLOWS)
    names = ", ".join(FLOWS)
    if spec.amounts == "reporting":
        opening, closing = (_valued(f"s.{side}_balance", "s.currency", f"r.{side}_rate") for side in ("opening", "closing"))
    else:
        opening, closing = "s.opening_balance", "s.closing_balance"
    return [
        *_bounds(p, periods),
        (
            f"{p}_days",
            f"""
  SELECT changed_on, coalesce(b.ordinal, 0) AS ordinal
  FROM (SELECT DISTINCT changed_on FROM steps) d ASOF LEFT JOIN {p}_bounds b ON b.starts_on <= d.changed_on""",
        ),
        (
            f"{p}_moved",
            f"""
  SELECT s.customer_id, s.currency, d.ordinal,
         {flows},
         arg_min(balance_before, changed_at) AS opening_balance, arg_max(balance_after, changed_at) AS closing_balance,
         bool_or(kind = 'new') AS has_new, bool_or(kind = 'churn') AS has_churn
  FROM steps s JOIN {p}_days d USING (changed_on) GROUP BY s.customer_id, s.currency, d.ordinal""",
        ),
        (
            f"{p}_spans",
            f"""
  SELECT *, lead(ordinal) OVER (PARTITION BY customer_id, currency ORDER BY ordinal) AS next_ordinal FROM {p}_moved""",
        ),
        (
            f"{p}_states",
            f"""
  SELECT customer_id, currency, ordinal, {names}, opening_balance, closing_balance, has_new, has_churn FROM {p}_spans
  UNION ALL
  SELECT customer_id, currency,
         unnest(range(ordinal + 1, coalesce(next_ordinal, 1 + (SELECT max(ordinal) FROM {p}_bounds)))),
         {no_flows}, closing_balance, closing_balance, false, false
  FROM {p}_spans WHERE closing_balance <> 0""",
        ),
        (
            f"{p}_closes",
            f"""
  SELECT c.currency, b.ordinal, r.rate
  FROM (SELECT DISTINCT currency FROM known_rates) c
  CROSS JOIN (SELECT ordinal, least(ends_on - 1, {local_date_sql("$watermark")}) AS closed_on
              FROM {p}_bounds WHERE ends_on IS NOT NULL
              UNION ALL SELECT 0, min(starts_on) - 1 FROM {p}_bounds) b
  ASOF JOIN known_rates r ON r.currency = c.currency AND r.rate_date <= b.closed_on""",
        ),
        (
            f"{p}_rates",
            f"""
  SELECT coalesce(o.currency, c.currency) AS currency, coalesce(o.ordinal + 1, c.ordinal) AS ordinal,
         o.rate AS opening_rate, c.rate AS closing_rate
  FROM {p}_closes o FULL JOIN {p}_closes c ON c.currency = o.currency AND c.ordinal = o.ordinal + 1""",
        ),
        (
            f"{p}_parts",
            f"""
  SELECT s.customer_id, s.currency, s.ordinal, {", ".join(f"s.{name}" for name in FLOWS)},
         CASE WHEN s.opening_balance = 0 THEN 0 ELSE {opening} END AS opening_mrr,
         CASE WHEN s.closing_balance = 0 THEN 0 ELSE {closing} END AS closing_mrr,
         s.opening_balance > 0 AS is_opening, s.closing_balance > 0 AS is_closing, s.has_new, s.has_churn
  FROM {p}_states s
  LEFT JOIN {p}_rates r ON r.currency = s.currency AND r.ordinal = s.ordinal
  WHERE s.ordinal > 0""",
        ),
        (
            # Only customers with several currencies need to be put together again; for all others a row is the customer.
            f"{p}_flagged",
            f"""
  SELECT *, has_new AND has_churn AS same_period, least(opening_mrr, closing_mrr) AS retained_mrr, true AS is_main_row
  FROM {p}_parts ANTI JOIN mixed USING (customer_id)
  UNION ALL
  SELECT * REPLACE (bool_or(is_opening) OVER w AS is_opening, bool_or(is_closing) OVER w AS is_closing,
                    bool_or(has_new) OVER w AS has_new, bool_or(has_churn) OVER w AS has_churn),
         bool_or(has_new) OVER w AND bool_or(has_churn) OVER w,
         CASE WHEN sum(opening_mrr) OVER w <= sum(closing_mrr) OVER w THEN opening_mrr ELSE closing_mrr END,
         row_number() OVER (w ORDER BY closing_mrr DESC, opening_mrr DESC, new <> 0 DESC, churn <> 0 DESC, currency) = 1
  FROM {p}_parts SEMI JOIN mixed USING (customer_id)
  WINDOW w AS (PARTITION BY customer_id, ordinal)""",
        ),
        (f"{p}_movements", _presented(p, by_currency)),
    ]


def _presented(prefix: str, by_currency: bool) -> str:
    """The columns of `movements_query`, per currency or summed to the customer."""
    amounts = ["opening_mrr", *FLOWS, "closing_mrr", "retained_mrr"]
    flags = ["is_opening", "is_closing", "has_new", "has_churn", "same_period"]
    source = f"{prefix}_flagged"
    if not by_currency:
        sums = ", ".join(f"sum({name}) AS {name}" for name in amounts)
        same = ", ".join(f"any_value({name}) AS {name}" for name in flags)
        source = f"""(
    SELECT customer_id, ordinal, {sums}, {same}, true AS is_main_row
    FROM {prefix}_flagged GROUP BY customer_id, ordinal)"""
    key = "m.customer_id, m.currency" if by_currency else "m.customer_id"
    flows = ",\n         ".join(f"CAST(m.{name} AS {_MONEY}) AS {name}" for name in FLOWS)
    return f"""
  SELECT b.starts_on AS period_start, b.ends_on AS period_end, {key},
         CAST(m.opening_mrr AS {_MONEY}) AS opening_mrr,
         {flows},
         CAST(m.closing_mrr - m.opening_mrr - m.new - m.expansion - m.reactivation + m.contraction + m.churn
              AS {_MONEY}) AS fx,
         CAST(m.closing_mrr AS {_MONEY}) AS closing_mrr, CAST(m.retained_mrr AS {_MONEY}) AS retained_mrr,
         m.is_opening, m.is_closing, m.is_opening AND NOT m.is_closing AS is_churned_logo, m.has_new AS is_new_logo,
         m.same_period, m.is_main_row, b.ends_on <= {local_date_sql("$watermark")} AS is_complete
  FROM {source} m JOIN {prefix}_bounds b ON b.ordinal = m.ordinal
  WHERE b.is_listed AND (m.is_opening OR m.is_closing
    OR m.opening_mrr <> 0 OR m.closing_mrr <> 0 OR {" OR ".join(f"m.{name} <> 0" for name in FLOWS)})"""
