"""Rates of closed deals: win rate, cycle, velocity, and a forecast beside what came.

Belongs here: what is counted over deals closed in a range of local days [start, end). Does not belong here: states of deals at an
instant (`sales`), stages (`funnel_deals`).

A representative's number counts the deal for its owner at the event (the owner just before it closed), or with
``owner_basis='current'`` for the owner of today.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines import sales
from models.engines.funnel_range import Parameters, instant, quoted, relation
from models.engines.sales import PRIOR_DEALS, PipelineSpec

GROUPS = ("owner_id", "pipeline", "channel", "campaign_id")


@dataclass(frozen=True)
class ClosedDealsSpec:
    """Deals closed in [start, end) of the reporting zone's days. ``by`` splits them by one column of GROUPS."""

    start: date
    end: date
    pipeline: str | None = None
    by: str | None = None
    owner_basis: str = "at_event"
    deals: str = "marts.fct_deals"
    history: str = "marts.deals_history"

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise UsageError("the range is empty", remedy="Give an end after the start.")
        if self.by is not None and self.by not in GROUPS:
            raise UsageError(f"deals cannot be split by '{self.by}'", remedy=f"Use one of: {', '.join(GROUPS)}.")
        if self.owner_basis not in ("at_event", "current"):
            raise UsageError(f"there is no owner basis '{self.owner_basis}'", remedy="Use at_event or current.")


def _closed(spec: ClosedDealsSpec, params: Parameters) -> str:
    only = f" AND pipeline = {params.bind(spec.pipeline)}" if spec.pipeline is not None else ""
    closed = (
        f"SELECT * FROM {relation(spec.deals)} WHERE closed_date >= {params.bind(spec.start)} "
        f"AND closed_date < {params.bind(spec.end)} AND (is_won OR is_lost){only}"
    )
    if spec.owner_basis == "current":
        return closed
    return (
        "SELECT d.* REPLACE (CASE WHEN h.deal_id IS NULL THEN d.owner_id ELSE h.owner_id END AS owner_id) "
        f"FROM ({closed}) AS d ASOF LEFT JOIN (SELECT deal_id, owner_id, valid_from FROM {relation(spec.history)}) AS h "
        "ON h.deal_id = d.deal_id AND h.valid_from < d.closed_at"
    )


def win_rate_sql(spec: ClosedDealsSpec) -> tuple[str, dict[str, Any]]:
    """One row (per group): won, lost, win_rate (by count), won_amount, lost_amount, win_rate__by_amount, average_won_amount
    (of won deals that have an amount, as the metric `pipeline_velocity` takes it), sales_cycle_days (median
    of won deals), won_without_cycle (closed before created: a fault of the data, left out of the median, never clipped).

    Rates are 0..1 and null without closed deals (by_amount: without closed amount). Deals without an amount count as 0.
    """
    params = Parameters()
    key = quoted(spec.by) if spec.by is not None else None
    lead, group = (f"{key}, ", f" GROUP BY {key} ORDER BY won DESC, {key}") if key else ("", "")
    text = f"""WITH closed AS ({_closed(spec, params)}),
summed AS (
    SELECT {lead}count(*) FILTER (is_won) AS won, count(*) FILTER (is_lost) AS lost,
        CAST(coalesce(sum(amount_reporting) FILTER (is_won), 0) AS DECIMAL(18,4)) AS won_amount,
        CAST(coalesce(sum(amount_reporting) FILTER (is_lost), 0) AS DECIMAL(18,4)) AS lost_amount,
        CAST(avg(amount_reporting) FILTER (is_won) AS DOUBLE) AS average_won_amount,
        median(cycle_days) FILTER (is_won AND cycle_days >= 0) AS sales_cycle_days,
        count(*) FILTER (is_won AND (cycle_days IS NULL OR cycle_days < 0)) AS won_without_cycle
    FROM closed{group}
)
SELECT {lead}won, lost, won / nullif(won + lost, 0) AS win_rate, won_amount, lost_amount,
    won_amount / nullif(won_amount + lost_amount, 0) AS win_rate__by_amount, average_won_amount, sales_cycle_days, won_without_cycle
FROM summed"""
    return text, params.values


