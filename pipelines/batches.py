"""Batches: extracting a source into landing, and loading every landed batch that the warehouse has not taken in yet.

Belongs here: the order of these steps and what is remembered between runs. Does not belong here: how a source is read
(`pipelines/sources`) or how rows are parsed (`models/ingest.py`). Because extraction and loading meet only in landed files, a
process that dies between them loses nothing: the next run finds the batch and loads it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from data_contracts.contract import load_contracts
from data_contracts.environment import Home, SourceDeclaration
from data_contracts.errors import SourceError
from models import ingest, warehouse
from pipelines.sources import base

Say = Callable[[str], None]


@dataclass(frozen=True)
class LandedBatch:
    """A whole batch folder."""

    source: str
    batch_id: str
    folder: Path
    manifest: dict[str, Any]


@dataclass
class LoadOutcome:
    """What loading the pending batches did."""

    reports: list[tuple[LandedBatch, ingest.LoadReport]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def utc_now() -> datetime:
    """The present instant, naive UTC, as DuckDB's TIMESTAMP columns hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


def landed(home: Home, source: str) -> list[LandedBatch]:
    """Every whole batch of a source, oldest first."""
    place = home.landing / source
    found = []
    for file in sorted(place.glob("*/batch.json")) if place.exists() else []:
        found.append(LandedBatch(source, file.parent.name, file.parent, json.loads(file.read_text(encoding="utf-8"))))
    return found


def extract_source(home: Home, declaration: SourceDeclaration, settle_seconds: float = 0.0) -> base.Extraction:
    """Land one new batch of a source; content met in an earlier batch is skipped."""
    earlier = landed(home, declaration.name)
    seen = {record["sha256"] for batch in earlier for record in batch.manifest["files"]}
    state = next((b.manifest["state"] for b in reversed(earlier) if b.manifest.get("state")), {})
    batch_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"
    return base.extract(declaration, home, batch_id, seen, settle_seconds=settle_seconds, state=state)


def load_pending(home: Home, con: duckdb.DuckDBPyConnection, declarations: list[SourceDeclaration], say: Say) -> LoadOutcome:
    """Load every landed batch that is not in `ops.batches`, oldest first, each in one transaction."""
    ingest.prepare(con)
    contracts = load_contracts()
    outcome = LoadOutcome()
    for declaration in declarations:
        done = {r[0] for r in con.execute("SELECT DISTINCT batch_id FROM ops.batches WHERE source = ?", [declaration.name]).fetchall()}
        for batch in landed(home, declaration.name):
            if batch.batch_id in done:
                continue
            context = ingest.BatchContext(
                source=declaration.name, batch_id=batch.batch_id, batch_seq=ingest.next_batch_seq(con), loaded_at=utc_now(),
                time_zone=declaration.time_zone, default_currency=declaration.default_currency or home.workspace.reporting_currency)
            con.begin()
            try:
                for delivery in batch.manifest["deliveries"]:
                    report = _load_delivery(con, contracts, batch, delivery, context)
                    outcome.reports.append((batch, report))
                    say(_sentence(declaration.name, report))
                for record in batch.manifest["files"]:
                    con.execute("INSERT INTO ops.files VALUES (?, ?, ?, ?, ?, ?)",
                                [declaration.name, record["name"], record["sha256"], record["bytes"], batch.batch_id, context.loaded_at])
                con.commit()
            except BaseException:
                con.rollback()
                raise
            outcome.warnings += [f"{declaration.name}: {w}" for w in batch.manifest["warnings"]]
            outcome.warnings += [f"{declaration.name}: {n} rows left out ({reason})" for reason, n in batch.manifest["ignored"].items() if n]
    return outcome


