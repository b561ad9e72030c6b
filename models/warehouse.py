"""The one door to DuckDB: the warehouse under a lock of our own, and immutable snapshots for everybody who reads.

Belongs here: connections, locks, publishing, rollback, retention, read-only queries. Does not belong here: what the tables
mean. DuckDB allows one writing process and no reader beside it, so a build works in `warehouse.duckdb` and readers open
`serving/<snapshot_id>.duckdb`, a new name each time: a process that has opened a path keeps seeing the old content if the
same path is replaced. The pointer `serving/current` moves by an atomic rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from data_contracts.environment import Home
from data_contracts.errors import BusyError, RapportError, UsageError, full_disk

FORMAT_VERSION = 1
SERVED_SCHEMAS = ("marts", "metrics", "features", "scores", "segments", "identity", "ops", "meta")
UNSERVED_TABLES = ("identity.sightings", "identity.runs", "identity.review_model")   # memory of the engine between runs, which answers no question
QUERY_SECONDS = 60           # a query on a page or the command line that runs longer is almost always a missing join condition
GO_BACK = "Go back to an earlier one (`rapport snapshot list`, `rapport snapshot rollback ID`), or build anew with `rapport run`."
DAMAGED_BLOCK = "a block of its file is not what was written"
_OF_THE_FILE = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)      # what reading a damaged file can end in
A_MOMENT = 0.5       # seconds for the writing lock: readers that ask whether it is held hold it themselves for an instant
_held: dict[Path, tuple[int, Any]] = {}
_held_guard = threading.Lock()


@dataclass(frozen=True)
class Viewer:
    """Who is asking. Row and column rights are decided from this alone."""

    name: str = "local"
    role: str = "admin"


LOCAL = Viewer()


@dataclass(frozen=True)
class Snapshot:
    """A published state of the warehouse."""

    id: str
    created_at: str          # ISO 8601, UTC
    run_id: str
    as_of: str               # the instant the numbers speak of, ISO 8601, UTC
    watermark: str           # up to here the data are complete, ISO 8601, UTC
    bytes: int
    sha256: str
    format_version: int
    tables: dict[str, int]   # schema.table → rows
    warnings: list[str]


@dataclass
class Reading:
    """An open snapshot."""

    con: duckdb.DuckDBPyConnection
    snapshot: Snapshot
    viewer: Viewer


# -- connections -------------------------------------------------------------------------------------------------------

def _connect(path: str, *, read_only: bool = False, memory_limit: str | None = None,
             temporary: Path | None = None) -> duckdb.DuckDBPyConnection:
    config: dict[str, Any] = {"autoinstall_known_extensions": "false"}
    if memory_limit:
        config["memory_limit"] = memory_limit
    if temporary:
        config["temp_directory"] = str(temporary)
    con = duckdb.connect(path, read_only=read_only, config=config)
    try:
        con.execute("SET GLOBAL TimeZone = 'UTC'")
        con.execute("SET TimeZone = 'UTC'")
    except duckdb.InvalidInputException:      # another connection of this process has locked the configuration, with UTC in it
        if con.execute("SELECT current_setting('TimeZone')").fetchone() != ("UTC",):
            con.close()
            raise
    return con


@contextmanager
def scratch(memory_limit: str = "2GB") -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database for work that touches no warehouse, such as reading a delivered file."""
    con = _connect(":memory:", memory_limit=memory_limit)
    try:
        yield con
    finally:
        con.close()


