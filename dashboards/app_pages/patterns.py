"""Patterns: RFM, what is bought together, which kinds of customers there are."""

import streamlit as st

from dashboards import queries
from dashboards.components import filters, frame, pattern_charts, tables, text
from dashboards.components.tables import Column
from dashboards.queries import patterns

SEGMENTS = {"segment": Column("Segment", "words"), "customers": Column("Customers", "count"), "customer_share": Column("Share", "share"), "net_revenue_reporting": Column("Net revenue", "currency"),
            "revenue_share": Column("Share of revenue", "share"), "median_recency_days": Column("Days since last order (median)", "count"), "median_order_count": Column("Orders (median)", "count")}
RULES = {"antecedent_name": Column("Who buys"), "consequent_name": Column("also buys"), "confidence": Column("Confidence", "share"), "lift": Column("Lift", "ratio"), "together_count": Column("Together", "count"),
         "antecedent_count": Column("Baskets", "count"), "support": Column("Support", "share")}
CLUSTERS = {"cluster_id": Column("Id", "count"), "cluster": Column("Group"), "customers": Column("Customers", "count"), "customer_share": Column("Share", "share"), "net_revenue_reporting": Column("Net revenue", "currency"),
            "revenue_share": Column("Share of revenue", "share"), "stability": Column("Stability", "decimal")}
VALUES = {"customers": ("Customers", "count"), "net_revenue_reporting": ("Net revenue", "currency")}
MONETARY = {"all": "All of them", "5": "M5, most valuable", "4": "M4", "3": "M3", "2": "M2", "1": "M1, least valuable"}
BASKETS = {"order": "In one order", "customer": "By one customer, ever"}
NOT_MINED = "patterns have not been mined in this snapshot; run “rapport run” again"
LEVELS = {"product": "Products", "category": "Categories"}


def body() -> None:
    currency = queries.settings()["reporting_currency"]
    verdicts = patterns.pattern_verdicts()
    st.subheader("Recency, frequency, monetary value", anchor=False)
    with frame.explained():
        rfm(currency)
    st.subheader("Bought together", anchor=False)
    with frame.explained():
        together(verdicts)
    st.subheader("Groups of customers", anchor=False)
    with frame.explained():
        groups(verdicts, currency)


def rfm(currency: str) -> None:
    segments, cells = patterns.rfm_segments(), patterns.rfm_cells()
    if segments.is_empty():
        frame.empty("No customer has kept an order yet.", "Scores appear with the first orders.")
        return
    text.line("Each score runs from 1 to 5 by value quantile over all customers with an order that was not fully refunded, at the date of the data; equal values score alike.")
    if cells.height:
        with st.container(horizontal=True, gap="small"):
            value = filters.choice("What a cell shows", "rfm", tuple(VALUES), "customers", {n: label for n, (label, _) in VALUES.items()})
            monetary = filters.choice("Monetary score", "monetary", tuple(MONETARY), "all", MONETARY)
        pattern_charts.plane(patterns.rfm_plane(cells, monetary), value, VALUES[value][1], currency)
        tables.download("All 125 cells as CSV", cells, "rfm_cells", queries.snapshot_id())
    tables.table(segments, SEGMENTS, currency)
    tables.download("Segments as CSV", segments, "rfm_segments", queries.snapshot_id())


def together(verdicts: dict[str, str]) -> None:
    with st.container(horizontal=True, gap="small"):
        by = filters.choice("Bought", "basket", tuple(BASKETS), "order", BASKETS, width=210)
        level = filters.choice("Of", "level", tuple(LEVELS), "product", LEVELS)
    rules = patterns.rules(by, level)
    verdict = verdicts.get(patterns.named(level, by), NOT_MINED)
    if rules.is_empty():
        frame.empty("Nothing is bought together more often than by chance.", f"{verdict[:1].upper()}{verdict[1:]}.")
    else:
        names = sorted(set(rules["antecedent_name"].to_list()))
        picked = st.selectbox("Who buys", names, index=None, placeholder="Any product: choose or type one", key="rules_for")
        kept = rules.filter(rules["antecedent_name"] == picked) if picked else rules
        text.line("Confidence: share of the baskets with the first that hold the second too. Lift: how many times its share of all baskets that is. "
                  "Support: share of all baskets with both.")
        tables.table(kept.head(patterns.RULES_SHOWN), RULES)
        text.line(f"{verdict[:1].upper()}{verdict[1:]}. The 25 strongest of each are kept; the file holds all of them, the table the first {patterns.RULES_SHOWN}.")
        tables.download("Rules as CSV", rules, f"rules_{by}_{level}", queries.snapshot_id())
    picks = patterns.next_products()
    if verdicts.get("next products"):
        text.line(f"Next products by rule: {verdicts['next products']}.")
    if not picks.is_empty():
        tables.download("Next products of every customer as CSV", picks, "next_products", queries.snapshot_id())


def groups(verdicts: dict[str, str], currency: str) -> None:
    found = patterns.clusters()
    verdict = verdicts.get("customer clusters", NOT_MINED)
    if found.is_empty():
        frame.empty("No groups of customers stand.", f"{verdict[:1].upper()}{verdict[1:]}.")
        return
    text.line("Buyers by what they did up to the date of the data. Stability is how far the group comes back when half of the customers are looked at, from 0 to 1; ids stay from refit to refit.")
    tables.table(found, CLUSTERS, currency)
    pattern_charts.profiles(patterns.cluster_profiles())
    text.line(f"{verdict[:1].upper()}{verdict[1:]}. Segments can use the group as the attribute “Cluster”.")
    labels = {row["cluster_id"]: f"{row['cluster_id']} · {row['cluster']}" for row in found.iter_rows(named=True)}
    picked = st.selectbox("Members of", list(labels), format_func=labels.get, key="members_of")
    tables.download("Members as CSV", lambda: patterns.cluster_members(picked), f"cluster_{picked}", queries.snapshot_id())


frame.page("Patterns", "What customers have in common, and what they buy together.", body)
