"""Identity: who was joined by which rule, what changed last, pairs to judge, one customer's records.

Decisions are taken on the command line, not here: pages change no data, and a decision is data that the next run takes in.
"""

import streamlit as st

from dashboards import queries
from dashboards.components import cards, frame, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

RULES = {"kind": Column("Change"), "rule": Column("Rule", "words"), "changes": Column("Pairs", "count"), "runs": Column("Runs", "count"), "last_at": Column("Last (UTC)", "instant")}
CHANGES = {"decided_at": Column("When (UTC)", "instant"), "rule": Column("Rule", "words"), "evidence": Column("Evidence"), "decided_by": Column("Decided by"), "left_record": Column("Record"),
           "right_record": Column("Other record"), "left_customer_id": Column("Customer"), "right_customer_id": Column("Other customer")}
PAIRS = {"probability": Column("Probability", "share"), "matched_fields": Column("Agree on"), "reason": Column("Why"), "left_name": Column("Name"), "right_name": Column("Other name"),
         "left_customer_id": Column("Customer"), "right_customer_id": Column("Other customer")}
RECORDS = {"record": Column("Record"), "joined_by": Column("Joined by", "words"), "name": Column("Name"), "first_name": Column("First name"),
           "last_name": Column("Last name"), "email": Column("E-mail"), "phone": Column("Phone"), "merged_into_id": Column("Merged into"), "is_deleted": Column("Deleted", "flag"),
           "updated_at": Column("Changed (UTC)", "instant"), "evidence": Column("Evidence")}
FIELDS = {"field": Column("Field", "words"), "value": Column("Value"), "rule": Column("Rule", "words"), "record": Column("From record"), "other_values": Column("Other values", "count")}
FORMER = {"old_customer_id": Column("Former id"), "since_run": Column("Since run")}
ORGANISATIONS = {"customer_id": Column("Person"), "organisation_id": Column("Organisation"), "since": Column("Since", "date"), "is_primary": Column("Main", "flag")}


def body() -> None:
    if not queries.serves_identity():
        frame.empty("This snapshot was published before identity was served.", "“rapport run” publishes one that does.")
        return
    totals()
    one_customer()
    pairs()
    changes()


def totals() -> None:
    found = queries.identity_totals()
    cards.plain((
        ("Customers", shown.number(found["customers"], "count"), f"from {shown.plural(found['records'], 'source record')}", "People and organisations after joining, without those who are leads only."),
        ("Of several records", shown.number(found["joined"], "count"), "joined by a rule or a decision", "Customers whose records came from more than one source or more than once from the same."),
        ("Former ids", shown.number(found["former_ids"], "count"), "lead to their survivor", "Ids that named a customer once; searches and links by them find the survivor."),
        ("Pairs to judge", shown.number(found["pairs"], "count"), f"{shown.number(found['kept_apart'], 'count')} kept apart by a contradiction", "Nothing is merged by probability alone: a person decides."),
    ))
    by_rule = queries.joins_by_rule()
    if by_rule.is_empty():
        frame.empty("No two records were joined so far.", "Records are joined by e-mail, phone, external id or domain, by merges at the source, and by decisions.")
    else:
        tables.table(by_rule, RULES)


def one_customer() -> None:
    st.subheader("One customer", anchor=False)
    linked = st.query_params.get("id", "")
    asked = st.text_input("Search", value=linked, placeholder=search_hint(), key="asked").strip()
    found = queries.identity_of(asked) if asked else None
    if found is None:
        matches = queries.joined_customers(asked)
        if matches.is_empty():
            frame.empty(f"No customer matches “{asked}”." if asked else "No customer has several records.", "Try a part of the name, or an id.")
            return
        names = {r["customer_id"]: f"{r['name'] or r['customer_id']} · {shown.plural(r['record_count'], 'record')}" for r in matches.iter_rows(named=True)}
        chosen = st.selectbox(f"{shown.plural(matches.height, 'customer')} found" if asked else "Customers of most records", list(names), index=None, format_func=lambda i: names.get(i, i), placeholder="Choose a customer")
        found = queries.identity_of(chosen) if chosen else None
    if found is None:
        return
    st.query_params["id"] = found["customer_id"]
    text.heading(f"Customer {found['customer_id']}")
    tables.table(found["records"], RECORDS)
    if found["fields"].height:
        text.line("Which record gave which field, and by which rule of survivorship.")
        tables.table(found["fields"], FIELDS)
    if found["former"].height:
        tables.table(found["former"], FORMER)
    if found["organisations"].height:
        tables.table(found["organisations"], ORGANISATIONS)
    if found["records"].height > 1:
        text.line("To take two of these records apart, run:")
        command("unmerge", *found["records"]["record"].to_list()[:2])


def search_hint() -> str:
    return "Name, e-mail, customer id, former id or source:contact:id" if queries.sees_personal_data() else "Customer id, former id or source:contact:id"


def pairs() -> None:
    st.subheader("Pairs to judge", anchor=False)
    rows = queries.pairs_to_judge()
    if rows.is_empty():
        text.notice("success", "No pair waits for a decision.")
        return
    text.line("Probably one customer, or proposed by a rule and kept apart by a contradiction. Nothing is merged by probability alone.")
    tables.table(rows, PAIRS)
    first = rows.row(0, named=True)
    text.line("If the first pair is one customer, run the first command; if it is two, the second. The next run applies it, and “rapport identity undo” takes it back.")
    command("merge", first["left_customer_id"], first["right_customer_id"])
    command("unmerge", first["left_customer_id"], first["right_customer_id"])
    tables.download("All pairs as CSV", lambda: queries.pairs_to_judge(None), "identity_review", queries.snapshot_id())


def command(verb: str, left: str, right: str) -> None:
    """The words to type, as characters: ids come from data."""
    text.boxed(f"rapport identity {verb} {left} {right}")


def changes() -> None:
    st.subheader("Changed last", anchor=False)
    for kind, heading, none in (("unmerge", "Parted", "No customer has been parted so far."), ("merge", "Joined", "No customer has been joined so far.")):
        rows = queries.identity_changes(kind)
        text.line(heading)
        if rows.is_empty():
            frame.empty(none)
        else:
            tables.table(rows, CHANGES)
    tables.download("Whole log as CSV", lambda: queries.identity_changes(None, None), "identity_log", queries.snapshot_id())


frame.page("Identity", "Which source records are one customer, why, and what waits for a decision.", body)