def is_being_written(home: Home) -> bool:
    """Whether some process holds the home's writing lock at this moment."""
    try:
        with open(home.lock_file, encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)      # given back when the file is closed
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def locked(home: Home, wait_seconds: float = A_MOMENT) -> Iterator[None]:
    """Hold the home's writing lock; re-entrant within a process. The kernel frees it if the process dies.

    Our own `flock` on a file of its own: DuckDB's lock is dropped silently when the same process opens and closes the
    database file by other means. Raises BusyError when another process holds it longer than `wait_seconds`; who only asks whether
    it is held (`is_being_written`) holds it for a moment.
    """
    key = home.lock_file
    with _held_guard:
        if key in _held:
            count, handle = _held[key]
            _held[key] = (count + 1, handle)
        else:
            home.make_folders()
            handle = open(key, "a+", encoding="utf-8")  # noqa: SIM115  held for as long as the lock is
            deadline = time.monotonic() + wait_seconds
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        handle.seek(0)
                        holder = handle.read().strip() or "another process"
                        handle.close()
                        raise BusyError(f"the warehouse is being written by {holder}",
                                        remedy="Wait until that run has ended (`rapport status`) and try again; readers are not affected.") from None
                    time.sleep(0.2)
            handle.seek(0)
            handle.truncate()
            handle.write(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
            handle.flush()
            _held[key] = (1, handle)
    try:
        yield
    finally:
        with _held_guard:
            count, handle = _held[key]
            if count > 1:
                _held[key] = (count - 1, handle)
            else:
                del _held[key]
                fcntl.flock(handle, fcntl.LOCK_UN)
                handle.close()


@contextmanager
def writing(home: Home, wait_seconds: float = A_MOMENT) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, open for writing under the lock."""
    with locked(home, wait_seconds):
        try:
            con = _connect(str(home.warehouse), memory_limit=home.memory_limit, temporary=home.temporary)
        except duckdb.IOException as error:
            if full := full_disk(error):
                raise full from error
            told = _first_line(error)
            again = " Move it and the `.wal` beside it away and run again: every batch that was read is still in `landing`." if "orrupt" in told else ""
            raise RapportError("the warehouse file cannot be opened", file=str(home.warehouse), remedy=f"DuckDB says: {told}{again}") from None
        try:
            yield con
        except duckdb.Error as error:
            if full := full_disk(error):
                raise full from error
            raise
        finally:
            con.close()


# -- snapshots ---------------------------------------------------------------------------------------------------------

def _pointer(home: Home) -> Path:
    return home.serving / "current"


def _manifest(home: Home, snapshot_id: str) -> Path:
    return home.serving / f"{snapshot_id}.json"


def _file(home: Home, snapshot_id: str) -> Path:
    return home.serving / f"{snapshot_id}.duckdb"


def _mark(home: Home, snapshot_id: str) -> Path:
    return home.serving / f"{snapshot_id}.damaged"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def _digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_snapshot(home: Home, snapshot_id: str) -> Snapshot:
    """The manifest of one snapshot."""
    found = _manifest_of(_manifest(home, snapshot_id))
    if found is None:
        if _manifest(home, snapshot_id).exists():
            raise RapportError(f"the description of snapshot {snapshot_id} is damaged", file=str(_manifest(home, snapshot_id)), remedy=GO_BACK)
        known = ", ".join(s.id for s in list_snapshots(home)[:5]) or "none"
        raise UsageError(f"there is no snapshot {snapshot_id!r}", remedy=f"Known: {known}. See `rapport snapshot list`.")
    pointed = _pointed(home)
    if pointed is not None and pointed > snapshot_id == current_id(home):
        return replace(found, warnings=[f"snapshot {pointed} is damaged; this is the one before it, until the next run", *found.warnings])
    return found


def _manifest_of(file: Path) -> Snapshot | None:
    try:
        return Snapshot(**json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):      # no JSON, or none of ours
        return None


def list_snapshots(home: Home) -> list[Snapshot]:
    """Every published snapshot whose description can be read, newest first."""
    if not home.serving.exists():
        return []
    found = [_manifest_of(f) for f in home.serving.glob("*.json")]
    return sorted((s for s in found if s is not None and _file(home, s.id).exists()), key=lambda s: s.id, reverse=True)


def _pointed(home: Home) -> str | None:
    try:
        return _pointer(home).read_text(encoding="utf-8", errors="replace").strip() or None
    except FileNotFoundError:
        return None


def current_id(home: Home) -> str | None:
    """Id of the snapshot that readers are given now; None before the first publish.

    It is the one that was published last or gone back to, or, where the disk has lost that one's description, some of its
    bytes or its end, the newest before it that has all three. That is what can be seen without reading the file: its hash is
    compared by `is_whole` (`rapport doctor`, a rollback, the next run); a damaged block is refused by DuckDB's own checksum when
    somebody first reads it, and marks the snapshot (`explained`).
    """
    pointed = _pointed(home)
    if pointed is None or _flaw(home, _manifest_of(_manifest(home, pointed))) is None:
        return pointed
    return next((s.id for s in list_snapshots(home) if s.id < pointed and _flaw(home, s) is None), pointed)


def _flaw(home: Home, snapshot: Snapshot | None) -> str | None:
    """What is wrong with a snapshot's files at first sight; None when nothing is."""
    if snapshot is None:
        return "it has no description"
    file = _file(home, snapshot.id)
    if not file.exists() or file.stat().st_size != snapshot.bytes:
        return "its file has another length than when it was published"
    if _mark(home, snapshot.id).exists():
        return DAMAGED_BLOCK
    # a snapshot was checkpointed and closed: DuckDB would add the rows of any log beside it
    return "another program has opened its file for writing and left a log beside it" if file.with_name(file.name + ".wal").exists() else None


def new_snapshot_id() -> str:
    """An id for the next snapshot. Ids sort by time: milliseconds, since two publishes of one second must keep their order."""
    created = datetime.now(UTC)
    return f"{created:%Y%m%dT%H%M%S}{created.microsecond // 1000:03d}Z-{secrets.token_hex(3)}"


def publish(home: Home, run_id: str, as_of: datetime, watermark: datetime, warnings: Sequence[str] = (), snapshot_id: str | None = None) -> Snapshot:
    """Copy the served schemas of the warehouse, tables and table macros, into a new snapshot file and make it current.

    The file is checkpointed, closed, counted against the warehouse and synced before the pointer moves; whatever fails
    before that leaves the former snapshot current. Raises RapportError when a table came out short.
    """
    created = datetime.now(UTC)
    snapshot_id = snapshot_id or new_snapshot_id()
    building = home.serving / f".building-{snapshot_id}.duckdb"
    for stale in home.serving.glob(".*"):      # of a process that died while it wrote
        stale.unlink(missing_ok=True)
    try:
        with writing(home) as con:
            con.execute("ATTACH '{}' AS snapshot".format(str(building).replace("'", "''")))
            listed = con.execute(
                "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = current_database() "
                "AND list_contains(?, table_schema) AND NOT list_contains(?, table_schema || '.' || table_name) ORDER BY 1, 2", [list(SERVED_SCHEMAS), list(UNSERVED_TABLES)]).fetchall()
            counts: dict[str, int] = {}
            for schema in SERVED_SCHEMAS:
                con.execute(f'CREATE SCHEMA IF NOT EXISTS snapshot."{schema}"')
            for schema, table in listed:
                con.execute(f'CREATE TABLE snapshot."{schema}"."{table}" AS FROM "{schema}"."{table}"')
                (wanted,) = con.execute(f'SELECT count(*) FROM "{schema}"."{table}"').fetchone()
                (copied,) = con.execute(f'SELECT count(*) FROM snapshot."{schema}"."{table}"').fetchone()
                if wanted != copied:
                    raise RapportError(f"table {schema}.{table} has {wanted} rows, its copy {copied}", remedy="Check the disk, then run again; the former snapshot stays.")
                counts[f"{schema}.{table}"] = copied
            _copy_macros(con)
            con.execute("CREATE OR REPLACE TABLE snapshot.meta.snapshot AS SELECT ? AS snapshot_id, ?::TIMESTAMP AS created_at, ? AS run_id, "
                        "?::TIMESTAMP AS as_of, ?::TIMESTAMP AS watermark",
                        [snapshot_id, created.replace(tzinfo=None), run_id, as_of.replace(tzinfo=None), watermark.replace(tzinfo=None)])
            con.execute("CHECKPOINT snapshot")
            con.execute("DETACH snapshot")
        _sync(building)
        snapshot = Snapshot(id=snapshot_id, created_at=created.isoformat(timespec="seconds"), run_id=run_id, as_of=_iso(as_of),
                            watermark=_iso(watermark), bytes=building.stat().st_size, sha256=_digest(building),
                            format_version=FORMAT_VERSION, tables=counts, warnings=list(warnings))
        os.replace(building, _file(home, snapshot_id))
        _replace(_manifest(home, snapshot_id), json.dumps(asdict(snapshot), indent=1))
        _replace(_pointer(home), snapshot_id)
    finally:
        building.unlink(missing_ok=True)
        building.with_name(building.name + ".wal").unlink(missing_ok=True)
    _retire(home, keep=home.workspace.keep_snapshots)
    return snapshot


def _copy_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Table macros of the served schemas, into the attached snapshot. Their text names no database, so it holds in any file."""
    for schema, name, parameters, body in con.execute(
            "SELECT schema_name, function_name, parameters, macro_definition FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal "
            "AND database_name = current_database() AND list_contains(?, schema_name) ORDER BY ALL", [list(SERVED_SCHEMAS)]).fetchall():
        con.execute(f'CREATE MACRO snapshot."{schema}"."{name}"({", ".join(parameters)}) AS TABLE {body}')


def _iso(instant: datetime) -> str:
    return instant.replace(tzinfo=UTC).isoformat(timespec="seconds")


def _retire(home: Home, keep: int) -> None:
    current = current_id(home)
    for old in list_snapshots(home)[keep:]:
        if old.id != current:
            _manifest(home, old.id).unlink(missing_ok=True)
            _mark(home, old.id).unlink(missing_ok=True)
            _file(home, old.id).unlink(missing_ok=True)   # readers that hold it open keep it until they close


def is_whole(home: Home, snapshot: Snapshot) -> bool:
    """Whether a snapshot's file is there, byte for byte as it was published."""
    file = _file(home, snapshot.id)
    return _flaw(home, snapshot) in (None, DAMAGED_BLOCK) and _digest(file) == snapshot.sha256      # what was marked may have been mended


def rollback(home: Home, snapshot_id: str) -> Snapshot:
    """Make an earlier snapshot current again, after checking that its file is whole."""
    snapshot = read_snapshot(home, snapshot_id)
    if not is_whole(home, snapshot):
        raise RapportError(f"snapshot {snapshot_id} is damaged or missing", file=str(_file(home, snapshot_id)), remedy="Choose another from `rapport snapshot list`.")
    with locked(home):
        _mark(home, snapshot_id).unlink(missing_ok=True)
        _replace(_pointer(home), snapshot_id)
    return snapshot


@contextmanager
def reading(home: Home, viewer: Viewer = LOCAL, snapshot_id: str | None = None) -> Iterator[Reading]:
    """A published snapshot, read-only, cut off from files, network and settings; its own faults are told as `explained` tells them."""
    with opened(home, viewer, snapshot_id) as found, explained(home, found.snapshot):
        yield found


@contextmanager
def explained(home: Home, snapshot: Snapshot) -> Iterator[None]:
    """Tell DuckDB's complaints while a snapshot is read as what is wrong with the snapshot and what to do about it.

    Raises RapportError for a damaged block (and marks the snapshot, so that the next reader is given the one before it), for a table or
    column that the Rapport which wrote the snapshot did not know, and for want of memory. Any other error passes as it is. For a body that
    asks this one database: an error does not say whose it is.
    """
    try:
        yield
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        raise RapportError(f"snapshot {snapshot.id} needs an upgrade: another version of Rapport wrote it, without what this one reads ({_first_line(error)})",
                           remedy="Build anew with `rapport run`, or go back to one that has it (`rapport snapshot list`, `rapport snapshot rollback ID`).") from error
    except duckdb.OutOfMemoryException as error:
        raise full_disk(error) or RapportError("the question needs more memory than it is given", remedy=f"Narrow it, or raise `memory_gib` in workspace.yml. DuckDB says: {_first_line(error)}") from error
    except _OF_THE_FILE as error:
        if _file(home, snapshot.id).exists() and not is_whole(home, snapshot):      # retention may have deleted a file that is still read
            raise _damaged(home, snapshot) from error
        raise RapportError(f"snapshot {snapshot.id} cannot be read", file=str(_file(home, snapshot.id)), remedy=f"DuckDB says: {_first_line(error)} {GO_BACK}") from error


def _damaged(home: Home, snapshot: Snapshot) -> RapportError:
    with suppress(OSError):      # in a home that this reader may not write to, every reader finds out anew
        _replace(_mark(home, snapshot.id), DAMAGED_BLOCK)
    current = current_id(home)
    former = f"Ask again: readers are given {current}, the one before it, until the next run. " if current and current < snapshot.id else ""
    return RapportError(f"snapshot {snapshot.id} is damaged: {DAMAGED_BLOCK}", file=str(_file(home, snapshot.id)), remedy=f"{former}{GO_BACK} `rapport doctor` tells which are whole.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


@contextmanager
def opened(home: Home, viewer: Viewer = LOCAL, snapshot_id: str | None = None) -> Iterator[Reading]:
    """As `reading`, for a body that asks other databases too: errors are DuckDB's own.

    Retention may delete the file between reading the pointer and opening it; then the pointer is read again.
    """
    home.require()
    for attempt in range(5):
        chosen = snapshot_id or current_id(home)
        if chosen is None:
            raise UsageError("nothing has been published yet", remedy="Run `rapport run` (or `rapport demo`) first; `rapport status` tells how far the last run came.")
        try:
            snapshot = read_snapshot(home, chosen)
            file = _file(home, chosen)
            flaw = _flaw(home, snapshot)
            if flaw and not file.exists():
                raise FileNotFoundError(file)
            if flaw:
                raise RapportError(f"snapshot {chosen} is damaged: {flaw}", file=str(file), remedy=GO_BACK)
            con = _connect(str(file), read_only=True, memory_limit=home.memory_limit, temporary=home.temporary)
            break
        except (FileNotFoundError, UsageError) as error:
            if snapshot_id or attempt == 4:
                if isinstance(error, FileNotFoundError):
                    raise RapportError(f"snapshot {chosen} is damaged: its file is gone", file=str(_file(home, chosen)), remedy=GO_BACK) from None
                raise
            time.sleep(0.05)
        except duckdb.IOException as error:
            if attempt == 4 or file.exists():
                raise RapportError(f"snapshot {chosen} cannot be opened", file=str(file), remedy=f"DuckDB says: {_first_line(error)} {GO_BACK}") from None
    if snapshot.format_version > FORMAT_VERSION:
        con.close()
        raise RapportError(f"snapshot {chosen} was written by a newer Rapport", remedy="Upgrade this installation, or roll back to an older snapshot.")
    try:
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
    except duckdb.InvalidInputException as error:      # another connection of this process has locked the same database already
        if "locked" not in str(error):
            raise
    try:
        yield Reading(con, snapshot, viewer)
    finally:
        con.close()


def run_query(reading: Reading, sql: str, seconds: float = QUERY_SECONDS) -> duckdb.DuckDBPyConnection:
    """Run one statement that only reads; the result is fetched from the returned connection.

    Raises UsageError for anything but a single SELECT, for DuckDB's own complaints, and after `seconds`.
    """
    try:
        statements = reading.con.extract_statements(sql)
    except duckdb.Error as error:
        raise UsageError(f"the query is not valid SQL: {error}", remedy="Mend the place it points at.") from None
    readable = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
    if len(statements) != 1 or statements[0].type not in readable:
        raise UsageError("only one reading statement (SELECT) can be run", remedy="Snapshots never change; use `rapport run` to build a new one.")
    timer = threading.Timer(seconds, reading.con.interrupt)
    timer.start()
    try:
        return reading.con.execute(statements[0])
    except duckdb.InterruptException:
        raise UsageError(f"the query ran longer than {seconds:g} s and was stopped", remedy="Narrow it, or read the snapshot file with a tool of your own.") from None
    except (duckdb.OutOfMemoryException, *_OF_THE_FILE):
        raise      # no fault of the query: `explained` tells it
    except duckdb.Error as error:
        raise UsageError(f"the query failed: {error}", remedy="`SELECT table_schema, table_name FROM information_schema.tables` lists what there is.") from None
    finally:
        timer.cancel()


# -- state beside the snapshots ----------------------------------------------------------------------------------------

def write_state(home: Home, name: str, text: str) -> None:
    """Keep a small text beside the snapshots, replaced whole: what readers must know even when nothing could be published."""
    home.make_folders()
    _replace(home.serving / f"{name}.state", text)


def read_state(home: Home, name: str) -> str | None:
    """A text kept by `write_state`; None when there is none."""
    try:
        return (home.serving / f"{name}.state").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


RUN_STATE = "last_run"
DIED = "It ended before it could say how: its process was killed, the machine stopped, or the disk was full."


def last_run(home: Home) -> dict[str, Any] | None:
    """The record of the home's last run (fields: `pipelines.run_record.RunRecord`), which may be newer than the snapshot; None when there was none.

    A run says `running` until it ends. One that says so while nobody holds the writing lock has died, and is told as failed.
    """
    text = read_state(home, RUN_STATE)
    if text and json.loads(text)["state"] == "running" and not is_being_written(home):
        text = read_state(home, RUN_STATE)                          # it may have ended between the two looks
        record = json.loads(text or "{}")
        return record | {"state": "failed", "message": DIED} if record.get("state") == "running" else record
    return json.loads(text) if text else None
