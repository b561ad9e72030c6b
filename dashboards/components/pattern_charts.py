"""Pictures of patterns: the plane of recency and frequency, and what sets groups apart. Where something stands and how dark it is."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from dashboards.components import charts
from dashboards.components import format as shown
from dashboards.components.text import safe

COLOURS = ("#0f766e", "#b27a18", "#4f6d9f", "#b4433f", "#7a5ea8", "#5b8c3a", "#8a6d55", "#3c4442")    # as many as there may be groups
SCORES = (1, 2, 3, 4, 5)
RECENCY = {1: "longest ago", 5: "most recent"}
FREQUENCY = {1: "fewest orders", 5: "most orders"}


def plane(cells: pl.DataFrame, value: str, unit: str, currency: str = "") -> None:
    """Recency as rows, the most recent on top, frequency as columns; each cell with its value, its segments in words below and on hover."""
    by_score = {(r["recency_score"], r["frequency_score"]): r for r in cells.iter_rows(named=True)}
    largest = max((float(r[value]) for r in by_score.values()), default=0.0)
    head = "".join(f'<th scope="col">F{f}<br><small>{safe(FREQUENCY.get(f, ""))}</small></th>' for f in SCORES)
    body = "".join(f'<tr><th scope="row">R{r} <small>{safe(RECENCY.get(r, ""))}</small></th>' + "".join(_cell(by_score.get((r, f)), value, unit, currency, largest) for f in SCORES) + "</tr>" for r in reversed(SCORES))
    st.html(f'<div class="r-scroll" tabindex="0"><table class="r-heat r-plane"><thead><tr><th scope="col"></th>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _cell(row: dict[str, Any] | None, value: str, unit: str, currency: str, largest: float) -> str:
    if row is None or not row["customers"]:
        return f'<td title="no customer">{shown.NOTHING}</td>'
    share = max(0.0, float(row[value]) / largest) if largest > 0 else 0.0
    shade = charts.SEQUENTIAL[min(len(charts.SEQUENTIAL) - 1, int(share * len(charts.SEQUENTIAL)))]
    ink = "#ffffff" if share >= 0.6 else "#1c2321"
    told = f"{row['customers']:,} customers, net revenue {shown.money(row['net_revenue_reporting'], currency)}: {row['segment']}"
    return f'<td style="background:{shade};color:{ink}" title="{safe(told)}"><b>{safe(shown.number(row[value], unit, currency))}</b><br><small>{safe(row["segment"])}</small></td>'


def profiles(rows: pl.DataFrame) -> None:
    """For each group, how far it lies from the average buyer on each behaviour, in robust standard units; left is below, right above."""
    data = rows.select(pl.format("{} · {}", "cluster_id", "cluster").alias("group"), "label", pl.col("difference").cast(pl.Float64))
    group = {"field": "group", "type": "nominal"}
    charts.draw(data, {"height": max(200, 16 * rows.height + 60), "mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": {
        "y": {"field": "label", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 170}},
        "x": {"field": "difference", "type": "quantitative", "title": "Difference from the average buyer", "axis": {"tickCount": 5}},
        "yOffset": group, "color": {**group, "scale": {"range": list(COLOURS)}, "legend": {"orient": "top", "columns": 1, "labelLimit": 300, "title": None}},
        "tooltip": [{**group, "title": "Group"}, {"field": "label", "type": "nominal", "title": "Behaviour"}, {"field": "difference", "type": "quantitative", "title": "Robust standard units", "format": ".2f"}]}})
