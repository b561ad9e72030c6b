"""What the pages read from a published snapshot. Every read goes through the one door and is cached by snapshot and role.

Belongs here: reading and shaping rows for a page. Does not belong here: what a number means (`models/metrics`,
`models/analysis`), or how it is shown (`components`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import date
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import polars as pl
import streamlit as st

from data_contracts.environment import Home, find_home
from data_contracts.errors import UsageError
from models import analysis, metrics, warehouse
from models.segments import compiler, explain, grammar

HEADLINE = ("cac", "clv", "churn_rate", "sales_conversion_rate", "average_order_value", "csat", "interaction_frequency",
            "funnel_conversion_rate", "retention_rate", "campaign_response_rate")
CACHE_ENTRIES = 1000    # answers are small; a visitor changing filters makes a few dozen
FOUND_CUSTOMERS = 50    # more matches than this mean that the search has to be narrowed
TIMELINE_ROWS = 300
SNAPSHOTS_HELD = 3      # a visitor may still be reading the former one when a new one is published
BEST_CUSTOMERS = 20

PERSONAL = ("name", "email", "phone", "first_name", "last_name", "birth_date", "gender")
_pinned: ContextVar[str | None] = ContextVar("snapshot of this run of a page", default=None)

R = TypeVar("R")


def home() -> Home:
    """The home these pages show."""
    return find_home()


def viewer() -> warehouse.Viewer:
    """Who is looking."""
    return warehouse.LOCAL


def sees_personal_data(role: str | None = None) -> bool:
    """Whether the viewer (or a role) may see names and contact data."""
    return (role or viewer().role) == "admin"


@contextmanager
def pinned() -> Iterator[warehouse.Snapshot | None]:
    """The current snapshot, held for one run of a page: a publish in between must not mix two states on one screen."""
    found = warehouse.current_id(home())
    token = _pinned.set(found)
    try:
        yield warehouse.read_snapshot(home(), found) if found else None
    finally:
        _pinned.reset(token)


def snapshot_id() -> str | None:
    """Id of the snapshot this run of the page reads."""
    return _pinned.get() or warehouse.current_id(home())


def last_run() -> dict[str, Any] | None:
    """What the last run said of itself; it may be newer than the snapshot, when it was blocked."""
    text = warehouse.read_state(home(), "last_run")
    return json.loads(text) if text else None


class _Held:
    """An open snapshot that stays open from one visit to the next, so that DuckDB keeps its pages in memory.

    Visitors take turns on its one connection: a snapshot locks its configuration, after which DuckDB lets this process open no
    second connection to it with the settings of ours. Answers are cached, so the turns are short.
    """

    def __init__(self, place: str, snapshot: str) -> None:
        self._turn, self._open = Lock(), ExitStack()
        self._reading = self._open.enter_context(warehouse.reading(Home(Path(place)), viewer(), snapshot))

    @contextmanager
    def reading(self, role: str) -> Iterator[warehouse.Reading]:
        """The snapshot as a role may read it."""
        with self._turn:
            yield warehouse.Reading(self._reading.con, self._reading.snapshot, warehouse.Viewer(viewer().name, role))

    def close(self) -> None:
        """Give the file back, once nobody reads from it."""
        with self._turn:
            self._open.close()


@st.cache_resource(show_spinner=False, max_entries=SNAPSHOTS_HELD, on_release=_Held.close)
def _held(place: str, snapshot: str) -> _Held:
    return _Held(place, snapshot)


@st.cache_data(show_spinner=False, max_entries=CACHE_ENTRIES)
def _remembered(_function: Callable[..., R], name: str, place: str, snapshot: str, role: str, arguments: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> R:
    with _held(place, snapshot).reading(role) as reading:
        return _function(reading, *arguments, **dict(named))


def per_snapshot(function: Callable[..., R]) -> Callable[..., R]:
    """Cache a function of (reading, …) by home, snapshot, role and arguments: an answer is never shown to another role or beside another snapshot's."""
    @wraps(function)
    def call(*arguments: Any, **named: Any) -> R:
        snapshot = snapshot_id()
        if snapshot is None:
            raise UsageError("nothing has been published yet", remedy="Run `rapport run` first.")
        return _remembered(function, function.__name__, str(home().root), snapshot, viewer().role, arguments, tuple(sorted(named.items())))
    return call


# -- settings and choices ----------------------------------------------------------------------------------------------

@per_snapshot
def settings(reading: warehouse.Reading) -> dict[str, Any]:
    """The settings of the snapshot."""
    return analysis.settings(reading.con)