def win_rate(con: duckdb.DuckDBPyConnection, spec: ClosedDealsSpec) -> pl.DataFrame:
    """Win rate by count and amount, and the cycle; see ``win_rate_sql``."""
    return con.execute(*win_rate_sql(spec)).pl()


def velocity(
    con: duckdb.DuckDBPyConnection,
    spec: PipelineSpec,
    day: date,
    trailing_days: int = 365,
    qualified_from_position: int | None = None,
    deals: str = "marts.fct_deals",
    by: str | None = None,
    owner_basis: str = "current",
    past_first_stage: bool = False,
) -> pl.DataFrame:
    """Pipeline velocity as of the end of ``day``: open qualified deals x win rate x average won amount / cycle days.

    Qualified is a stage at or after ``qualified_from_position``, or with ``past_first_stage`` any stage after the first of its
    pipeline (neither: every open stage). The other three come from deals of the same pipeline closed in the
    ``trailing_days`` up to and including ``day``. One row (per value of ``by``, a column of GROUPS): open_qualified_deals,
    won, lost, win_rate, average_won_amount, sales_cycle_days, velocity_per_day (reporting currency a day; null where a factor
    is null or the cycle 0). With ``owner_basis='at_event'`` an open deal counts for its owner of that day, a closed one
    for its owner just before it closed; with ``current`` both count for the owner of today.
    """
    if trailing_days < 1:
        raise UsageError(f"a trailing window of {trailing_days} days is not possible", remedy="Give at least 1 day.")
    first, last = day - timedelta(days=trailing_days - 1), day + timedelta(days=1)
    closed = ClosedDealsSpec(first, last, spec.pipeline, by, owner_basis, deals, spec.history)
    params = Parameters("v")
    at = params.bind(sales.as_of_instant(day, spec.time_zone))
    qualified = "TRUE" if qualified_from_position is None else f"s.stage_position >= {params.bind(qualified_from_position)}"
    if past_first_stage:
        qualified += (
            f" AND s.stage_position > coalesce((SELECT min(p.position) FROM {relation(spec.pipeline_stages)} AS p "
            "WHERE p.pipeline IS NOT DISTINCT FROM s.pipeline), 0)"
        )
    rates, rate_values = win_rate_sql(closed)
    state = sales.state_sql(spec, at, params)
    if by == "owner_id" and owner_basis == "current":
        state = (
            "SELECT s.* REPLACE (CASE WHEN d.deal_id IS NULL THEN s.owner_id ELSE d.owner_id END AS owner_id) "
            f"FROM ({state}) AS s LEFT JOIN {relation(deals)} AS d ON d.deal_id = s.deal_id"
        )
    key = quoted(by) if by is not None else None
    lead, group = (f"s.{key}, ", f" GROUP BY s.{key}") if key else ("", "")
    joined = f"FULL JOIN ({rates}) AS r ON r.{key} IS NOT DISTINCT FROM o.{key}" if key else f"CROSS JOIN ({rates}) AS r"
    named = f"coalesce(o.{key}, r.{key}) AS {key}, " if key else ""
    order = f" ORDER BY won DESC, {key}" if key else ""
    text = f"""SELECT {named}coalesce(o.n, 0) AS open_qualified_deals, coalesce(r.won, 0) AS won, coalesce(r.lost, 0) AS lost, r.win_rate,
    r.average_won_amount, r.sales_cycle_days,
    coalesce(o.n, 0) * r.win_rate * r.average_won_amount / nullif(r.sales_cycle_days, 0) AS velocity_per_day
FROM (SELECT {lead}count(*) AS n FROM ({state}) AS s WHERE s.is_open AND s.is_in_window AND {qualified}{group}) AS o
{joined}{order}"""
    return con.execute(text, {**params.values, **rate_values}).pl()


