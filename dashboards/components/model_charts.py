"""Charts of judged models, from rows that are ready to draw: reliability, gain, measures by cut-off, what counts and how."""

from __future__ import annotations

import polars as pl

from dashboards.components.charts import HEIGHT, INK, LOSS, MAIN, QUIET, ROW, SERIES, _tip, draw

PLOT = 320


def reliability(rows: pl.DataFrame) -> None:
    """Predicted against observed rate with intervals; on the diagonal both are equal."""
    axis = {"type": "quantitative", "axis": {"format": ".0%", "tickCount": 5}}
    ends = pl.DataFrame({"mean_predicted": [0.0, 1.0], "observed_rate": [0.0, 1.0], "kind": ["exact", "exact"]})
    data = pl.concat([rows.select("mean_predicted", "observed_rate", "lower", "upper", "n", pl.lit("model").alias("kind")), ends], how="diagonal")
    model = [{"filter": "datum.kind === 'model'"}]
    draw(data, {"height": PLOT, "encoding": {"x": {"field": "mean_predicted", "title": "Predicted", **axis}}, "layer": [
        {"transform": [{"filter": "datum.kind === 'exact'"}], "mark": {"type": "line", "color": QUIET, "strokeDash": [4, 4]}, "encoding": {"y": {"field": "observed_rate", "title": "Happened", **axis}}},
        {"transform": model, "mark": {"type": "rule", "color": MAIN, "strokeWidth": 1.5}, "encoding": {"y": {"field": "lower", **axis}, "y2": {"field": "upper"}}},
        {"transform": model, "mark": {"type": "point", "filled": True, "size": 70, "color": MAIN, "opacity": 1}, "encoding": {"y": {"field": "observed_rate", **axis}, "tooltip": [
            _tip("mean_predicted", "Predicted", ".1%"), _tip("observed_rate", "Happened", ".1%"), _tip("lower", "95 % from", ".1%"), _tip("upper", "to", ".1%"), _tip("n", "Rows", ",.0f")]}}]})


def gain(rows: pl.DataFrame) -> None:
    """Share of all outcomes reached by the best-scored share of rows; the broken line is chance."""
    start = pl.DataFrame({"cumulative_rows": [0.0], "cumulative_gain": [0.0], "kind": ["model"]})
    chance = pl.DataFrame({"cumulative_rows": [0.0, 1.0], "cumulative_gain": [0.0, 1.0], "kind": ["chance", "chance"]})
    ends = [name for name in ("gain_lower", "gain_upper", "lift_lower", "lift_upper") if name in rows.columns]   # snapshots of before have none
    data = pl.concat([start, rows.select("cumulative_rows", "cumulative_gain", "lift", *ends, pl.lit("model").alias("kind")), chance], how="diagonal")
    axis = {"type": "quantitative", "axis": {"format": ".0%", "tickCount": 5}}
    encoding = {"x": {"field": "cumulative_rows", "title": "Contacted, best scores first", **axis}, "y": {"field": "cumulative_gain", "title": "Reached", **axis}}
    draw(data, {"height": PLOT, "encoding": encoding, "layer": [
        {"transform": [{"filter": "datum.kind === 'chance'"}], "mark": {"type": "line", "color": QUIET, "strokeDash": [4, 4]}},
        *([{"transform": [{"filter": "datum.kind === 'model' && isValid(datum.gain_lower)"}], "mark": {"type": "area", "color": MAIN, "opacity": 0.15}, "encoding": {
            "y": {"field": "gain_lower", **axis}, "y2": {"field": "gain_upper"}}}] if ends else []),
        {"transform": [{"filter": "datum.kind === 'model'"}], "mark": {"type": "line", "color": MAIN, "point": {"size": 40, "color": MAIN}}, "encoding": {
            "tooltip": [_tip("cumulative_rows", "Contacted", ".0%"), _tip("cumulative_gain", "Reached", ".1%"), *([_tip("gain_lower", "95 % from", ".1%"), _tip("gain_upper", "to", ".1%")] if ends else []),
                        _tip("lift", "Lift of this tenth", ".2f"), *([_tip("lift_lower", "95 % from", ".2f"), _tip("lift_upper", "to", ".2f")] if ends else [])]}}]})


