"""Cards: one metric with its change, its trend and its definition. What a metric means is read from the registry."""

from __future__ import annotations

import streamlit as st

from dashboards import queries
from dashboards.components import format as shown
from dashboards.components.filters import Chosen

_COLORS = {"up_is_good": "normal", "down_is_good": "inverse", "neither": "off"}


def metric(metric_id: str, chosen: Chosen) -> None:
    """The number for the chosen range against the like-for-like period before, with a sparkline of complete months."""
    definition = queries.definitions().get(metric_id)
    currency = queries.settings()["reporting_currency"]
    if definition is None:
        st.metric(shown.words(metric_id), shown.NOTHING, help="This snapshot does not define it.", border=True)
        return
    where, ignored = queries.where_text(metric_id, chosen.values)
    answer = queries.metric((metric_id,), start=chosen.start, end=chosen.end, where=where, compare=chosen.start is not None)
    row = answer.details.row(0, named=True) if answer.details.height else {}
    meta = answer.columns[metric_id]
    trend = queries.metric((metric_id,), grain="month", where=where)
    points = [float(v) if v is not None else None for v in trend.frame[metric_id].tail(13).to_list()]
    help_text = _help(definition, meta, row, ignored, answer)
    st.metric(definition.label, shown.number(row.get(metric_id), definition.unit, currency), shown.change(row.get(f"{metric_id}__change"), definition.unit, currency),
              delta_color=_COLORS[definition.direction], help=help_text, border=True, chart_data=[p for p in points if p is not None] or None, chart_type="line")
    observed = row.get(f"{metric_id}__n")
    notes = [f"n = {observed:,.0f}"] if observed is not None else []
    notes += [f"variant {meta.variant}"] if meta.variant not in ("default",) else []
    notes += ["small n" for _ in [0] if observed is not None and observed < queries.settings()["small_n"]]
    notes += [str(row[f"{metric_id}__null_reason"])] if row.get(f"{metric_id}__null_reason") else []
    notes += [f"not filtered by {', '.join(ignored)}"] if ignored else []
    st.caption(" · ".join(notes) or " ")


def _help(definition: object, meta: object, row: dict[str, object], ignored: list[str], answer: object) -> str:
    parts = [meta.definition, f"Unit: {meta.unit.replace('_', ' ')}. Variant: {meta.variant}."]
    parts += [f"{answer.start} to {answer.end} (exclusive)."]
    if answer.previous:
        parts.append(f"Compared with {answer.previous[0]} to {answer.previous[1]} (exclusive).")
    if meta.note:
        parts.append(meta.note)
    return " ".join(parts)
