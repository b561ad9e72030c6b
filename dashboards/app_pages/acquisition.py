"""Acquisition: what customers cost and where they come from."""

import streamlit as st

from dashboards import queries
from dashboards.components import cards, charts, filters, frame, tables

CARDS = ("cac", "spend", "new_customers", "leads", "sales_conversion_rate")


def body() -> None:
    chosen = filters.bar(grain=True, dimensions=("channel", "country"), default_range="12m")
    currency = queries.settings()["reporting_currency"]
    for column, metric_id in zip(st.columns(len(CARDS)), CARDS, strict=True):
        with column, frame.explained():
            cards.metric(metric_id, chosen)
    left, right = st.columns(2)
    with left, frame.explained():
        st.subheader("Customer acquisition cost over time", anchor=False)
        charts.over_time(queries.metric(("cac",), grain=chosen.grain, start=chosen.start, end=chosen.end).frame, "cac", f"CAC ({currency})", "currency")
    with right, frame.explained():
        st.subheader("New customers over time", anchor=False)
        charts.over_time(queries.metric(("new_customers",), grain=chosen.grain, start=chosen.start, end=chosen.end).frame, "new_customers", "New customers", "count")
    st.subheader("By channel", anchor=False)
    st.caption("Spend and the new customers credited to each channel under the workspace's attribution model. Both columns add up to their totals; "
               "`unattributed` is what no channel earned.")
    by_channel = queries.cost_by_channel(chosen.start, chosen.end)
    if by_channel.is_empty():
        frame.empty("No spend and no new customer in this period.", "Choose a longer one, or declare a source with marketing_spend.")
        return
    tables.table(by_channel)
    tables.download("Channels as CSV", by_channel, "acquisition_channels", queries.current().id)
    with frame.explained():
        st.subheader(f"Spend by channel ({currency})", anchor=False)
        charts.bars(queries.metric(("spend",), by=("channel",), start=chosen.start, end=chosen.end).frame, "channel", "spend", f"Spend ({currency})", "currency")


frame.page("Acquisition", "What it costs to win a customer, and which channels do it.", body)
