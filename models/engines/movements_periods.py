"""Calendar periods as DuckDB SQL: what the movement and retention engines share about time.

Belongs here: grains, numbering of local days into periods, explicit lists of periods, local dates, the bound-parameter
query and the quoting of names. Does not belong here: any business meaning (MRR, cohorts), any connection to a database.

Everything works on *local dates* of the reporting zone. A period boundary is a local midnight, so an instant lies in
`[start, end)` exactly when its local date does; a day of 23 or 25 hours needs no special case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import duckdb
import polars as pl

GRAINS = ("day", "week", "month", "quarter", "year")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# The first Monday of the proleptic Gregorian calendar: day and week numbers counted from here are never negative, so
# that integer division rounds down for every date a source can send.
_ANCHOR = date(1, 1, 1)
_PARAMETER = re.compile(r"\$([a-z][a-z0-9_]*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Query(NamedTuple):
    """SQL text with named parameters (`$name`), ready for `connection.execute(*query)`."""

    sql: str
    params: dict[str, Any]

    def run(self, con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
        """Execute and fetch as a polars frame."""
        return con.execute(self.sql, self.params).pl()


def bind(sql: str, values: Mapping[str, Any]) -> Query:
    """Keep only the values that the text names: DuckDB refuses a surplus parameter. A missing one raises KeyError."""
    return Query(sql, {name: values[name] for name in sorted(set(_PARAMETER.findall(sql)))})


def quoted(name: str) -> str:
    """One identifier, quoted. Any text is a legal column name once quoted; only an empty one or NUL is refused."""
    if not name or "\x00" in name:
        raise ValueError(f"not a usable column name: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def relation(name: str) -> str:
    """A table or view name of at most three dotted parts, each quoted; anything else raises ValueError."""
    parts = name.split(".")
    if len(parts) > 3 or not all(_NAME.fullmatch(part) for part in parts):
        raise ValueError(f"not a relation name: {name!r} (expected [catalogue.][schema.]table)")
    return ".".join(f'"{part}"' for part in parts)


def with_parts(parts: Sequence[tuple[str, str]], inputs: Sequence[str | None]) -> str:
    """`WITH name AS (body), …`. An unqualified input of a part's name would silently read the part instead of the
    table, so it raises ValueError."""
    if hidden := {name for name, _ in parts} & {name.lower() for name in inputs if name}:
        raise ValueError(f"name the schema of {sorted(hidden)}: the statement has parts of its own of that name")
    return "WITH " + ",\n".join(f"{name} AS ({body})" for name, body in parts) + "\n"


def check_grain(grain: str) -> str:
    if grain not in GRAINS:
        raise ValueError(f"unknown grain {grain!r}; choose one of {', '.join(GRAINS)}")
    return grain


def check_weekday(week_start: str) -> int:
    """Days from Monday to the first day of the week (0..6)."""
    if week_start not in WEEKDAYS:
        raise ValueError(f"unknown first day of the week {week_start!r}; choose one of {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(week_start)


def period_number_sql(grain: str, day: str, week_start: str = "monday") -> str:
    """SQL integer that numbers the period in which the local date `day` lies; consecutive periods differ by one."""
    shift = check_weekday(week_start)
    return {
        "day": f"(({day}) - DATE '{_ANCHOR}')",
        "week": f"((({day}) - DATE '{_ANCHOR}' + {7 - shift}) // 7)",
        "month": f"(year({day}) * 12 + month({day}) - 1)",
        "quarter": f"(year({day}) * 4 + quarter({day}) - 1)",
        "year": f"year({day})",
    }[check_grain(grain)]


def period_start_sql(grain: str, number: str, week_start: str = "monday") -> str:
    """SQL date of the first local day of the period `number`: the inverse of `period_number_sql`."""
    shift = check_weekday(week_start)
    return {
        "day": f"(DATE '{_ANCHOR}' + CAST({number} AS INTEGER))",
        "week": f"(DATE '{_ANCHOR}' + CAST(({number}) * 7 - {7 - shift} AS INTEGER))",
        "month": f"make_date(({number}) // 12, ({number}) % 12 + 1, 1)",
        "quarter": f"make_date(({number}) // 4, (({number}) % 4) * 3 + 1, 1)",
        "year": f"make_date({number}, 1, 1)",
    }[check_grain(grain)]


def local_date_sql(instant: str) -> str:
    """Local date of a naive UTC timestamp in the zone bound as `$time_zone`."""
    return f"CAST(timezone($time_zone, ({instant}) AT TIME ZONE 'UTC') AS DATE)"


def quarter_hour_sql(instant: str) -> str:
    """Integer key of the quarter of an hour in which a timestamp lies.

    Zone arithmetic costs about 0.7 microseconds a row; converting each distinct quarter once and joining costs a tenth.
    Limit: right for zones whose offset is a multiple of 15 minutes, which is all of them since 1972.
    """
    return f"((epoch_us({instant}) - epoch_us(TIMESTAMP '{_ANCHOR}')) // 900000000)"


def quarter_hour_start_sql(key: str) -> str:
    """Timestamp at which the quarter of an hour with this key begins."""
    return f"make_timestamp(({key}) * 900000000 + epoch_us(TIMESTAMP '{_ANCHOR}'))"


def naive_utc(instant: datetime, what: str) -> datetime:
    """The instant itself; a timestamp that carries an offset raises, since the warehouse stores naive UTC."""
    if not isinstance(instant, datetime) or instant.tzinfo is not None:
        raise ValueError(f"{what} must be a naive datetime in UTC, got {instant!r}")
    return instant


@dataclass(frozen=True)
class Periods:
    """Which periods to report: a calendar grain over all of history, or an explicit list of `[start, end)` local dates.

    Explicit periods may leave gaps between them but must not overlap. Use `Periods.of_range` for a grain inside a range.
    """

    grain: str | None = "month"
    week_start: str = "monday"
    listed: tuple[tuple[date, date], ...] = ()

    def __post_init__(self) -> None:
        check_weekday(self.week_start)
        if self.grain is not None:
            check_grain(self.grain)
        ordered = sorted(self.listed)
        if self.grain is None and not ordered:
            raise ValueError("give a grain or at least one period")
        for start, end in ordered:
            if start >= end:
                raise ValueError(f"a period must end after it starts: [{start}, {end})")
        for (_, end), (start, _) in pairwise(ordered):
            if start < end:
                raise ValueError(f"periods overlap: one ends on {end}, the next starts on {start}; query them apart")
        object.__setattr__(self, "listed", tuple(ordered))

    @classmethod
    def of_list(cls, periods: Sequence[tuple[date, date]]) -> Periods:
        """Custom periods, each `[start, end)` in local dates."""
        return cls(grain=None, listed=tuple(periods))

    @classmethod
    def of_range(cls, grain: str, start: date, end: date, week_start: str = "monday") -> Periods:
        """The periods of a grain inside `[start, end)`, the first and last clipped to it: a range that starts in
        mid-week does not pull in earlier days."""
        if start >= end:
            raise ValueError(f"a range must end after it starts: [{start}, {end})")
        listed, cursor = [], start
        while cursor < end:
            following = min(next_period_start(cursor, grain, week_start), end)
            listed.append((cursor, following))
            cursor = following
        return cls(grain=grain, week_start=week_start, listed=tuple(listed))


MONTHLY = Periods()


def next_period_start(day: date, grain: str, week_start: str = "monday") -> date:
    """First local day of the period after the one in which `day` lies."""
    check_grain(grain)
    if grain == "day":
        return day + timedelta(days=1)
    if grain == "week":
        return day + timedelta(days=7 - (day.weekday() - check_weekday(week_start)) % 7)
    if grain == "year":
        return date(day.year + 1, 1, 1)
    months = {"month": 1, "quarter": 3}[grain]
    index = (day.year * 12 + day.month - 1) // months * months + months
    return date(index // 12, index % 12 + 1, 1)
