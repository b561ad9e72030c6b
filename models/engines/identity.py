"""Identity resolution: which records of which sources are one person or organisation.

Belongs here: the public functions. Does not belong here: opening connections or scheduling. The parts are `identity_rules`
(rules as data), `identity_memory` (what of the last run still holds), `identity_nodes` (records and normalised values), `identity_graph`
(who is one customer, and the definition), `identity_state` (ids, log and aliases), `identity_attributes` (survivorship) and
`identity_review` (probable pairs). What people ask
of the outcome stands in `identity_answers`, and what they decide in `identity_decisions`: a decision is a row of `identity_links`,
landed like any other, so that there is one way to join or part customers and a rebuild finds every decision again.

Inputs are the landing tables with all their versions; outputs are the tables of the `identity` schema. Equal input gives equal rows,
in no promised order. `resolve` may run any number of times on the same state.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import duckdb

from models.engines import identity_attributes, identity_graph, identity_memory, identity_nodes, identity_review, identity_state
from models.engines.identity_rules import IdentityRules, RuleError, load_rules
from models.engines.identity_state import ensure_tables

__all__ = ["IdentityReport", "IdentityRules", "RuleError", "ensure_tables", "load_rules", "resolve"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class IdentityReport:
    """What a run found: numbers of customers (people who are only leads not counted), of joined and parted pairs in this run, of
    retired ids, and of conflicts (links not followed because of a contradiction, and stated links that name no known pair)."""

    customers: int
    merges: int
    splits: int
    aliases: int
    conflicts: int


def resolve(con: duckdb.DuckDBPyConnection, run_id: str, run_at: datetime, rules: IdentityRules | None = None,
            landing: str = "landing", *, anew: bool = False) -> IdentityReport:
    """Bring the `identity` schema up to date with the landing tables, in one transaction.

    `run_id` names the run in which new records are first seen; runs are ordered by when they first resolved, and a second call of
    a run counts as the same run. `run_at` (naive UTC) dates the log. `landing` is the schema with the landing tables; tables and
    optional columns that are missing count as empty. What did not change since the last run is kept; with `anew` everything is resolved
    again, as it is when a rule has changed. The outcome is the same.
    """
    rules = rules or load_rules()
    with identity_state.one_transaction(con):
        ensure_tables(con)
        number, is_new = identity_state.start_run(con, run_id, run_at)
        columns = identity_nodes.landing_columns(con, landing)
        # a node that was first seen in this very run founds by what is said of it now
        whole = identity_memory.recall(con, rules, landing, columns, anew=anew or not is_new)
        identity_memory.find_changes(con, landing, identity_nodes.entities(columns), identity_nodes.references(columns), columns)
        identity_memory.forget_changed(con)
        identity_nodes.build_records(con, landing, columns, "identity_wanted")
        identity_nodes.number_nodes(con, number, run_id)
        identity_nodes.build_keys(con, rules)
        unresolved = identity_graph.build_statements(con, landing, columns)
        identity_graph.build_direct(con, rules)
        identity_graph.build_holders(con, rules, number, whole=whole)
        identity_memory.widen(con, whole=whole)
        identity_graph.build_links(con)
        identity_graph.connect(con)
        identity_graph.build_exclusives(con, rules)
        identity_graph.settle_contested(con, rules)
        identity_state.assign_customers(con)
        merges, splits = identity_state.log_changes(con, rules, run_id, run_at)
        identity_state.store_members(con, run_id, whole=whole)
        identity_attributes.store_attributes(con, rules.survivorship, landing, columns, whole=whole)
        refused = identity_review.store_review_list(con, rules, run_id)
        customers = con.execute("SELECT count(*) FROM identity.customer_attributes WHERE NOT is_lead_only").fetchone()[0]
        aliases = con.execute("SELECT count(*) FROM identity.aliases").fetchone()[0]
        affected, nodes = con.execute("SELECT (SELECT count(*) FROM identity_affected), (SELECT count(*) FROM identity_memory.nodes)").fetchone()
        _drop_temporary(con)
    report = IdentityReport(customers=customers, merges=merges, splits=splits, aliases=aliases, conflicts=refused + unresolved)
    _LOG.info("identity resolved: %s; %s of %s records looked at", report, affected, nodes)
    return report


def _drop_temporary(con: duckdb.DuckDBPyConnection) -> None:
    for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE temporary AND starts_with(table_name, 'identity_')").fetchall():
        con.execute(f"DROP TABLE temp.{identity_nodes.quoted(name)}")
