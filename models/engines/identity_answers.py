"""What people ask of identity resolution, read from the `identity` schema of a snapshot or a warehouse.

Belongs here: lists of customers, records, changes and probable pairs as rows for a terminal or a page, personal values only for those who
may see them. Does not belong here: resolving (`identity`) or deciding (`identity_decisions`).
"""

from __future__ import annotations

from datetime import datetime

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines.identity_decisions import find
from models.engines.identity_nodes import ATTRIBUTES

# Values of a record that say who somebody is: hidden from those without a right to personal data.
PERSONAL = ("name", "email", "phone", "first_name", "last_name", "birth_date", "gender", "postal_code")


def customers(con: duckdb.DuckDBPyConnection, *, personal: bool, text: str = "", min_records: int = 2, limit: int | None = None) -> pl.DataFrame:
    """Customers of `min_records` records or more, those of most records first. One row per customer.

    `text` is a part of an id, or of a name or address for those who may see them.
    """
    return con.execute("""
        SELECT customer_id, customer_type, CASE WHEN $personal THEN name END AS name, CASE WHEN $personal THEN email END AS email, record_count, source_count,
               (SELECT count(*) FROM identity.aliases AS f WHERE f.customer_id = a.customer_id) AS former_ids, organisation_id, is_deleted, updated_at
        FROM identity.customer_attributes AS a
        WHERE record_count >= $records AND NOT is_lead_only
              AND ($text = '' OR contains(customer_id, $text) OR ($personal AND (contains(lower(coalesce(name, '')), lower($text)) OR contains(lower(coalesce(email, '')), lower($text)))))
        ORDER BY record_count DESC, customer_id LIMIT $limit""", {"personal": personal, "text": text.strip(), "records": min_records, "limit": limit}).pl()


