"""Charts, each from rows that are ready to draw: where something stands and how dark it is, never what it amounts to."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl
import streamlit as st

from dashboards import figures
from dashboards.components import filters, text
from dashboards.components import format as shown
from dashboards.components.text import safe

HEIGHT = 280
SEQUENTIAL = ("#f0f7f5", "#d5ebe6", "#b3dbd3", "#8cc8bd", "#63b2a5", "#3f9a8c", "#278275", "#17695e", "#0d5148")
_AXES = {"share": ".0%", "currency": ",.0f", "count": ",.0f"}
_EXACT = {"share": ".1%", "currency": ",.2f", "count": ",.0f"}


def _axis(unit: str) -> str:
    return _AXES.get(unit, ",.2~f")


def _exact(unit: str) -> str:
    return _EXACT.get(unit, ",.2~f")


def _draw(chart: alt.Chart | alt.LayerChart) -> None:
    st.altair_chart(chart.configure_view(strokeWidth=0).configure_axis(gridColor="#efece5", labelColor="#5b625f", titleColor="#5b625f", domainColor="#dedad2", tickColor="#dedad2"), width="stretch")


def over_time(rows: pl.DataFrame, value: str, title: str, unit: str) -> None:
    """A line over `period`; a period without a value breaks it."""
    data = rows.select(pl.col("period").cast(pl.Datetime), pl.col(value).cast(pl.Float64))
    if data[value].null_count() == data.height:
        text.notice("info", f"{title}: no value in this period.")
        return
    chart = alt.Chart(data.to_pandas()).encode(
        x=alt.X("period:T", title=None, axis=alt.Axis(tickCount=6, labelOverlap=True)), y=alt.Y(f"{value}:Q", title=None, axis=alt.Axis(format=_axis(unit), tickCount=5, grid=True)),
        tooltip=[alt.Tooltip("period:T", title="Period from", format="%Y-%m-%d"), alt.Tooltip(f"{value}:Q", title=title, format=_exact(unit))])
    _draw(chart.mark_line(point=alt.OverlayMarkDef(size=36), strokeWidth=2, color="#0f766e").properties(height=HEIGHT))


def metric_over_time(name: str, title: str, unit: str, chosen: filters.Chosen) -> None:
    """The line of a metric over the chosen periods, under the chosen filters it knows."""
    rows, ignored = figures.series(name, chosen.grain, chosen.start, chosen.end, chosen.values)
    over_time(rows, name, title, unit)
    filters.unfiltered("This line", ignored)


def bars(rows: pl.DataFrame, category: str, value: str, title: str, unit: str) -> None:
    """Horizontal bars, the largest first, each with its number."""
    data = rows.select(pl.col(category).cast(pl.String).fill_null("not known"), pl.col(value).cast(pl.Float64)).drop_nulls(value)
    if data.is_empty():
        text.notice("info", f"{title}: nothing in this period.")
        return
    base = alt.Chart(data.to_pandas()).encode(
        y=alt.Y(f"{category}:N", sort="-x", title=None, axis=alt.Axis(labelLimit=150)), x=alt.X(f"{value}:Q", title=None, axis=None, scale=alt.Scale(padding=30)),
        tooltip=[alt.Tooltip(f"{category}:N", title=shown.words(category)), alt.Tooltip(f"{value}:Q", title=title, format=_exact(unit))])
    _draw((base.mark_bar(color="#0f766e", cornerRadiusEnd=3) + base.mark_text(align="left", dx=5, color="#1c2321").encode(text=alt.Text(f"{value}:Q", format=_exact(unit) if unit == "share" else _axis(unit)))).properties(height=max(110, 28 * data.height)))


def heat_map(cells: pl.DataFrame, mean: pl.DataFrame, value: str, unit: str, grain: str, currency: str = "") -> None:
    """Cohorts as rows, periods since the start as columns, the mean below. Cells whose period has not ended are hatched and hold nothing."""
    numbers = sorted(cells["period_number"].unique().to_list())
    known = [v for number, v in zip(cells["period_number"], cells[value], strict=True) if v is not None and number > 0]
    low, high = (float(min(known)), float(max(known))) if known else (0.0, 1.0)
    matrix = {(row["cohort_period"], row["period_number"]): row for row in cells.iter_rows(named=True)}
    cohorts = {row["cohort_period"]: row["cohort_size"] for row in cells.iter_rows(named=True)}
    head = "".join(f'<th scope="col">{n}</th>' for n in numbers)
    body = "".join(f'<tr><th scope="row">{safe(shown.period(cohort, grain))}</th><td class="r-size">{cohorts[cohort]:,}</td>'
                   + "".join(_heat_cell(matrix.get((cohort, n)), value, unit, currency, low, high) for n in numbers) + "</tr>" for cohort in sorted(cohorts))
    means = dict(zip(mean["period_number"], mean[value], strict=True))
    foot = "".join(f'<td>{safe(_brief(float(means[n]), unit, currency)) if means.get(n) is not None else ""}</td>' for n in numbers)
    st.html(f'<div class="r-scroll" tabindex="0"><table class="r-heat"><thead><tr><th scope="col">Cohort</th><th scope="col">Size</th>{head}</tr></thead>'
            f'<tbody>{body}<tr class="r-mean"><th scope="row">Mean</th><td class="r-size">{sum(cohorts.values()):,}</td>{foot}</tr></tbody></table></div>')


def _heat_cell(row: dict[str, Any] | None, value: str, unit: str, currency: str, low: float, high: float) -> str:
    if row is None:
        return "<td></td>"
    if row[value] is None:
        return f'<td class="r-open" title="{safe(row.get("reason") or "not complete yet")}"></td>'
    amount = float(row[value])
    share = min(1.0, max(0.0, (amount - low) / (high - low))) if high > low else 0.5
    if row["period_number"] == 0 and unit == "share":
        share = 1.0
    shade = SEQUENTIAL[min(len(SEQUENTIAL) - 1, int(share * len(SEQUENTIAL)))]
    ink = "#ffffff" if share >= 0.6 else "#1c2321"
    told = f"{row['active']:,} of {row['cohort_size']:,}" if row.get("active") is not None else ""
    return f'<td style="background:{shade};color:{ink}" title="{safe(told)}">{safe(_brief(amount, unit, currency))}</td>'


def _brief(amount: float, unit: str, currency: str) -> str:
    if unit == "share":
        return f"{amount:.0%}"
    return f"{shown.SYMBOLS.get(currency, '')}{amount:,.0f}"


def funnel(rows: pl.DataFrame, name: str, value: str) -> None:
    """Steps in their order as bars, each with its number and its share of the first."""
    largest = float(rows[value].max() or 0)
    first = float(rows[value][0] or 0) if rows.height else 0.0
    lines = "".join(
        f'<div class="r-step"><span class="r-step-name">{safe(shown.words(str(row[name])))}</span><span class="r-step-track"><span class="r-step-bar" style="width:{100 * float(row[value] or 0) / largest if largest else 0:.1f}%"></span></span>'
        f'<span class="r-step-count">{safe(shown.number(row[value], "count"))}</span><span class="r-step-share">{safe(shown.number(float(row[value] or 0) / first, "share") if first else shown.NOTHING)}</span></div>'
        for row in rows.iter_rows(named=True))
    st.html(f'<div class="r-steps" role="img" aria-label="Funnel of {rows.height} steps; the table below holds its numbers">{lines}</div>')
