"""Decisions on identity that people take here: landed as a source of the home's own, and read back.

Belongs here: the source `identity_decisions` and its batches. Each decision is one row of `identity_links` in a batch of its own under
`landing/identity_decisions/`, never changed afterwards: the next run applies it, and a warehouse built anew from landing finds every
decision again. Does not belong here: what a decision means (`models/engines/identity_decisions`).
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl

from data_contracts.environment import Home, SourceDeclaration, declared_sources
from data_contracts.errors import UsageError
from models.engines.identity_decisions import Decision
from pipelines import batches
from pipelines.workspace_files import add_source

SOURCE = "identity_decisions"
ENTITY = "identity_links"
PAIR = ["left_source", "left_type", "left_id", "right_source", "right_type", "right_id"]
_SCHEMA = {**dict.fromkeys(PAIR, pl.String), "decision": pl.String, "decided_at": pl.Datetime("us"), "decided_by": pl.String}


def local_user() -> str:
    """The name of the system account that runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def take(home: Home, decision: Decision, decided_by: str) -> str:
    """Land a decision; returns the id of its batch."""
    entry = declared_sources(home.sources_file).get(SOURCE)
    if entry is None:
        add_source(home, SOURCE, {"type": "imports"})
    elif entry["type"] != "imports":
        raise UsageError(f"the source {SOURCE!r} is declared with type {entry['type']!r}", file=str(home.sources_file), remedy="Give that source another name: this one is kept for decisions taken here.")
    row = decision.row(batches.utc_now(), decided_by)
    with TemporaryDirectory(prefix="decision-") as folder:
        pl.DataFrame([row], schema=_SCHEMA).write_parquet(Path(folder) / f"{ENTITY}.parquet")
        declaration = SourceDeclaration(name=SOURCE, type="canonical_files", options={"path": folder}, base=Path(folder))
        return batches.extract_source(home, declaration).batch_id


def taken(home: Home, con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Every decision taken here, oldest first, with its `state`: `waiting` for a run, `in force`, `replaced` by a later one on the same
    pair, or `undone`. `con` is the published snapshot, which says what a run has taken in."""
    done = {r[0] for r in con.execute("SELECT DISTINCT batch_id FROM ops.batches WHERE source = ?", [SOURCE]).fetchall()}
    parts = []
    for batch in batches.landed(home, SOURCE):
        file = batch.folder / f"{ENTITY}.parquet"
        if file.exists():
            parts.append(pl.read_parquet(file).select(*(pl.col(name).cast(kind, strict=False) for name, kind in _SCHEMA.items()), pl.lit(batch.batch_id in done).alias("is_applied")))
    rows = pl.concat(parts) if parts else pl.DataFrame(schema={**_SCHEMA, "is_applied": pl.Boolean})
    is_last = pl.int_range(pl.len()).reverse().over(PAIR) == 0
    state = (pl.when(~is_last & (pl.col("decision").last().over(PAIR) == "withdrawn")).then(pl.lit("undone")).when(~is_last).then(pl.lit("replaced"))
             .when(~pl.col("is_applied")).then(pl.lit("waiting")).when(pl.col("decision") == "withdrawn").then(pl.lit("undo")).otherwise(pl.lit("in force")))
    return rows.with_columns(state.alias("state"))


def in_force(home: Home, con: duckdb.DuckDBPyConnection, decision: Decision) -> str | None:
    """The last word taken here on the pair, applied already or waiting; None when there is none or it was undone."""
    wanted = decision.row(batches.utc_now(), "")
    rows = taken(home, con).filter(*(pl.col(name) == wanted[name] for name in PAIR))
    word = rows["decision"][-1] if rows.height else None
    return None if word == "withdrawn" else word