def qini(rows: pl.DataFrame) -> None:
    """Extra orders by the share contacted, best first, with the interval; the broken line contacts as many by lot."""
    x = {"field": "share", "type": "quantitative", "title": "Contacted, most changed first", "axis": {"format": ".0%", "tickCount": 5}}
    y = {"type": "quantitative", "axis": {"tickCount": 5}}
    draw(rows, {"height": PLOT, "encoding": {"x": x}, "layer": [
        {"mark": {"type": "area", "color": MAIN, "opacity": 0.15}, "encoding": {"y": {"field": "lower", "title": "Extra orders per 1,000 customers", **y}, "y2": {"field": "upper"}}},
        {"mark": {"type": "line", "color": QUIET, "strokeDash": [4, 4]}, "encoding": {"y": {"field": "random", **y}}},
        {"mark": {"type": "line", "color": MAIN, "point": {"size": 40, "color": MAIN}}, "encoding": {"y": {"field": "gain", **y}, "tooltip": [
            _tip("share", "Contacted", ".0%"), _tip("gain", "Extra orders per 1,000", ".1f"), _tip("lower", "95 % from", ".1f"), _tip("upper", "to", ".1f"), _tip("random", "By lot", ".1f")]}}]})


def by_cut_off(rows: pl.DataFrame, title: str, names: tuple[str, ...]) -> None:
    """A measure of several candidates over the cut-offs, with intervals."""
    data = rows.select(pl.col("cut_off").dt.strftime("%Y-%m-%d").alias("cut_off"), "value", "lower", "upper", "n", pl.col("shown").alias("candidate"))
    color = {"field": "candidate", "type": "nominal", "scale": {"domain": list(names), "range": [MAIN, LOSS, *SERIES[:max(0, len(names) - 2)]][:len(names)]}}
    offset = {"field": "candidate", "type": "nominal", "sort": list(names)}
    y = {"type": "quantitative", "scale": {"zero": False}, "axis": {"tickCount": 5}}
    draw(data, {"height": HEIGHT, "encoding": {"x": {"field": "cut_off", "type": "ordinal", "title": "Judged from", "axis": {"labelAngle": 0, "labelOverlap": True}}, "xOffset": offset, "color": color}, "layer": [
        {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": {"y": {"field": "lower", "title": title, **y}, "y2": {"field": "upper"}}},
        {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1}, "encoding": {"y": {"field": "value", **y}, "tooltip": [
            _tip("candidate", "Candidate", "", "nominal"), _tip("cut_off", "Judged from", "", "nominal"), _tip("value", title, ".3f"), _tip("lower", "95 % from", ".3f"), _tip("upper", "to", ".3f"), _tip("n", "Rows", ",.0f")]}}]})


def importance(rows: pl.DataFrame) -> None:
    """What moves the score most, as shares of all movement."""
    data = rows.select("label", "share").drop_nulls("share")
    draw(data, {"height": max(110, ROW * data.height), "encoding": {"y": {"field": "label", "type": "nominal", "sort": "-x", "title": None, "axis": {"labelLimit": 210}},
                 "x": {"field": "share", "type": "quantitative", "title": None, "axis": {"format": ".0%", "tickCount": 4}}, "tooltip": [_tip("label", "Feature", "", "nominal"), _tip("share", "Share of the movement", ".1%")]},
                 "mark": {"type": "bar", "color": MAIN, "cornerRadiusEnd": 3}})


def dependence(rows: pl.DataFrame) -> None:
    """The mean contribution by value of a feature; above 0 raises the score."""
    data = rows.select("bin", "level", "mean_contribution", "n")
    order = data["level"].to_list()
    draw(data, {"height": 170, "encoding": {"x": {"field": "level", "type": "ordinal", "sort": order, "title": None, "axis": {"labelAngle": -30, "labelLimit": 90, "labelOverlap": True}}}, "layer": [
        {"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": {
            "y": {"field": "mean_contribution", "type": "quantitative", "title": None, "axis": {"format": "+.2f", "tickCount": 4}},
            "color": {"condition": {"test": "datum.mean_contribution >= 0", "value": MAIN}, "value": LOSS},
            "tooltip": [_tip("level", "Value", "", "nominal"), _tip("mean_contribution", "Contribution", "+.3f"), _tip("n", "Rows", ",.0f")]}},
        {"mark": {"type": "rule", "color": INK, "strokeWidth": 1}, "encoding": {"y": {"datum": 0}, "x": {"value": 0}, "x2": {"value": "width"}}}]})
