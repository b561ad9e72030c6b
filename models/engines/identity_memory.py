"""Identity resolution between runs: what was made of each record last time, and what therefore need not be made again.

Belongs here: the tables of the `identity_memory` schema, when they may be trusted, and which nodes a run must resolve anew. Does not belong
here: how values are normalised (`identity_nodes`), who is one customer (`identity_graph`), or what people read (`identity_state`).

A run resolves the nodes whose rows are other than last time, and whatever was or is linked to them. Why that is enough: whether a shared
value links its holders depends on the holders alone, so that it is asked anew only of the values that a changed node holds or held.
Every other link is as before, and so is every connected component that neither loses nor gains one. `components` keeps them as they were
before contradictions split them; a run resolves each component that holds a node with a changed link as a whole, together with the
nodes that joined it. An equal state and equal landing tables give equal tables, whether all was resolved or only what changed.

DuckDB 1.5.5 loses the rows of a large INSERT into a table into which the same transaction has inserted none before (a statement that came
up empty). So the steps write a table in one statement, and never add to one that may be empty.

The memory holds nothing that landing does not say (personal values among it), and is never served: it may be dropped at any time, and the
next run fills it.
It is dropped whenever anything else that the outcome depends on has changed: a rule, the columns of landing, DuckDB (whose `hash`
compares rows), or this engine's own code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import duckdb

from models.engines.identity_nodes import Columns, quoted
from models.engines.identity_rules import IdentityRules
from models.ingest import VERSION_TIME

TABLES = {
    # one row: what the outcome depends on besides the rows of landing
    "basis": "fingerprint VARCHAR NOT NULL",
    # one row per node. `row_hash` is the sum over the versions of its record, null for a node that only a fact names
    "nodes": """node_number BIGINT NOT NULL, source VARCHAR NOT NULL, node_type VARCHAR NOT NULL, source_id VARCHAR NOT NULL, own_id VARCHAR NOT NULL, row_hash HUGEINT,
                is_known BOOLEAN NOT NULL, first_seen_run VARCHAR NOT NULL, first_seen_run_number BIGINT NOT NULL, founded_at TIMESTAMP""",
    # one row per record: its normalised values
    "features": """node_number BIGINT NOT NULL, node_type VARCHAR NOT NULL, birth_date DATE, parent_company_id VARCHAR, first_name VARCHAR, last_name VARCHAR, full_name VARCHAR,
                   postal_code VARCHAR, city VARCHAR, country_code VARCHAR, email VARCHAR, phone VARCHAR, domain VARCHAR""",
    "external_ids": "node_number BIGINT NOT NULL, space VARCHAR NOT NULL, external_id VARCHAR NOT NULL",
    # one row per node, rule and value
    "keys": "node_number BIGINT NOT NULL, rule_number INTEGER NOT NULL, key_hash UUID NOT NULL",
    # those of them that may link, with the run in which the value was first seen shared there
    "holders": "node_number BIGINT NOT NULL, rule_number INTEGER NOT NULL, key_hash UUID NOT NULL, run_number BIGINT NOT NULL",
    # one row per link that a record itself states
    "direct": "naming_node BIGINT NOT NULL, left_node BIGINT NOT NULL, right_node BIGINT NOT NULL, rule_number INTEGER NOT NULL, key_hash UUID NOT NULL, seen_id VARCHAR NOT NULL",
    # one row per pair of which somebody said something
    "statements": "left_node BIGINT NOT NULL, right_node BIGINT NOT NULL, decision VARCHAR NOT NULL, decided_by VARCHAR",
    # one row per linked node: its component before contradictions split it, and the founder of its customer
    "components": "node_number BIGINT NOT NULL, component BIGINT NOT NULL, founder BIGINT NOT NULL",
    "refused": "left_node BIGINT NOT NULL, right_node BIGINT NOT NULL, rule_number INTEGER NOT NULL, reason VARCHAR NOT NULL",
}


def recall(con: duckdb.DuckDBPyConnection, rules: IdentityRules, landing: str, columns: Columns, *, anew: bool) -> bool:
    """Whether all must be resolved: on demand (`anew`), or because the memory is empty or of another basis. Then it is empty afterwards."""
    basis = _basis(con, rules, landing, columns)
    con.execute("CREATE SCHEMA IF NOT EXISTS identity_memory")
    present = con.execute("SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'identity_memory' AND table_name = 'basis'").fetchone()[0]
    if not anew and present and con.execute("FROM identity_memory.basis").fetchall() == [(basis,)]:
        return False
    for name, kinds in TABLES.items():
        con.execute(f"CREATE OR REPLACE TABLE identity_memory.{name} ({kinds})")
    con.execute("INSERT INTO identity_memory.basis VALUES (?)", [basis])
    return True


def _basis(con: duckdb.DuckDBPyConnection, rules: IdentityRules, landing: str, columns: Columns) -> str:
    code = [file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("identity*.py"))]
    shape = {table: sorted(names) for table, names in columns.items()}
    said = json.dumps([duckdb.__version__, VERSION_TIME, code, asdict(rules), landing, shape], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()


def find_changes(con: duckdb.DuckDBPyConnection, schema: str, records: dict[str, tuple[str, str]], references: list[tuple[str, str, str]], columns: Columns) -> None:
    """Temp tables `identity_wanted` (nodes that are new or whose record has other rows than last time; `node_number` is null for a new one)
    and `identity_gone` (nodes that landing names no more).

    `records` gives the landing table and key of each node type, `references` the tables and columns that name a node of a type.
    """
    selects = ["SELECT CAST(NULL AS VARCHAR) AS source, CAST(NULL AS VARCHAR) AS node_type, CAST(NULL AS VARCHAR) AS source_id, CAST(NULL AS UBIGINT) AS row_hash WHERE false"]
    for node_type, (table, key) in records.items():
        values = ", ".join(quoted(name) for name in sorted(columns[table]))
        selects.append(f"SELECT _source, '{node_type}', CAST({key} AS VARCHAR), hash({values}) FROM {quoted(schema)}.{quoted(table)} WHERE {key} IS NOT NULL AND _source IS NOT NULL")
    for table, column, node_type in references:
        selects.append(f"""SELECT DISTINCT _source, '{node_type}', CAST({column} AS VARCHAR), NULL::UBIGINT FROM {quoted(schema)}.{quoted(table)}
                           WHERE nullif({column}, '') IS NOT NULL AND _source IS NOT NULL""")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_compared AS
        WITH found AS (
            SELECT source, node_type, source_id, sum(row_hash) AS row_hash, count(row_hash) AS versions FROM ({" UNION ALL ".join(selects)}) GROUP BY ALL)
        SELECT source, node_type, source_id, n.node_number, n.own_id, f.row_hash, f.versions
        FROM found AS f FULL JOIN identity_memory.nodes AS n USING (source, node_type, source_id)
        WHERE n.node_number IS NULL OR f.versions IS NULL OR f.row_hash IS DISTINCT FROM n.row_hash""")
    con.execute("CREATE OR REPLACE TEMP TABLE identity_wanted AS SELECT row_number() OVER () AS wanted, * EXCLUDE (own_id) FROM identity_compared WHERE versions IS NOT NULL")
    con.execute("CREATE OR REPLACE TEMP TABLE identity_gone AS SELECT node_number, own_id, source, node_type, source_id FROM identity_compared WHERE versions IS NULL")


