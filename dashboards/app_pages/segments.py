"""Segments: describe customers, see how many they are, take the list along."""

import json

import streamlit as st

from dashboards import queries
from dashboards.components import cards, conditions, filters, frame, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

NEW = "new_segment"
STEPS = {"condition": Column("Condition"), "customers_alone": Column("Alone", "count"), "customers_left": Column("Left so far", "count")}
MEMBERS = {"name": Column("Name"), "email": Column("E-mail"), "customer_id": Column("Customer id"), "customer_type": Column("Type"), "organisation_name": Column("Organisation"), "country_code": Column("Country"),
           "city": Column("City"), "acquisition_channel": Column("Channel"), "segment": Column("RFM segment"), "order_count": Column("Orders", "count"), "net_revenue_reporting": Column("Net revenue", "currency"),
           "current_mrr_reporting": Column("MRR", "currency"), "first_order_at": Column("First order", "date"), "last_order_at": Column("Last order", "date"), "churn_probability": Column("Churn probability", "share"),
           "predicted_value": Column("Predicted value", "currency")}


def body() -> None:
    saved = queries.saved_segments()
    names = (NEW, *(name for name in saved if name != NEW))
    picked = filters.choice("Segment", "saved", names, names[1] if saved else NEW, {**saved, NEW: "Describe a new one"}, width=340)
    start = {"all": []} if picked == NEW else queries.segment_content(picked)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        content = conditions.editor(conditions.from_url(start, picked), start, picked)
    with right, frame.explained():
        if not conditions.has_any(content):
            frame.empty("Add a condition to see who fits.")
            return
        results(picked, json.dumps(content, default=str))
    with frame.explained():
        members(picked, json.dumps(content, default=str))


def results(name: str, described: str) -> None:
    answer = queries.segment_answer(name, described)
    share = shown.share_of(answer["customers"], answer["universe"])
    cards.plain((("Customers", shown.number(answer["customers"], "count"), f"{share} of {answer['universe']:,}", "Customers who meet the conditions, of all customers who are not deleted, no test account and not merely a lead."),))
    text.line(answer["sentence"])
    tables.table(answer["steps"], STEPS)


def members(name: str, described: str) -> None:
    answer = queries.segment_answer(name, described)
    st.subheader("Members", anchor=False)
    if answer["members"].is_empty():
        frame.empty("Nobody meets these conditions.", "The table above shows which condition leaves nobody.")
        return
    personal = "with contact data" if queries.sees_personal_data() else "without contact data, which your role does not include"
    text.line(f"The {shown.plural(answer['members'].height, 'most valuable one', 'most valuable ones')}. The file holds all {answer['customers']:,}, {personal}.")
    tables.table(answer["members"], MEMBERS, queries.settings()["reporting_currency"])
    tables.download("Members as CSV", lambda: queries.segment_members(name, described), f"segment_{name}", queries.snapshot_id())


frame.page("Segments", "Filters over profile, behaviour and scores.", body)
