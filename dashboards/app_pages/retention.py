"""Retention: who comes back, and who leaves."""

import streamlit as st

from dashboards import queries
from dashboards.components import cards, charts, filters, frame, tables

VARIANTS = {"bounded": "Active in the period", "unbounded": "Active in it or later", "revenue": "Revenue", "cumulative_revenue": "Cumulative revenue per head"}
CARDS = ("retention_rate", "churn_rate", "nrr", "grr")


def body() -> None:
    chosen = filters.bar(grain=True, dimensions=("channel", "country", "segment"), default_range="12m")
    for column, metric_id in zip(st.columns(len(CARDS)), CARDS, strict=True):
        with column, frame.explained():
            cards.metric(metric_id, chosen)
    st.subheader("Cohorts by first order", anchor=False)
    variant = filters.choice("What a cell shows", "variant", tuple(VARIANTS), "bounded", VARIANTS)
    with frame.explained():
        cells, mean = queries.retention((variant,), chosen.grain, start=chosen.start)
        if cells.is_empty():
            frame.empty("No customer has ordered in this period.", "Choose a longer one.")
        else:
            value = "revenue_per_head" if variant == "cumulative_revenue" else "rate"
            charts.heat_map(cells, "period_number", "cohort_period", value, "currency" if variant == "cumulative_revenue" else "share")
            st.caption("Empty cells have not ended in the data yet: showing them would understate. The mean is weighted by cohort size over complete cells only.")
            tables.table(mean)
            tables.download("Cohorts as CSV", cells, f"retention_{variant}_{chosen.grain}", queries.current().id)
    left, right = st.columns(2)
    with left, frame.explained():
        st.subheader("Customer churn", anchor=False)
        charts.over_time(queries.metric(("churn_rate",), grain=chosen.grain, start=chosen.start, end=chosen.end).frame, "churn_rate", "Churn rate", "share")
    with right, frame.explained():
        st.subheader("Monthly recurring revenue", anchor=False)
        charts.over_time(queries.metric(("mrr",), grain=chosen.grain, start=chosen.start, end=chosen.end).frame, "mrr", f"MRR ({queries.settings()['reporting_currency']})", "currency")


frame.page("Retention", "Which share of each cohort comes back, and what is lost.", body)
