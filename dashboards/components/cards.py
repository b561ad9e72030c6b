"""Cards: a metric with its change, its trend and its definition, all on one look. Draws `figures.Figure`; holds no question to the data."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import streamlit as st

from dashboards import figures, queries
from dashboards.components import format as shown
from dashboards.components.filters import Chosen
from dashboards.components.text import safe

_GOOD = {"up_is_good": 1, "down_is_good": -1, "neither": 0}
_WIDE, _HIGH = 200, 34      # of a sparkline's drawing, px


def row(names: Sequence[str], chosen: Chosen) -> None:
    """Cards for several metrics over the chosen range, asked together."""
    currency = queries.settings()["reporting_currency"]
    cards = "".join(_card(figure, currency) for figure in figures.figures(tuple(names), chosen.start, chosen.end, chosen.values))
    st.html(f'<div class="r-cards{" r-4" if len(names) == 4 else ""}">{cards}</div>')


def plain(items: Sequence[tuple[str, str, str, str]]) -> None:
    """Cards for values that are no metrics: (label, value, line below, explanation), the last two may be empty."""
    cards = "".join(f'<article class="r-card"><div class="r-card-top"><span class="r-card-label">{safe(label)}</span>{_tip(label, [explanation]) if explanation else ""}</div>'
                    f'<div class="r-card-value">{safe(value)}</div><div class="r-card-change">{safe(below)}</div></article>' for label, value, below, explanation in items)
    st.html(f'<div class="r-cards{" r-3" if len(items) == 3 else " r-4" if len(items) < 5 else ""}">{cards}</div>')


def _card(figure: figures.Figure, currency: str) -> str:
    few = " r-few" if figure.is_few else ""
    return (f'<article class="r-card{few}" data-metric="{safe(figure.metric)}"><div class="r-card-top"><span class="r-card-label">{safe(figure.label)}</span>{_tip(figure.label, _explained(figure, currency))}</div>'
            f'<div class="r-card-value">{safe(shown.number(figure.value, figure.unit, currency))}</div><div class="r-card-change">{_change(figure, currency)}</div>'
            f'{_sparkline(figure, currency)}<div class="r-card-notes">{"<br>".join(safe(n) for n in _notes(figure, currency))}</div></article>')


def _tip(label: str, lines: Sequence[str]) -> str:
    """A mark that shows its text when hovered, tapped or reached by keyboard."""
    body = "".join(f"<span>{safe(line)}</span>" for line in lines[1:])
    return (f'<span class="r-tip" tabindex="0" role="button" aria-label="What {safe(label)} means"><span class="r-tip-mark" aria-hidden="true">?</span>'
            f'<span class="r-tip-text" role="tooltip"><b>{safe(lines[0])}</b>{body}</span></span>')


def _change(figure: figures.Figure, currency: str) -> str:
    text = shown.change(figure.change, figure.unit, currency, figure.change_rate)
    if text is None:
        return "nothing to compare with" if figure.compared and figure.value is not None else "&nbsp;"
    direction = (float(figure.change) > 0) - (float(figure.change) < 0)
    tone = {1: "r-good", -1: "r-bad", 0: "r-even"}[direction * _GOOD[figure.direction]]
    arrow = {1: "▲", -1: "▼", 0: "="}[direction]
    return f'<span class="{tone}">{arrow} {safe(text)}</span> from {safe(shown.brief(figure.previous, figure.unit, currency))}'


def _notes(figure: figures.Figure, currency: str) -> list[str]:
    lines = [figure.reason[:1].upper() + figure.reason[1:]] if figure.value is None and figure.reason else []
    parts = [f"n = {figure.n:,.0f}"] if figure.n is not None else []
    if figure.lower is not None and figure.upper is not None:
        parts.append(f"95%: {shown.interval(figure.lower, figure.upper, figure.unit, currency)}")
    if figure.is_few:
        parts.append("few observations")
    lines += [" · ".join(parts)] if parts else []
    if figure.moved:
        lines.append(f"{shown.span(figure.start, figure.end)}, the newest whose outcome is known")
    if figure.ignored:
        lines.append(f"Not filtered by {', '.join(figure.ignored)}")
    return lines or ["\u00a0"]


def _explained(figure: figures.Figure, currency: str) -> list[str]:
    if not figure.definition:
        return [figure.reason or "Not defined."]
    lines = [figure.definition, f"Unit: {shown.unit_words(figure.unit, currency)}. Variant: {figure.variant.replace('_', ' ')}."]
    if figure.end:
        lines.append(f"Period: {shown.span(figure.start, figure.end)}." + (f" Compared with {shown.span(*figure.compared)}." if figure.compared else ""))
    if figure.n is not None:
        lines.append(f"Observations: {figure.n:,.0f}." + (f" 95 % interval: {shown.interval(figure.lower, figure.upper, figure.unit, currency)}." if figure.lower is not None else ""))
    lines.append(_completeness(figure))
    return [*lines, *([figure.note] if figure.note else []), *([f"It cannot be filtered by {', '.join(figure.ignored)}."] if figure.ignored else [])]


def _completeness(figure: figures.Figure) -> str:
    if figure.moved:
        return "The period chosen above is too young for this metric: outcomes are still open. This is the newest period of the same length without open ones."
    if figure.is_complete:
        return "Complete: every observation of the period is in."
    if figure.maturity == "next_period":
        return "Cohorts whose following month has not ended are left out."
    if figure.maturity:
        days = queries.settings().get(figure.maturity)
        return f"The last {days} days of the period are still maturing; they count once their outcome is known." if days else "Part of the period is still maturing."
    return "Not complete: the period reaches to the newest data or holds a gap."


def _sparkline(figure: figures.Figure, currency: str) -> str:
    points = figure.trend
    known = [p for p in points if p is not None]
    if len(known) < 2:
        return '<div class="r-card-flat">no monthly trend yet</div>'
    low, high = min(known), max(known)
    step, reach = _WIDE / max(1, len(points) - 1), high - low
    spots = [None if p is None else (round(i * step, 1), round(_HIGH - 5 - (p - low) / reach * (_HIGH - 10), 1) if reach else _HIGH / 2) for i, p in enumerate(points)]
    lines, run = [], []
    for spot in [*spots, None]:
        if spot is None:
            lines += [" ".join(f"{x},{y}" for x, y in run)] if len(run) > 1 else []
            run = []
        else:
            run.append(spot)
    last = next(s for s in reversed(spots) if s is not None)
    drawing = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 0 {_WIDE + 8} {_HIGH}" preserveAspectRatio="none">'
               + "".join(f'<polyline points="{line}" fill="none" stroke="#0f766e" stroke-width="1.6" stroke-linejoin="round" vector-effect="non-scaling-stroke"/>' for line in lines)
               + f'<circle cx="{last[0]}" cy="{last[1]}" r="2.6" fill="#0f766e"/></svg>')
    words = f"{figure.label} by month from {shown.month(figure.trend_from)}: from {shown.number(known[0], figure.unit, currency)} to {shown.number(known[-1], figure.unit, currency)}, lowest {shown.number(low, figure.unit, currency)}, highest {shown.number(high, figure.unit, currency)}"
    return f'<img src="data:image/svg+xml,{quote(drawing)}" alt="{safe(words)}" title="{safe(words)}">'
