"""What a query must know besides its request: settings, data end, gaps, and what the workspace has.

Belongs here: one small read of `ops` per snapshot. Does not belong here: anything about a single metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from models.metrics.calendar import Calendar

PREDICTED_VALUE_COLUMNS = ("predicted_value_365", "predicted_value_365d", "expected_value_365", "expected_value_365d", "value_365", "value_365d",
                           "clv_365", "predicted_value", "expected_value", "clv", "score")
_EPOCH = date(1970, 1, 1)  # the data end of a warehouse that holds nothing: every range is then after it


@dataclass(frozen=True)
class Context:
    """Settings of the workspace and the state of its data.

    `watermark` is the naive UTC instant up to which data are complete; `gaps` are ingestion gaps `[start, end)` in naive UTC;
    `score_columns` are the columns of `scores.clv`, if it holds rows; `tables` holds the `schema.table` names that exist; `facts` says which conditions hold (`no_subscriptions`).
    """

    time_zone: str = "UTC"
    week_start: str = "monday"
    fiscal_year_start_month: int = 1
    watermark: datetime | None = None
    gaps: tuple[tuple[datetime, datetime], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()
    facts: frozenset[str] = frozenset()
    snapshot_id: str | None = None
    earliest: date | None = None
    score_columns: frozenset[str] = frozenset()
    reads_stored: bool = False   # monthly answers come from the tables that the engines filled in this build, which holds the same rows

    @property
    def predicted_value(self) -> str | None:
        """Column of `scores.clv` that holds the value expected in the next 365 days; None while no scores are published."""
        return next((name for name in PREDICTED_VALUE_COLUMNS if name in self.score_columns), None)

    @cached_property
    def calendar(self) -> Calendar:
        """The workspace's calendar."""
        return Calendar(self.week_start, self.fiscal_year_start_month)

    @cached_property
    def complete_until(self) -> date:
        """Exclusive local date: every day before it lies wholly before the watermark."""
        return self.local(self.watermark).date() if self.watermark else _EPOCH

    @cached_property
    def data_end(self) -> date:
        """Exclusive local date of the newest data: the day of the watermark counts, unless the watermark is its very start."""
        if self.watermark is None:
            return _EPOCH
        local = self.local(self.watermark)
        starts_day = local.time() == datetime.min.time()
        return local.date() if starts_day else local.date() + timedelta(days=1)

    def has(self, fact: str) -> bool:
        """Whether a condition such as `no_subscriptions` holds."""
        return fact in self.facts

    def local(self, instant: datetime) -> datetime:
        """Wall-clock time in the reporting zone of a naive UTC instant, without offset."""
        return instant.replace(tzinfo=UTC).astimezone(ZoneInfo(self.time_zone)).replace(tzinfo=None)

    def instant(self, day: date) -> datetime:
        """Naive UTC instant at which a local day starts."""
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.time_zone)).astimezone(UTC).replace(tzinfo=None)

    def is_complete(self, start: date, end: date, extra_days: int = 0) -> bool:
        """Whether every day of `[start, end)`, and `extra_days` after it, lies before the watermark and touches no gap."""
        until = end + timedelta(days=extra_days)
        if self.complete_until < until:
            return False
        first, last = self.instant(start), self.instant(until)
        return not any(gap_start < last and gap_end > first for gap_start, gap_end in self.gaps)


def read(con: duckdb.DuckDBPyConnection) -> Context:
    """The context of an open snapshot (or warehouse)."""
    tables = frozenset(f"{schema}.{name}" for schema, name in con.execute(
        "select table_schema, table_name from information_schema.tables where table_catalog = current_database()").fetchall())
    settings: dict[str, Any] = {}
    if "ops.settings" in tables:
        found = con.execute("from ops.settings limit 1")
        names = [column[0] for column in found.description]
        row = found.fetchone()
        settings = dict(zip(names, row, strict=True)) if row else {}
    gaps: list[tuple[datetime, datetime]] = []
    if "ops.ingestion_gaps" in tables:
        gaps = con.execute("select starts_at, ends_at from ops.ingestion_gaps order by all").fetchall()
    facts = set()
    subscriptions = "marts.fct_subscriptions"
    if subscriptions not in tables or not con.execute(f"select count(*) from (from {subscriptions} limit 1)").fetchone()[0]:
        facts.add("no_subscriptions")
    scored: list[tuple[str]] = []
    if "scores.clv" in tables and con.execute("select count(*) from (from scores.clv limit 1)").fetchone()[0]:
        scored = con.execute("select column_name from information_schema.columns where table_catalog = current_database() "
                             "and table_schema = 'scores' and table_name = 'clv'").fetchall()
    if not any(name in PREDICTED_VALUE_COLUMNS for (name,) in scored):
        facts.add("no_clv_scores")
    snapshot = con.execute("select max(snapshot_id) from meta.snapshot").fetchone() if "meta.snapshot" in tables else None
    return Context(
        time_zone=settings.get("time_zone") or "UTC", week_start=settings.get("week_start") or "monday",
        fiscal_year_start_month=int(settings.get("fiscal_year_start_month") or 1), watermark=settings.get("watermark"),
        gaps=tuple(gaps), settings=settings, tables=tables, facts=frozenset(facts), snapshot_id=snapshot[0] if snapshot else None, score_columns=frozenset(name for (name,) in scored),
    )
