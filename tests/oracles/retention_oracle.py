"""Brute-force retention in plain Python, straight from the written definitions.

Belongs here: slow, obvious recomputation, entity by entity and cell by cell. It shares no code and no SQL with the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo


@dataclass
class Event:
    entity: str | None
    at: datetime
    amount: Decimal = Decimal(0)
    channel: str | None = None
    sequence: int = 0


@cache
def local_day(instant: datetime, zone: str) -> date:
    return instant.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()


@cache
def period_start(day: date, grain: str, week_start: int = 0) -> date:
    """First day of the period; week_start counts from Monday = 0."""
    if grain == "week":
        while day.weekday() != week_start:
            day -= timedelta(days=1)
        return day
    if grain == "month":
        return day.replace(day=1)
    if grain == "quarter":
        return date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)
    return date(day.year, 1, 1) if grain == "year" else day


@cache
def following(start: date, grain: str, week_start: int = 0) -> date:
    """First day of the next period, found by walking."""
    day = start
    while period_start(day, grain, week_start) == start:
        day += timedelta(days=1)
    return day


@cache
def instant_of(day: date, zone: str) -> datetime:
    """The naive UTC instant at which the local day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)


def matrix(
    starts: list[Event],
    returns: list[Event],
    zone: str,
    watermark: datetime,
    grain: str,
    week_start: int = 0,
    bound: str = "bounded",
    cohorts: str = "first_time",
    base: str = "from_start",
    measure: str = "entities",
    first: date | None = None,
    last: date | None = None,
    max_periods: int | None = None,
    gaps: tuple[tuple[datetime, datetime | None], ...] = (),
    by_channel: bool = False,
) -> dict[tuple[date, str | None, int], dict]:
    """(cohort period, channel, N) -> cohort_size, active, revenue, value, is_complete; incomplete cells are shown."""
    known = [e for e in starts if e.entity is not None and e.at <= watermark]
    back = [e for e in returns if e.entity is not None and e.at <= watermark]

    def period(event):
        return period_start(local_day(event.at, zone), grain, week_start)

    def order(event):
        return (event.at, event.sequence, event.channel is None, event.channel or "")

    def in_range(event):
        day = local_day(event.at, zone)
        return (first is None or day >= first) and (last is None or day < last)

    members: dict[tuple[date, str | None], set[str]] = {}
    for entity in {e.entity for e in known}:
        own = sorted((e for e in known if e.entity == entity), key=order)
        if cohorts == "first_time":
            opening = [own[0]] if in_range(own[0]) else []
        else:
            opening = []
            for event in own:
                if in_range(event) and period(event) not in [period(e) for e in opening]:
                    opening.append(event)
        for event in opening:
            members.setdefault((period(event), event.channel if by_channel else None), set()).add(entity)

    def is_whole(start):
        end = following(start, grain, week_start)
        if instant_of(end, zone) > watermark:
            return False
        low, high = instant_of(start, zone), instant_of(end, zone)
        for gap_start, gap_end in gaps:
            touches = gap_start < high and (gap_end is None or gap_end > low or gap_start == gap_end == low)
            if touches:
                return False
        return True

    cells = {}
    today = local_day(watermark, zone)
    for (cohort, channel), people in members.items():
        row, start, n = [], cohort, 0
        while start <= today and (max_periods is None or n <= max_periods):
            visits = [e for e in back if e.entity in people and period(e) == start]
            if n == 0:
                active = len(people)
            elif bound == "bounded":
                active = len({e.entity for e in visits})
            else:
                active = len({e.entity for e in back if e.entity in people and period(e) >= start})
            row.append({"active": active, "revenue": sum((e.amount for e in visits), Decimal(0)), "whole": is_whole(start)})
            if measure == "entities":
                top = [cell["active"] for cell in row]
                bottom = len(people)
            else:
                top = [cell["revenue"] for cell in row]
                bottom = top[0]
            if base == "from_previous":
                bottom = top[n - 1] if n else top[0]
            reads = [row[n]]
            if base == "from_previous" and n:
                reads.append(row[n - 1])
            elif measure == "revenue":
                reads.append(row[0])
            value = None if bottom == 0 else float(top[n]) / float(bottom)
            if measure == "cumulative_revenue":
                value, reads = float(sum(top)) / len(people), row
            cells[cohort, channel, n] = {
                "cohort_size": len(people),
                "active": active,
                "revenue": row[n]["revenue"],
                "value": value,
                "is_complete": all(cell["whole"] for cell in reads),
            }
            start, n = following(start, grain, week_start), n + 1
    return cells


def mean_row(cells: dict[tuple[date, str | None, int], dict]) -> dict[tuple[str | None, int], tuple[float | None, int, int]]:
    """(channel, N) -> mean weighted by cohort size over complete cells, heads and number of cohorts in it."""
    result = {}
    for channel, n in {(channel, n) for _, channel, n in cells}:
        used = [
            cell
            for (_, c, k), cell in cells.items()
            if (c, k) == (channel, n) and cell["is_complete"] and cell["value"] is not None
        ]
        heads = sum(cell["cohort_size"] for cell in used)
        mean = sum(cell["value"] * cell["cohort_size"] for cell in used) / heads if heads else None
        result[channel, n] = (mean, heads, len(used))
    return result
