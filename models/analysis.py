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
from models.engines import attribution_costs, attribution_credits, funnel_compare, funnel_deals, funnel_logs
from models.engines import funnel as funnel_engine
from models.engines import retention as retention_engine
from models.engines.funnel_steps import Step, parse_step, parse_steps
from models.metrics import context as metric_context
from models.scope import Connection, named, scoped

DEFAULT_WINDOW = "30d"
# Where a step's name is looked for first; a log that knows every step wins over the order.
LOG_ORDER = ("events", "leads", "deals", "touchpoints")
RETENTION_VARIANTS = ("bounded", "unbounded", "first_time", "recurring", "from_start", "from_previous", "revenue", "cumulative_revenue")
RETENTION_DIMENSIONS = {"country": "country_code", "segment": "segment", "acquisition_channel": "acquisition_channel", "acquisition_campaign": "acquisition_campaign_id",
                        "customer_type": "customer_type", "industry": "industry", "owner": "owner_id"}
_LENGTH = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)$")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def settings(con: Connection) -> dict[str, Any]:
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


def log_for(con: Connection, steps: Sequence[Step]) -> str:
    """The log that holds most of the asked steps, the first of `LOG_ORDER` among equals. Raises UsageError when none holds any."""
    names = [s.name for s in steps]
    found = {name: con.execute(f"SELECT count(DISTINCT name) FROM ({funnel_logs.LOGS[name]().select}) WHERE list_contains(?, name)", [names]).fetchone()[0] for name in LOG_ORDER}
    best = max(LOG_ORDER, key=lambda name: (found[name], -LOG_ORDER.index(name)))
    if not found[best]:
        known = {name: [r[0] for r in con.execute(f"SELECT name FROM ({funnel_logs.LOGS[name]().select}) WHERE name IS NOT NULL GROUP BY name ORDER BY count(*) DESC LIMIT 8").fetchall()] for name in LOG_ORDER}
        offered = "; ".join(f"{name}: {', '.join(values)}" for name, values in known.items() if values) or "the snapshot holds no events, leads, deals or touchpoints"
        raise UsageError(f"no log has a step named {names[0]!r}", field="--steps", remedy=f"Known steps — {offered}.")
    return best


def funnel_spec(con: Connection, steps: str, *, log: str | None = None, window: str | None = None, step_windows: Sequence[str | None] = (),
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
        log=_log(con, chosen), steps=wanted, window=length(window or DEFAULT_WINDOW), start=start, end=end, order=order, reentry=reentry, entry_kind=entry,
        step_windows=tuple(length(w) if w else None for w in step_windows), exclusions=tuple(exclusions), breakdown=breakdown, grain=grain,
        time_zone=known["time_zone"], watermark=known["watermark"])


def log_subject(log: str) -> str:
    """The subject by whose dimensions a log is filtered; see `scope.DIMENSIONS`. Raises UsageError for an unknown log."""
    funnel_logs.log_named(log)
    return log if log in ("leads", "deals") else "customers"


def _log(con: Connection, name: str) -> funnel_logs.EventLog:
    """The log over the tables that a question asked on `con` reads."""
    if name == "leads":
        return funnel_logs.lead_lifecycle_log(named(con, "marts.fct_leads"), named(con, "marts.fct_orders"))
    if name == "deals":
        return funnel_logs.deal_stages_log(deals=named(con, "marts.fct_deals"))
    if name == "events":
        return funnel_logs.events_log(events=named(con, "marts.fct_events"))
    if name == "touchpoints":
        return funnel_logs.touchpoints_log(named(con, "marts.fct_touchpoints"))
    return funnel_logs.log_named(name)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} is no touch", field="--at", remedy="Use first, last or the number of a step.") from None


def funnel(con: Connection, spec: funnel_engine.FunnelSpec) -> pl.DataFrame:
    """Rows of `funnel.counts_sql`, the breakdown named `breakdown`."""
    return funnel_engine.run(con, spec)


def funnel_comparison(con: Connection, spec: funnel_engine.FunnelSpec) -> pl.DataFrame:
    """The funnel beside the same one over the like-for-like range before it, with a test of each step's difference; see `funnel_compare.compare`.

    Like for like follows the metric layer: whole months compare with whole months, a running range with as many days before it.
    Columns added: before_start, before_end (exclusive).
    """
    if not isinstance(spec.start, date) or not isinstance(spec.end, date):
        raise UsageError("a comparison needs a range", field="--from", remedy="Give --from and --to.")
    known = metric_context.read(con)
    before = known.calendar.previous(spec.start, spec.end, None, known.data_end)
    now = replace(spec, end=max(min(spec.end, known.data_end), spec.start + timedelta(days=1)))
    return funnel_compare.compare(con, now, before).with_columns(pl.lit(before[0]).alias("before_start"), pl.lit(before[1]).alias("before_end"))


