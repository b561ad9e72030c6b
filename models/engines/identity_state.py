"""Identity resolution, third step: what people and the marts read of it, and what a run changed.

Belongs here: the tables of the `identity` schema, the ids of customers, the merge log and the aliases. Does not belong here:
deciding who is one customer (`identity_graph`), a customer's attributes (`identity_attributes`), or what only saves work (`identity_memory`).

A customer's id comes from the node that founds it, and founding order never changes once a node was seen. So an id is
a function of the group and not of the way that led to it: whoever is unmerged has the id of before. No statement here writes
a personal value; a shared value appears in the log as the first eight hexadecimal digits of its hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import duckdb

from models.engines.identity_nodes import ATTRIBUTES
from models.engines.identity_rules import STRATEGIES, IdentityRules

_NODE = "source VARCHAR NOT NULL, node_type VARCHAR NOT NULL, source_id VARCHAR NOT NULL"
_PAIR = ", ".join(f"{side}_source VARCHAR, {side}_type VARCHAR, {side}_id VARCHAR" for side in ("left", "right"))
TABLES = {
    # one row per run that resolved identities; numbers order the runs
    "runs": "run_id VARCHAR NOT NULL, run_number BIGINT NOT NULL, run_at TIMESTAMP",
    # one row per node
    "members": f"""{_NODE}, customer_id VARCHAR NOT NULL, customer_type VARCHAR NOT NULL, is_lead_only BOOLEAN NOT NULL, is_known BOOLEAN NOT NULL,
                   first_seen_run VARCHAR NOT NULL, first_seen_run_number BIGINT NOT NULL, founded_at TIMESTAMP""",
    # one row per node and shared value or link: the run in which it was first seen
    "sightings": "node_id VARCHAR NOT NULL, key_hash UUID NOT NULL, run_number BIGINT NOT NULL",
    # one row per customer id that was given out and no longer names a customer
    "aliases": "old_customer_id VARCHAR NOT NULL, customer_id VARCHAR NOT NULL, since_run VARCHAR NOT NULL",
    # one row per joining or parting of two customers
    "merge_log": f"""run_id VARCHAR NOT NULL, kind VARCHAR NOT NULL, rule VARCHAR NOT NULL, left_customer_id VARCHAR NOT NULL, right_customer_id VARCHAR NOT NULL,
                     {_PAIR}, evidence VARCHAR NOT NULL, decided_at TIMESTAMP, decided_by VARCHAR""",
    # one row per pair of customers that a person should look at
    "review_list": f"""left_customer_id VARCHAR NOT NULL, right_customer_id VARCHAR NOT NULL, {_PAIR}, probability DOUBLE, matched_fields VARCHAR[],
                       reason VARCHAR NOT NULL, run_id VARCHAR NOT NULL""",
    # one row at most: what the review of probable pairs learned. Rates only, no value of a record
    "review_model": "trained_run VARCHAR NOT NULL, person_count BIGINT NOT NULL, rules_hash VARCHAR NOT NULL, model VARCHAR NOT NULL",
    # one row per node: its values, the customer it belongs to, and its place in each order of survivorship
    "records": f"""{_NODE}, customer_id VARCHAR NOT NULL, is_deleted BOOLEAN, merged_into_id VARCHAR, {", ".join(f"{name} {kind}" for name, kind in ATTRIBUTES.items())},
                   created_at TIMESTAMP, updated_at TIMESTAMP, {", ".join(f"by_{name} BIGINT" for name in STRATEGIES)}""",
    # one row per field: the order from which a customer takes it
    "survivorship": "field VARCHAR NOT NULL, strategy VARCHAR NOT NULL",
    # one row per person and organisation it belongs to
    "hierarchy": "customer_id VARCHAR NOT NULL, organisation_id VARCHAR NOT NULL, since TIMESTAMP, is_primary BOOLEAN NOT NULL",
    # one row per customer
    "customer_attributes": f"""customer_id VARCHAR NOT NULL, customer_type VARCHAR NOT NULL, is_lead_only BOOLEAN NOT NULL, is_known BOOLEAN NOT NULL,
                               is_deleted BOOLEAN NOT NULL, is_test BOOLEAN NOT NULL, record_count BIGINT NOT NULL, source_count BIGINT NOT NULL,
                               {", ".join(f"{name} {kind}" for name, kind in ATTRIBUTES.items())},
                               organisation_id VARCHAR, parent_organisation_id VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP, deleted_at TIMESTAMP""",
}


def ensure_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Create the `identity` schema, its tables and the columns of newer versions where they are missing; what is there stays as it is."""
    con.execute("CREATE SCHEMA IF NOT EXISTS identity")
    for name, columns in TABLES.items():
        con.execute(f"CREATE TABLE IF NOT EXISTS identity.{name} ({columns})")
    con.execute("ALTER TABLE identity.merge_log ADD COLUMN IF NOT EXISTS decided_by VARCHAR")
    con.execute("DROP TABLE IF EXISTS identity.decisions")      # where decisions stood before they were landed; no command ever wrote there


