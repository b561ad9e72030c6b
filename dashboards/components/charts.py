"""Charts, each from rows that are ready to draw. Holds no calculation."""

from __future__ import annotations

import altair as alt
import polars as pl
import streamlit as st

from dashboards.components import format as shown

HEIGHT = 280
SEQUENTIAL = ["#f0f7f5", "#b3dbd3", "#63b2a5", "#278275", "#0d5148"]
_FORMATS = {"share": ".0%", "currency": ",.0f", "count": ",.0f"}


def _axis(unit: str) -> str:
    return _FORMATS.get(unit, ",.2~f")


def _draw(chart: alt.Chart | alt.LayerChart) -> None:
    st.altair_chart(chart.configure_view(strokeWidth=0).configure_axis(grid=False, labelColor="#5b625f", titleColor="#5b625f", domainColor="#dedad2", tickColor="#dedad2"), width="stretch")


def over_time(rows: pl.DataFrame, value: str, title: str, unit: str, by: str | None = None) -> None:
    """A line over `period`, one per value of `by`."""
    data = rows.with_columns(pl.col("period").cast(pl.Datetime), pl.col(value).cast(pl.Float64))
    base = alt.Chart(data.to_pandas()).encode(
        x=alt.X("period:T", title=None), y=alt.Y(f"{value}:Q", title=title, axis=alt.Axis(format=_axis(unit), tickCount=5)),
        tooltip=[alt.Tooltip("period:T", title="period"), alt.Tooltip(f"{value}:Q", title=title, format=_axis(unit))] + ([alt.Tooltip(f"{by}:N")] if by else []))
    if by:
        base = base.encode(color=alt.Color(f"{by}:N", title=None, legend=alt.Legend(orient="bottom", columns=3)))
    _draw(base.mark_line(point=True, strokeWidth=2).properties(height=HEIGHT))


def bars(rows: pl.DataFrame, category: str, value: str, title: str, unit: str) -> None:
    """Horizontal bars, the largest first."""
    data = rows.select(category, pl.col(value).cast(pl.Float64)).to_pandas()
    chart = alt.Chart(data).mark_bar(color="#0f766e", cornerRadiusEnd=3).encode(
        y=alt.Y(f"{category}:N", sort="-x", title=None, axis=alt.Axis(labelLimit=180)), x=alt.X(f"{value}:Q", title=title, axis=alt.Axis(format=_axis(unit), tickCount=4)),
        tooltip=[alt.Tooltip(f"{category}:N"), alt.Tooltip(f"{value}:Q", title=title, format=_axis(unit))])
    _draw(chart.properties(height=max(120, 26 * rows.height)))


def heat_map(cells: pl.DataFrame, x: str, y: str, value: str, unit: str) -> None:
    """A matrix; cells without a value are left white."""
    data = cells.with_columns(pl.col(y).cast(pl.String), pl.col(value).cast(pl.Float64)).to_pandas()
    base = alt.Chart(data).encode(x=alt.X(f"{x}:O", title=shown.words(x), axis=alt.Axis(labelAngle=0)), y=alt.Y(f"{y}:O", title=None),
                                  tooltip=[alt.Tooltip(f"{y}:N", title="cohort"), alt.Tooltip(f"{x}:O"), alt.Tooltip("cohort_size:Q", title="size"), alt.Tooltip(f"{value}:Q", format=_axis(unit))])
    squares = base.mark_rect(stroke="#fbfaf8").encode(color=alt.Color(f"{value}:Q", title=None, scale=alt.Scale(range=SEQUENTIAL), legend=None))
    text = base.mark_text(fontSize=10).encode(text=alt.Text(f"{value}:Q", format=_axis(unit)), color=alt.condition(f"datum['{value}'] > 0.45", alt.value("white"), alt.value("#1c2321")))
    _draw((squares + text).properties(height=max(200, 24 * cells[y].n_unique())))


def funnel(rows: pl.DataFrame, name: str, value: str) -> None:
    """Steps in their order as bars."""
    data = rows.select(name, pl.col(value).cast(pl.Float64)).to_pandas()
    bars_ = alt.Chart(data).encode(y=alt.Y(f"{name}:N", sort=None, title=None, axis=alt.Axis(labelLimit=180)), x=alt.X(f"{value}:Q", title=None, axis=alt.Axis(format=",.0f", tickCount=4)),
                                   tooltip=[f"{name}:N", alt.Tooltip(f"{value}:Q", format=",.0f")])
    _draw((bars_.mark_bar(color="#0f766e", cornerRadiusEnd=3) + bars_.mark_text(align="left", dx=4).encode(text=alt.Text(f"{value}:Q", format=",.0f"))).properties(height=max(120, 38 * rows.height)))