def forecast_against_actual_sql(
    spec: PipelineSpec,
    made_on: date,
    start: date,
    end: date,
    watermark: date | datetime,
    basis: str = "learned",
    prior_deals: float = PRIOR_DEALS,
    deals: str = "marts.fct_deals",
) -> tuple[str, dict[str, Any]]:
    """What was forecast at the end of ``made_on`` for deals closing in the local days [start, end), beside what came.

    The forecast is what had been won in the range by then, plus the weighted amount of deals open then and expected to close in
    the range; it uses nothing that was learned later. One row: won_by_then, weighted_open, forecast, open_deals,
    deals_without_probability, actual (won in the range by the watermark), error (forecast - actual), is_complete (the range
    has passed at the watermark; before that ``actual`` is only what has come so far).
    """
    if not start < end:
        raise UsageError("the range is empty", remedy="Give an end after the start.")
    within = replace(spec, close_from=start, close_to=end)
    weighted, values = sales.weighted_pipeline_sql(within, made_on, basis, prior_deals)
    params = Parameters("f")
    only = f" AND pipeline = {params.bind(spec.pipeline)}" if spec.pipeline is not None else ""
    won = (
        f"SELECT CAST(coalesce(sum(amount_reporting), 0) AS DECIMAL(18,4)) FROM {relation(deals)} WHERE is_won "
        f"AND closed_date >= {params.bind(start)} AND closed_date < {params.bind(end)}{only}"
    )
    then = params.bind(sales.as_of_instant(made_on, spec.time_zone))
    known, begun, finished = (params.bind(instant(m, spec.time_zone)) for m in (watermark, start, end))
    whole = replace(spec, close_from=None, close_to=None)
    # What had been won is read from the state of that day: a deal reopened since was won then.
    won_then = (
        "SELECT CAST(coalesce(sum(s.amount_reporting), 0) AS DECIMAL(18,4)) "
        f"FROM ({sales.state_sql(whole, then, params)}) AS s JOIN (SELECT deal_id, min(valid_from) AS won_at "
        f"FROM {relation(spec.history)} WHERE is_won AND valid_from < {then} GROUP BY deal_id) AS w USING (deal_id) "
        f"WHERE s.is_won AND w.won_at >= {begun} AND w.won_at < {finished}"
    )
    text = f"""WITH weighted AS ({weighted}),
parts AS (
    SELECT ({won_then}) AS won_by_then, (SELECT coalesce(sum(weighted_amount), 0) FROM weighted) AS weighted_open,
        (SELECT CAST(coalesce(sum(deals), 0) AS BIGINT) FROM weighted) AS open_deals,
        (SELECT CAST(coalesce(sum(deals_without_probability), 0) AS BIGINT) FROM weighted) AS deals_without_probability,
        ({won} AND closed_at < {known}) AS actual, {finished} <= {known} AS is_complete
)
SELECT won_by_then, weighted_open, won_by_then + weighted_open AS forecast, open_deals, deals_without_probability, actual,
    won_by_then + weighted_open - actual AS error, is_complete
FROM parts"""
    return text, {**values, **params.values}


def forecast_against_actual(
    con: duckdb.DuckDBPyConnection,
    spec: PipelineSpec,
    made_on: date,
    start: date,
    end: date,
    watermark: date | datetime,
    basis: str = "learned",
    prior_deals: float = PRIOR_DEALS,
    deals: str = "marts.fct_deals",
) -> pl.DataFrame:
    """A forecast made on a day against what came; see ``forecast_against_actual_sql``."""
    return con.execute(
        *forecast_against_actual_sql(spec, made_on, start, end, watermark, basis, prior_deals, deals)
    ).pl()