@contextmanager
def one_transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing; inside a transaction of the caller it is the caller who commits."""
    if _in_transaction(con):
        yield
        return
    con.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def _in_transaction(con: duckdb.DuckDBPyConnection) -> bool:
    # Asking by a second BEGIN would abort the caller's transaction; outside of one, every statement has a number of its own.
    first, second = (con.execute("SELECT txid_current()").fetchone()[0] for _ in range(2))
    return first == second


def start_run(con: duckdb.DuckDBPyConnection, run_id: str, run_at: datetime) -> tuple[int, bool]:
    """Number of a run, and whether it is new; a run that comes again (a retry, a second batch) keeps its number."""
    known = con.execute("SELECT max(run_number) FROM identity.runs WHERE run_id = ?", [run_id]).fetchone()[0]
    if known is not None:
        return known, False
    number = con.execute("SELECT coalesce(max(run_number), 0) + 1 FROM identity.runs").fetchone()[0]
    con.execute("INSERT INTO identity.runs VALUES (?, ?, ?)", [run_id, number, run_at])
    return number, True


def assign_customers(con: duckdb.DuckDBPyConnection) -> None:
    """Temp table `identity_assigned`: each affected node with its customer and the customer it belonged to before."""
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_assigned AS
        WITH groups AS (
            SELECT component, min(node_number) AS founder, arg_min(own_id, node_number) AS customer_id, bool_and(node_type = 'lead') AS is_lead_only
            FROM identity_components LEFT JOIN identity_memory.nodes USING (node_number) GROUP BY ALL)
        SELECT node_number, n.source, n.node_type, n.source_id, n.own_id, n.is_known, n.first_seen_run, n.first_seen_run_number, n.founded_at,
               CASE WHEN n.node_type = 'company' THEN 'organisation' ELSE 'person' END AS customer_type,
               coalesce(g.founder, node_number) AS customer_number, coalesce(g.customer_id, n.own_id) AS customer_id,
               coalesce(g.is_lead_only, n.node_type = 'lead') AS is_lead_only, m.customer_id AS previous_id
        FROM (FROM identity_memory.nodes SEMI JOIN identity_affected USING (node_number)) AS n
        LEFT JOIN identity_components AS c USING (node_number)
        LEFT JOIN groups AS g ON g.component = c.component
        LEFT JOIN identity.members AS m ON m.source = n.source AND m.node_type = n.node_type AND m.source_id = n.source_id""")
    con.execute("DELETE FROM identity_memory.components WHERE node_number IN (SELECT node_number FROM identity_affected UNION ALL SELECT node_number FROM identity_gone)")
    con.execute("INSERT INTO identity_memory.components SELECT node_number, component, customer_number FROM identity_linked LEFT JOIN identity_assigned USING (node_number)")


