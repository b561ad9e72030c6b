"""Questions about sales history on a published snapshot, as the command line and the pages ask them.

Belongs here: reading the snapshot's settings into the sales engines' specifications, setting their answers beside each other.
Does not belong here: how an engine answers (`models/engines/sales*`), targets (`analysis_targets`), how an answer is shown.

A day is a local day of the workspace; as of a day is as of its end. `where` filters by `scope.DIMENSIONS["deals"]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from data_contracts.errors import UsageError
from models import analysis
from models.engines import funnel_deals, sales, sales_open, sales_rates
from models.metrics import context as metric_context
from models.metrics.calendar import add_months
from models.scope import Connection, named, scoped

BASES = ("crm", "learned")
OWNERS = ("at_event", "current")
GROUPS = {"owner": "owner_id", "pipeline": "pipeline", "channel": "channel", "campaign": "campaign_id"}
_PERIOD = re.compile(r"^(\d{4})(?:-(?:(\d{2})|Q([1-4])))?$")


def newest_day(con: Connection) -> date:
    """The local day of the newest data: as of it is as of now."""
    return metric_context.read(con).data_end - timedelta(days=1)


def period(text: str) -> tuple[date, date]:
    """A month `2026-03`, a calendar quarter `2026-Q1`, a year `2026`, or `FIRST..AFTER` in days, as `[start, end)`. Raises UsageError."""
    match = _PERIOD.match(text.strip())
    try:
        if match:
            year, month, quarter = (int(part) if part else None for part in match.groups())
            first = date(year or 1, month or (3 * quarter - 2 if quarter else 1), 1)
            return first, add_months(first, 1 if month else 3 if quarter else 12)
        first_text, _, after = text.partition("..")
        start, end = date.fromisoformat(first_text.strip()), date.fromisoformat(after.strip())
        if start < end:
            return start, end
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no period", field="--for", remedy="Write a month (2026-03), a quarter (2026-Q1), a year (2026), or FIRST..AFTER as days, the second one exclusive.")


def _spec(con: Connection, pipeline: str | None = None, close: tuple[date, date] | None = None) -> sales.PipelineSpec:
    start, end = close or (None, None)
    if pipeline is not None:
        offered = [r[0] for r in con.execute("SELECT pipeline FROM marts.deals_history WHERE pipeline IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC").fetchall()]
        if pipeline not in offered:
            raise UsageError(f"there is no pipeline {pipeline!r}", field="--pipeline", remedy=f"Use {', '.join(offered)}." if offered else "The snapshot holds no deals.")
    # Chances are learned from all deals, so that the parts of a filtered pipeline add up to the whole.
    return sales.PipelineSpec(pipeline, start, end, analysis.settings(con)["time_zone"], named(con, "marts.deals_history"), learn_from="marts.deals_history")


def owner_names(con: Connection) -> pl.DataFrame:
    """owner_id and owner (a name, or the id where there is none), one row per user."""
    return con.execute("SELECT user_id AS owner_id, coalesce(name, user_id) AS owner FROM marts.dim_users").pl()


def with_owner_names(con: Connection, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `owner` before their `owner_id`, where they have one: personal data, for those who may see it."""
    if "owner_id" not in rows.columns:
        return rows
    named_rows = rows.join(owner_names(con), on="owner_id", how="left", maintain_order="left").with_columns(pl.coalesce("owner", "owner_id").alias("owner"))
    return named_rows.select("owner", *rows.columns)


def pipeline(con: Connection, day: date | None = None, by: str | None = "stage", *, pipeline: str | None = None, close: tuple[date, date] | None = None, where: str | None = None) -> pl.DataFrame:
    """The open pipeline at the end of `day` (the newest by default); see `sales_open.summary_sql`. `close` keeps deals expected to close in `[start, end)`."""
    con = scoped(con, "deals", where)
    return sales_open.summary(con, _spec(con, pipeline, close), day or newest_day(con), by)


def movement(con: Connection, first: date, last: date, *, pipeline: str | None = None, close: tuple[date, date] | None = None, where: str | None = None) -> pl.DataFrame:
    """What moved the open pipeline between the ends of two days, first to last: movement, deals, amount; see `sales.movement_sql`."""
    con = scoped(con, "deals", where)
    return sales.movement(con, _spec(con, pipeline, close), first, last)


def next_period(made_on: date) -> tuple[date, date]:
    """The month that holds the day after `made_on`: what somebody who forecasts that evening speaks of."""
    first = (made_on + timedelta(days=1)).replace(day=1)
    return first, add_months(first, 1)


def forecast(con: Connection, made_on: date, start: date, end: date, *, pipeline: str | None = None, where: str | None = None, bases: Sequence[str] = BASES) -> pl.DataFrame:
    """The forecast made at the end of `made_on` for deals closing in `[start, end)` against what came, one row per basis of probability.

    Columns: made_on, period_start, period_end, basis, then those of `sales_rates.forecast_against_actual_sql`, then error_rate (error / actual; null without an actual).
    """
    con = scoped(con, "deals", where)
    spec, watermark = _spec(con, pipeline), analysis.settings(con)["watermark"]
    rows = [sales_rates.forecast_against_actual(con, spec, made_on, start, end, watermark, basis, deals=named(con, "marts.fct_deals"))
            .select(pl.lit(made_on).alias("made_on"), pl.lit(start).alias("period_start"), pl.lit(end).alias("period_end"), pl.lit(basis).alias("basis"), pl.all()) for basis in bases]
    return pl.concat(rows).with_columns(pl.when(pl.col("actual") != 0).then(pl.col("error") / pl.col("actual").cast(pl.Float64)).alias("error_rate"))


