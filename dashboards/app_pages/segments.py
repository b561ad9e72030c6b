"""Segments: describe customers, see how many they are, take the list along."""

import json

import streamlit as st

from dashboards import queries
from dashboards.components import filters, frame, tables
from dashboards.components.conditions import editor

NEW = "new segment"


def body() -> None:
    saved = queries.saved_segments()
    names = (NEW, *saved)
    picked = filters.choice("Segment", "segment", names, names[1] if saved else NEW, {NEW: "Describe a new one", **saved})
    start = {"all": []} if picked == NEW else queries.segment_content(picked)
    left, right = st.columns([2, 3])
    with left:
        content = editor(start, picked)
    with right:
        if not content.get("all") and not content.get("any") and not content.get("none"):
            frame.empty("Add a condition to see who fits.", "")
            return
        name = "new_segment" if picked == NEW else picked
        conditions = json.dumps(content, default=str)
        answer = queries.segment_answer(name, conditions)
        st.metric("Customers", f"{answer['customers']:,}", help=f"Of {answer['universe']:,} customers.", border=True)
        st.write(answer["sentence"])
        tables.table(answer["steps"], {"condition": "Condition", "customers_alone": "Alone", "customers_left": "Left so far"})
    st.subheader("Members", anchor=False)
    st.caption("The first 100, most valuable first; the file holds everybody, with contact data.")
    tables.table(answer["members"])
    tables.download("Members as CSV", queries.segment_members(name, conditions), f"segment_{name}", queries.current().id)


frame.page("Segments", "Filters over profile, behaviour and scores.", body)