def log_changes(con: duckdb.DuckDBPyConnection, rules: IdentityRules, run_id: str, run_at: datetime) -> tuple[int, int]:
    """Append to `identity.merge_log` what this run joined and parted; returns the two counts."""
    con.execute("CREATE OR REPLACE TEMP TABLE identity_rule_names (rule_number INTEGER, rule VARCHAR, evidence VARCHAR, is_key BOOLEAN)")
    con.executemany("INSERT INTO identity_rule_names VALUES (?, ?, ?, ?)",
                    [[number, rule.id, rule.evidence, rule.kind == "key"] for number, rule in enumerate(rules.rules)])
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_joined AS
        WITH joined AS MATERIALIZED (
            SELECT f.left_node, f.right_node, n.rule, CASE WHEN n.rule = 'identity_link' THEN s.decided_by END AS decided_by, coalesce(l.previous_id, l.own_id) AS left_before, coalesce(r.previous_id, r.own_id) AS right_before,
                   l.source AS left_source, l.node_type AS left_type, l.source_id AS left_id, r.source AS right_source, r.node_type AS right_type, r.source_id AS right_id,
                   CASE WHEN is_key THEN evidence || ' (value ' || left(CAST(f.key_hash AS VARCHAR), 8) || ', ' || h.holders || ' records)' ELSE evidence END AS evidence
            FROM identity_forest AS f
            JOIN identity_rule_names AS n USING (rule_number)
            LEFT JOIN (SELECT key_hash, count(*) AS holders FROM identity_holders GROUP BY ALL) AS h ON h.key_hash = f.key_hash
            LEFT JOIN identity_statements AS s ON s.left_node = f.left_node AND s.right_node = f.right_node
            LEFT JOIN identity_assigned AS l ON l.node_number = f.left_node
            LEFT JOIN identity_assigned AS r ON r.node_number = f.right_node)
        SELECT $run_id, 'merge', rule, left_before, right_before, left_source, left_type, left_id, right_source, right_type, right_id, evidence, $run_at, decided_by
        FROM joined WHERE left_before <> right_before ORDER BY left_node, right_node""", {"run_id": run_id, "run_at": run_at})
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_parted AS
        WITH parts AS (
            SELECT previous_id, customer_id, min(node_number) AS founder FROM identity_assigned WHERE previous_id IS NOT NULL GROUP BY ALL),
        homes AS (   -- the part that keeps the id, or the first one when the founder itself has gone
            SELECT previous_id, arg_min(founder, (customer_id <> previous_id, founder)) AS home FROM parts GROUP BY ALL HAVING count(*) > 1),
        named AS MATERIALIZED (
            SELECT l.previous_id, r.previous_id AS other_id, s.decided_by FROM identity_statements AS s
            LEFT JOIN identity_assigned AS l ON l.node_number = s.left_node LEFT JOIN identity_assigned AS r ON r.node_number = s.right_node
            WHERE s.decision = 'different'),
        stated AS (SELECT previous_id, min(decided_by) AS decided_by FROM named WHERE previous_id = other_id GROUP BY previous_id),
        parted AS MATERIALIZED (
            SELECT p.previous_id, p.founder, h.home FROM parts AS p JOIN homes AS h USING (previous_id))
        SELECT $run_id, 'unmerge', CASE WHEN s.previous_id IS NULL THEN 'evidence_gone' ELSE 'identity_link' END, l.customer_id, r.customer_id,
               l.source, l.node_type, l.source_id, r.source, r.node_type, r.source_id,
               CASE WHEN s.previous_id IS NULL THEN 'what joined them no longer holds' ELSE 'stated to be different' END, $run_at, s.decided_by
        FROM parted AS p
        LEFT JOIN stated AS s ON s.previous_id = p.previous_id
        LEFT JOIN identity_assigned AS l ON l.node_number = p.home
        LEFT JOIN identity_assigned AS r ON r.node_number = p.founder
        WHERE p.home <> p.founder
        ORDER BY p.home, p.founder""", {"run_id": run_id, "run_at": run_at})
    con.execute("INSERT INTO identity.merge_log FROM identity_joined UNION ALL FROM identity_parted")
    return con.execute("SELECT (SELECT count(*) FROM identity_joined), (SELECT count(*) FROM identity_parted)").fetchone()


def store_members(con: duckdb.DuckDBPyConnection, run_id: str, *, whole: bool) -> None:
    """Write `identity.members` and `identity.aliases` of the affected nodes (of all with `whole`); forget what was remembered of nodes that
    landing no longer holds."""
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_aliases_now AS
        SELECT n.own_id AS old_customer_id, n.customer_id, coalesce(a.since_run, $run_id) AS since_run
        FROM identity_assigned AS n LEFT JOIN identity.aliases AS a ON a.old_customer_id = n.own_id
        WHERE n.customer_id <> n.own_id AND (a.old_customer_id IS NOT NULL OR n.own_id IN (SELECT customer_id FROM identity.members))""", {"run_id": run_id})
    con.execute("CREATE OR REPLACE TEMP TABLE identity_replaced AS SELECT source, node_type, source_id, own_id FROM identity_assigned UNION ALL SELECT source, node_type, source_id, own_id FROM identity_gone")
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_former_customers AS
                   SELECT DISTINCT customer_id FROM identity.members SEMI JOIN identity_replaced USING (source, node_type, source_id)""")
    if whole:
        con.execute("DELETE FROM identity.aliases")
        con.execute("DELETE FROM identity.members")
        con.execute("DELETE FROM identity.sightings WHERE node_id NOT IN (SELECT own_id FROM identity_memory.nodes)")
    else:
        con.execute("DELETE FROM identity.aliases WHERE old_customer_id IN (SELECT own_id FROM identity_replaced)")
        con.execute("DELETE FROM identity.members AS m USING identity_replaced AS r WHERE r.source = m.source AND r.node_type = m.node_type AND r.source_id = m.source_id")
        con.execute("DELETE FROM identity.sightings WHERE node_id IN (SELECT own_id FROM identity_gone)")
    con.execute("INSERT INTO identity.aliases FROM identity_aliases_now ORDER BY old_customer_id")
    con.execute("""
        INSERT INTO identity.members
        SELECT source, node_type, source_id, customer_id, customer_type, is_lead_only, is_known, first_seen_run, first_seen_run_number, founded_at
        FROM identity_assigned ORDER BY source, node_type, source_id""")