def time_to_convert(con: Connection, spec: funnel_engine.FunnelSpec) -> pl.DataFrame:
    """converted, median_seconds, p90_seconds, mean_seconds from entry to the last step; see `funnel.time_to_convert_sql`."""
    return funnel_engine.time_to_convert(con, spec)


def conversion_histogram(con: Connection, spec: funnel_engine.FunnelSpec, buckets: int = 18) -> pl.DataFrame:
    """Converted entries by the time they took, in equal parts of the window; see `funnel.histogram_sql`."""
    return funnel_engine.histogram(con, spec, buckets)


def step_names(con: Connection, log: str) -> list[str]:
    """Names that a log knows, most frequent first."""
    return [r[0] for r in con.execute(f"SELECT name FROM ({funnel_logs.log_named(log).select}) WHERE name IS NOT NULL GROUP BY name ORDER BY count(*) DESC, name LIMIT 60").fetchall()]


def retention_spec(con: Connection, *, variants: Sequence[str] = (), grain: str = "month", start_event: str | None = None, return_event: str | None = None,
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
            time_zone=known["time_zone"], watermark=known["watermark"], grain=grain, week_start=known["week_start"], start=_activity(con, start_event),
            returns=_activity(con, return_event) if return_event else None, cohorts_from=start, cohorts_to=end, max_periods=max_periods, breakdown=tuple(columns),
            dimensions="marts.dim_customers" if columns else None, gaps="ops.ingestion_gaps", show_incomplete=show_incomplete, **chosen)
    except ValueError as error:
        raise UsageError(str(error), remedy="See `rapport retention --help`.") from None


def _activity(con: Connection, event: str | None) -> retention_engine.Activity:
    if event is None or event == "order":
        return retention_engine.Activity(table=named(con, "marts.fct_orders"))
    return retention_engine.Activity(table=named(con, "marts.fct_events"), occurred_on="occurred_date", occurred_at="occurred_at", amount=None, only=(("name", (event,)),), tie_columns=("sequence", "event_id"))


def retention(con: Connection, spec: retention_engine.RetentionSpec) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(cells, mean row): see `retention.cells_query` and `mean_query`; breakdown columns under their public names."""
    public = {column: name for name, column in RETENTION_DIMENSIONS.items() if column in spec.breakdown}
    return retention_engine.run(con, spec).rename(public), retention_engine.run_mean(con, replace(spec, show_incomplete=False)).rename(public)


def cost_by_channel(con: Connection, start: date | None, end: date, variant: str = "blended", channel: str | None = None, where: str | None = None) -> pl.DataFrame:
    """Spend, new customers and CAC by channel under the workspace's attribution model, with `unattributed`; see `attribution_costs.by_channel_sql`.

    `channel` keeps the row of one channel. `where` (dimensions of customers) keeps the new customers that fit; money is not spent by
    attribute of a customer, so spend and cac are then null, as they are where no spend was ever delivered, and `reason` says why.
    """
    known = settings(con)
    first = start or con.execute("SELECT least(min(acquired_date), (SELECT min(spend_date) FROM marts.fct_marketing_spend)) FROM marts.fct_new_customers").fetchone()[0] or end - timedelta(days=1)
    kept = scoped(con, "customers", where)
    rows = attribution_costs.by_channel(kept, attribution_costs.CostSpec(start=first, end=end, variant=variant, model=known["attribution_model"], time_zone=known["time_zone"], new_customers=named(kept, "marts.fct_new_customers")))
    spent = con.execute("SELECT count(*) FROM (FROM marts.fct_marketing_spend LIMIT 1)").fetchone()[0]
    unknown = "spend is known by channel, not by attributes of the customers won" if where else None if spent else "no marketing spend has been delivered"
    if unknown:
        rows = rows.with_columns(pl.lit(None, pl.Decimal(18, 4)).alias("spend"), pl.lit(None, pl.Float64).alias("cac"), pl.lit(unknown).alias("reason"))
    else:
        rows = rows.with_columns(pl.when(pl.col("cac").is_null()).then(pl.lit("no new customer was credited to the channel")).alias("reason"))
    return rows if channel is None else rows.filter(pl.col("channel") == channel)


def deal_stages(con: Connection, pipeline: str | None = None, start: date | None = None, end: date | None = None, stages: Sequence[str] = ()) -> pl.DataFrame:
    """Deals by stage, counted `in_order`, by `any_stage` and `imputed`; see `funnel_deals.counts_sql`."""
    return funnel_deals.run(con, funnel_deals.DealFunnelSpec(pipeline=pipeline, stages=tuple(stages), start=start, end=end, time_zone=settings(con)["time_zone"], deals=named(con, "marts.fct_deals")))


def stage_counts(con: Connection, steps: str, count: str, pipeline: str | None = None, start: date | None = None, end: date | None = None) -> pl.DataFrame:
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
