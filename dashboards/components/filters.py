"""Filters that live in the URL, so that a link shows what its sender saw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import streamlit as st

from dashboards import queries
from dashboards.components import format as shown

RANGES = {"30d": "Last 30 days", "90d": "Last 90 days", "mtd": "This month", "12m": "Last 12 months", "ytd": "This year", "all": "Everything"}
GRAINS = ("week", "month", "quarter", "year")
ALL = "All"


@dataclass(frozen=True)
class Chosen:
    """What the visitor chose. `start` None is from the beginning; `end` is exclusive, the day after the newest data."""

    start: date | None
    end: date
    grain: str
    values: dict[str, str]


def from_url(name: str, allowed: tuple[str, ...], default: str) -> str:
    """A choice out of the URL, ignoring what is not offered."""
    given = st.query_params.get(name, default)
    return given if given in allowed else default


def to_url(name: str, value: str, default: str) -> None:
    """Write a choice into the URL; the default is left out."""
    if value == default:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != value:
        st.query_params[name] = value


def choice(label: str, name: str, options: tuple[str, ...], default: str, labels: dict[str, str] | None = None) -> str:
    """A select box bound to the URL."""
    current = from_url(name, options, default)
    picked = st.selectbox(label, options, index=options.index(current), format_func=lambda o: (labels or {}).get(o, shown.words(o) if o == o.lower() else o), key=f"filter_{name}")
    to_url(name, picked, default)
    return picked


def bar(*, grain: bool = False, dimensions: tuple[str, ...] = ("channel", "country", "segment"), default_range: str = "90d") -> Chosen:
    """The row of filters above a page."""
    offered = queries.choices()
    names = ["range", *(["grain"] if grain else []), *dimensions]
    values: dict[str, str] = {}
    chosen_range, chosen_grain = default_range, "month"
    for column, name in zip(st.columns(len(names)), names, strict=True):
        with column:
            if name == "range":
                chosen_range = choice("Period", "range", tuple(RANGES), default_range, RANGES)
            elif name == "grain":
                chosen_grain = choice("Grain", "grain", GRAINS, "month")
            else:
                picked = choice(shown.words(name), name, (ALL, *offered[name]), ALL, {v: v for v in offered[name]})
                if picked != ALL:
                    values[name] = picked
    start, end = bounds(chosen_range)
    return Chosen(start, end, chosen_grain, values)


def bounds(chosen: str) -> tuple[date | None, date]:
    """First day and day after the last one of a named range, counted back from the newest data."""
    known = queries.settings()
    newest = known["watermark"].replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(known["time_zone"]))
    end = newest.date() + timedelta(days=1)
    return _start(chosen, newest, end), end


def _start(chosen: str, newest: datetime, end: date) -> date | None:
    if chosen.endswith("d") and chosen[:-1].isdigit():
        return end - timedelta(days=int(chosen[:-1]))
    if chosen == "mtd":
        return newest.date().replace(day=1)
    if chosen == "ytd":
        return newest.date().replace(month=1, day=1)
    if chosen == "12m":
        first = newest.date().replace(day=1)
        return first.replace(year=first.year - 1)
    return None
