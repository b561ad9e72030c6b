"""Overview: the ten headline KPIs."""

import streamlit as st

from dashboards import queries
from dashboards.components import cards, filters, frame

PER_ROW = 5


def body() -> None:
    chosen = filters.bar()
    ids = queries.HEADLINE
    for row in range(0, len(ids), PER_ROW):
        for column, metric_id in zip(st.columns(PER_ROW), ids[row:row + PER_ROW], strict=True):
            with column, frame.explained():
                cards.metric(metric_id, chosen)


frame.page("Overview", "The ten headline KPIs against the same length of time before. Hover the question marks for definitions.", body)
