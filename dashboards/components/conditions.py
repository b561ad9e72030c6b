"""The editor of a segment's conditions: rows of attribute, comparison and value, and of behaviour. What may be said stands in the catalogue."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboards import queries
from dashboards.components import frame
from models.segments import grammar

_VALUE_OPERATORS = ("is", "is_not", "at_least", "at_most", "above", "below", "contains", "starts_with")


def editor(start: dict[str, Any], key: str) -> dict[str, Any]:
    """Draw the editor for the content of a segment file and return the content as edited."""
    state = f"conditions_{key}"
    if state not in st.session_state:
        st.session_state[state] = start
    content = st.session_state[state]
    mode = next((m for m in ("all", "any", "none") if m in content), "all")
    rows = list(content.get(mode, []))
    st.caption(f"Customers for whom {mode} of these hold:")
    kept = []
    for number, row in enumerate(rows):
        text, remove = st.columns([6, 1])
        text.code(_sentence(row), language=None, wrap_lines=True)
        if not remove.button("", icon=":material/close:", key=f"{state}_remove_{number}", help="Remove this condition"):
            kept.append(row)
    if kept != rows:
        st.session_state[state] = {**content, mode: kept}
        st.rerun()
    with st.expander("Add a condition", expanded=not rows):
        added = _attribute(state) if st.segmented_control("Kind", ["Profile and scores", "Behaviour"], default="Profile and scores", key=f"{state}_kind") == "Profile and scores" else _behaviour(state)
        if added is not None and st.button("Add", key=f"{state}_add", type="primary"):
            with frame.explained():
                grammar.parse("new_segment", {mode: [*kept, added]})
                st.session_state[state] = {**content, mode: [*kept, added]}
                st.rerun()
    with st.expander("Save"):
        name = st.text_input("Name", value="" if key == "new segment" else key, placeholder="small_letters_and_digits", key=f"{state}_name")
        label = st.text_input("Label", value=str(content.get("label") or ""), key=f"{state}_label")
        if st.button("Save the segment", key=f"{state}_save", disabled=not name or not kept):
            with frame.explained():
                queries.save_segment(name, {**content, "label": label or name, mode: kept})
                st.success(f"Saved as {name}; the next run fills it for everybody.")
    return {**content, mode: kept}


def _sentence(row: dict[str, Any]) -> str:
    from models.segments.explain import sentence
    return sentence(grammar.parse("shown", {"all": [row]}).condition)


def _attribute(state: str) -> dict[str, Any] | None:
    known = grammar.catalogue()["attributes"]
    name = st.selectbox("Attribute", list(known), format_func=lambda n: known[n]["label"], key=f"{state}_attribute")
    kind = known[name]["type"]
    fitting = [o for o in _VALUE_OPERATORS if kind in grammar.OPERATORS[o][0]]
    operator = st.selectbox("Comparison", fitting, format_func=lambda o: grammar.OPERATORS[o][1], key=f"{state}_operator")
    if kind == "flag":
        return {"attribute": name, operator: st.toggle("Yes", value=True, key=f"{state}_flag")}
    if kind == "date":
        return {"attribute": name, operator: st.date_input("Day", key=f"{state}_day").isoformat()}
    if kind == "text":
        value = st.text_input("Value", key=f"{state}_text")
        return {"attribute": name, operator: value} if value else None
    return {"attribute": name, operator: st.number_input("Value", value=0.5 if kind == "share" else 0.0, step=0.05 if kind == "share" else 1.0, key=f"{state}_number")}


def _behaviour(state: str) -> dict[str, Any]:
    known = grammar.catalogue()["behaviours"]
    name = st.selectbox("Behaviour", list(known), format_func=lambda n: known[n]["label"], key=f"{state}_behaviour")
    did = st.radio("", ["did", "did not"], horizontal=True, label_visibility="collapsed", key=f"{state}_did")
    days = st.number_input("In the last days (0: ever)", min_value=0, value=90, key=f"{state}_days")
    within = {"within_days": int(days)} if days else {}
    if did == "did not":
        return {"did_not": name, **within}
    return {"did": name, "at_least": int(st.number_input("At least times", min_value=1, value=1, key=f"{state}_times")), **within}
