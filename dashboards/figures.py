"""What a card says of a metric: its value for a range, the change, the trend, and how far it can be trusted.

Belongs here: asking the metric layer for many metrics at once, and moving to the newest range whose outcomes are known when
the chosen one is too young. Does not belong here: what a number means (`models/metrics`), drawing (`components/cards`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import polars as pl

from dashboards import queries
from data_contracts.errors import RapportError
from models import metrics
from models.metrics.calendar import add_months

# The cards on top of each page: what a visitor sees first, and what the server asks before anybody visits.
CARDS = {"overview": queries.HEADLINE, "acquisition": ("cac", "spend", "new_customers", "leads", "sales_conversion_rate"), "retention": ("retention_rate", "churn_rate", "nrr", "grr"),
         "funnel": ("funnel_conversion_rate", "sales_conversion_rate", "win_rate", "sales_cycle_days", "open_pipeline")}
TREND_MONTHS = 13     # a year and the same month before it, so that a season shows


@dataclass(frozen=True)
class Figure:
    """One metric for one range. Values are null with a reason, never made up; `moved` tells that the range is not the one asked for."""

    metric: str
    label: str
    unit: str = ""
    direction: str = "neither"
    definition: str = ""
    variant: str = ""
    value: Any = None
    previous: Any = None
    change: Any = None
    change_rate: Any = None
    n: Any = None
    is_few: bool = False
    lower: Any = None
    upper: Any = None
    is_complete: bool = True
    maturity: str = ""
    reason: str = ""
    note: str = ""
    start: date | None = None
    end: date | None = None
    compared: tuple[date, date] | None = None
    moved: bool = False
    ignored: tuple[str, ...] = ()
    trend: tuple[float | None, ...] = field(default=())
    trend_from: date | None = None


def figures(names: Sequence[str], start: date | None, end: date, values: dict[str, str]) -> list[Figure]:
    """The figures of several metrics, in the order asked, with as few questions to the snapshot as their filters allow."""
    known = queries.definitions()
    found: dict[str, Figure] = {name: Figure(name, name.replace("_", " ").capitalize(), reason="this snapshot does not define it") for name in names if name not in known}
    groups: dict[str | None, list[str]] = {}
    ignored: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in known:
            where, left_out = queries.where_text(name, values)
            groups.setdefault(where, []).append(name)
            ignored[name] = tuple(left_out)
    for where, members in groups.items():
        trends, trend_from = _trends(tuple(members), end, where)
        for name, figure in _ask(tuple(members), start, end, where).items():
            found[name] = replace(figure, ignored=ignored[name], trend=trends.get(name, ()), trend_from=trend_from)
    return [found[name] for name in names]


def series(name: str, grain: str, start: date | None, end: date, values: dict[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """(rows of `period` and the metric, the filters it cannot follow). Raises RapportError when it cannot be asked by period."""
    where, ignored = queries.where_text(name, values)
    return queries.metric((name,), grain=grain, start=start, end=end, where=where).frame, ignored


def breakdown(name: str, by: str, start: date | None, end: date, values: dict[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """(rows of `by` and the metric, the filters it cannot follow)."""
    where, ignored = queries.where_text(name, values)
    return queries.metric((name,), by=(by,), start=start, end=end, where=where).frame, ignored


def _ask(names: tuple[str, ...], start: date | None, end: date, where: str | None) -> dict[str, Figure]:
    found = _range(names, start, end, where)
    moved: dict[tuple[date, date], list[str]] = {}
    for name, figure in found.items():
        if (figure.value is None or figure.is_few) and start is not None and figure.maturity:
            mature = queries.mature_range(figure.maturity, start, end)
            if mature:
                moved.setdefault(mature, []).append(name)
    for (first, last), members in moved.items():
        for name, figure in _range(tuple(members), first, last, where).items():
            if figure.value is not None and (figure.n or 0) > (found[name].n or 0):
                found[name] = replace(figure, moved=True)
    return found


def _range(names: tuple[str, ...], start: date | None, end: date, where: str | None) -> dict[str, Figure]:
    try:
        answer = queries.metric(names, start=start, end=end, where=where, compare=start is not None)
    except RapportError as error:
        if len(names) > 1:      # one metric that cannot be asked must not take the others along
            return {name: figure for one in names for name, figure in _range((one,), start, end, where).items()}
        return {names[0]: Figure(names[0], queries.definitions()[names[0]].label, reason=str(error.message))}
    row = answer.details.row(0, named=True) if answer.details.height else {}
    return {name: _figure(name, row, answer) for name in names}


def _figure(name: str, row: dict[str, Any], answer: metrics.MetricAnswer) -> Figure:
    definition, meta = queries.definitions()[name], answer.columns[name]
    n = row.get(f"{name}__n")
    return Figure(
        metric=name, label=definition.label, unit=meta.unit, direction=definition.direction, definition=meta.definition, variant=meta.variant, value=row.get(name),
        previous=row.get(f"{name}__previous"), change=row.get(f"{name}__change"), change_rate=row.get(f"{name}__change_rate"), n=n,
        is_few=n is not None and n < queries.settings()["small_n"] and meta.unit != "count", lower=row.get(f"{name}__lower"), upper=row.get(f"{name}__upper"),
        is_complete=bool(row.get(f"{name}__is_complete", True)), maturity="" if meta.completeness == "watermark" else meta.completeness, reason=row.get(f"{name}__null_reason") or "",
        note=meta.note or "", start=answer.start, end=answer.end, compared=answer.previous)


def _trends(names: tuple[str, ...], end: date, where: str | None) -> tuple[dict[str, tuple[float | None, ...]], date]:
    """Values of the complete months before the end of the range, by metric; none for a metric that has no monthly value."""
    last = (end if end.day == 1 else end.replace(day=1))
    first = add_months(last, -TREND_MONTHS)
    try:
        frame = queries.metric(names, grain="month", start=first, end=last, where=where).frame
    except RapportError:
        if len(names) == 1:
            return {}, first
        return {name: points for one in names for name, points in _trends((one,), end, where)[0].items()}, first
    return {name: tuple(None if v is None else float(v) for v in frame[name].to_list()) for name in names}, first