def _load_delivery(con: duckdb.DuckDBPyConnection, contracts: dict[str, Any], batch: LandedBatch, delivery: dict[str, Any],
                   context: ingest.BatchContext) -> ingest.LoadReport:
    entity = delivery["entity"]
    if entity not in contracts:
        raise SourceError(f"{entity!r} is no canonical entity", source=batch.source, remedy=f"Known: {', '.join(contracts)}.")
    rejects = batch.folder / f"{entity}.rejects.parquet"
    rejected = ingest.quarantine_rejects(con, entity, rejects, context) if rejects.exists() else 0
    report = ingest.load(con, contracts[entity], batch.folder / delivery["path"], context, full=delivery["mode"] == "full")
    report.quarantined += rejected
    report.delivered += rejected
    return report


def _sentence(source: str, report: ingest.LoadReport) -> str:
    parts = [f"{report.accepted:,} new"]
    parts += [f"{report.unchanged:,} unchanged"] if report.unchanged else []
    parts += [f"{report.deleted:,} deleted"] if report.deleted else []
    parts += [f"{report.quarantined:,} quarantined"] if report.quarantined else []
    return f"{source}.{report.entity}: {', '.join(parts)}"


def record_state(home: Home, con: duckdb.DuckDBPyConnection, declarations: list[SourceDeclaration], as_of: datetime, is_stated: bool) -> datetime:
    """Write how far each source reaches and return the overall watermark (naive UTC).

    A live source (a database asked now) reaches up to its extraction. Files reach up to their latest event, unless the
    caller stated the instant the data are complete as of. With live sources the least of them counts; files alone count
    by their latest event, since a file of 2019 beside one of 2025 is history, not a source that stalled.
    """
    live, files = [], []
    for declaration in declarations:
        batches = landed(home, declaration.name)
        if not batches:
            continue
        last = batches[-1].manifest
        extracted = datetime.fromisoformat(last["extracted_at"]).astimezone(UTC).replace(tzinfo=None)
        is_live = bool(last["is_live"])
        reach = extracted if is_live else (as_of if is_stated else ingest.event_watermark(con, declaration.name, extracted))
        if reach is not None:
            reach = min(reach, as_of)
            (live if is_live else files).append(reach)
        con.execute("INSERT OR REPLACE INTO ops.source_state VALUES (?, ?, ?, ?, ?, 'ok', NULL)", [declaration.name, declaration.type, extracted, reach, is_live])
    return min(live) if live else max(files) if files else as_of


def replay(home: Home, identifiers: list[str] | None, source: str | None, entity: str | None, changes: dict[str, str]) -> tuple[int, int]:
    """Send open quarantined rows through their contract again, with columns mended by `changes`.

    Returns (rows accepted, rows still open). Every replay is a batch of its own, so landing keeps what was sent.
    """
    accepted = 0
    contracts = load_contracts()
    with warehouse.writing(home, wait_seconds=10) as con:
        ingest.prepare(con)
        groups = con.execute("SELECT DISTINCT source, entity FROM quarantine.rows WHERE status = 'open' ORDER BY ALL").fetchall()
        for of_source, of_entity in groups:
            if (source and source != of_source) or (entity and entity != of_entity):
                continue
            declaration = home.source(of_source)
            batch_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-replay"
            folder = home.landing / of_source / batch_id
            folder.mkdir(parents=True)
            file = folder / f"{of_entity}.parquet"
            if not ingest.write_replay(con, contracts[of_entity], of_source, identifiers, changes, file):
                folder.rmdir()
                continue
            context = ingest.BatchContext(source=of_source, batch_id=batch_id, batch_seq=ingest.next_batch_seq(con), loaded_at=utc_now(), time_zone=declaration.time_zone,
                                          default_currency=declaration.default_currency or home.workspace.reporting_currency)
            con.begin()
            try:
                ingest.load(con, contracts[of_entity], file, context, full=False)
                accepted += ingest.settle_replay(con, of_source, of_entity, batch_id, context.loaded_at)
                con.commit()
            except BaseException:
                con.rollback()
                raise
        (remaining,) = con.execute("SELECT count(*) FROM quarantine.rows WHERE status = 'open'").fetchone()
    return accepted, remaining