@per_snapshot
def choices(reading: warehouse.Reading) -> dict[str, list[str]]:
    """Values a page can be filtered by, most customers first."""
    wanted = {"channel": "acquisition_channel", "country": "country_code", "segment": "segment"}
    return {name: [r[0] for r in reading.con.execute(f"SELECT {column} FROM marts.dim_customers WHERE {column} IS NOT NULL AND NOT is_deleted GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 40").fetchall()]
            for name, column in wanted.items()}


# -- metrics -----------------------------------------------------------------------------------------------------------

@per_snapshot
def definitions(reading: warehouse.Reading) -> dict[str, Any]:
    """The metric registry of the snapshot."""
    return dict(metrics.registry(reading.con))


@per_snapshot
def metric(reading: warehouse.Reading, names: tuple[str, ...], *, by: tuple[str, ...] = (), grain: str | None = None, start: date | None = None, end: date | None = None,
           where: str | None = None, compare: bool = False) -> metrics.MetricAnswer:
    """An answer of the metric layer; the same call the command line makes."""
    return metrics.query(reading.con, metrics.MetricRequest(names=names, by=by, grain=grain, start=start, end=end, where=where, compare="previous" if compare else None))


def where_text(metric_id: str, filters: dict[str, str]) -> tuple[str | None, list[str]]:
    """(filter expression, names of filters the metric does not know) for the chosen filters of a page."""
    known = definitions()
    offered = known[metric_id].dimensions if metric_id in known else ()
    parts, ignored = [], []
    for name, value in filters.items():
        column = next((c for c in ((name, "acquisition_channel") if name == "channel" else (name,)) if c in offered), None)
        if column is None:
            ignored.append(name)
        else:
            parts.append("{} = '{}'".format(column, value.replace("'", "''")))
    return (" and ".join(parts) or None), ignored


@per_snapshot
def mature_range(reading: warehouse.Reading, rule: str, start: date, end: date) -> tuple[date, date] | None:
    """The newest range of the same length whose outcomes are known, when the given one is too young."""
    return analysis.mature_range(reading.con, rule, start, end)


# -- engines -----------------------------------------------------------------------------------------------------------

@per_snapshot
def retention(reading: warehouse.Reading, variants: tuple[str, ...], grain: str, by: tuple[str, ...] = (), start: date | None = None, end: date | None = None, periods: int = 12) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(cells, mean row) of the retention engine."""
    return analysis.retention(reading.con, analysis.retention_spec(reading.con, variants=variants, grain=grain, by=by, start=start, end=end, max_periods=periods))


@per_snapshot
def funnel(reading: warehouse.Reading, steps: str, window: str, log: str, by: str | None = None, start: date | None = None, end: date | None = None) -> pl.DataFrame:
    """Rows of the funnel engine."""
    return analysis.funnel(reading.con, analysis.funnel_spec(reading.con, steps, window=window, log=log, by=by, start=start, end=end))


@per_snapshot
def cost_by_channel(reading: warehouse.Reading, start: date | None, end: date) -> pl.DataFrame:
    """Spend, credited new customers and CAC of each channel; see `attribution_costs.by_channel_sql`."""
    return analysis.cost_by_channel(reading.con, start, end)


@per_snapshot
def pipelines(reading: warehouse.Reading) -> list[str]:
    """Sales pipelines, most deals first."""
    return [r[0] for r in reading.con.execute("SELECT pipeline FROM marts.fct_deals WHERE pipeline IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC").fetchall()]


@per_snapshot
def deal_stages(reading: warehouse.Reading, pipeline: str, start: date | None, end: date | None) -> pl.DataFrame:
    """Deals of a pipeline by stage, counted three ways; see the funnel engine."""
    return analysis.deal_stages(reading.con, pipeline, start, end)


# -- customers ---------------------------------------------------------------------------------------------------------

@per_snapshot
def find_customers(reading: warehouse.Reading, text: str) -> pl.DataFrame:
    """Customers whose name, e-mail, organisation or id holds the text; the most valuable first. People are searched by name and address only by those who may see them."""
    personal = sees_personal_data(reading.viewer.role)
    found = reading.con.execute("""
        SELECT customer_id, coalesce(name, '(no name)') AS name, customer_type, organisation_name, country_code, segment, order_count, net_revenue_reporting, last_order_at
        FROM marts.dim_customers
        WHERE NOT is_deleted AND (customer_id = $text OR contains(lower(coalesce(organisation_name, '')), lower($text))
              OR ($personal AND (contains(lower(coalesce(name, '')), lower($text)) OR contains(lower(coalesce(email, '')), lower($text)))))
        ORDER BY net_revenue_reporting DESC NULLS LAST, customer_id LIMIT $limit""", {"text": text.strip(), "limit": FOUND_CUSTOMERS, "personal": personal}).pl()
    return found if personal else found.with_columns(pl.col("customer_id").alias("name"))


@per_snapshot
def best_customers(reading: warehouse.Reading) -> pl.DataFrame:
    """The customers with the highest net revenue, to begin with."""
    found = reading.con.execute("""
        SELECT customer_id, coalesce(name, '(no name)') AS name, customer_type, organisation_name, country_code, segment, order_count, net_revenue_reporting, last_order_at
        FROM marts.dim_customers WHERE NOT is_deleted AND order_count > 0 ORDER BY net_revenue_reporting DESC NULLS LAST, customer_id LIMIT $limit""", {"limit": BEST_CUSTOMERS}).pl()
    return found if sees_personal_data(reading.viewer.role) else found.with_columns(pl.col("customer_id").alias("name"))


def _has(reading: warehouse.Reading, table: str) -> bool:
    return table in reading.snapshot.tables


@per_snapshot
def customer(reading: warehouse.Reading, customer_id: str) -> dict[str, Any] | None:
    """One customer's profile; None when there is none of that id. Personal columns are None for those without a right to them."""
    frame = reading.con.execute("SELECT * FROM marts.dim_customers WHERE customer_id = ?", [customer_id]).pl()
    if not frame.height:
        return None
    row = frame.row(0, named=True)
    return row if sees_personal_data(reading.viewer.role) else {name: None if name in PERSONAL else value for name, value in row.items()}


