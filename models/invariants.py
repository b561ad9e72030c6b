"""Identities that must hold before anything is published, over what the engines computed.

Belongs here: building the engine tables of a warehouse and holding them to their accounting identities. Does not belong here:
the engines themselves, or tests of a single mart (those are dbt tests). A broken identity blocks the publish and names the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb

from models.engines import attribution_credits, movements

SHOWN = 3    # offending rows named in a message; the rest is counted


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

    subject = property(lambda self: f"metrics.{self.table}")


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


INVARIANTS = (
    Invariant("waterfall_closes", "mtr_revenue_movements", "Opening plus movements is closing, each closing the next opening, to the cent, per currency.", _broken_waterfalls),
    Invariant("attribution_conserves", "mtr_attribution_credits", "Under every model credited conversions sum to the conversions, each new customer once.", _unconserved_credits),
    Invariant("retained_within_opening", "mtr_revenue_movements", "Retained MRR never exceeds the opening book.", _retention_above_one),
)


def verify(con: duckdb.DuckDBPyConnection) -> list[Verdict]:
    """Check every invariant."""
    verdicts = []
    for invariant in INVARIANTS:
        found = invariant.find(con)
        named = "; ".join(", ".join(f"{k} {v}" for k, v in row.items()) for row in found[:SHOWN])
        verdicts.append(Verdict(invariant.name, invariant.table, not found, len(found), named))
    return verdicts
