"""Questions to the engines on a published snapshot, as the command line and the pages ask them.

Belongs here: reading the snapshot's settings into an engine's specification, choosing the log that holds the asked steps.
Does not belong here: how an engine answers (`models/engines`), how the answer is shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines import attribution as attribution_engine
from models.engines import attribution_costs, attribution_credits, funnel_deals, funnel_logs
from models.engines import funnel as funnel_engine
from models.engines import retention as retention_engine
from models.engines.funnel_steps import Step, parse_step, parse_steps
from models.metrics import context as metric_context

DEFAULT_WINDOW = "30d"
# Where a step's name is looked for first; a log that knows every step wins over the order.
LOG_ORDER = ("events", "leads", "deals", "touchpoints")
RETENTION_VARIANTS = ("bounded", "unbounded", "first_time", "recurring", "from_start", "from_previous", "revenue", "cumulative_revenue")
RETENTION_DIMENSIONS = {"country": "country_code", "segment": "segment", "acquisition_channel": "acquisition_channel", "acquisition_campaign": "acquisition_campaign_id",
                        "customer_type": "customer_type", "industry": "industry", "owner": "owner_id"}
_LENGTH = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)$")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def settings(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The settings the snapshot was built with."""
    cursor = con.execute("SELECT * FROM ops.settings")
    return dict(zip([d[0] for d in cursor.description], cursor.fetchone(), strict=True))


def mature_range(con: duckdb.DuckDBPyConnection, rule: str, start: date, end: date) -> tuple[date, date] | None:
    """The newest range `[start, end)` as long as the given one in which a metric of this rule of completeness has an answer.

    `rule` is a metric's `completeness`: a number of days that entries need until their outcome is known (`lead_conversion_window_days`),
    or `next_period` for cohorts whose following month must have ended. None when waiting changes nothing or the range is old enough.
    """
    known = metric_context.read(con)
    if rule == "next_period":
        last = known.calendar.add(known.calendar.floor(known.complete_until, "month"), "month", -1)
        if end <= last:
            return None
        return min(known.calendar.floor(last - (end - start), "month"), known.calendar.add(last, "month", -1)), last
    days = int(known.settings.get(rule) or 0)
    last = known.complete_until - timedelta(days=days)
    return (last - (end - start), last) if days and end > last else None


def length(text: str) -> timedelta:
    """A window such as `90s`, `30m`, `1h`, `7d`, `2w`. Raises UsageError."""
    match = _LENGTH.match(text.strip())
    if not match or float(match.group(1)) <= 0:
        raise UsageError(f"{text!r} is no length of time", field="--window", remedy="Write a number and s, m, h, d or w, e.g. 7d.")
    return timedelta(**{_UNITS[match.group(2)]: float(match.group(1))})


def log_for(con: duckdb.DuckDBPyConnection, steps: Sequence[Step]) -> str:
    """The log that holds most of the asked steps, the first of `LOG_ORDER` among equals. Raises UsageError when none holds any."""
    names = [s.name for s in steps]
    found = {name: con.execute(f"SELECT count(DISTINCT name) FROM ({funnel_logs.LOGS[name]().select}) WHERE list_contains(?, name)", [names]).fetchone()[0] for name in LOG_ORDER}
    best = max(LOG_ORDER, key=lambda name: (found[name], -LOG_ORDER.index(name)))
    if not found[best]:
        known = {name: [r[0] for r in con.execute(f"SELECT name FROM ({funnel_logs.LOGS[name]().select}) WHERE name IS NOT NULL GROUP BY name ORDER BY count(*) DESC LIMIT 8").fetchall()] for name in LOG_ORDER}
        offered = "; ".join(f"{name}: {', '.join(values)}" for name, values in known.items() if values) or "the snapshot holds no events, leads, deals or touchpoints"
        raise UsageError(f"no log has a step named {names[0]!r}", field="--steps", remedy=f"Known steps — {offered}.")
    return best


