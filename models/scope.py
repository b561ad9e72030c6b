"""Which rows an engine's question is about: a filter in words becomes filtered tables that stand before the engine's own statement.

Belongs here: the dimensions that each kind of log can be filtered by, and the connection that puts the filtered tables in place.
Does not belong here: the filter language (`metrics.filters`), what an engine answers.

An engine reads tables by name, so its answer under a filter is, by construction, its answer on the filtered log:

    customers   orders, events and touches of the customers whose attributes fit (as they are now)
    leads       the leads that fit by their own channel, country, campaign … or by their customer, and the orders of their customers
    deals       the deals that fit by their own channel or campaign, or by their customer, and the history of those deals
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import duckdb

from models.engines.funnel_range import Parameters
from models.metrics import filters

CUSTOMER_DIMENSIONS = {"country": "country_code", "segment": "segment", "acquisition_channel": "acquisition_channel", "acquisition_campaign": "acquisition_campaign_id",
                       "customer_type": "customer_type", "industry": "industry"}
_OF_CUSTOMER = {name: f"c.{column}" for name, column in CUSTOMER_DIMENSIONS.items()}
# A filter's columns for each subject: `t` is the row of the log, `c` its customer.
DIMENSIONS: dict[str, dict[str, str]] = {
    "customers": {**_OF_CUSTOMER, "channel": "c.acquisition_channel", "owner": "c.owner_id"},       # a customer's channel is that of the acquisition, as in the metrics
    "leads": {**_OF_CUSTOMER, "channel": "t.channel", "country": "t.country_code", "campaign": "t.campaign_id", "owner": "t.owner_id", "status": "t.status", "rating": "t.rating"},
    "deals": {**_OF_CUSTOMER, "channel": "t.channel", "campaign": "t.campaign_id"},
}
_FILTERED = {"customers": ("marts.fct_orders", "marts.fct_events", "marts.fct_touchpoints", "marts.fct_new_customers"), "leads": ("marts.fct_leads",), "deals": ("marts.fct_deals", "marts.deals_history")}


class Connection(Protocol):
    """What engines need of a connection."""

    def execute(self, query: str, parameters: object = None) -> duckdb.DuckDBPyConnection:
        """Run a statement."""


@dataclass(frozen=True)
class Scoped:
    """A connection that knows filtered tables. `execute` puts those that a statement names in front of it."""

    con: Connection
    tables: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def execute(self, query: str, parameters: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run a statement over the filtered tables that it names."""
        used = [f"{name} AS NOT MATERIALIZED ({select})" for table, select in self.tables.items() if (name := _name(table)) in query]
        if not used:
            return self.con.execute(query, parameters) if parameters is not None else self.con.execute(query)
        rest = query.lstrip()
        text = f"WITH {', '.join(used)}" + (f",{rest[4:]}" if rest[:4].upper() == "WITH" else f" {rest}")
        return self.con.execute(text, {**(parameters or {}), **{name: value for name, value in self.values.items() if f"${name}" in text}})


def _name(table: str) -> str:
    return f"scoped_{table.partition('.')[2]}"


def named(con: Connection, table: str) -> str:
    """The name under which a question asked on `con` reads a table."""
    return _name(table) if isinstance(con, Scoped) and table in con.tables else table


def scoped(con: Connection, subject: str, where: str | None) -> Connection:
    """`con` limited to the rows of a subject (a key of `DIMENSIONS`) that a filter keeps. Raises UsageError for a filter it cannot follow."""
    if not where:
        return con
    found = filters.parse(where)
    filters.check(found, DIMENSIONS[subject], f"a question about {subject}")
    params = Parameters("scope")
    condition = found.sql(DIMENSIONS[subject], params.bind)
    tables = {table: f"SELECT t.* FROM {table} AS t LEFT JOIN marts.dim_customers AS c ON c.customer_id = t.customer_id WHERE {condition}" for table in _FILTERED[subject]}
    if subject == "leads":
        tables["marts.fct_orders"] = ("SELECT o.* FROM marts.fct_orders AS o WHERE o.customer_id IN (SELECT t.customer_id FROM marts.fct_leads AS t "
                                      f"LEFT JOIN marts.dim_customers AS c ON c.customer_id = t.customer_id WHERE {condition})")
    return Scoped(con, tables, params.values)


def equals(values: Mapping[str, str]) -> str | None:
    """A filter that asks for one value of each dimension; None without any."""
    return " and ".join("{} = '{}'".format(name, value.replace("'", "''")) for name, value in values.items()) or None


def followed(subject: str, values: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """(filter, names it cannot follow) for one chosen value of each dimension."""
    known = DIMENSIONS[subject]
    return equals({name: value for name, value in values.items() if name in known}), [name for name in values if name not in known]
