"""What was known of a row at a time: the history marts read as of an instant, and the versions of one row.

Belongs here: the table macros `marts.<entity>_as_of(instant)` that every snapshot carries, and the questions of `rapport history`.
Does not belong here: how versions come about (`models/layers/marts/*_history.sql`), connections (`warehouse.py`).

All instants are UTC. A version holds from `valid_from` up to, but not at, `valid_to`; one without `valid_to` holds still.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError


@dataclass(frozen=True)
class Kept:
    """One kind of row whose versions are kept. `own` are columns of the version itself, which never count as a change."""

    name: str
    key: str
    own: tuple[str, ...] = ()

    table = property(lambda self: f"marts.{self.name}_history")
    macro = property(lambda self: f"marts.{self.name}_as_of")


KEPT = {kept.name: kept for kept in (
    Kept("customers", "customer_id", ("customer_version_id",)), Kept("companies", "company_id", ("company_version_id",)),
    Kept("deals", "deal_id", ("deal_version_id",)), Kept("subscriptions", "subscription_id", ("subscription_version_id", "origin")))}
_SINGULAR = {"customer": "customers", "company": "companies", "deal": "deals", "subscription": "subscriptions"}
VALID = "valid_from <= {instant} AND (valid_to IS NULL OR valid_to > {instant})"


def write_macros(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Create the `as_of` table macros of every history that the warehouse holds; returns their names.

    Their text names schema and table only, no database: a snapshot is opened under the name of its file.
    """
    held = {f"marts.{name}" for (name,) in con.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'marts' AND table_catalog = current_database()").fetchall()}
    made = []
    for kept in KEPT.values():
        if kept.table in held:
            con.execute(f"CREATE OR REPLACE MACRO {kept.macro}(instant) AS TABLE SELECT * FROM {kept.table} WHERE {VALID.format(instant='CAST(instant AS TIMESTAMP)')}")
            made.append(kept.macro)
    return made


def find(name: str) -> Kept:
    """The history called `name`, in the singular or plural. Raises UsageError."""
    found = KEPT.get(_SINGULAR.get(name, name))
    if found is None:
        raise UsageError(f"no history is kept of {name!r}", remedy=f"Histories: {', '.join(_SINGULAR)}.")
    return found


def _columns(con: duckdb.DuckDBPyConnection, kept: Kept) -> list[str]:
    schema, table = kept.table.split(".")
    return [name for (name,) in con.execute("SELECT column_name FROM information_schema.columns WHERE table_schema = ? AND table_name = ? AND table_catalog = current_database() ORDER BY ordinal_position", [schema, table]).fetchall()]


def versions(con: duckdb.DuckDBPyConnection, kept: Kept, identifier: str, as_of: datetime | None = None) -> pl.DataFrame:
    """The versions of one row, oldest first: `version` (from 1), `valid_from`, `valid_to`, `changed` and the row's columns.

    `changed` names each column that differs from the version before, with its old and new value; it is null in the first version.
    With `as_of` (naive UTC) only the version that held then, and no row where there was none: before the row came to be, after it was
    deleted or merged away. Raises UsageError for an id that has no version at all.
    """
    listed = _columns(con, kept)
    if not listed:
        raise UsageError(f"this snapshot holds no history of {kept.name}", remedy="Run `rapport run`.")
    fields = [c for c in listed if c not in (kept.key, "valid_from", "valid_to", *kept.own)]
    steps = ", ".join(f"CASE WHEN {_q(c)} IS DISTINCT FROM lag({_q(c)}) OVER one THEN {_t(c)} || ': ' || coalesce(CAST(lag({_q(c)}) OVER one AS VARCHAR), 'nothing') || ' → ' || coalesce(CAST({_q(c)} AS VARCHAR), 'nothing') END"
                      for c in fields)
    bound: dict[str, Any] = {"id": identifier}
    found = con.execute(f"""
        SELECT * FROM (
            SELECT row_number() OVER one AS version, {kept.key}, valid_from, valid_to,
                   CASE WHEN row_number() OVER one > 1 THEN nullif(concat_ws('; ', {steps}), '') END AS changed, {', '.join(_q(c) for c in fields)}
            FROM {kept.table} WHERE {kept.key} = $id WINDOW one AS (PARTITION BY {kept.key} ORDER BY valid_from)) ORDER BY version""", bound).pl()
    if found.is_empty():
        raise UsageError(f"there is no version of {kept.name} {identifier!r}", remedy=f"Ids are those of column {kept.key} in {kept.table}; a source's ids carry its name before them, as in crm:42.")
    if as_of is None:
        return found
    return found.filter((pl.col("valid_from") <= as_of) & (pl.col("valid_to").is_null() | (pl.col("valid_to") > as_of)))


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _t(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
