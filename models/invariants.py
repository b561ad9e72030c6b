"""Identities that must hold before anything is published, over what the engines computed.

Belongs here: building the engine tables of a warehouse and holding them to their accounting identities, and what has to hold over
the finished warehouse. Does not belong here: the engines themselves, or tests of a single mart (those are dbt tests). A broken
identity blocks the publish and names the rows, by keys, periods and counts, never by personal data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import yaml

from models import metrics
from models.engines import attribution_credits, funnel_deals, movements, retention

SHOWN = 3    # offending rows named in a message; the rest is counted
MARTS = Path(__file__).resolve().parent / "layers" / "marts"
TOLERANCE = 1e-6          # relative; credits of attribution are rounded to nine digits each
STOCK_MONTHS = 12         # engine-fed sums are compared over this many last complete months


@dataclass(frozen=True)
class Invariant:
    """One identity. `find` returns the offending rows as dictionaries; none means it holds."""

    name: str
    table: str
    description: str
    find: Callable[[duckdb.DuckDBPyConnection], list[dict[str, Any]]]


@dataclass(frozen=True)
class Verdict:
    """Whether an invariant holds. `detail` names offending rows without personal data."""

    name: str
    table: str
    is_met: bool
    failing_rows: int
    detail: str

    subject = property(lambda self: self.table)


def _settings(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    cursor = con.execute("SELECT * FROM ops.settings")
    return dict(zip([d[0] for d in cursor.description], cursor.fetchone(), strict=True))


def movement_spec(con: duckdb.DuckDBPyConnection) -> movements.MovementSpec:
    """The movement engine's specification for this warehouse."""
    settings = _settings(con)
    return movements.MovementSpec(time_zone=settings["time_zone"], reporting_currency=settings["reporting_currency"], watermark=settings["watermark"])


def build_engine_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Create `metrics.mtr_revenue_movements` and `metrics.mtr_attribution_credits` from the marts."""
    known = _settings(con)
    con.execute("CREATE SCHEMA IF NOT EXISTS metrics")
    movements.build_table(con, movement_spec(con), week_start=known["week_start"])
    attribution_credits.build_table(con, model=known["attribution_model"], lookback_days=known["attribution_lookback_days"], time_zone=known["time_zone"], until=known["watermark"])


def _rows(con: duckdb.DuckDBPyConnection, sql: str, params: Any = None) -> list[dict[str, Any]]:
    cursor = con.execute(sql, params) if params is not None else con.execute(sql)
    names = [d[0] for d in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _broken_waterfalls(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    return [row for grain in movements.TABLE_GRAINS for row in _rows(con, *movements.broken_identities_query(movement_spec(con), grain=grain))]


def _retention_above_one(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    return _rows(con, """
        SELECT period_grain, period_start, sum(retained_mrr) AS retained, sum(opening_mrr) AS opening
        FROM metrics.mtr_revenue_movements GROUP BY ALL HAVING sum(retained_mrr) > sum(opening_mrr)""")


def _unconserved_credits(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    return _rows(con, """
        WITH credited AS (
            SELECT conversion_kind, model, sum(conversions) AS conversions, sum(revenue) AS revenue, count(DISTINCT conversion_id) AS whole FROM metrics.mtr_attribution_credits GROUP BY ALL)
        SELECT c.conversion_kind, c.model, c.conversions, c.whole, c.revenue, n.revenue AS whole_revenue
        FROM credited AS c, (SELECT count(*) AS acquired, coalesce(sum(first_amount_reporting), 0) AS revenue FROM marts.fct_new_customers
                             WHERE acquired_at < (SELECT watermark FROM ops.settings)) AS n
        WHERE c.conversions <> c.whole OR (c.conversion_kind = 'new_customer' AND c.whole <> n.acquired)""")


def _funnels_that_rise(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Lead entries outside of the funnel's steps, or twice; deal stages that more deals reach than the stage before."""
    leads = _rows(con, """
        SELECT 'lead funnel' AS funnel, lead_id AS entry, count(*) AS rows, max(reached) AS reached, bool_or(is_converted) AS is_converted FROM metrics.mtr_lead_funnel__entry
        GROUP BY lead_id HAVING count(*) > 1 OR min(reached) < 1 OR max(reached) > 3 OR bool_or(is_converted <> (reached = 3)) ORDER BY lead_id""")
    leads += _rows(con, """
        SELECT 'lead funnel' AS funnel, f.lead_id AS entry, 'not a lead' AS problem FROM metrics.mtr_lead_funnel__entry AS f ANTI JOIN marts.fct_leads AS l USING (lead_id) ORDER BY lead_id""")
    text, bound = funnel_deals.counts_sql(funnel_deals.DealFunnelSpec(time_zone=_settings(con)["time_zone"]))
    deals = _rows(con, f"""
        SELECT 'deals of ' || coalesce(pipeline, 'no pipeline') AS funnel, stage, in_order, before_in_order, imputed, before_imputed, any_stage FROM (
            SELECT *, lag(in_order) OVER w AS before_in_order, lag(imputed) OVER w AS before_imputed FROM ({text}) WINDOW w AS (PARTITION BY pipeline ORDER BY stage_position))
        WHERE in_order > before_in_order OR imputed > before_imputed OR in_order > any_stage OR any_stage > imputed ORDER BY ALL""", bound)
    return leads + deals


