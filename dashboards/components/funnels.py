"""How a funnel is told: its steps, the change against the range before with its test, and the time it takes.

Belongs here: drawing a `queries.Story`. Does not belong here: which funnel (pages), how it is counted (models).
"""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import queries
from dashboards.components import cards, charts, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

SURE = 0.05     # the p-value below which a change is called one; a convention, named on the page
BEFORE = {"step_name": Column("Step", "words"), "entries": Column("Now", "count"), "before_entries": Column("Before", "count"), "from_start": Column("Of all, now", "share"), "before_from_start": Column("Of all, before", "share"),
          "change": Column("Change"), "range": Column("95 % interval"), "p": Column("p-value"), "verdict": Column("Says")}


def steps(story: queries.Story, who: str) -> None:
    """The counts as bars and as a table."""
    columns = {"step_name": Column("Step", "words"), "entries": Column(who, "count"), "from_start": Column("Of all", "share"), "from_previous": Column("Of the step before", "share"), "maturing": Column("Still open", "count"),
               "median_seconds": Column("Median time", "seconds")}
    charts.funnel(story.counts, "step_name", "entries", "maturing")
    tables.table(story.counts.with_columns(pl.when(pl.col("step") > 1).then(pl.col("median_seconds")).alias("median_seconds")), columns)     # everybody enters at once


def by_value(story: queries.Story, label: str) -> None:
    """A funnel broken down: the share that did the last step, and every step of every value."""
    last = story.counts.filter(pl.col("step") == pl.col("step").max())
    charts.bars(last, "breakdown", "from_start", "Did the last step", "share")
    tables.table(story.counts.with_columns(pl.col("breakdown").fill_null("not known")), {"breakdown": Column(label), "step_name": Column("Step", "words"), "entries": Column("Entries", "count"), "from_start": Column("Of all", "share"),
                                                                                      "maturing": Column("Still open", "count")})


def times(story: queries.Story) -> None:
    """How long converted entries took."""
    found = story.times
    if not found or not found["converted"]:
        text.notice("info", "Nobody has done every step yet, so there is no time to convert.")
        return
    cards.plain([("Converted", shown.number(found["converted"], "count"), "entries with a closed window", ""), ("Half within", shown.seconds(found["median_seconds"]), "median time to convert", ""),
                 ("Nine in ten within", shown.seconds(found["p90_seconds"]), "90th percentile", "")])
    if story.histogram is not None:
        named = story.histogram.with_columns(pl.Series("within", [shown.seconds(value) for value in story.histogram["to_seconds"].to_list()]))
        st.caption("Converted entries by time to convert, up to …")
        charts.histogram(named, "within", "converted", "Up to")


def comparison(story: queries.Story) -> None:
    """Each step beside the range before, and whether the change is more than chance."""
    rows = story.compared
    if rows is None:
        text.line("Choose a period with a beginning to compare it with the one before.")
        return
    if not rows["before_entries"].sum():
        text.line("There is no entry in the period before to compare with.")
        return
    told = rows.with_columns(
        pl.Series("change", [shown.change(value, "share") for value in rows["difference"].to_list()], pl.String),
        pl.Series("range", [None if low is None else f"{shown.change(low, 'share')} to {shown.change(high, 'share')}" for low, high in zip(rows["lower"].to_list(), rows["upper"].to_list(), strict=True)], pl.String),
        pl.Series("p", [None if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}" for value in rows["p_value"].to_list()], pl.String),
        pl.Series("verdict", [_verdict(p, difference) for p, difference in zip(rows["p_value"].to_list(), rows["difference"].to_list(), strict=True)], pl.String))
    tables.table(told, BEFORE)
    text.line(f"Before: {shown.span(rows['before_start'][0], rows['before_end'][0])}. Only entries whose window has closed, on both sides; two-sided test of two proportions (Fisher's exact where few), “better” and “worse” below {SURE}.")


def _verdict(p: float | None, difference: float | None) -> str | None:
    if p is None or difference is None:
        return None
    return "no clear change" if p >= SURE else "better" if difference > 0 else "worse"