def funnel_spec(con: duckdb.DuckDBPyConnection, steps: str, *, log: str | None = None, window: str | None = None, step_windows: Sequence[str | None] = (),
                order: str = "sequential", reentry: str = "first_entry", entry: str = "first_matching", exclude: Sequence[str] = (), by: str | None = None, at: str = "first",
                grain: str | None = None, start: date | None = None, end: date | None = None) -> funnel_engine.FunnelSpec:
    """A funnel question in words as an engine specification. `exclude` entries are `name` or `name@after-before`, steps counted from 1."""
    known = settings(con)
    wanted = parse_steps(steps)
    chosen = log or log_for(con, wanted)
    exclusions = []
    for text in exclude:
        name, _, span = text.partition("@")
        after, _, before = span.partition("-")
        try:
            exclusions.append(funnel_engine.Exclusion(parse_step(name), int(after or 1), int(before) if before else None))
        except ValueError:
            raise UsageError(f"{text!r} is no exclusion", field="--exclude", remedy="Write NAME, or NAME@2-3 for between steps 2 and 3.") from None
    breakdown = None
    if by:
        breakdown = funnel_engine.Breakdown(RETENTION_DIMENSIONS.get(by, by) if by != "channel" else by, at if at in ("first", "last") else _whole(at))
    return funnel_engine.FunnelSpec(
        log=funnel_logs.log_named(chosen), steps=wanted, window=length(window or DEFAULT_WINDOW), start=start, end=end, order=order, reentry=reentry, entry_kind=entry,
        step_windows=tuple(length(w) if w else None for w in step_windows), exclusions=tuple(exclusions), breakdown=breakdown, grain=grain,
        time_zone=known["time_zone"], watermark=known["watermark"])


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} is no touch", field="--at", remedy="Use first, last or the number of a step.") from None


def funnel(con: duckdb.DuckDBPyConnection, spec: funnel_engine.FunnelSpec) -> pl.DataFrame:
    """Rows of `funnel.counts_sql`, the breakdown named `breakdown`."""
    return funnel_engine.run(con, spec)


def retention_spec(con: duckdb.DuckDBPyConnection, *, variants: Sequence[str] = (), grain: str = "month", start_event: str | None = None, return_event: str | None = None,
                   by: Sequence[str] = (), start: date | None = None, end: date | None = None, max_periods: int | None = None,
                   show_incomplete: bool = False) -> retention_engine.RetentionSpec:
    """A retention question in words. `variants` may combine one of each choice; events are names in the event log, else orders."""
    unknown = [v for v in variants if v not in RETENTION_VARIANTS]
    if unknown:
        raise UsageError(f"there is no retention variant {unknown[0]!r}", field="--variant", remedy=f"Use {', '.join(RETENTION_VARIANTS)}.")
    known = settings(con)
    chosen: dict[str, str] = {}
    for variant in variants:
        for field, values in (("bound", retention_engine.BOUNDS), ("cohorts", retention_engine.COHORTS), ("base", retention_engine.BASES), ("measure", retention_engine.MEASURES)):
            if variant in values:
                chosen[field] = variant
    columns = []
    for name in by:
        if name not in RETENTION_DIMENSIONS:
            raise UsageError(f"retention cannot be broken down by {name!r}", field="--by", remedy=f"Use {', '.join(RETENTION_DIMENSIONS)}.")
        columns.append(RETENTION_DIMENSIONS[name])
    try:
        return retention_engine.RetentionSpec(
            time_zone=known["time_zone"], watermark=known["watermark"], grain=grain, week_start=known["week_start"], start=_activity(start_event),
            returns=_activity(return_event) if return_event else None, cohorts_from=start, cohorts_to=end, max_periods=max_periods, breakdown=tuple(columns),
            dimensions="marts.dim_customers" if columns else None, gaps="ops.ingestion_gaps", show_incomplete=show_incomplete, **chosen)
    except ValueError as error:
        raise UsageError(str(error), remedy="See `rapport retention --help`.") from None


