"""The parts of a movement statement: paid terms, classified steps, periods and the rows between steps.

Belongs here: SQL text of the movement engine. Does not belong here: the specification, its checks and the questions made of
these parts (`movements`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.engines.movements_periods import (
    Periods,
    local_date_sql,
    period_number_sql,
    period_start_sql,
    quoted,
    relation,
    with_parts,
)

if TYPE_CHECKING:
    from models.engines.movements import MovementSpec

FLOWS = ("new", "expansion", "contraction", "churn", "reactivation")

# 14 digits before the point and 4 after: the money type of the warehouse. Rates get 12 decimals because one unit of a
# small currency is worth as little as 0.00004 of a large one. Their product still fits DECIMAL(38,16).
MONEY = "DECIMAL(18,4)"
_RATE = "DECIMAL(20,12)"


def parameters(spec: MovementSpec, periods: Periods) -> dict[str, object]:
    return {
        "time_zone": spec.time_zone,
        "reporting_currency": spec.reporting_currency,
        "watermark": spec.watermark,
        "period_starts": [start for start, _ in periods.listed],
        "period_ends": [end for _, end in periods.listed],
    }


def assembled(spec: MovementSpec, ctes: Sequence[tuple[str, str]]) -> str:
    return with_parts(ctes, [spec.terms, spec.subscriptions, spec.exchange_rates])


def first_rates_sql(spec: MovementSpec) -> str:
    return f"""SELECT currency, min(rate_date) AS first_rate_date
  FROM {relation(spec.exchange_rates)} WHERE rate_to_reporting IS NOT NULL GROUP BY currency"""


def has_rate_sql(term: str, rate: str) -> str:
    # CASE and not OR: zone arithmetic is only paid for by terms in a foreign currency.
    return f"""CASE WHEN {term}.currency = $reporting_currency THEN true
    ELSE coalesce({rate}.first_rate_date <= {local_date_sql(f"{term}.valid_from")}, false) END"""


def _valued(balance: str, currency: str, rate: str) -> str:
    # round() before the cast: casting a product of 38 digits straight to 18 takes three times as long.
    return (
        f"CASE WHEN {currency} = $reporting_currency THEN {balance} "
        f"ELSE CAST(round({balance} * {rate}, 4) AS {MONEY}) END"
    )


def _paid_ctes(spec: MovementSpec) -> list[tuple[str, str]]:
    """Terms that bring revenue, cut at the cancellation request where churn is dated by it."""
    paid = f"""
  SELECT t.subscription_id, coalesce(t.customer_id, 'subscription:' || t.subscription_id) AS customer_id,
         t.currency, CAST(t.mrr_amount AS {MONEY}) AS mrr, t.valid_from, t.valid_to
  FROM {relation(spec.terms)} t LEFT JOIN first_rates r ON r.currency = t.currency
  WHERE t.mrr_amount <> 0 AND t.valid_from <= $watermark AND (t.valid_to IS NULL OR t.valid_to > t.valid_from)
    AND {has_rate_sql("t", "r")}"""
    ctes = [("first_rates", first_rates_sql(spec))]
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


def step_parts(spec: MovementSpec) -> list[tuple[str, str]]:
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
  SELECT customer_id, currency, changed_at, CAST(sum(delta) AS {MONEY}) AS delta FROM (
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
                                 ROWS UNBOUNDED PRECEDING) AS {MONEY}) AS balance_after
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


def period_parts(prefix: str, periods: Periods, by_currency: bool, spec: MovementSpec) -> list[tuple[str, str]]:
    """`<prefix>_movements`: the steps folded into periods, with a row for each period a balance stood still in."""
    p = prefix
    flows = ",\n         ".join(
        f"coalesce(sum({sign}step) FILTER (kind = '{kind}'), 0) AS {quoted(kind)}"
        for kind, sign in zip(FLOWS, ("", "", "-", "-", ""), strict=True)
    )
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
  SELECT s.*, m.customer_id IS NOT NULL AS is_mixed,
         lead(ordinal) OVER (PARTITION BY s.customer_id, s.currency ORDER BY ordinal) AS next_ordinal
  FROM {p}_moved s LEFT JOIN mixed m ON m.customer_id = s.customer_id""",
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
            # Only customers with several currencies need to be put together again; for all others a row is the customer,
            # and in the reporting currency it needs no rate. The three kinds are read apart, so that the long list of
            # rows is neither kept to be read twice nor put into the hash table of a join with a hundred rates.
            f"{p}_flagged",
            f"""
  SELECT *, has_new AND has_churn AS same_period, least(opening_mrr, closing_mrr) AS retained_mrr, true AS is_main_row
  FROM ({_parts(p, spec, "NOT is_mixed AND currency = $reporting_currency", has_rates=False)}
        UNION ALL {_parts(p, spec, "NOT is_mixed AND currency <> $reporting_currency", has_rates=True)})
  UNION ALL
  SELECT * REPLACE (bool_or(is_opening) OVER w AS is_opening, bool_or(is_closing) OVER w AS is_closing,
                    bool_or(has_new) OVER w AS has_new, bool_or(has_churn) OVER w AS has_churn),
         bool_or(has_new) OVER w AND bool_or(has_churn) OVER w,
         CASE WHEN sum(opening_mrr) OVER w <= sum(closing_mrr) OVER w THEN opening_mrr ELSE closing_mrr END,
         row_number() OVER (w ORDER BY closing_mrr DESC, opening_mrr DESC, new <> 0 DESC, churn <> 0 DESC, currency) = 1
  FROM ({_parts(p, spec, "is_mixed", has_rates=True)})
  WINDOW w AS (PARTITION BY customer_id, ordinal)""",
        ),
        (f"{p}_movements", _presented(p, by_currency)),
    ]


