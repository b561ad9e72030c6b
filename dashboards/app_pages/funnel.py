"""Funnel: leads and deals, step by step, and a funnel of one's own steps."""

import streamlit as st

from dashboards import figures, queries
from dashboards.components import cards, charts, filters, frame, funnels, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

LEAD_STEPS = "lead_created; lead_converted; first_order"
COUNTS = {"any_stage": "Ever in the stage", "in_order": "Every stage in order", "imputed": "Reached or passed"}
STAGES = {"stage": Column("Stage", "words"), **{name: Column(label, "count") for name, label in COUNTS.items()}}
LOGS = {"events": "Events", "leads": "Leads and orders", "touchpoints": "Marketing touches", "deals": "Stages of deals"}
WINDOWS = {"1d": "1 day", "7d": "7 days", "30d": "30 days", "90d": "90 days", "365d": "1 year"}
ORDERS = {"sequential": "In this order", "strict": "In this order, nothing between", "any_order": "In any order"}
ENTRIES = {"first_entry": "First entry counts", "best_entry": "Best entry counts", "totals": "Every attempt counts"}
SPLITS = {"events": ("country", "segment", "acquisition_channel", "customer_type", "industry"), "touchpoints": ("medium", "country", "segment", "acquisition_channel", "customer_type", "industry"),
          "leads": ("channel", "country", "owner_id"), "deals": ("channel", "pipeline", "owner_id")}
NO_SPLIT = "nothing"


def leads(chosen: filters.Chosen) -> None:
    window = queries.settings()["lead_conversion_window_days"]
    story = queries.funnel_story(LEAD_STEPS, f"{window}d", "leads", start=chosen.start, end=chosen.end, values=tuple(chosen.values.items()))
    if not story.counts["entries"].sum() and not story.counts["maturing"].sum():
        frame.empty("No lead was created in this period.", "Choose a longer one or fewer filters, or declare a source with leads.")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        funnels.steps(story, "Leads")
        text.line(f"Leads by the day they were created, converted within {window} days. Hatched and “still open”: leads whose {window} days are not over yet, which are kept apart.")
        tables.download("Lead funnel as CSV", story.counts, "lead_funnel", queries.snapshot_id())
    with right:
        funnels.times(story)
    st.subheader("Against the period before", anchor=False)
    funnels.comparison(story)


def deals(chosen: filters.Chosen) -> None:
    names = queries.pipelines()
    if not names:
        frame.empty("There are no deals.", "Declare a source with deals and pipeline_stages.")
        return
    with st.container(horizontal=True, gap="small"):
        pipeline = filters.choice("Pipeline", "pipeline", tuple(names), names[0], {n: n for n in names})
        count = filters.choice("Counted by", "count", tuple(COUNTS), "any_stage", COUNTS, width=200)
    stages = queries.deal_stages(pipeline, chosen.start, chosen.end, queries.filterable("deals", chosen.values)[0])
    if stages.is_empty():
        frame.empty("No deal of this pipeline was created in this period.", "Choose a longer one or fewer filters.")
        return
    charts.funnel(stages, "stage", count)
    tables.table(stages, STAGES)
    tables.download("Stages as CSV", stages, "deal_stages", queries.snapshot_id())


def by_channel(chosen: filters.Chosen) -> None:
    rows, ignored = figures.breakdown("sales_conversion_rate", "channel", chosen.start, chosen.end, chosen.values)
    charts.bars(rows, "channel", "sales_conversion_rate", "Converted", "share")
    filters.unfiltered("These bars", ignored)


def own_steps(chosen: filters.Chosen) -> None:
    with st.container(horizontal=True, gap="small"):
        log = filters.choice("Made of", "log", tuple(LOGS), next((name for name in LOGS if queries.step_names(name)), "events"), LOGS)
        window = filters.choice("Within", "window", tuple(WINDOWS), "30d", WINDOWS)
        order = filters.choice("Order", "order", tuple(ORDERS), "sequential", ORDERS, width=240)
        entry = filters.choice("Again", "entry", tuple(ENTRIES), "first_entry", ENTRIES, width=200)
        split = filters.choice("Split by", "by", (NO_SPLIT, *SPLITS[log]), NO_SPLIT)
    offered = queries.step_names(log)
    if not offered:
        frame.empty(f"The snapshot holds no {LOGS[log].lower()}.", f"Choose another log, or declare a source with {log}.")
        return
    steps = filters.several("Steps, in their order", "steps", offered, "Choose two or more")
    if not steps:
        text.line("Choose steps to see how many get from one to the next. The address carries the whole funnel.")
        return
    story = queries.funnel_story("; ".join(steps), window, log, order, entry, None if split == NO_SPLIT else split, chosen.start, chosen.end, tuple(chosen.values.items()))
    if split != NO_SPLIT:
        funnels.by_value(story, shown.words(split))
    else:
        left, right = st.columns(2, gap="medium")
        with left:
            funnels.steps(story, "Entries")
        with right:
            funnels.times(story)
        funnels.comparison(story)
    tables.download("This funnel as CSV", story.counts, "own_funnel", queries.snapshot_id())


def body() -> None:
    chosen = filters.bar(dimensions=("channel", "country"))
    text.line(shown.range_sentence(chosen.start, chosen.end))
    cards.row(figures.CARDS["funnel"], chosen)
    with frame.explained():
        st.subheader("From lead to first order", anchor=False)
        leads(chosen)
    left, right = st.columns(2, gap="medium")
    with left, frame.explained():
        st.subheader("Deals by stage", anchor=False)
        deals(chosen)
    with right, frame.explained():
        st.subheader("Lead conversion by channel", anchor=False)
        by_channel(chosen)
    with frame.explained():
        st.subheader("A funnel of your own steps", anchor=False)
        own_steps(chosen)


frame.page("Funnel", "How far leads and deals get, and in what time.", body)
