"""Acquisition: what customers cost and where they come from."""

import streamlit as st

from dashboards import figures, queries
from dashboards.components import cards, charts, filters, frame, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

COLUMNS = {"channel": Column("Channel"), "spend": Column("Spend", "currency"), "new_customers": Column("New customers credited", "decimal"), "cac": Column("Cost per customer", "currency")}


def body() -> None:
    chosen = filters.bar(grain=True, dimensions=("channel", "country"))
    currency = queries.settings()["reporting_currency"]
    text.line(shown.range_sentence(chosen.start, chosen.end))
    cards.row(figures.CARDS["acquisition"], chosen)
    left, right = st.columns(2, gap="medium")
    with left, frame.explained():
        st.subheader(f"Customer acquisition cost over time ({currency})", anchor=False)
        charts.metric_over_time("cac", f"CAC ({currency})", "currency", chosen)
    with right, frame.explained():
        st.subheader("New customers over time", anchor=False)
        charts.metric_over_time("new_customers", "New customers", "count", chosen)
    st.subheader("By channel", anchor=False)
    with frame.explained():
        where = queries.filterable("customers", {name: value for name, value in chosen.values.items() if name != "channel"})[0]
        by_channel = queries.cost_by_channel(chosen.start, chosen.end, chosen.values.get("channel"), where)
        if not by_channel["spend"].sum() and not by_channel["new_customers"].sum():
            frame.empty("No spend and no new customer in this period.", "Choose a longer one or fewer filters, or declare a source with marketing_spend.")
            return
        model = queries.settings()["attribution_model"]
        text.line(f"Spend, and the new customers credited to each channel by the {model} attribution model. Both columns add up to their totals; “unattributed” is what no channel earned.")
        costs = by_channel["spend"].null_count() == 0
        if where:
            text.line("Money is spent by channel, not by country: under this filter the new customers of the country are counted, and what they cost is not known.")
        elif not costs:
            frame.empty("No marketing spend has been delivered, so what a customer cost is not known.", "Declare a source with marketing_spend.")
        table, chart = st.columns(2, gap="medium")
        with table:
            tables.table(by_channel, COLUMNS, currency)
            tables.download("Channels as CSV", by_channel, "acquisition_channels", queries.snapshot_id())
        with chart:
            if not costs:
                charts.bars(by_channel, "channel", "new_customers", "New customers credited", "count")
            else:
                charts.bars(by_channel, "channel", "spend", f"Spend ({currency})", "currency")


frame.page("Acquisition", "What it costs to win a customer, and which channels do it.", body)
