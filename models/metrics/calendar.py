"""Reporting periods: grains, half-open windows, and the window a period is compared with.

Belongs here: arithmetic on local calendar dates. Does not belong here: time zones (facts carry local dates already) and metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from data_contracts.errors import UsageError

GRAINS = ("day", "week", "month", "quarter", "year")
_WEEK_STARTS = {"monday": 0, "sunday": -1, "saturday": -2}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True)
class Window:
    """Half-open `[start, end)` in local dates, reported under `label` (the first day of its period; None without a grain)."""

    label: date | None
    start: date
    end: date


def add_months(day: date, months: int) -> date:
    """The same day of the month, `months` later; the last day where that month is shorter."""
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    following = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return min(date(year, month + 1, 1) + timedelta(days=day.day - 1), following - timedelta(days=1))


@dataclass(frozen=True)
class Calendar:
    """Where weeks and years begin. Quarters and years follow the fiscal year; with January they are calendar ones."""

    week_start: str = "monday"
    fiscal_year_start_month: int = 1

    def floor(self, day: date, grain: str) -> date:
        """First day of the period of `grain` that holds `day`."""
        self.check(grain)
        if grain == "day":
            return day
        if grain == "week":
            return day - timedelta(days=(day.weekday() - _WEEK_STARTS[self.week_start]) % 7)
        size = _MONTHS[grain]
        shift = (self.fiscal_year_start_month - 1) % size
        index = (day.year * 12 + day.month - 1 - shift) // size * size + shift
        return date(index // 12, index % 12 + 1, 1)

    def add(self, day: date, grain: str, count: int) -> date:
        """`day` moved by `count` periods of `grain`."""
        if grain in _MONTHS:
            return add_months(day, _MONTHS[grain] * count)
        return day + timedelta(days=count * (7 if grain == "week" else 1))

    def floor_sql(self, expression: str, grain: str) -> str:
        """SQL for `floor` of a DATE expression; grain and settings are checked values, never user text."""
        self.check(grain)
        if grain == "day":
            return f"cast({expression} as date)"
        if grain == "week":
            shift = _WEEK_STARTS[self.week_start]
            return f"cast(date_trunc('week', {expression} + {-shift}) as date) - {-shift}" if shift else f"cast(date_trunc('week', {expression}) as date)"
        shift = (self.fiscal_year_start_month - 1) % _MONTHS[grain]
        if not shift:
            return f"cast(date_trunc('{grain}', {expression}) as date)"
        return f"cast(date_trunc('{grain}', {expression} - interval {shift} month) + interval {shift} month as date)"

    def windows(self, start: date, end: date, grain: str | None) -> tuple[Window, ...]:
        """Every period that meets `[start, end)`, the first and the last cut at the range: a range that starts in the
        middle of a week does not pull in earlier days."""
        if grain is None:
            return (Window(None, start, end),)
        found, label = [], self.floor(start, grain)
        while label < end:
            following = self.add(label, grain, 1)
            found.append(Window(label, max(label, start), min(following, end)))
            label = following
        return tuple(found)

    def previous(self, start: date, end: date, grain: str | None, data_end: date) -> tuple[date, date]:
        """The range that `[start, end)` is compared with, like for like.

        Only days that data exist for are compared: on the 22nd, "against last month" takes days 1-22 of it. A range of whole
        months (or the running part of one month) moves by whole months, with a grain by one period, any other by its own
        length in days.
        """
        reached = max(start, min(end, data_end))
        if grain is not None:
            before = self.add(start, grain, -1)
            last = self.floor(reached - timedelta(days=1), grain) if reached > start else self.floor(start, grain)
            if self.add(last, grain, 1) <= reached:
                return before, last
            elapsed = (reached - last).days
            return before, min(self.add(last, grain, -1) + timedelta(days=elapsed), last)
        months = self._whole_months(start, end)
        before = add_months(start, -months) if months else start - (reached - start)
        if reached == end and months and end.day == 1:
            return before, start
        return before, min(before + (reached - start), start)

    @staticmethod
    def _whole_months(start: date, end: date) -> int:
        if start.day != 1 or end <= start:
            return 0
        if end.day == 1:
            return (end.year - start.year) * 12 + end.month - start.month
        return 1 if end < add_months(start, 1) else 0

    @staticmethod
    def check(grain: str) -> None:
        """Refuse a grain this calendar does not know."""
        if grain not in GRAINS:
            raise UsageError(f"Unknown grain {grain!r}", remedy=f"Use one of {', '.join(GRAINS)}.")
