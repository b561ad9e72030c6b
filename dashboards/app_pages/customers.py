"""Customers: find one, read the story, see the scores."""

from typing import Any

import streamlit as st

from dashboards import queries
from dashboards.components import cards, frame, survival, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

FOUND = {"name": Column("Name"), "customer_type": Column("Type"), "organisation_name": Column("Organisation"), "country_code": Column("Country"), "segment": Column("RFM segment"), "order_count": Column("Orders", "count"),
         "net_revenue_reporting": Column("Net revenue", "currency"), "last_order_at": Column("Last order", "date")}
STORY = {"happened_at": Column("When (UTC)", "instant"), "what": Column("What"), "detail": Column("Detail"), "amount": Column("Amount", "decimal"), "currency": Column("Currency")}


def body() -> None:
    asked = st.text_input("Search", value=st.query_params.get("q", ""), placeholder=search_hint(), key="search").strip()
    if asked:
        st.query_params["q"] = asked
    else:
        st.query_params.pop("q", None)
    rows = queries.find_customers(asked) if asked else queries.best_customers()
    chosen = pick(rows, asked)
    if chosen:
        profile(chosen)
    elif not asked:
        frame.empty("Search for a customer to see the profile, the timeline and the scores.", "A part of a name is enough.")


def search_hint() -> str:
    return "Name, e-mail, organisation or customer id" if queries.sees_personal_data() else "Organisation or customer id"


def pick(rows: Any, asked: str) -> str | None:
    linked = st.query_params.get("id")
    if asked and rows.is_empty():
        frame.empty(f"No customer matches “{asked}”.", "Try a part of the name or of the e-mail address.")
        return linked
    options = rows["customer_id"].to_list()
    if linked and linked not in options and not asked:
        options.insert(0, linked)
    names = {r["customer_id"]: " · ".join((r["name"], r["organisation_name"] or r["customer_type"], r["country_code"] or shown.NOTHING)) for r in rows.iter_rows(named=True)}
    label = f"{shown.plural(rows.height, 'customer')} found" if asked else "Most valuable customers"
    picked = st.selectbox(label, options, index=options.index(linked) if linked in options else (0 if asked else None), format_func=lambda i: names.get(i, i), placeholder="Choose a customer")
    if picked:
        st.query_params["id"] = picked
    else:
        tables.table(rows, FOUND, queries.settings()["reporting_currency"])
    return picked


def profile(customer_id: str) -> None:
    row = queries.customer(customer_id)
    if row is None:
        frame.empty("There is no customer with this id.", "It may have been merged; search by name.")
        return
    currency = queries.settings()["reporting_currency"]
    text.heading(row["name"] or customer_id)
    text.line(" · ".join(str(p) for p in (row["customer_type"], row["organisation_name"], row["email"], row["phone"], row["city"], row["country_code"], row["segment"]) if p))
    memberships = queries.customer_segments(customer_id)
    if memberships:
        text.line(f"In the segments: {', '.join(memberships)}")
    scores = queries.customer_scores(customer_id)
    cards.plain((
        ("Net revenue to date", shown.money(row["net_revenue_reporting"], currency), f"{shown.plural(row['order_count'] or 0, 'order')}", "Net of refunds, in the reporting currency."),
        ("Last order", shown.day(row["last_order_at"]), f"first {shown.day(row['first_order_at'])}", ""),
        ("Monthly recurring revenue", shown.money(row["current_mrr_reporting"], currency), shown.plural(row["active_subscription_count"] or 0, "active subscription"), ""),
        churn_card(scores.get("churn")),
        value_card(scores.get("clv"), currency),
    ))
    reasons = scores.get("churn", {}).get("reasons") or []
    if reasons:
        text.line("What the churn score rests on:")
        text.listing(reasons)
    timing = queries.customer_curve(customer_id)
    if not timing.is_empty():
        survival.curve(timing, scores["churn_timing"])
    st.subheader("Timeline", anchor=False)
    story = queries.timeline(customer_id)
    if story.is_empty():
        frame.empty("Nothing has happened with this customer yet.")
    else:
        tables.table(story, STORY)
        tables.download("Timeline as CSV", story, f"timeline_{customer_id}", queries.snapshot_id())


def churn_card(score: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if score is None:
        return "Churn probability", shown.NOTHING, "not scored", "No churn score is published for this customer: see Data health for how the models were judged."
    fallback = score["fallback_reason"] or ""
    return "Churn probability", shown.number(score["score"], "share"), f"scored on {shown.day(score['as_of'])}", f"Probability of leaving within the model's horizon. {fallback}".strip()


def value_card(score: dict[str, Any] | None, currency: str) -> tuple[str, str, str, str]:
    if score is None:
        return "Predicted value, 365 days", shown.NOTHING, "not scored", "No value is predicted for this customer: see Data health for how the models were judged."
    below = f"80%: {shown.interval(score['lower'], score['upper'], 'currency', currency)}" if score["lower"] is not None else f"scored on {shown.day(score['as_of'])}"
    return "Predicted value, 365 days", shown.money(score["score"], currency), below, f"Revenue expected in the next 365 days, before margin. {score['fallback_reason'] or ''}".strip()


frame.page("Customers", "One customer's profile, story and scores.", body)
