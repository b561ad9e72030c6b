"""Whether a run could only build again what is published already.

Belongs here: what a published snapshot was built from, and until when it would come out the same. Does not belong here: building.

The answer is yes only when everything a number can depend on is as it was: the files and batches of the sources (nobody can know
that of a database without asking it: with one, the answer is no), the home's own files, the models' artefacts, the program,
the warehouse file itself, and time. Time matters where a model asks what is true at the run's instant (`as_of`): by
comparing it with a landed timestamp, or by its calendar day.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from data_contracts.contract import load_contracts, table_columns
from data_contracts.environment import Home, SourceDeclaration
from models import warehouse
from pipelines.sources.watched import FILE_TYPES, files_of

STATE = "built_from"
PROGRAM = Path(__file__).resolve().parent.parent
ROOMS = ("data_contracts", "models", "ml", "pipelines")
SUFFIXES = (".py", ".sql", ".yml", ".yaml", ".csv")


def remember(home: Home, as_of: datetime, stated: bool) -> None:
    """Keep what the current snapshot was built from. `as_of` is the run's instant, naive UTC."""
    found = _inputs(home)
    if found is None:
        return
    kept = {"inputs": found, "snapshot": warehouse.current_id(home), "as_of": as_of.isoformat(), "stated": stated, "until": _until(home, as_of).isoformat()}
    kept["inputs"] = _inputs(home)      # once more: looking for the limit has opened the warehouse
    warehouse.write_state(home, STATE, json.dumps(kept))


def is_up_to_date(home: Home, as_of: datetime | None, now: datetime) -> bool:
    """Whether the current snapshot is what a run would build. `as_of`: what the caller stated, None for now; both naive UTC."""
    text = warehouse.read_state(home, STATE)
    kept = json.loads(text) if text else None
    if kept is None or kept["snapshot"] != warehouse.current_id(home) or kept["stated"] != (as_of is not None):
        return False
    if as_of is not None:
        in_time = as_of.isoformat() == kept["as_of"]
    else:
        in_time = datetime.fromisoformat(kept["as_of"]) <= now < datetime.fromisoformat(kept["until"])
    return in_time and _inputs(home) == kept["inputs"] and warehouse.is_whole(home, warehouse.read_snapshot(home, kept["snapshot"]))


def _until(home: Home, as_of: datetime) -> datetime:
    """The first instant after `as_of` at which a model could come out differently (naive UTC)."""
    zone = ZoneInfo(home.workspace.time_zone)
    local = as_of.replace(tzinfo=UTC).astimezone(zone)
    midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), zone).astimezone(UTC).replace(tzinfo=None)
    limits = [midnight, datetime.combine(as_of.date() + timedelta(days=1), datetime.min.time())]
    with warehouse.writing(home) as con:
        for entity, contract in load_contracts().items():
            stamps = [name for name, kind in table_columns(contract).items() if kind.startswith("TIMESTAMP")]
            least = con.execute("SELECT " + ", ".join(f'min("{s}") FILTER ("{s}" > $at)' for s in stamps) + f" FROM landing.{entity}", {"at": as_of}).fetchone()
            limits += [value for value in least if value is not None]
        (capped,) = con.execute("SELECT count(*) FROM ops.settings WHERE watermark >= as_of").fetchone()
    return as_of if capped else min(limits)


def _inputs(home: Home) -> dict[str, Any] | None:
    """Everything but time, as signatures; None with a source that has to be asked."""
    declarations = home.sources()
    if any(d.type not in (*FILE_TYPES, "imports") for d in declarations):
        return None
    watched = [file for d in declarations if d.type in FILE_TYPES for file in [*files_of(d), *_mapping(d)]]
    batches = [file for d in declarations for file in (home.landing / d.name).glob("*/batch.json")]
    own = [file for file in home.root.glob("*.yml")] + [file for file in home.segments.glob("*")] + [file for file in home.artifacts.rglob("*") if file.is_file()]
    return {"program": _program(), "files": _signature([*watched, *batches, *own, home.warehouse])}


def _mapping(declaration: SourceDeclaration) -> list[Path]:
    given = declaration.options.get("mapping")
    return [declaration.path(given)] if given else []


def _signature(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.exists():
            known = file.stat()
            digest.update(f"{file}|{known.st_size}|{known.st_mtime_ns}|{known.st_ino}\n".encode())
    return digest.hexdigest()


@cache
def _program() -> str:
    digest = hashlib.sha256()
    for file in sorted([f for room in ROOMS for f in (PROGRAM / room).rglob("*") if f.suffix in SUFFIXES and "target" not in f.parts] + [PROGRAM / "uv.lock"]):
        if file.exists():
            digest.update(str(file.relative_to(PROGRAM)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
