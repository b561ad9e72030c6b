"""The editor of a segment's conditions: rows of attribute, comparison and value, and of behaviour. What may be said stands in the catalogue."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from dashboards import queries
from dashboards.components import frame, text
from data_contracts.errors import RapportError
from models.segments import explain, grammar

_VALUE_OPERATORS = ("is", "is_not", "at_least", "at_most", "above", "below", "contains", "starts_with")


MODES = {"all": "all hold", "any": "any holds", "none": "none holds"}


def has_any(content: dict[str, Any]) -> bool:
    """Whether the content holds a condition."""
    return any(content.get(mode) for mode in MODES)


def from_url(start: dict[str, Any], name: str) -> dict[str, Any]:
    """The conditions a link carries, else those of the segment itself."""
    before = st.session_state.get("conditions_of", name)
    st.session_state["conditions_of"] = name
    if before != name:      # the link spoke of the segment that was shown before
        st.query_params.pop("conditions", None)
    given = st.query_params.get("conditions")
    if not given:
        return start
    try:
        content = json.loads(given)
        grammar.parse(name, content)
    except ValueError:
        text.notice("warning", "The conditions in the link cannot be read; the saved ones are shown.")
        return start
    except RapportError as error:
        text.notice("warning", f"The conditions in the link do not hold together: {error.message}. {error.remedy}")
        return start
    return {**{key: start[key] for key in ("label", "description", "owner") if key in start}, **content}


def editor(start: dict[str, Any], saved: dict[str, Any], key: str) -> dict[str, Any]:
    """Draw the editor for the content of a segment file and return the content as edited; what differs from the saved one goes into the URL."""
    state = f"conditions_{key}"
    if state not in st.session_state:
        st.session_state[state] = start
    content = st.session_state[state]
    mode = next((m for m in MODES if m in content), "all")
    rows = list(content.get(mode, []))
    picked = st.segmented_control("Customers for whom", list(MODES), default=mode, format_func=MODES.get, key=f"{state}_mode") or mode
    if picked != mode:
        content = st.session_state[state] = {**{k: v for k, v in content.items() if k != mode}, picked: rows}
        mode = picked
    kept = []
    for number, row in enumerate(rows):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{state}_row_{number}"):
            text.boxed(_sentence(row))
            removed = st.button("", icon=":material/close:", key=f"{state}_remove_{number}", help="Remove this condition")
        if not removed:
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
        name = st.text_input("Name", value="" if key == "new_segment" else key, placeholder="small_letters_and_digits", key=f"{state}_name")
        label = st.text_input("Label", value=str(content.get("label") or ""), key=f"{state}_label")
        if st.button("Save the segment", key=f"{state}_save", disabled=not name or not kept):
            with frame.explained():
                queries.save_segment(name, {**content, "label": label or name, mode: kept})
                text.notice("success", f"Saved as {name}; the next run fills it for everybody.")
    edited = {**content, mode: kept}
    _into_url(edited, saved)
    return edited


def _into_url(content: dict[str, Any], saved: dict[str, Any]) -> None:
    told = {mode: content[mode] for mode in MODES if content.get(mode)}
    if not told or told == {mode: saved[mode] for mode in MODES if saved.get(mode)}:
        st.query_params.pop("conditions", None)
    else:
        st.query_params["conditions"] = json.dumps(told, default=str, separators=(",", ":"))


def _sentence(row: dict[str, Any]) -> str:
    return explain.sentence(grammar.parse("shown", {"all": [row]}).condition)


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
    did = st.radio("Whether", ["did", "did not"], horizontal=True, label_visibility="collapsed", key=f"{state}_did")
    days = st.number_input("In the last days (0: ever)", min_value=0, value=90, key=f"{state}_days")
    within = {"within_days": int(days)} if days else {}
    if did == "did not":
        return {"did_not": name, **within}
    return {"did": name, "at_least": int(st.number_input("At least times", min_value=1, value=1, key=f"{state}_times")), **within}
