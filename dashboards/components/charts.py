"""Charts, each from rows that are ready to draw: where something stands and how dark it is, never what it amounts to.

They are Vega-Lite specifications written as they are sent. Altair would check each of them against a schema at every drawing, which
took half of a page's time on the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import streamlit as st

from dashboards import figures
from dashboards.components import filters, text
from dashboards.components import format as shown
from dashboards.components.text import safe

HEIGHT = 280
ROW = 28        # height of a horizontal bar with its gap, px
SEQUENTIAL = ("#f0f7f5", "#d5ebe6", "#b3dbd3", "#8cc8bd", "#63b2a5", "#3f9a8c", "#278275", "#17695e", "#0d5148")
MAIN, INK, QUIET, GAIN, LOSS, STAND = "#0f766e", "#1c2321", "#cfcac0", "#3f9a8c", "#c2713a", "#4a524f"
SERIES = ("#b3dbd3", "#c2713a", "#0f766e", "#4f6d9f")
_AXES = {"share": ".1~%", "currency": ",.0f", "count": ",.0f"}
BESIDE = 0.24   # of the width, kept free for the number that stands beside the longest bar
_EXACT = {"share": ".1%", "currency": ",.2f", "count": ",.0f"}
_AXIS = {"gridColor": "#efece5", "labelColor": "#5b625f", "titleColor": "#5b625f", "domainColor": "#dedad2", "tickColor": "#dedad2"}


def _axis(unit: str) -> str:
    return _AXES.get(unit, ",.2~f")


def _exact(unit: str) -> str:
    return _EXACT.get(unit, ",.2~f")


def draw(rows: pl.DataFrame, spec: dict[str, Any]) -> None:
    """Show a Vega-Lite chart of rows in the look all share."""
    st.vega_lite_chart(rows.to_arrow(), {**spec, "config": {"view": {"strokeWidth": 0}, "axis": _AXIS, "legend": {"labelColor": "#5b625f", "title": None, "orient": "bottom", "columns": 2, "labelLimit": 150}}}, width="stretch")


def _tip(field: str, title: str, form: str, kind: str = "quantitative") -> dict[str, Any]:
    return {"field": field, "type": kind, "title": title, **({"format": form} if form else {})}


def _room(values: list[float]) -> dict[str, Any]:
    """A scale from 0 (or the lowest value) to the highest one, with room for its number."""
    low, high = min(0.0, *values), max(0.0, *values)
    return {"domain": [low, high + (high - low) * BESIDE or 1.0], "nice": False}


def over_time(rows: pl.DataFrame, value: str, title: str, unit: str) -> None:
    """A line over `period`; a period without a value breaks it."""
    data = rows.select(pl.col("period").cast(pl.Datetime("ms")), pl.col(value).cast(pl.Float64).alias("value"))
    if data["value"].null_count() == data.height:
        text.notice("info", f"{title}: no value in this period.")
        return
    if unit in ("count", "currency") and not (data["value"].fill_null(0) != 0).any():
        text.notice("info", f"{title}: nothing in this period.")
        return
    dates = "%Y-%m" if all(day.day == 1 for day in data["period"].to_list()) else "%Y-%m-%d"
    draw(data, {"height": HEIGHT, "mark": {"type": "line", "point": {"size": 36, "color": MAIN}, "strokeWidth": 2, "color": MAIN}, "encoding": {
        "x": {"field": "period", "type": "temporal", "title": None, "axis": {"tickCount": 6, "labelOverlap": True, "format": dates}},
        "y": {"field": "value", "type": "quantitative", "title": None, "axis": {"format": _axis(unit), "tickCount": 5}},
        "tooltip": [_tip("period", "Period from", "%Y-%m-%d", "temporal"), _tip("value", title, _exact(unit))]}})


def metric_over_time(name: str, title: str, unit: str, chosen: filters.Chosen) -> None:
    """The line of a metric over the chosen periods, under the chosen filters it knows."""
    rows, ignored = figures.series(name, chosen.grain, chosen.start, chosen.end, chosen.values)
    over_time(rows, name, title, unit)
    filters.unfiltered("This line", ignored)


def bars(rows: pl.DataFrame, category: str, value: str, title: str, unit: str) -> None:
    """Horizontal bars, the largest first, each with its number."""
    data = rows.select(pl.col(category).cast(pl.String).fill_null("not known").alias("name"), pl.col(value).cast(pl.Float64).alias("value")).drop_nulls("value")
    if data.is_empty():
        text.notice("info", f"{title}: nothing in this period.")
        return
    form = _exact(unit) if unit == "share" else _axis(unit)
    y = {"field": "name", "type": "nominal", "sort": "-x", "title": None, "axis": {"labelLimit": 150}}
    x = {"field": "value", "type": "quantitative", "title": None, "axis": None, "scale": _room(data["value"].to_list())}
    tooltip = [_tip("name", shown.words(category), "", "nominal"), _tip("value", title, _exact(unit))]
    draw(data, {"height": max(110, ROW * data.height), "encoding": {"y": y, "x": x, "tooltip": tooltip}, "layer": [
        {"mark": {"type": "bar", "color": MAIN, "cornerRadiusEnd": 3}}, {"mark": {"type": "text", "align": "left", "dx": 5, "color": INK}, "encoding": {"text": {"field": "value", "type": "quantitative", "format": form}}}]})


def grouped(rows: pl.DataFrame, category: str, series: Mapping[str, str], unit: str) -> None:
    """Horizontal bars in the order of the rows, one of each series (column -> its name) for each row; where there is nothing but zeros, a line that says so."""
    order = ["not known" if name is None else shown.words(name) for name in rows[category].to_list()]
    data = (rows.select(pl.Series("name", order, pl.String), *(pl.col(column).cast(pl.Float64).alias(label) for column, label in series.items()))
            .unpivot(index="name", variable_name="series", value_name="value").drop_nulls("value"))
    if not (data["value"] != 0).any():
        text.notice("info", f"{' and '.join(series.values())}: nothing to draw, every value is 0 or not known.")
        return
    names, order = list(series.values()), list(dict.fromkeys(order))
    sort = {"field": "series", "type": "nominal", "sort": names}
    draw(data, {"height": max(140, 20 * len(series) * len(order)), "mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": {
        "y": {"field": "name", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 150}}, "yOffset": sort,
        "x": {"field": "value", "type": "quantitative", "title": None, "axis": {"format": "~s" if unit == "currency" else _axis(unit), "tickCount": 5}},
        "color": {**sort, "scale": {"domain": names, "range": list(SERIES[:len(names)])}}, "tooltip": [_tip("name", shown.words(category), "", "nominal"), _tip("series", "Shows", "", "nominal"), _tip("value", "Value", _exact(unit))]}})


def waterfall(rows: pl.DataFrame, step: str, value: str, count: str, words: Mapping[str, str], unit: str) -> None:
    """Steps from what stood at the beginning (first row) to what stands at the end (last row), each where the one before left off, with how many it is of."""
    placed, level = [], 0.0
    for number, row in enumerate(rows.iter_rows(named=True)):
        amount = float(row[value] or 0)
        stands = number in (0, rows.height - 1)
        begin = 0.0 if stands else level
        level = amount if stands else level + amount
        placed.append({"name": f"{words.get(row[step], shown.words(row[step]))} ({row[count]:,})", "from": begin, "to": level, "amount": amount, "end": max(begin, level), "kind": "standing" if stands else "up" if amount > 0 else "down"})
    data = pl.DataFrame(placed)
    order = data["name"].to_list()
    draw(data, {"height": ROW * data.height, "encoding": {"y": {"field": "name", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 190}}}, "layer": [
        {"mark": {"type": "bar", "cornerRadius": 2}, "encoding": {
            "x": {"field": "from", "type": "quantitative", "title": None, "axis": None, "scale": _room([row["from"] for row in placed] + [row["to"] for row in placed])}, "x2": {"field": "to"},
            "color": {"field": "kind", "type": "nominal", "legend": None, "scale": {"domain": ["standing", "up", "down"], "range": [STAND, GAIN, LOSS]}},
            "tooltip": [_tip("name", "Movement", "", "nominal"), _tip("amount", "Amount", _exact(unit))]}},
        {"mark": {"type": "text", "align": "left", "dx": 5, "color": INK}, "encoding": {"x": {"field": "end", "type": "quantitative"}, "text": {"field": "amount", "type": "quantitative", "format": _axis(unit)}}}]})


def against(rows: pl.DataFrame, period: str, actual: str, forecasts: Mapping[str, str], unit: str) -> None:
    """Bars of what came in each period, and a mark for each forecast of it (column -> its name)."""
    data = rows.select(pl.col(period).dt.strftime("%Y-%m").alias("period"), pl.col(actual).cast(pl.Float64).alias("actual"), *(pl.col(column).cast(pl.Float64).alias(label) for column, label in forecasts.items()))
    names = ["What came", *forecasts.values()]
    color = {"scale": {"domain": names, "range": list(SERIES[:len(names)])}, "type": "nominal"}
    x = {"field": "period", "type": "ordinal", "title": None, "axis": {"labelAngle": -45, "labelOverlap": True}}
    y = {"type": "quantitative", "title": None, "axis": {"format": "~s" if unit == "currency" else _axis(unit), "tickCount": 5}}
    told = [_tip("period", "Period", "", "nominal"), _tip("actual", "What came", _exact(unit)), *(_tip(label, label, _exact(unit)) for label in forecasts.values())]
    marks = [{"mark": {"type": "point", "filled": True, "size": 70, "shape": "diamond"}, "encoding": {"y": {"field": label, **y}, "color": {"datum": label, **color}}} for label in forecasts.values()]
    draw(data, {"height": HEIGHT, "encoding": {"x": x, "tooltip": told}, "layer": [{"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": {"y": {"field": "actual", **y}, "color": {"datum": "What came", **color}}}, *marks]})


def histogram(rows: pl.DataFrame, label: str, value: str, title: str) -> None:
    """Columns in the order of the rows."""
    order = rows[label].to_list()
    data = rows.select(pl.col(label).alias("name"), pl.col(value).cast(pl.Int64).alias("value"))
    draw(data, {"height": 200, "mark": {"type": "bar", "color": MAIN, "cornerRadiusEnd": 2}, "encoding": {
        "x": {"field": "name", "type": "ordinal", "sort": order, "title": None, "axis": {"labelAngle": 0, "labelOverlap": True}}, "y": {"field": "value", "type": "quantitative", "title": None, "axis": {"format": ",.0f", "tickCount": 4}},
        "tooltip": [_tip("name", title, "", "nominal"), _tip("value", "Converted", ",.0f")]}})


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


def funnel(rows: pl.DataFrame, name: str, value: str, open_value: str | None = None) -> None:
    """Steps in their order as bars, each with its number and its share of the first; hatched behind it, those of whom it is not known yet (`open_value`)."""
    waiting = open_value or value
    largest = max((float(row[value] or 0) + (float(row[waiting] or 0) if open_value else 0) for row in rows.iter_rows(named=True)), default=0.0)
    first = float(rows[value][0] or 0) if rows.height else 0.0

    def width(row: dict[str, Any], column: str | None) -> str:
        return f"{100 * float(row[column] or 0) / largest if column and largest else 0:.1f}%"

    lines = "".join(
        f'<div class="r-step"><span class="r-step-name">{safe(shown.words(str(row[name])))}</span><span class="r-step-track"><span class="r-step-bar" style="width:{width(row, value)}"></span>'
        f'<span class="r-step-open" style="width:{width(row, open_value)}"></span></span>'
        f'<span class="r-step-count">{safe(shown.number(row[value], "count"))}</span><span class="r-step-share">{safe(shown.number(float(row[value] or 0) / first, "share") if first else shown.NOTHING)}</span></div>'
        for row in rows.iter_rows(named=True))
    st.html(f'<div class="r-steps" role="img" aria-label="Funnel of {rows.height} steps; the table below holds its numbers">{lines}</div>')