def _parts(p: str, spec: MovementSpec, which: str, has_rates: bool) -> str:
    """A row per period for `which` spans: the one that moved, and those after it in which the balance stood still."""
    names = ", ".join(FLOWS)
    nothing = ", ".join("0" for _ in FLOWS)
    opening, closing = "s.opening_balance", "s.closing_balance"
    join = ""
    if spec.amounts == "reporting" and has_rates:
        join = f"LEFT JOIN {p}_rates r ON r.currency = s.currency AND r.ordinal = s.ordinal"
        opening = _valued(opening, "s.currency", "r.opening_rate")
        closing = _valued(closing, "s.currency", "r.closing_rate")
    return f"""
  SELECT s.customer_id, s.currency, s.ordinal, {", ".join(f"s.{name}" for name in FLOWS)},
         CASE WHEN s.opening_balance = 0 THEN 0 ELSE {opening} END AS opening_mrr,
         CASE WHEN s.closing_balance = 0 THEN 0 ELSE {closing} END AS closing_mrr,
         s.opening_balance > 0 AS is_opening, s.closing_balance > 0 AS is_closing, s.has_new, s.has_churn
  FROM (
    SELECT customer_id, currency, ordinal, {names}, opening_balance, closing_balance, has_new, has_churn
    FROM {p}_spans WHERE {which}
    UNION ALL
    SELECT customer_id, currency,
           unnest(range(ordinal + 1, coalesce(next_ordinal, 1 + (SELECT max(ordinal) FROM {p}_bounds)))),
           {nothing}, closing_balance, closing_balance, false, false
    FROM {p}_spans WHERE closing_balance <> 0 AND {which}
  ) s {join}
  WHERE s.ordinal > 0"""


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
    flows = ",\n         ".join(f"CAST(m.{name} AS {MONEY}) AS {name}" for name in FLOWS)
    return f"""
  SELECT b.starts_on AS period_start, b.ends_on AS period_end, {key},
         CAST(m.opening_mrr AS {MONEY}) AS opening_mrr,
         {flows},
         CAST(m.closing_mrr - m.opening_mrr - m.new - m.expansion - m.reactivation + m.contraction + m.churn
              AS {MONEY}) AS fx,
         CAST(m.closing_mrr AS {MONEY}) AS closing_mrr, CAST(m.retained_mrr AS {MONEY}) AS retained_mrr,
         m.is_opening, m.is_closing, m.is_opening AND NOT m.is_closing AS is_churned_logo, m.has_new AS is_new_logo,
         m.same_period, m.is_main_row, b.ends_on <= {local_date_sql("$watermark")} AS is_complete
  FROM {source} m JOIN {prefix}_bounds b ON b.ordinal = m.ordinal
  WHERE b.is_listed AND (m.is_opening OR m.is_closing
    OR m.opening_mrr <> 0 OR m.closing_mrr <> 0 OR {" OR ".join(f"m.{name} <> 0" for name in FLOWS)})"""
