"""The curve of a customer's time to churn. Holds no number: the rows come from a query."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from dashboards.components import charts, text
from dashboards.components import format as shown

HEIGHT = 180
LAST_DAY = 365   # curves end there
EVENTS = {"orders": "a whole churn window without an order", "contract": "the end of the last running subscription"}


def curve(rows: pl.DataFrame, score: dict[str, Any]) -> None:
    """Chance of still being a customer over the days to come, with what stopping means, the median and the reason where no model stands behind it."""
    st.subheader("How long still a customer", anchor=False)
    median = "not within the year" if score["median_days"] is None else f"after {score['median_days']:.0f} days"
    late = f"{score['upper']:.0f}" if score["upper"] < LAST_DAY else f"more than {LAST_DAY}"
    text.line(f"Chance of still being a customer; stopping is {EVENTS[score['kind']]}. Half of such customers have stopped: {median}; 80% stop between {score['lower']:.0f} and {late} days. Scored on {shown.day(score['as_of'])}.")
    if score["fallback_reason"]:
        text.notice("info", f"The curve of all customers: {score['fallback_reason']}")
    charts.draw(rows, {"height": HEIGHT, "mark": {"type": "line", "point": True, "strokeWidth": 2, "color": charts.MAIN}, "encoding": {
        "x": {"field": "day", "type": "quantitative", "title": "Days from now", "axis": {"values": rows["day"].to_list()}},
        "y": {"field": "still", "type": "quantitative", "title": None, "scale": {"domain": [0, 1]}, "axis": {"format": ".0%", "tickCount": 5}},
        "tooltip": [{"field": "day", "type": "quantitative", "title": "Days from now"}, {"field": "still", "type": "quantitative", "title": "Still a customer", "format": ".1%"}]}})