def current(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """The customer that an id (a retired one too) or a record `source:type:id` means now. Raises UsageError."""
    return find(con, name)[1]


def records(con: duckdb.DuckDBPyConnection, customer_id: str, *, personal: bool) -> pl.DataFrame:
    """The source records of a customer, the best known first, each with what joined it to the others. One row per record.

    `joined_by` and `evidence` come from the last merge in the log that names the record; they are null for the record that stands alone
    or was there first.
    """
    values = ", ".join(f"CASE WHEN $personal THEN r.{name} END AS {name}" if name in PERSONAL else f"r.{name}" for name in ATTRIBUTES)
    return con.execute(f"""
        WITH joins AS (
            SELECT left_source AS source, left_type AS node_type, left_id AS source_id, rule, evidence, decided_by, decided_at FROM identity.merge_log WHERE kind = 'merge'
            UNION ALL SELECT right_source, right_type, right_id, rule, evidence, decided_by, decided_at FROM identity.merge_log WHERE kind = 'merge'),
        last_join AS (
            SELECT * FROM joins QUALIFY row_number() OVER (PARTITION BY source, node_type, source_id ORDER BY decided_at DESC NULLS LAST, rule, evidence) = 1)
        SELECT concat_ws(':', m.source, m.node_type, m.source_id) AS record, m.source, m.node_type, m.source_id, m.first_seen_run, m.is_known, r.is_deleted, r.merged_into_id, r.created_at, r.updated_at,
               j.rule AS joined_by, j.evidence, j.decided_by, j.decided_at AS joined_at, {values}
        FROM identity.members AS m
        LEFT JOIN identity.records AS r USING (source, node_type, source_id)
        LEFT JOIN last_join AS j USING (source, node_type, source_id)
        WHERE m.customer_id = $id
        ORDER BY r.by_most_recent NULLS LAST, m.source, m.node_type, m.source_id""", {"id": customer_id, "personal": personal}).pl()


def survivorship(con: duckdb.DuckDBPyConnection, customer_id: str, *, personal: bool) -> pl.DataFrame:
    """Which record gave which field, by which rule, and how many other values were passed over. One row per field that has a value."""
    parts = [f"""SELECT '{name}' AS field, {position} AS position, CASE WHEN $personal OR NOT {name in PERSONAL} THEN CAST({name} AS VARCHAR) END AS value, CAST({name} AS VARCHAR) AS held,
                        source, node_type, source_id, by_most_recent, by_most_trusted, by_most_complete
                 FROM identity.records WHERE customer_id = $id AND {name} IS NOT NULL""" for position, name in enumerate(ATTRIBUTES)]
    return con.execute(f"""
        WITH held AS ({" UNION ALL ".join(parts)}),
        ranked AS (
            SELECT h.*, s.strategy, count(DISTINCT held) OVER (PARTITION BY field) - 1 AS other_values,
                   row_number() OVER (PARTITION BY field ORDER BY CASE s.strategy WHEN 'most_recent' THEN by_most_recent WHEN 'most_trusted' THEN by_most_trusted ELSE by_most_complete END) AS place
            FROM held AS h JOIN identity.survivorship AS s USING (field))
        SELECT field, value, strategy AS rule, concat_ws(':', source, node_type, source_id) AS record, source, node_type, source_id, other_values FROM ranked WHERE place = 1 ORDER BY position""",
        {"id": customer_id, "personal": personal}).pl()


def former_ids(con: duckdb.DuckDBPyConnection, customer_id: str) -> pl.DataFrame:
    """Ids that named this customer's parts before they were joined, with the run since which they are retired."""
    return con.execute("SELECT old_customer_id, since_run FROM identity.aliases WHERE customer_id = ? ORDER BY old_customer_id", [customer_id]).pl()


def organisations(con: duckdb.DuckDBPyConnection, customer_id: str) -> pl.DataFrame:
    """The organisations a person belongs to (or the people of an organisation), since when, and which is the main one."""
    return con.execute("SELECT customer_id, organisation_id, since, is_primary FROM identity.hierarchy WHERE customer_id = $id OR organisation_id = $id ORDER BY is_primary DESC, since, customer_id",
                       {"id": customer_id}).pl()


def log(con: duckdb.DuckDBPyConnection, *, kind: str | None = None, rule: str | None = None, customer: str | None = None, decided_by: str | None = None,
        since: datetime | None = None, limit: int | None = None) -> pl.DataFrame:
    """Joins and partings, newest first. One row per pair of customers joined or parted.

    `customer` is a customer id, which stands for all of its records, or a record `source:type:id`. `since` is UTC.
    """
    return con.execute("""
        WITH own AS (SELECT concat_ws(':', source, node_type, source_id) AS record FROM identity.members WHERE customer_id = $customer UNION SELECT $customer)
        SELECT decided_at, kind, rule, evidence, decided_by, left_customer_id, right_customer_id, concat_ws(':', left_source, left_type, left_id) AS left_record,
               concat_ws(':', right_source, right_type, right_id) AS right_record, run_id
        FROM identity.merge_log
        WHERE ($kind IS NULL OR kind = $kind) AND ($rule IS NULL OR rule = $rule) AND ($by IS NULL OR decided_by = $by) AND ($since IS NULL OR decided_at >= $since)
              AND ($customer IS NULL OR left_customer_id = $customer OR right_customer_id = $customer OR left_record IN (SELECT record FROM own) OR right_record IN (SELECT record FROM own))
        ORDER BY decided_at DESC, kind, left_customer_id, right_customer_id, left_record, right_record LIMIT $limit""",
        {"kind": kind, "rule": rule, "customer": customer, "by": decided_by, "since": since, "limit": limit}).pl()


def joins_by_rule(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """How often each rule joined two customers, or something parted them, and when last. One row per kind and rule."""
    return con.execute("SELECT kind, rule, count(*) AS changes, count(DISTINCT run_id) AS runs, max(decided_at) AS last_at FROM identity.merge_log GROUP BY ALL ORDER BY kind, changes DESC, rule").pl()


def review(con: duckdb.DuckDBPyConnection, *, personal: bool, min_probability: float = 0.0, customer: str | None = None, limit: int | None = None) -> pl.DataFrame:
    """Pairs for a person to decide on: first those a rule would have joined and a contradiction kept apart, then by probability. One row per pair of customers."""
    return con.execute("""
        SELECT v.probability, v.matched_fields, v.reason, v.left_customer_id, CASE WHEN $personal THEN l.name END AS left_name, v.right_customer_id, CASE WHEN $personal THEN r.name END AS right_name,
               concat_ws(':', v.left_source, v.left_type, v.left_id) AS left_record, concat_ws(':', v.right_source, v.right_type, v.right_id) AS right_record
        FROM identity.review_list AS v
        LEFT JOIN identity.customer_attributes AS l ON l.customer_id = v.left_customer_id LEFT JOIN identity.customer_attributes AS r ON r.customer_id = v.right_customer_id
        WHERE coalesce(v.probability, 1) >= $least AND ($customer IS NULL OR v.left_customer_id = $customer OR v.right_customer_id = $customer)
        ORDER BY v.reason = 'probable', v.probability DESC NULLS LAST, v.left_customer_id, v.right_customer_id LIMIT $limit""",
        {"personal": personal, "least": min_probability, "customer": customer, "limit": limit}).pl()


def require_rule(con: duckdb.DuckDBPyConnection, rule: str) -> None:
    """Raises UsageError when the log knows no such rule."""
    known = [r[0] for r in con.execute("SELECT DISTINCT rule FROM identity.merge_log ORDER BY 1").fetchall()]
    if known and rule not in known:
        raise UsageError(f"the log knows no rule {rule!r}", field="--rule", remedy=f"Rules in the log: {', '.join(known)}.")
