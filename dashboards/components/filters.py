"""Filters that live in the URL, so that a link shows what its sender saw; within a visit they follow from page to page.

Belongs here: reading choices from the URL, writing them back, named ranges of days. Does not belong here: what a filter does to a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import streamlit as st

from dashboards import queries
from dashboards.components import format as shown
from dashboards.components import text

RANGES = {"30d": "Last 30 days", "90d": "Last 90 days", "mtd": "This month", "12m": "Last 12 months", "ytd": "This year", "all": "Everything"}
GRAINS = ("week", "month", "quarter", "year")
ALL = "All"
_FOLLOWS = "filters_of_the_visit"
_WIDTH = 170      # two fit side by side on a phone, five on a laptop


@dataclass(frozen=True)
class Chosen:
    """What the visitor chose. `start` None is from the beginning; `end` is exclusive."""

    start: date | None
    end: date
    grain: str
    values: dict[str, str]


def from_url(name: str, allowed: tuple[str, ...], default: str) -> str:
    """A choice out of the URL, else the one made on an earlier page; what is not offered is ignored, and said."""
    given = st.query_params.get(name)
    if given is None:
        given = st.session_state.get(_FOLLOWS, {}).get(name, default)
        return given if given in allowed else default
    if given not in allowed:
        text.notice("info", f"The link asks for {name} “{given}”, which this snapshot does not have; {default} is shown.")
        return default
    return given


def to_url(name: str, value: str, default: str) -> None:
    """Write a choice into the URL and keep it for the next page; the default is left out."""
    kept = st.session_state.setdefault(_FOLLOWS, {})
    if value == default:
        kept.pop(name, None)
        st.query_params.pop(name, None)
    else:
        kept[name] = value
        if st.query_params.get(name) != value:
            st.query_params[name] = value


def choice(label: str, name: str, options: tuple[str, ...], default: str, labels: dict[str, str] | None = None, width: int = _WIDTH) -> str:
    """A select box bound to the URL."""
    current = from_url(name, options, default)
    picked = st.selectbox(label, options, index=options.index(current), format_func=lambda o: (labels or {}).get(o, shown.words(o) if o == o.lower() else o), key=f"filter_{name}", width=width)
    to_url(name, picked, default)
    return picked


def several(label: str, name: str, options: Sequence[str], placeholder: str) -> list[str]:
    """Values picked in an order that matters, bound to the URL (separated by `;`); a value may not be picked twice."""
    given = [part.strip() for part in st.query_params.get(name, "").split(";") if part.strip()]
    unknown = [part for part in given if part not in options]
    if unknown:
        text.notice("info", f"The link asks for “{unknown[0]}”, which this snapshot does not have; it is left out.")
    picked = st.multiselect(label, options, [part for part in dict.fromkeys(given) if part in options], format_func=lambda o: o, key=f"filter_{name}", placeholder=placeholder)
    if picked:
        if st.query_params.get(name) != (value := "; ".join(picked)):
            st.query_params[name] = value
    else:
        st.query_params.pop(name, None)
    return picked


def day(label: str, name: str, default: date, latest: date | None = None) -> date:
    """A day bound to the URL; the default, such as the newest day, is left out of it."""
    given, last = st.query_params.get(name), latest or default
    try:
        current = date.fromisoformat(given) if given else default
    except ValueError:
        text.notice("info", f"The link asks for {name} “{given}”, which is no day; {shown.day(default)} is shown.")
        current = default
    picked = st.date_input(label, min(current, last), max_value=last, format="YYYY-MM-DD", key=f"filter_{name}", width=_WIDTH)
    if picked == default:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != picked.isoformat():
        st.query_params[name] = picked.isoformat()
    return picked


def month_before(value: date) -> date:
    """The last day of the month before."""
    return value.replace(day=1) - timedelta(days=1)


def bar(*, grain: bool = False, dimensions: tuple[str, ...] = ("channel", "country", "segment"), default_range: str = "12m") -> Chosen:
    """The row of filters above a page."""
    offered = queries.choices()
    values: dict[str, str] = {}
    chosen_grain = "month"
    with st.container(horizontal=True, gap="small", key="filters"):
        chosen_range = choice("Period", "range", tuple(RANGES), default_range, RANGES)
        if grain:
            chosen_grain = choice("Grain", "grain", GRAINS, "month")
        for name in dimensions:
            picked = choice(shown.words(name), name, (ALL, *offered[name]), ALL, {v: v for v in offered[name]})
            if picked != ALL:
                values[name] = picked
    start, end = bounds(chosen_range)
    return Chosen(start, end, chosen_grain, values)


def unfiltered(what: str, ignored: Iterable[str]) -> None:
    """Say which chosen filters a part of a page cannot follow."""
    names = list(ignored)
    if names:
        text.line(f"{what} cannot be filtered by {' and '.join(names)}: all customers are shown.")


def bounds(chosen: str) -> tuple[date | None, date]:
    """First day and day after the last one of a named range, counted back from the newest data.

    Ranges of a fixed length hold whole days or whole months only, so that they compare with equal ones before; running ones
    (this month, this year, everything) end with the newest data.
    """
    known = queries.settings()
    return _bounds(chosen, known["watermark"].replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(known["time_zone"])))


def _bounds(chosen: str, newest: datetime) -> tuple[date | None, date]:
    today = newest.date()
    running = today + timedelta(days=1) if newest.time() != datetime.min.time() else today
    if chosen.endswith("d") and chosen[:-1].isdigit():
        return today - timedelta(days=int(chosen[:-1])), today
    if chosen == "12m":
        last = today.replace(day=1)
        return last.replace(year=last.year - 1), last
    if chosen in ("mtd", "ytd"):
        day_before = running - timedelta(days=1)
        return day_before.replace(day=1, month=day_before.month if chosen == "mtd" else 1), running
    return None, running
