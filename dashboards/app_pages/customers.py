"""Customers: find one, read the story, see the scores."""

import streamlit as st

from dashboards import queries
from dashboards.components import format as shown
from dashboards.components import frame, tables


def body() -> None:
    text = st.text_input("Search", value=st.query_params.get("q", ""), placeholder="Name, e-mail, organisation or customer id", key="search")
    if text:
        st.query_params["q"] = text
    chosen = st.query_params.get("id")
    if text:
        found = queries.find_customers(text)
        if found.is_empty():
            frame.empty(f"No customer matches “{text}”.", "Try a part of the name or the e-mail address.")
        else:
            options = found["customer_id"].to_list()
            names = {r["customer_id"]: f"{r['name']} · {r['organisation_name'] or r['customer_type']} · {r['country_code'] or shown.NOTHING}" for r in found.iter_rows(named=True)}
            picked = st.selectbox(f"{found.height} found", options, index=options.index(chosen) if chosen in options else 0, format_func=names.get)
            st.query_params["id"] = chosen = picked
    if not chosen:
        frame.empty("Search for a customer to see the profile, the timeline and the scores.", "A part of a name is enough.")
        return
    profile(chosen)


def profile(customer_id: str) -> None:
    row = queries.customer(customer_id)
    if row is None:
        frame.empty("There is no customer with this id.", "It may have been merged; search by name.")
        return
    currency = queries.settings()["reporting_currency"]
    st.subheader(row["name"] or customer_id, anchor=False)
    st.caption(" · ".join(str(p) for p in (row["customer_type"], row["organisation_name"], row["email"], row["phone"], row["city"], row["country_code"], row["segment"]) if p))
    figures = (("Net revenue to date", shown.money(row["net_revenue_reporting"], currency)), ("Orders", shown.number(row["order_count"], "count")),
               ("Last order", shown.day(row["last_order_at"])), ("MRR", shown.money(row["current_mrr_reporting"], currency)))
    for column, (label, value) in zip(st.columns(len(figures)), figures, strict=True):
        column.metric(label, value, border=True)
    left, right = st.columns(2)
    with left:
        st.metric("Churn probability", shown.number(row["churn_probability"], "share"), border=True,
                  help="Probability of leaving within the model's horizon. " + (row["churn_fallback_reason"] or ""))
        for reason in row["churn_reasons"] or []:
            st.caption(f"• {reason}")
    with right:
        st.metric(f"Predicted value, next 365 days ({currency})", shown.money(row["predicted_value"], currency), border=True)
        if row["value_lower"] is not None:
            st.caption(f"80 % interval {shown.money(row['value_lower'], currency)} to {shown.money(row['value_upper'], currency)}, scored on {shown.day(row['scored_on'])}")
    st.subheader("Timeline", anchor=False)
    story = queries.timeline(customer_id)
    if story.is_empty():
        frame.empty("Nothing has happened with this customer yet.", "")
    else:
        tables.table(story, {"at": "When (UTC)", "what": "What", "detail": "Detail", "amount": "Amount", "currency": "Currency"})
        tables.download("Timeline as CSV", story, f"timeline_{customer_id}", queries.current().id)


frame.page("Customers", "One customer's profile, story and scores.", body)
