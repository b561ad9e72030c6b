"""Overview: the ten headline KPIs."""

import streamlit as st

from dashboards import figures, queries
from dashboards.components import cards, charts, filters, frame, text
from dashboards.components import format as shown


def body() -> None:
    chosen = filters.bar()
    text.line(shown.range_sentence(chosen.start, chosen.end))
    cards.row(figures.CARDS["overview"], chosen)
    currency = queries.settings()["reporting_currency"]
    left, right = st.columns(2, gap="medium")
    with left, frame.explained():
        st.subheader(f"Net revenue by month ({currency})", anchor=False)
        charts.metric_over_time("net_revenue", f"Net revenue ({currency})", "currency", chosen)
    with right, frame.explained():
        st.subheader("Active customers by month", anchor=False)
        charts.metric_over_time("active_customers", "Active customers", "count", chosen)


frame.page("Overview", "The ten headline KPIs against the same length of time before. The ? on a card says what it means.", body)
