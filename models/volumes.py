"""Volume of what arrives, against its own history: is the last complete day, or the newest batch, of an entity like those before it?

Belongs here: the bounds and the rows that fall outside. Does not belong here: what is done about it (`pipelines/checks.py`); the blocking
rule for full extracts that lost rows.

Bounds are robust, so that one odd day does not widen them: median ± 3.5 standard deviations estimated from the median absolute
deviation (1.4826 × MAD; Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993, recommend 3.5). Rows that come independently vary
by √median at least, which is the floor of the deviation: else a quiet entity whose days are all alike would warn at every move.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from data_contracts.contract import load_contracts
from models.ingest import EVENT_TIMES

CUTOFF = 3.5
WEEKS = 12            # same weekdays looked back at: a season
LEAST_HISTORY = 8     # days or batches below which nothing is said
BATCHES = 30          # batches looked back at
# how many rows there are on a day says something where each row is an event; contacts and deals of a day are few and bunched by imports
OF_EVENTS = ("orders", "refunds", "leads", "touchpoints", "events", "activities", "tickets", "survey_responses")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Volume:
    """Rows of one entity of one source on one day or in one batch, with the bounds its own past sets. `kind` is day or batch."""

    kind: str
    entity: str
    source: str
    rows: int
    low: float
    high: float
    median: float
    history: int
    unit: str            # what is counted: "on 2026-11-21, a Saturday" or "in batch …"

    @property
    def is_usual(self) -> bool:
        """Whether the rows lie within the bounds."""
        return self.low <= self.rows <= self.high

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        return f"source {self.source} has {self.rows:,} {self.entity} {self.unit}; usual are {self.low:,.0f} to {self.high:,.0f} (median {self.median:,.0f} of {self.history})"


def bounds_sql(value: str, over: str) -> str:
    """Columns `median`, `deviation`, `history` of `value` in an aggregation over relation `over`."""
    return f"median({value}) AS median, greatest(1.4826 * mad({value}), sqrt(greatest(median({value}), 1))) AS deviation, count(*) AS history FROM {over}"


def days(con: duckdb.DuckDBPyConnection) -> list[Volume]:
    """The last complete local day of each source and entity of events, against the same weekday of the weeks before."""
    found: list[Volume] = []
    for entity in OF_EVENTS:
        at = EVENT_TIMES[entity]
        rows = con.execute(f"""
            WITH s AS (SELECT CAST(timezone(time_zone, watermark AT TIME ZONE 'UTC') AS DATE) - 1 AS day, time_zone FROM ops.settings),
            keyed AS (SELECT DISTINCT _source AS source, {', '.join(f'l.{k}' for k in _key(entity))}, CAST(timezone(s.time_zone, {at} AT TIME ZONE 'UTC') AS DATE) AS day
                      FROM landing.{entity} AS l CROSS JOIN s WHERE NOT coalesce(_is_tombstone, false)),
            counted AS (SELECT source, day, count(*) AS rows FROM keyed WHERE day IS NOT NULL GROUP BY ALL),
            firsts AS (SELECT source, min(day) AS first_day FROM counted GROUP BY source),
            weeks AS (SELECT f.source, s.day - CAST(7 * w AS INTEGER) AS day FROM firsts AS f CROSS JOIN s CROSS JOIN range(0, {WEEKS} + 1) AS r(w) WHERE s.day - CAST(7 * w AS INTEGER) >= f.first_day),
            filled AS (SELECT weeks.source, weeks.day, coalesce(c.rows, 0) AS rows FROM weeks LEFT JOIN counted AS c USING (source, day)),
            past AS (SELECT source, {bounds_sql('rows', 'filled, s WHERE filled.day < s.day GROUP BY source')})
            SELECT f.source, f.rows, p.median, p.deviation, p.history, s.day, isodow(s.day) FROM filled AS f JOIN s ON f.day = s.day JOIN past AS p USING (source)
            WHERE p.history >= {LEAST_HISTORY} ORDER BY f.source""").fetchall()
        found += [Volume("day", entity, source, now, max(0.0, median - CUTOFF * deviation), median + CUTOFF * deviation, median, history, f"on {day}, a {_WEEKDAYS[weekday - 1]}")
                  for source, now, median, deviation, history, day, weekday in rows]
    return found


def _key(entity: str) -> tuple[str, ...]:
    return load_contracts()[entity].key


def batches(con: duckdb.DuckDBPyConnection) -> list[Volume]:
    """The newest batch of each source and entity, by rows delivered, against the batches of the same mode before it."""
    rows = con.execute(f"""
        WITH numbered AS (SELECT *, row_number() OVER (PARTITION BY source, entity, mode ORDER BY batch_seq DESC) AS back, max(batch_seq) OVER (PARTITION BY source) AS newest FROM ops.batches),
        past AS (SELECT source, entity, mode, {bounds_sql('delivered', f'numbered WHERE back BETWEEN 2 AND {BATCHES} + 1 GROUP BY source, entity, mode')})
        SELECT n.source, n.entity, n.delivered, p.median, p.deviation, p.history, n.batch_id FROM numbered AS n JOIN past AS p USING (source, entity, mode)
        WHERE n.back = 1 AND n.batch_seq = n.newest AND p.history >= {LEAST_HISTORY} ORDER BY n.source, n.entity""").fetchall()
    return [Volume("batch", entity, source, now, max(0.0, median - CUTOFF * deviation), median + CUTOFF * deviation, median, history, f"in batch {batch}")
            for source, entity, now, median, deviation, history, batch in rows]


def compare(con: duckdb.DuckDBPyConnection) -> list[Volume]:
    """Every comparison that its history allows."""
    return [*days(con), *batches(con)]