def forget_changed(con: duckdb.DuckDBPyConnection) -> None:
    """Drop what was made of the nodes that changed or are gone. Temp tables: `identity_stale` (these nodes), `identity_lost_keys` (the values
    they held) and `identity_former_parents` (the companies they called their parent)."""
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_stale AS
        SELECT node_number FROM identity_wanted WHERE node_number IS NOT NULL UNION ALL SELECT node_number FROM identity_gone""")
    con.execute(f"CREATE OR REPLACE TEMP TABLE identity_former_parents AS {_parents('identity_stale')}")
    con.execute("CREATE OR REPLACE TEMP TABLE identity_lost_keys AS SELECT DISTINCT key_hash FROM identity_memory.keys SEMI JOIN identity_stale USING (node_number)")
    for table, column in (("features", "node_number"), ("external_ids", "node_number"), ("keys", "node_number"), ("direct", "naming_node")):
        con.execute(f"DELETE FROM identity_memory.{table} WHERE {column} IN (FROM identity_stale)")
    con.execute("DELETE FROM identity_memory.nodes WHERE node_number IN (SELECT node_number FROM identity_gone)")


def _parents(nodes: str) -> str:
    """A company is one that others call their parent, or not, by their records and not by its own."""
    return f"""
        SELECT n.node_number
        FROM (SELECT DISTINCT n.source, f.parent_company_id AS source_id FROM identity_memory.features AS f SEMI JOIN {nodes} USING (node_number)
              JOIN identity_memory.nodes AS n USING (node_number) WHERE f.parent_company_id IS NOT NULL) AS named
        JOIN identity_memory.nodes AS n ON n.source = named.source AND n.node_type = 'company' AND n.source_id = named.source_id"""


def widen(con: duckdb.DuckDBPyConnection, *, whole: bool) -> None:
    """Temp table `identity_affected`: the nodes that this run resolves. They are those whose own rows or links changed, and the components they
    were in; with `whole`, all."""
    if whole:
        con.execute("CREATE OR REPLACE TEMP TABLE identity_affected AS SELECT node_number FROM identity_memory.nodes")
        return
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_seeds AS
        WITH stated AS (FROM identity_restated),
        links AS (SELECT left_node, right_node FROM identity_memory.direct WHERE naming_node IN (SELECT node_number FROM identity_rekeyed))
        SELECT DISTINCT node_number FROM (
            FROM identity_stale UNION ALL FROM identity_former_parents UNION ALL {_parents("identity_rekeyed")} UNION ALL SELECT node_number FROM identity_rekeyed
            UNION ALL SELECT left_node FROM stated UNION ALL SELECT right_node FROM stated UNION ALL SELECT left_node FROM links UNION ALL SELECT right_node FROM links
            UNION ALL FROM identity_former_holders UNION ALL SELECT node_number FROM identity_linking)""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_affected AS
        WITH touched AS (SELECT DISTINCT component FROM identity_memory.components SEMI JOIN identity_seeds USING (node_number))
        SELECT node_number FROM (FROM identity_seeds UNION SELECT node_number FROM identity_memory.components SEMI JOIN touched USING (component))
        ANTI JOIN identity_gone USING (node_number)""")