@per_snapshot
def customer_scores(reading: warehouse.Reading, customer_id: str) -> dict[str, dict[str, Any]]:
    """The published scores of one customer, by model; a model that publishes nothing is left out."""
    scores = {}
    for model in ("churn", "clv"):
        if _has(reading, f"scores.{model}"):
            frame = reading.con.execute(f"SELECT * FROM scores.{model} WHERE customer_id = ?", [customer_id]).pl()
            if frame.height:
                scores[model] = frame.row(0, named=True)
    return scores


@per_snapshot
def customer_segments(reading: warehouse.Reading, customer_id: str) -> list[str]:
    """Labels of the saved segments a customer is in, as of the snapshot."""
    if not _has(reading, "segments.memberships"):
        return []
    return [r[0] for r in reading.con.execute("SELECT d.label FROM segments.memberships AS m JOIN segments.definitions AS d USING (segment) WHERE m.customer_id = ? ORDER BY 1", [customer_id]).fetchall()]


@per_snapshot
def timeline(reading: warehouse.Reading, customer_id: str) -> pl.DataFrame:
    """What happened with a customer, newest first: happened_at (UTC), what, detail, amount."""
    return reading.con.execute("""
        SELECT * FROM (
            SELECT ordered_at AS happened_at, 'order' AS what, concat_ws(', ', order_id, status, channel) AS detail, net_amount AS amount, currency FROM marts.fct_orders WHERE customer_id = $id
            UNION ALL SELECT refunded_at, 'refund', coalesce(reason, ''), -amount, currency FROM marts.fct_refunds WHERE customer_id = $id
            UNION ALL SELECT created_at, 'lead', concat_ws(', ', channel, status), NULL, NULL FROM marts.fct_leads WHERE customer_id = $id
            UNION ALL SELECT created_at, 'deal', concat_ws(', ', CASE WHEN $personal THEN name END, stage), amount, currency FROM marts.fct_deals WHERE customer_id = $id
            UNION ALL SELECT started_at, 'subscription started', plan, amount, currency FROM marts.fct_subscriptions WHERE customer_id = $id
            UNION ALL SELECT ended_at, 'subscription ended', plan, NULL, NULL FROM marts.fct_subscriptions WHERE customer_id = $id AND ended_at <= (SELECT watermark FROM ops.settings)
            UNION ALL SELECT occurred_at, kind, concat_ws(', ', direction, outcome), NULL, NULL FROM marts.fct_activities WHERE customer_id = $id
            UNION ALL SELECT created_at, 'ticket', concat_ws(', ', category, status), NULL, NULL FROM marts.fct_tickets WHERE customer_id = $id
            UNION ALL SELECT responded_at, kind || ' answer', CAST(score AS VARCHAR), NULL, NULL FROM marts.fct_survey_responses WHERE customer_id = $id AND is_answered
            UNION ALL SELECT occurred_at, 'touch', concat_ws(', ', channel, source_name), NULL, NULL FROM marts.fct_touchpoints WHERE customer_id = $id)
        WHERE happened_at IS NOT NULL ORDER BY happened_at DESC, what, detail LIMIT $limit""", {"id": customer_id, "limit": TIMELINE_ROWS, "personal": sees_personal_data(reading.viewer.role)}).pl()


