"""Funnel: leads and deals, step by step."""

import streamlit as st

from dashboards import queries
from dashboards.components import cards, charts, filters, frame, tables

LEAD_STEPS = "lead_created; lead_converted; first_order"
CARDS = ("funnel_conversion_rate", "sales_conversion_rate", "win_rate", "sales_cycle_days", "open_pipeline")
COUNTS = {"any_stage": "Ever in the stage", "in_order": "Every stage in order", "imputed": "Reached or passed"}


def body() -> None:
    chosen = filters.bar(dimensions=("channel", "country"), default_range="12m")
    for column, metric_id in zip(st.columns(len(CARDS)), CARDS, strict=True):
        with column, frame.explained():
            cards.metric(metric_id, chosen)
    window = queries.settings()["lead_conversion_window_days"]
    left, right = st.columns(2)
    with left, frame.explained():
        st.subheader("From lead to first order", anchor=False)
        rows = queries.funnel(LEAD_STEPS, f"{window}d", "leads", start=chosen.start, end=chosen.end)
        charts.funnel(rows, "step_name", "entries")
        tables.table(rows)
        st.caption(f"Leads by the date they were created, converted within {window} days. Leads whose window is still open are `maturing` and kept apart.")
        tables.download("Lead funnel as CSV", rows, "lead_funnel", queries.current().id)
    with right, frame.explained():
        st.subheader("Deals by stage", anchor=False)
        names = queries.pipelines()
        if not names:
            frame.empty("There are no deals.", "Declare a source with deals and pipeline_stages.")
        else:
            pipeline = filters.choice("Pipeline", "pipeline", tuple(names), names[0], {n: n for n in names})
            count = filters.choice("Counted by", "count", tuple(COUNTS), "any_stage", COUNTS)
            stages = queries.deal_stages(pipeline, chosen.start, chosen.end)
            charts.funnel(stages, "stage", count)
            tables.table(stages)
            tables.download("Stages as CSV", stages, "deal_stages", queries.current().id)
    with frame.explained():
        st.subheader("Lead conversion by channel", anchor=False)
        charts.bars(queries.metric(("sales_conversion_rate",), by=("channel",), start=chosen.start, end=chosen.end).frame, "channel", "sales_conversion_rate", "Converted", "share")


frame.page("Funnel", "How far leads and deals get, and in what time.", body)