def _retention_above_its_cohort(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    known = _settings(con)
    spec = retention.RetentionSpec(known["time_zone"], known["watermark"])
    text, bound = retention.cells_query(spec)
    found = _rows(con, f"""
        SELECT 'cohorts of first orders' AS cohorts, cohort_period, period_number, active, cohort_size FROM ({text})
        WHERE active > cohort_size OR active < 0 OR (period_number = 0 AND active <> cohort_size) ORDER BY ALL""", bound)
    for table in ("retention", "retention_unbounded", "retention_recurring"):
        found += _rows(con, f"""
            SELECT '{table}' AS cohorts, period, sum(returned) AS returned, sum(started) AS started FROM metrics.mtr_{table}__month
            GROUP BY period HAVING sum(returned) > sum(started) OR sum(started) <> sum(cohort_size) ORDER BY period""")
    return found


def _sums_unlike_their_total(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Additive metrics whose values by a dimension do not add up to the whole: over all data for flows, over the last months for what engines compute."""
    registry, context = metrics.registry(con), metrics.read_context(con)
    last = context.calendar.floor(context.data_end, "month")
    recent = {"grain": "month", "start": context.calendar.add(last, "month", -STOCK_MONTHS), "end": last}
    flows: list[tuple[str, tuple[str, ...]]] = []
    stocks: list[tuple[str, tuple[str, ...]]] = []
    for metric in registry.values():
        for variant in metric.variants.values() if metric.is_additive else ():
            engines = {registry.models[registry.measures[leaf].model].engine for leaf in registry.leaves(registry.nodes[variant.node])} - {None}
            (stocks if engines else flows).append((f"{metric.id}__{variant.name}", tuple(registry.dimensions_of(registry.nodes[variant.node]))))
    found = []
    for chosen, choices in ((flows, {}), (stocks, recent)):
        if not chosen:
            continue
        names = tuple(name for name, _ in chosen)
        whole = metrics.query(con, metrics.MetricRequest(names, **choices), reads_stored=True, read=(registry, context))
        shown = {name: column for name, column in zip(names, whole.columns, strict=True)}
        if not choices:      # the range of one metric alone would begin elsewhere
            choices = {"start": whole.start, "end": whole.end}
        for dimension in sorted({d for _, dimensions in chosen for d in dimensions}):
            asked = [name for name, dimensions in chosen if dimension in dimensions]
            parts = metrics.query(con, metrics.MetricRequest(tuple(asked), by=(dimension,), **choices), reads_stored=True, read=(registry, context))
            for name in asked:
                column = shown[name]
                total, added = (float(frame[column].sum() or 0) for frame in (whole.frame, parts.frame))
                if abs(total - added) > TOLERANCE * max(1.0, abs(total)):
                    found.append({"metric": name, "by": dimension, "sum": round(added, 4), "total": round(total, 4)})
    return found


def _segments_miscounted(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    return _rows(con, """
        SELECT coalesce(d.segment, m.segment) AS segment, d.customers AS counted, coalesce(m.rows, 0) AS rows, coalesce(m.customers, 0) AS customers
        FROM segments.definitions AS d FULL JOIN (SELECT segment, count(*) AS rows, count(DISTINCT customer_id) AS customers FROM segments.memberships GROUP BY segment) AS m USING (segment)
        WHERE d.customers IS DISTINCT FROM coalesce(m.rows, 0) OR coalesce(m.rows, 0) <> coalesce(m.customers, 0) ORDER BY ALL""")


@cache
def mart_keys() -> dict[str, str]:
    """Mart → its key column, as the marts' own YAML declares them (the test `primary_key`)."""
    models = [model for file in sorted(MARTS.glob("_*.yml")) for model in yaml.safe_load(file.read_text(encoding="utf-8"))["models"]]
    return {model["name"]: column["name"] for model in models for column in model.get("columns", ()) if "primary_key" in (column.get("data_tests") or ())}


def _marts_fanned_out(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    there = {name for (name,) in con.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'marts' AND table_catalog = current_database()").fetchall()}
    parts = [f"SELECT 'marts.{mart}' AS mart, '{key}' AS key, count(*) AS rows, count(DISTINCT {key}) AS keys, count(*) - count({key}) AS without_key FROM marts.{mart}"
             for mart, key in mart_keys().items() if mart in there]
    return _rows(con, f"SELECT * FROM ({' UNION ALL '.join(parts)}) WHERE rows <> keys ORDER BY mart") if parts else []


# Over what the movement and attribution engines computed, right after they have: nothing is built on a broken book.
INVARIANTS = (
    Invariant("waterfall_closes", "metrics.mtr_revenue_movements", "Opening plus movements is closing, each closing the next opening, to the cent, per currency.", _broken_waterfalls),
    Invariant("attribution_conserves", "metrics.mtr_attribution_credits", "Under every model credited conversions sum to the conversions, each new customer once.", _unconserved_credits),
    Invariant("retained_within_opening", "metrics.mtr_revenue_movements", "Retained MRR never exceeds the opening book.", _retention_above_one),
)
# Over the finished warehouse, right before it is published.
BEFORE_PUBLISHING = (
    *INVARIANTS,
    Invariant("funnels_are_monotone", "metrics.mtr_lead_funnel__entry", "No step of the lead funnel or of a pipeline's stages is reached by more than the one before.", _funnels_that_rise),
    Invariant("retention_within_cohort", "metrics.mtr_retention__month", "Every cohort starts at 100 % and no cell holds more than its cohort.", _retention_above_its_cohort),
    Invariant("breakdowns_add_up", "meta.metrics", "For every additive metric and every dimension it offers, the values add up to the total.", _sums_unlike_their_total),
    Invariant("segment_count_is_rows", "segments.memberships", "A segment's count is the number of its rows, each customer once.", _segments_miscounted),
    Invariant("no_fan_out", "marts", "Every mart has one row per key.", _marts_fanned_out),
)


def verify(con: duckdb.DuckDBPyConnection, chosen: tuple[Invariant, ...] = INVARIANTS) -> list[Verdict]:
    """Check the chosen invariants."""
    verdicts = []
    for invariant in chosen:
        found = invariant.find(con)
        named = "; ".join(", ".join(f"{k} {v}" for k, v in row.items()) for row in found[:SHOWN])
        verdicts.append(Verdict(invariant.name, invariant.table, not found, len(found), named))
    return verdicts
