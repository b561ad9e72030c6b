"""Funnel: leads and deals, step by step."""

import streamlit as st

from dashboards import figures, queries
from dashboards.components import cards, charts, filters, frame, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

LEAD_STEPS = "lead_created; lead_converted; first_order"
CARDS = ("funnel_conversion_rate", "sales_conversion_rate", "win_rate", "sales_cycle_days", "open_pipeline")
COUNTS = {"any_stage": "Ever in the stage", "in_order": "Every stage in order", "imputed": "Reached or passed"}
STEPS = {"step_name": Column("Step", "words"), "entries": Column("Leads", "count"), "from_start": Column("Of all", "share"), "from_previous": Column("Of the step before", "share"), "maturing": Column("Still open", "count"),
         "median_seconds": Column("Median time", "seconds")}
STAGES = {"stage": Column("Stage", "words"), **{name: Column(label, "count") for name, label in COUNTS.items()}}


def leads(chosen: filters.Chosen) -> None:
    window = queries.settings()["lead_conversion_window_days"]
    rows = queries.funnel(LEAD_STEPS, f"{window}d", "leads", start=chosen.start, end=chosen.end)
    if not rows["entries"].sum() and not rows["maturing"].sum():
        frame.empty("No lead was created in this period.", "Choose a longer one, or declare a source with leads.")
        return
    charts.funnel(rows, "step_name", "entries")
    tables.table(rows, STEPS)
    text.line(f"Leads by the day they were created, converted within {window} days. Leads whose {window} days are not over yet are kept apart as “still open”.")
    filters.unfiltered("These steps", chosen.values)
    tables.download("Lead funnel as CSV", rows, "lead_funnel", queries.snapshot_id())


def deals(chosen: filters.Chosen) -> None:
    names = queries.pipelines()
    if not names:
        frame.empty("There are no deals.", "Declare a source with deals and pipeline_stages.")
        return
    with st.container(horizontal=True, gap="small"):
        pipeline = filters.choice("Pipeline", "pipeline", tuple(names), names[0], {n: n for n in names})
        count = filters.choice("Counted by", "count", tuple(COUNTS), "any_stage", COUNTS)
    stages = queries.deal_stages(pipeline, chosen.start, chosen.end)
    if stages.is_empty():
        frame.empty("No deal of this pipeline was created in this period.", "Choose a longer one.")
        return
    charts.funnel(stages, "stage", count)
    tables.table(stages, STAGES)
    filters.unfiltered("These stages", chosen.values)
    tables.download("Stages as CSV", stages, "deal_stages", queries.snapshot_id())


def body() -> None:
    chosen = filters.bar(dimensions=("channel", "country"))
    text.line(shown.range_sentence(chosen.start, chosen.end))
    cards.row(CARDS, chosen)
    left, right = st.columns(2, gap="medium")
    with left, frame.explained():
        st.subheader("From lead to first order", anchor=False)
        leads(chosen)
    with right, frame.explained():
        st.subheader("Deals by stage", anchor=False)
        deals(chosen)
    with frame.explained():
        st.subheader("Lead conversion by channel", anchor=False)
        rows, ignored = figures.breakdown("sales_conversion_rate", "channel", chosen.start, chosen.end, chosen.values)
        charts.bars(rows, "channel", "sales_conversion_rate", "Converted", "share")
        filters.unfiltered("These bars", ignored)


frame.page("Funnel", "How far leads and deals get, and in what time.", body)