def forecasts(con: Connection, months: int = 12, *, pipeline: str | None = None, where: str | None = None, bases: Sequence[str] = BASES) -> pl.DataFrame:
    """Forecasts made on the eve of each of the last complete months and of the running one, oldest first; see `forecast`."""
    running = newest_day(con).replace(day=1)
    eves = [add_months(running, -back) - timedelta(days=1) for back in range(months, -1, -1)]
    return pl.concat([forecast(con, eve, *next_period(eve), pipeline=pipeline, where=where, bases=bases) for eve in eves])


def durations(con: Connection, *, pipeline: str | None = None, start: date | None = None, end: date | None = None, where: str | None = None) -> pl.DataFrame:
    """How long deals created in `[start, end)` stay in each stage, of first visits and of all, in the order of the stages; see `funnel_deals.stage_durations_sql`."""
    con = scoped(con, "deals", where)
    known = analysis.settings(con)
    _spec(con, pipeline)
    spec = funnel_deals.DealFunnelSpec(pipeline=pipeline, start=start, end=end, time_zone=known["time_zone"], deals=named(con, "marts.fct_deals"))
    places = con.execute(f"SELECT pipeline, stage, position FROM ({funnel_deals.latest_stages_sql(spec.pipeline_stages)})").pl()
    rows = funnel_deals.stage_durations(con, spec, known["watermark"])
    return rows.join(places, on=["pipeline", "stage"], how="left").sort("pipeline", "position", "stage", "visit_basis").drop("position")


def performance(con: Connection, start: date | None = None, end: date | None = None, by: str | None = "owner", *, owner: str = "at_event", pipeline: str | None = None, where: str | None = None) -> pl.DataFrame:
    """Win rate, amounts, cycle and velocity of deals closed in `[start, end)`, one row in all or per value of `by`.

    Columns: the group, open_qualified_deals (at the end of the range), won, lost, win_rate, won_amount, lost_amount, win_rate__by_amount,
    average_won_amount, sales_cycle_days, won_without_cycle, velocity_per_day. Qualified is past the first stage of its pipeline, as in the
    metric `pipeline_velocity`. `owner` says for whom a deal counts: `at_event`, its owner when it closed (while open: at the end of the
    range), or `current`, its owner of today.
    """
    if by is not None and by not in GROUPS:
        raise UsageError(f"sales cannot be broken down by {by!r}", field="--by", remedy=f"Use {', '.join(GROUPS)}.")
    if owner not in OWNERS:
        raise UsageError(f"there is no owner basis {owner!r}", field="--owner", remedy=f"Use {' or '.join(OWNERS)}.")
    con = scoped(con, "deals", where)
    key = GROUPS[by] if by else None
    last = end or newest_day(con) + timedelta(days=1)
    first = start or con.execute("SELECT min(closed_date) FROM marts.fct_deals").fetchone()[0] or last - timedelta(days=1)
    spec, deals = _spec(con, pipeline), named(con, "marts.fct_deals")
    rates = sales_rates.win_rate(con, sales_rates.ClosedDealsSpec(first, last, pipeline, key, owner, deals, spec.history))
    speed = sales_rates.velocity(con, spec, last - timedelta(days=1), (last - first).days, deals=deals, by=key, owner_basis=owner, past_first_stage=True)
    added = ["won_amount", "lost_amount", "win_rate__by_amount", "won_without_cycle"]
    both = speed.join(rates.select(key, *added), on=key, how="left", nulls_equal=True, maintain_order="left") if key else pl.concat([speed, rates.select(added)], how="horizontal")
    zero = pl.lit(0).cast(pl.Decimal(18, 4))
    return both.with_columns(pl.col("won_amount", "lost_amount").fill_null(zero), pl.col("won_without_cycle").fill_null(0)).select(
        *([key] if key else []), "open_qualified_deals", "won", "lost", "win_rate", "won_amount", "lost_amount", "win_rate__by_amount", "average_won_amount", "sales_cycle_days", "won_without_cycle", "velocity_per_day")


def has_deals(con: Connection) -> bool:
    """Whether the company has, or had, any deal."""
    return bool(con.execute("SELECT count(*) FROM (FROM marts.deals_history LIMIT 1)").fetchone()[0])


def removed_since(con: Connection, day: date, pipeline: str | None = None) -> int:
    """Deals open at the end of `day` that have been deleted or merged away since: the pipeline of that day holds them, metrics of today do not."""
    text, values = sales.pipeline_as_of_sql(_spec(con, pipeline), day)
    return int(con.execute(f"SELECT count(*) FROM ({text}) AS h WHERE NOT EXISTS (SELECT 1 FROM marts.fct_deals AS d WHERE d.deal_id = h.deal_id)", values).fetchone()[0])
