"""dbt in this process: the parsed project is kept, each call selects what to build.

Belongs here: parsing, building, reading results. Does not belong here: any model. The dbt command line would import and parse
for ten seconds a call; one runner with the manifest kept needs three for the whole graph.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from data_contracts import environment
from data_contracts.environment import Home
from data_contracts.errors import RapportError

LOGGED_EVENTS = ("LogModelResult", "LogSeedResult", "LogTestResult")
KEPT_PARSES = 3      # a checkout that switches between branches keeps the last few
PROJECT = Path(__file__).resolve().parent.parent / "models"


@dataclass(frozen=True)
class NodeResult:
    """What became of one dbt node: `status` is dbt's word (success, pass, warn, fail, error, skipped)."""

    unique_id: str
    name: str
    kind: str
    status: str
    seconds: float
    failures: int | None
    message: str
    compiled: str


def _fingerprint() -> str:
    digest = hashlib.sha256()
    roots = [PROJECT / "layers", PROJECT / "macros", PROJECT / "seeds", PROJECT / "snapshots", PROJECT.parent / "tests" / "dbt"]
    files = [f for root in roots if root.exists() for f in root.rglob("*") if f.is_file()]
    for file in sorted([*files, PROJECT / "dbt_project.yml", PROJECT / "profiles.yml"]):
        digest.update(str(file.relative_to(PROJECT.parent)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _invoke(home: Home, runner: Any, arguments: list[str], target: Path | None = None) -> Any:
    home.make_folders()
    folders = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(target or home.dbt_target), "--log-path", str(home.logs / "dbt")]
    quiet = ["--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check", "--log-level", "none", "--log-level-file", "none"]
    _hear_no_debugging()
    with _log(home) as write, environment.exported(RAPPORT_WAREHOUSE=str(home.warehouse), RAPPORT_MEMORY_LIMIT=home.memory_limit, RAPPORT_SPILL=str(home.temporary), DO_NOT_TRACK="1"):
        runner.callbacks = [write]
        try:
            return runner.invoke([*quiet, *arguments, *folders])
        finally:
            _release()


@cache
def _hear_no_debugging() -> None:
    """Leave out dbt's events for debugging, twenty a node, before each is worded and packed for loggers that there are none of: a twelfth of a small run."""
    from dbt_common.events.base_types import BaseEvent, EventLevel
    from dbt_common.events.event_manager import EventManager
    from dbt_common.events.event_manager_client import ctx_set_event_manager

    class Hearing(EventManager):
        def fire_event(self, e: BaseEvent, level: EventLevel | None = None, *more: Any, **named: Any) -> None:
            if (level or e.level_tag()) not in (EventLevel.DEBUG, EventLevel.TEST):
                super().fire_event(e, level, *more, **named)
    ctx_set_event_manager(Hearing())


@contextmanager
def _log(home: Home) -> Iterator[Callable[[Any], None]]:
    """Writes what became of each node, and every warning and error, to `logs/dbt/dbt.log`.

    dbt's own loggers format all of their twenty lines a node, searching the environment for secrets in each, before they look
    at the level: a seventh of a build.
    """
    folder = home.logs / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    file = RotatingFileHandler(folder / "dbt.log", maxBytes=10_000_000, backupCount=2, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def write(event: Any) -> None:
        told = event.info
        if told.level in ("warn", "error") or told.name in LOGGED_EVENTS:
            file.handle(logging.LogRecord("dbt", logging.getLevelNamesMapping()["WARNING" if told.level == "warn" else told.level.upper()], "", 0, told.msg, None, None))
    try:
        yield write
    finally:
        file.close()


def _release() -> None:
    # dbt keeps its DuckDB connection open after a call, and with it the file
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    DuckDBConnectionManager.close_all_connections()


def _parsed(home: Home) -> Path:
    """Folder of the project's parse, made when a file of the project has changed since the last one.

    It depends on the project alone, not on a home, so it is kept beside the project and every home of an installation uses
    it; where that is read-only, in the home. Parsing costs seven seconds, reading the parse less than one.
    """
    place = PROJECT / "target"
    try:
        place.mkdir(exist_ok=True)
    except OSError:
        place = home.dbt_target
        place.mkdir(parents=True, exist_ok=True)
    folder = place / _fingerprint()
    if (folder / "partial_parse.msgpack").exists():
        return folder
    with open(place / ".parsing", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)        # several processes that start together parse once
        if not (folder / "partial_parse.msgpack").exists():
            _parse(home, place, folder)
    return folder


def _parse(home: Home, place: Path, folder: Path) -> None:
    from dbt.cli.main import dbtRunner
    with tempfile.TemporaryDirectory(dir=place, prefix=".parsing-") as temporary:
        result = _invoke(home, dbtRunner(), ["parse"], Path(temporary))
        if not result.success:
            raise RapportError(f"the dbt project cannot be parsed: {result.exception}", remedy="Mend the named file in models/.")
        kept = Path(temporary) / "kept"
        kept.mkdir()
        for name in ("manifest.json", "semantic_manifest.json", "partial_parse.msgpack"):
            (Path(temporary) / name).rename(kept / name)
        kept.rename(folder)
    for old in sorted((f for f in place.iterdir() if f.is_dir() and len(f.name) == len(folder.name)), key=lambda f: f.stat().st_mtime)[:-KEPT_PARSES]:
        shutil.rmtree(old, ignore_errors=True)


def manifest_path(home: Home) -> Path:
    """`manifest.json` of the project as it is now."""
    return _parsed(home) / "manifest.json"


@cache
def _runner(folder: Path) -> Any:
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest
    return dbtRunner(manifest=Manifest.from_msgpack((folder / "partial_parse.msgpack").read_bytes()))


def build(home: Home, select: list[str], *, full_refresh: bool = False, exclude: list[str] | None = None) -> list[NodeResult]:
    """`dbt build` of a selection; never raises for a failed node, the results say it. Raises RapportError when dbt itself fails."""
    runner = _runner(_parsed(home))
    # unit tests hold the SQL, not the data: they belong to the test suite, not to every run
    # of a part, test what can be tested now: what it is compared with may lie ahead (`--only staging` in a new home)
    arguments = ["build", "--no-write-json", "--indirect-selection", "buildable", "--exclude-resource-type", "unit_test", "--select", *select, *(["--exclude", *exclude] if exclude else []), *(["--full-refresh"] if full_refresh else [])]
    outcome = _invoke(home, runner, arguments)
    if outcome.result is None:
        raise RapportError(f"dbt could not run: {outcome.exception}", remedy=f"See {home.logs / 'dbt'}.")
    return [_node_result(r) for r in outcome.result.results]


def _node_result(item: Any) -> NodeResult:
    node = item.node
    return NodeResult(node.unique_id, node.name, str(node.resource_type), str(item.status), float(item.execution_time or 0), item.failures,
                      " ".join(str(item.message or "").split()), getattr(node, "compiled_code", "") or "")


def manifest(home: Home) -> dict[str, Any]:
    """The manifest as a dictionary."""
    return json.loads(manifest_path(home).read_text(encoding="utf-8"))
