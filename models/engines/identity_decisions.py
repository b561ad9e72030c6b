"""What a person decides about two customers, as a row of `identity_links`.

Belongs here: from two customers (ids, retired ids or records) to the row that is landed, and what that row will do. Does not belong
here: landing it (pipelines) or following it (`identity_graph`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from data_contracts.errors import UsageError
from models.engines.identity_nodes import ENTITIES

WORDS = {"merge": "same", "unmerge": "different", "undo": "withdrawn"}
_CUSTOMER = re.compile(r"[po]_[0-9a-f]{16}")


@dataclass(frozen=True, order=True)
class Node:
    """One record of one source; `node_type` is contact, company or lead."""

    source: str
    node_type: str
    source_id: str

    def __str__(self) -> str:
        return f"{self.source}:{self.node_type}:{self.source_id}"


@dataclass(frozen=True)
class Decision:
    """A word on two records, and where they stood when it was said: the customers they belong to."""

    left: Node
    right: Node
    word: str
    left_customer: str
    right_customer: str

    @property
    def is_met(self) -> bool:
        """Whether the two are already as the word says."""
        return self.word == ("same" if self.left_customer == self.right_customer else "different")

    def row(self, decided_at: datetime, decided_by: str) -> dict[str, Any]:
        """The row of `identity_links`; `decided_at` is UTC."""
        return {"left_source": self.left.source, "left_type": self.left.node_type, "left_id": self.left.source_id,
                "right_source": self.right.source, "right_type": self.right.node_type, "right_id": self.right.source_id,
                "decision": self.word, "decided_at": decided_at, "decided_by": decided_by}


def decide(con: duckdb.DuckDBPyConnection, verb: str, left: str, right: str) -> Decision:
    """The decision that two customers are one (`merge`) or two (`unmerge`), or that nothing is said of them any more (`undo`).

    `left` and `right` are customer ids, of which one or both may be retired, or records as `source:type:id`. A customer id stands
    for the record that founded it, so that parting a survivor from a retired id takes apart what merging them joined. The pair is
    put in one order, whichever way it was named. Raises UsageError.
    """
    sides = sorted(find(con, name) for name in (left, right))
    (a, a_customer), (b, b_customer) = sides
    if a == b:
        raise UsageError(f"{left} and {right} are one and the same record ({a})", remedy="Name two customers or records; `rapport identity show ID` lists a customer's records and former ids.")
    if (a.node_type == "company") != (b.node_type == "company"):
        raise UsageError("one is a person and the other an organisation", remedy="Only customers of one kind can be the same; the organisation a person belongs to comes from its records.")
    return Decision(a, b, WORDS[verb], a_customer, b_customer)


def find(con: duckdb.DuckDBPyConnection, name: str) -> tuple[Node, str]:
    """The record meant by a customer id or by `source:type:id`, and the customer it belongs to now. Raises UsageError."""
    if _CUSTOMER.fullmatch(name):
        rows = con.execute("""
            SELECT source, node_type, source_id, customer_id FROM identity.members
            WHERE left(md5(source || '|' || node_type || '|' || source_id), 16) = substr($id, 3)
              AND left($id, 1) = CASE WHEN node_type = 'company' THEN 'o' ELSE 'p' END""", {"id": name}).fetchall()
    else:
        source, _, rest = name.partition(":")
        kind, _, source_id = rest.partition(":")
        if kind not in ENTITIES or not source_id:
            raise UsageError(f"{name!r} is neither a customer id nor a record", remedy="Write a customer id such as p_0123456789abcdef, or source:contact:ID, source:company:ID, source:lead:ID.")
        rows = con.execute("SELECT source, node_type, source_id, customer_id FROM identity.members WHERE source = ? AND node_type = ? AND source_id = ?",
                           [source, kind, source_id]).fetchall()
    if not rows:
        raise UsageError(f"no customer or record is named {name}", remedy="`rapport identity list` shows customers; a record appears once a run has taken it in.")
    *node, customer = rows[0]
    return Node(*node), customer
