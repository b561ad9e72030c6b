"""Time in the simulated company: season, weekday and hour of day, and how instants become text.

Belongs here: the mapping between *operational* time (in which a person's rates are constant) and calendar time, and the two
ways the CRM writes times down. What happens at those times does not belong here.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

TIME_ZONE = "Europe/Berlin"
"""Zone the company lives in, and in which its helpdesk and call log write times without an offset."""

DAY = 86_400
HOUR = 3_600
NEVER = -1
"""Stands for "has not happened" in arrays of epoch seconds; written as NULL."""

# Relative demand by month: the shop earns a good third more in the autumn quarter than in an average one.
_SEASON = np.array([0.85, 0.84, 0.92, 0.94, 0.96, 0.93, 0.87, 0.88, 1.04, 1.17, 1.38, 1.22])
_SHOP_WEEK = np.array([1.10, 1.06, 1.04, 1.05, 1.02, 0.85, 0.88])
_OFFICE_WEEK = np.array([1.30, 1.35, 1.35, 1.30, 1.15, 0.10, 0.06])
_SHOP_DAY = np.array([3, 2, 1, 1, 1, 2, 5, 9, 12, 14, 15, 15, 16, 15, 14, 14, 15, 16, 18, 20, 20, 17, 11, 6], dtype=float)
_OFFICE_DAY = np.array([0.2] * 7 + [3, 10, 15, 16, 15, 9, 13, 15, 14, 11, 6, 2, 1, 0.6, 0.4, 0.3, 0.2], dtype=float)


@dataclass(frozen=True)
class Calendar:
    """The simulated span `[first_day, last_day)` of local days, and two clocks over it.

    `shop` follows buyers (season, evenings, weekends), `office` follows staff (working days and hours). Both map
    monotonically between calendar seconds and operational seconds of the same mean speed, so an order of events in one is
    the order in the other.
    """

    first_day: date
    last_day: date

    @cached_property
    def start(self) -> int:
        """First instant, epoch seconds UTC."""
        return _local_midnight(self.first_day)

    @cached_property
    def end(self) -> int:
        """First instant after the data, epoch seconds UTC."""
        return _local_midnight(self.last_day)

    @cached_property
    def day_starts(self) -> np.ndarray:
        """Epoch seconds of each local midnight; days may have 23 or 25 hours."""
        count = (self.last_day - self.first_day).days
        return np.array([_local_midnight(self.first_day + timedelta(days=d)) for d in range(count)], dtype=np.int64)

    @cached_property
    def days(self) -> list[date]:
        """The local days of the span."""
        return [self.first_day + timedelta(days=d) for d in range((self.last_day - self.first_day).days)]

    @cached_property
    def shop(self) -> "Clock":
        """The clock of buyers."""
        return Clock.over(self, _SEASON, _SHOP_WEEK, _SHOP_DAY)

    @cached_property
    def office(self) -> "Clock":
        """The clock of staff."""
        return Clock.over(self, np.ones(12), _OFFICE_WEEK, _OFFICE_DAY)

    def day_index(self, instants: np.ndarray) -> np.ndarray:
        """Number of the local day each instant falls on, 0 for the first day."""
        found = np.searchsorted(self.day_starts, instants, side="right") - 1
        return np.clip(found, 0, len(self.day_starts) - 1)


@dataclass(frozen=True)
class Clock:
    """A monotone, piecewise linear map between calendar and operational seconds."""

    calendar_edges: np.ndarray
    operational_edges: np.ndarray

    @classmethod
    def over(cls, calendar: Calendar, season: np.ndarray, week: np.ndarray, day: np.ndarray) -> "Clock":
        """Build the map hour by hour from three relative intensities (12 months, 7 weekdays from Monday, 24 local hours)."""
        edges = np.arange(calendar.start, calendar.end + HOUR, HOUR, dtype=np.int64)
        edges[-1] = calendar.end
        local = pl.from_epoch(pl.Series(edges[:-1]), time_unit="s").dt.replace_time_zone("UTC").dt.convert_time_zone(TIME_ZONE)
        weight = season[local.dt.month().to_numpy() - 1] * week[local.dt.weekday().to_numpy() - 1] * day[local.dt.hour().to_numpy()]
        # One mean for every span, so that a partial year does not change what "twice a year" means.
        weight = weight / (season.mean() * week.mean() * day.mean())
        passed = np.concatenate([[0.0], np.cumsum(weight * np.diff(edges))])
        return cls(edges.astype(float), passed)

    @property
    def length(self) -> float:
        """Operational seconds of the whole span."""
        return float(self.operational_edges[-1])

    def operational(self, instants: np.ndarray) -> np.ndarray:
        """Operational seconds that have passed at the given epoch seconds."""
        return np.interp(instants, self.calendar_edges, self.operational_edges)

    def instant(self, operational: np.ndarray) -> np.ndarray:
        """Epoch seconds at which that much operational time has passed; `NEVER` past the end."""
        found = np.interp(operational, self.operational_edges, self.calendar_edges).astype(np.int64)
        return np.where(np.asarray(operational) < self.length, np.minimum(found, int(self.calendar_edges[-1]) - 1), NEVER)


def _local_midnight(day: date) -> int:
    return int(datetime.combine(day, time(), ZoneInfo(TIME_ZONE)).timestamp())


def utc_text(instants: np.ndarray) -> pl.Series:
    """Write epoch seconds as ISO 8601 UTC text with a Z; `NEVER` becomes NULL."""
    return _text(instants, lambda moment: moment.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def local_text(instants: np.ndarray) -> pl.Series:
    """Write epoch seconds as local wall-clock text without an offset; `NEVER` becomes NULL."""
    return _text(
        instants,
        lambda moment: moment.dt.replace_time_zone("UTC").dt.convert_time_zone(TIME_ZONE).dt.strftime("%Y-%m-%d %H:%M:%S"),
    )


def date_text(instants: np.ndarray) -> pl.Series:
    """Write epoch seconds as the local date; `NEVER` becomes NULL."""
    return _text(
        instants,
        lambda moment: moment.dt.replace_time_zone("UTC").dt.convert_time_zone(TIME_ZONE).dt.strftime("%Y-%m-%d"),
    )


def _text(instants: np.ndarray, shape) -> pl.Series:
    values = pl.Series(np.asarray(instants, dtype=np.int64))
    known = values.to_frame("t").select(pl.when(pl.col("t") >= 0).then(pl.col("t"))).to_series()
    return shape(pl.from_epoch(known, time_unit="s"))


def clear_of_repeated_hour(instants: np.ndarray) -> np.ndarray:
    """Move instants out of the autumn hours that a wall clock shows twice.

    Wall-clock text cannot tell the two apart, so a case opened before and solved after the change would read backwards.
    """
    moment = pl.from_epoch(pl.Series(np.asarray(instants, dtype=np.int64)), time_unit="s")
    last_sunday = (moment.dt.month() == 10) & (moment.dt.weekday() == 7) & (moment.dt.day() >= 25)
    inside = (last_sunday & (moment.dt.hour() < 3)).to_numpy()
    # The repeated hours are 00:00-02:00 UTC; squeezing 00:00-03:00 into 02:00-03:00 keeps every order.
    shifted = instants - (instants % DAY) + 2 * HOUR + (instants % DAY) // 3
    return np.where(inside & (np.asarray(instants) >= 0), shifted, instants)


def add_months(instants: np.ndarray, months: np.ndarray) -> np.ndarray:
    """Move epoch seconds by calendar months (UTC); a day that the month lacks becomes its last day."""
    stamp = np.asarray(instants, dtype=np.int64).astype("datetime64[s]")
    month = stamp.astype("datetime64[M]")
    day_of_month = (stamp.astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64)
    seconds = (stamp - stamp.astype("datetime64[D]")).astype(np.int64)
    target = month + np.asarray(months, dtype=np.int64)
    length = ((target + 1).astype("datetime64[D]") - target.astype("datetime64[D]")).astype(np.int64)
    moved = target.astype("datetime64[D]") + np.minimum(day_of_month, length - 1)
    return moved.astype("datetime64[s]").astype(np.int64) + seconds
