"""Retention: who comes back, and who leaves."""

import streamlit as st

from dashboards import figures, queries
from dashboards.components import cards, charts, filters, frame, tables, text
from dashboards.components import format as shown

VARIANTS = {"bounded": "Active in the period", "unbounded": "Active in it or later", "revenue": "Revenue against the first period", "cumulative_revenue": "Cumulative revenue per head"}
SHOWN = {"cumulative_revenue": ("revenue_per_head", "currency")}


def body() -> None:
    chosen = filters.bar(grain=True, dimensions=("channel", "country", "segment"))
    currency = queries.settings()["reporting_currency"]
    text.line(shown.range_sentence(chosen.start, chosen.end))
    cards.row(figures.CARDS["retention"], chosen)
    st.subheader("Cohorts by first order", anchor=False)
    variant = filters.choice("What a cell shows", "variant", tuple(VARIANTS), "bounded", VARIANTS, width=300)
    with frame.explained():
        cells, mean = queries.retention((variant,), chosen.grain, start=chosen.start, end=chosen.end, where=queries.filterable("customers", chosen.values)[0])
        if cells.is_empty():
            frame.empty("No customer has placed a first order in this period.", "Choose a longer one, or fewer filters.")
        else:
            value, unit = SHOWN.get(variant, ("rate", "share"))
            charts.heat_map(cells, mean, value, unit, chosen.grain, currency)
            text.line(f"Columns count {chosen.grain}s since the first order. Hatched cells have not ended in the data: showing them would understate. The mean is weighted by cohort size over complete cells.")
            tables.download("Cohorts as CSV", cells, f"retention_{variant}_{chosen.grain}", queries.snapshot_id())
    left, right = st.columns(2, gap="medium")
    with left, frame.explained():
        st.subheader("Customer churn", anchor=False)
        charts.metric_over_time("churn_rate", "Churn rate", "share", chosen)
    with right, frame.explained():
        st.subheader(f"Monthly recurring revenue ({currency})", anchor=False)
        charts.metric_over_time("mrr", f"MRR ({currency})", "currency", chosen)


frame.page("Retention", "Which share of each cohort comes back, and what is lost.", body)