def _activity(event: str | None) -> retention_engine.Activity:
    if event is None or event == "order":
        return retention_engine.Activity()
    return retention_engine.Activity(table="marts.fct_events", occurred_on="occurred_date", occurred_at="occurred_at", amount=None, only=(("name", (event,)),), tie_columns=("sequence", "event_id"))


def retention(con: duckdb.DuckDBPyConnection, spec: retention_engine.RetentionSpec) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(cells, mean row): see `retention.cells_query` and `mean_query`; breakdown columns under their public names."""
    public = {column: name for name, column in RETENTION_DIMENSIONS.items() if column in spec.breakdown}
    return retention_engine.run(con, spec).rename(public), retention_engine.run_mean(con, replace(spec, show_incomplete=False)).rename(public)


def cost_by_channel(con: duckdb.DuckDBPyConnection, start: date | None, end: date, variant: str = "blended") -> pl.DataFrame:
    """Spend, new customers and CAC by channel under the workspace's attribution model, with `unattributed`; see `attribution_costs.by_channel_sql`."""
    known = settings(con)
    first = start or con.execute("SELECT least(min(acquired_date), (SELECT min(spend_date) FROM marts.fct_marketing_spend)) FROM marts.fct_new_customers").fetchone()[0] or end - timedelta(days=1)
    return attribution_costs.by_channel(con, attribution_costs.CostSpec(start=first, end=end, variant=variant, model=known["attribution_model"], time_zone=known["time_zone"]))


def deal_stages(con: duckdb.DuckDBPyConnection, pipeline: str | None = None, start: date | None = None, end: date | None = None, stages: Sequence[str] = ()) -> pl.DataFrame:
    """Deals by stage, counted `in_order`, by `any_stage` and `imputed`; see `funnel_deals.counts_sql`."""
    return funnel_deals.run(con, funnel_deals.DealFunnelSpec(pipeline=pipeline, stages=tuple(stages), start=start, end=end, time_zone=settings(con)["time_zone"]))


def stage_counts(con: duckdb.DuckDBPyConnection, steps: str, count: str, pipeline: str | None = None, start: date | None = None, end: date | None = None) -> pl.DataFrame:
    """Stages in the form of a funnel: step, step_name, entries (the count asked for), from_start, from_previous and all three counts, summed over pipelines."""
    named = [s.name for s in parse_steps(steps)]
    frame = deal_stages(con, pipeline, start, end, named)
    counts = frame.group_by("stage_position", "stage").agg(pl.col("in_order", "any_stage", "imputed").sum()).sort("stage_position")
    entries = pl.col(count)
    return counts.select(pl.col("stage_position").alias("step"), pl.col("stage").alias("step_name"), entries.alias("entries"),
                         pl.when(entries.first() > 0).then(entries / entries.first()).alias("from_start"),
                         pl.when(entries.shift(1) > 0).then(entries / entries.shift(1)).alias("from_previous"), "in_order", "any_stage", "imputed")


def attribution(con: duckdb.DuckDBPyConnection, model: str | None = None, *, conversions: str = "order", lookback_days: float | None = None, half_life_days: float = 7.0,
                start: date | None = None, end: date | None = None) -> pl.DataFrame:
    """Conversions and revenue credited to each channel; `model` None is the workspace's, `all` every one. See `attribution.summary_sql`.

    `conversions` is `order` (every valued order) or `new_customer` (the first ever payment).
    """
    known = settings(con)
    wanted = attribution_engine.MODELS if model == "all" else (model or known["attribution_model"],)
    base = attribution_engine.AttributionSpec(models=tuple(wanted), lookback_days=known["attribution_lookback_days"] if lookback_days is None else lookback_days, half_life_days=half_life_days,
                                              start=start, end=end or known["watermark"], time_zone=known["time_zone"])
    return attribution_engine.run(con, attribution_credits.spec_for(conversions, base))