# -- segments ----------------------------------------------------------------------------------------------------------

def saved_segments() -> dict[str, str]:
    """Name → label of the segments of this home."""
    return {s.name: s.label for s in (grammar.read(f) for f in grammar.saved(home().segments))}


@per_snapshot
def segment_answer(reading: warehouse.Reading, name: str, conditions: str) -> dict[str, Any]:
    """Count, universe, sentence, explanation and first members of a segment given as JSON conditions."""
    _need_scores(reading)
    segment = grammar.parse(name, json.loads(conditions))
    return {"customers": compiler.count(reading.con, segment), "universe": compiler.universe_size(reading.con), "sentence": explain.sentence(segment.condition),
            "steps": explain.explain(reading.con, segment), "members": compiler.members(reading.con, segment, personal=False, limit=100)}


@per_snapshot
def segment_members(reading: warehouse.Reading, name: str, conditions: str) -> pl.DataFrame:
    """Every member, with personal data only for those with a right to it."""
    _need_scores(reading)
    return compiler.members(reading.con, grammar.parse(name, json.loads(conditions)), personal=sees_personal_data(reading.viewer.role))


def _need_scores(reading: warehouse.Reading) -> None:
    missing = [table for table in ("scores.churn", "scores.clv") if not _has(reading, table)]
    if missing:
        raise UsageError(f"this snapshot carries no {' and no '.join(missing)}, which lists of members show", remedy="Run `rapport run` to build a snapshot with scores.")


def save_segment(name: str, content: dict[str, Any]) -> None:
    """Keep a segment in the home. Raises UsageError when it does not hold together."""
    grammar.save(name, content, home().segments)


def segment_content(name: str) -> dict[str, Any]:
    """A saved segment as the content of its file."""
    return grammar.content(grammar.find(name, home().segments))


# -- data health -------------------------------------------------------------------------------------------------------

@per_snapshot
def sources(reading: warehouse.Reading) -> pl.DataFrame:
    """Sources with their freshness: rows delivered, last extraction, how far the data reach."""
    return reading.con.execute("""
        SELECT s.source, s.source_type, s.extracted_at, s.watermark, s.is_live, s.state, s.message, count(DISTINCT b.batch_id) AS batches, CAST(coalesce(sum(b.accepted), 0) AS BIGINT) AS rows_accepted,
               CAST(coalesce(sum(b.quarantined), 0) AS BIGINT) AS rows_quarantined
        FROM ops.source_state AS s LEFT JOIN ops.batches AS b USING (source) GROUP BY ALL ORDER BY s.source""").pl()


@per_snapshot
def health(reading: warehouse.Reading) -> dict[str, Any]:
    """Totals of the page: watermark, rows accepted and in quarantine, batches, checks and how many were met."""
    accepted, batches = reading.con.execute("SELECT CAST(coalesce(sum(accepted), 0) AS BIGINT), count(DISTINCT batch_id) FROM ops.batches").fetchone()
    all_checks, met = reading.con.execute("SELECT count(*), count(*) FILTER (is_passed) FROM ops.check_results WHERE run_id = (SELECT run_id FROM meta.snapshot)").fetchone()
    quarantined = reading.con.execute("SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) FROM ops.quarantine_summary").fetchone()[0] if _has(reading, "ops.quarantine_summary") else 0
    return {"watermark": analysis.settings(reading.con)["watermark"], "accepted": accepted, "batches": batches, "quarantined": quarantined, "checks": all_checks, "met": met, "checks_not_met": all_checks - met}


@per_snapshot
def checks(reading: warehouse.Reading) -> pl.DataFrame:
    """Check results of the run that built the snapshot, failed ones first."""
    return reading.con.execute("""
        SELECT check_name, subject, severity, is_passed, failing_rows, detail, checked_at FROM ops.check_results
        WHERE run_id = (SELECT run_id FROM meta.snapshot) ORDER BY is_passed, severity, subject, check_name""").pl()


@per_snapshot
def quarantine(reading: warehouse.Reading) -> pl.DataFrame:
    """Open quarantined rows by source, entity, field and reason; no value of a row."""
    if not _has(reading, "ops.quarantine_summary"):
        return pl.DataFrame()
    return reading.con.execute("SELECT * FROM ops.quarantine_summary ORDER BY rows DESC, source, entity, field, reason").pl()


@per_snapshot
def models(reading: warehouse.Reading) -> pl.DataFrame:
    """How each score was judged: the evaluation rows of the registry."""
    if not _has(reading, "scores.model_evaluations"):
        return pl.DataFrame()
    return reading.con.execute("SELECT * FROM scores.model_evaluations ORDER BY model, candidate, cut_off, metric").pl()
