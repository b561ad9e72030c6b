"""From the days people write to the instants the engines compare.

Belongs here: turning a local day of the reporting zone into the naive UTC instant at which it begins, and the
bookkeeping of bound parameters. Does not belong here: calendars, fiscal years, or anything that reads a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from data_contracts.errors import UsageError

_RELATION = re.compile(r'^(?:"[^"]+"|[A-Za-z_]\w*)(?:\.(?:"[^"]+"|[A-Za-z_]\w*)){0,2}$')


@dataclass
class Parameters:
    """Collects values for DuckDB's named parameters; a value is never written into SQL text."""

    prefix: str = "p"
    values: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: Any) -> str:
        """Keep ``value`` and return the placeholder that stands for it; equal values share one placeholder."""
        for name, known in self.values.items():
            if type(known) is type(value) and known == value:
                return f"${name}"
        name = f"{self.prefix}{len(self.values) + 1}"
        self.values[name] = value
        return f"${name}"


def quoted(identifier: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def relation(name: str) -> str:
    """A table name of up to three parts, checked, so that no other SQL can stand in its place.

    Raises UsageError when the text is not a plain (or quoted) table name.
    """
    if not _RELATION.match(name):
        raise UsageError(f"'{name}' is not a table name", remedy="Give schema.table.")
    return name


def zone(name: str) -> ZoneInfo:
    """The time zone called ``name``; UsageError when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(f"unknown time zone '{name}'", remedy="Use a name such as Europe/Berlin.") from error


def instant(moment: date | datetime, time_zone: str) -> datetime:
    """The naive UTC instant of ``moment``.

    A date is the first instant of that local day (in a zone that changes its clock at midnight the day may begin at
    01:00); a datetime without offset is already UTC; one with an offset is converted.
    """
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    local = datetime(moment.year, moment.month, moment.day, tzinfo=zone(time_zone))
    return local.astimezone(UTC).replace(tzinfo=None)


def instant_or_none(moment: date | datetime | None, time_zone: str) -> datetime | None:
    """``instant`` that leaves an open end open."""
    return None if moment is None else instant(moment, time_zone)


def local_period(column: str, grain: str, time_zone_placeholder: str) -> str:
    """SQL for the first local day of the period in which the UTC timestamp ``column`` lies."""
    if grain not in ("day", "week", "month", "quarter", "year"):
        raise UsageError(f"unknown grain '{grain}'", remedy="Use day, week, month, quarter or year.")
    return (
        f"CAST(date_trunc('{grain}', timezone({time_zone_placeholder}, {column} AT TIME ZONE 'UTC')) AS DATE)"
    )


def previous_range(
    start: date | datetime, end: date | datetime
) -> tuple[date | datetime, date | datetime]:
    """The range of equal length that ends where ``start`` begins (in days for dates, in instants for datetimes)."""
    length: timedelta = end - start
    return start - length, start
