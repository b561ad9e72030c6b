"""What every source has in common: a batch is written to a folder that appears whole or not at all.

Belongs here: the shapes handed to the landing step, the finding of a source type, the life of a batch folder. Does not belong
here: how any one source is read.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Protocol

from data_contracts.contract import load_contracts
from data_contracts.environment import Home, SourceDeclaration
from data_contracts.errors import SourceError, UsageError

Mode = Literal["upsert", "full"]
_BATCH_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
ABANDONED_SECONDS = 86_400   # a partial batch older than this belongs to a process that died: no extraction takes a day
MAX_COLUMNS = 500            # a wider table is a mistake (a pivoted or transposed export) and would exhaust memory


@dataclass(frozen=True)
class FileRecord:
    """One file that was read. `sha256` identifies what was read: the content and how it was told to be read."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Delivery:
    """The rows of one entity: a Parquet file with canonical column names, `_row_number` BIGINT and `_file` VARCHAR.

    `mode` is `full` when rows that are absent no longer exist at the source. Lines that could not be read as rows lie beside
    it in `rejects_path` (`_file`, `_row_number`, `_raw`, `_reason`); `rejected` counts them.
    """

    entity: str
    path: Path
    mode: Mode
    rows: int
    rejected: int = 0

    @property
    def rejects_path(self) -> Path:
        return self.path.with_name(f"{self.entity}.rejects.parquet")


@dataclass(frozen=True)
class Extraction:
    """One batch as it lies in landing. `is_live` says that the source was asked now, so that its data reach up to `extracted_at`.

    `ignored` counts, by reason, rows that a mapping leaves out on purpose. `state` is what the next extraction needs in order
    to go on from here (cursors by table); hand it back as `extract(state=…)` once this batch is loaded.
    """

    source: str
    batch_id: str
    deliveries: list[Delivery]
    files: list[FileRecord]
    extracted_at: datetime
    is_live: bool
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Batch:
    """A batch while it is being written. Paths lie in a temporary folder until everything is there."""

    declaration: SourceDeclaration
    folder: Path
    seen: frozenset[str]
    settle_seconds: float
    state: dict[str, Any]
    extracted_at: datetime
    earlier: list[dict[str, Any]] = field(default_factory=list)   # manifests of the source's landed batches, newest first
    deliveries: list[Delivery] = field(default_factory=list)
    files: list[FileRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    next_state: dict[str, Any] = field(default_factory=dict)

    @property
    def raw(self) -> Path:
        """Folder of the tables as the source has them."""
        return _made(self.folder / "raw")

    @property
    def work(self) -> Path:
        """Folder for intermediate files; it does not become part of the batch."""
        return _made(self.folder / ".work")

    def last_files(self, entity: str | None = None) -> list[FileRecord]:
        """The files read for the newest batch (that delivered `entity`): the present state of a full extract.

        What only an older batch held is no longer the state, so content that comes back after a change counts as new.
        """
        for manifest in self.earlier:
            if entity is None or any(d["entity"] == entity for d in manifest["deliveries"]):
                return [FileRecord(**f) for f in manifest["files"]]
        return []

    def deliver(self, entity: str, mode: Mode, rows: int, rejected: int = 0) -> None:
        """Count `<entity>.parquet`, already written to `folder`, as part of the batch."""
        self.deliveries.append(Delivery(entity, self.folder / f"{entity}.parquet", mode, rows, rejected))


class SourceType(Protocol):
    """What a module of `pipelines.sources.types` offers as `SOURCE`."""

    summary: str
    options: dict[str, str]      # option → what it says
    required: tuple[str, ...]
    is_live: bool

    def extract(self, batch: Batch) -> None:
        """Write the deliveries of one batch. Raises SourceError."""

    def test(self, declaration: SourceDeclaration, scratch_folder: Path) -> list[str]:
        """Reach the source and list what `extract` would read, one line each. Raises SourceError."""


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def type_names() -> list[str]:
    """The known source types."""
    from pipelines.sources import types
    return sorted(module.name for module in pkgutil.iter_modules(types.__path__))


def source_type(name: str) -> SourceType:
    """The source type of that name. Raises UsageError with the known names."""
    if name not in type_names():
        raise UsageError(f"there is no source type {name!r}", remedy=f"Use one of {', '.join(type_names())}.")
    return importlib.import_module(f"pipelines.sources.types.{name}").SOURCE


def describe() -> dict[str, dict[str, Any]]:
    """Every source type with its summary and options, for help texts and the README."""
    found = {name: source_type(name) for name in type_names()}
    return {name: {"summary": kind.summary, "required": list(kind.required), "options": dict(kind.options)} for name, kind in found.items()}


def check_options(declaration: SourceDeclaration) -> SourceType:
    """The declaration's type, once its options fit. Raises SourceError for a missing or unknown option."""
    kind = source_type(declaration.type)
    for name in kind.required:
        if not declaration.options.get(name):
            raise SourceError(f"a source of type {declaration.type} needs the option {name!r}", source=declaration.name, field=name,
                              remedy=f"Add `{name}:` to it in sources.yml: {kind.options[name]}.")
    for name in declaration.options:
        if name not in kind.options:
            near = get_close_matches(name, kind.options, 1)
            raise SourceError(f"a source of type {declaration.type} has no option {name!r}", source=declaration.name, field=name,
                              remedy=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(kind.options)}.")
    if declaration.options.get("mode", "upsert") not in ("upsert", "full"):
        raise SourceError(f"mode {declaration.options['mode']!r} is not known", source=declaration.name, field="mode",
                          remedy="Use upsert (rows are added and changed) or full (rows that are absent are deleted).")
    return kind


def delivery_mode(declaration: SourceDeclaration, default: Mode) -> Mode:
    """How the declaration wants its rows understood: `full: true` is another way to write `mode: full`."""
    if "full" in declaration.options:
        return "full" if declaration.options["full"] else "upsert"
    return declaration.options.get("mode", default)


def extract(declaration: SourceDeclaration, home: Home, batch_id: str, seen: set[str] | frozenset[str], *,
            settle_seconds: float = 0.0, state: dict[str, Any] | None = None, now: datetime | None = None) -> Extraction:
    """Read a source into `landing/<source>/<batch_id>/`, written aside and renamed when whole.

    `seen` holds the `FileRecord.sha256` of earlier batches; what was read before is skipped and said so. `settle_seconds`
    leaves out files changed more recently than that, for callers that watch a folder. A batch without deliveries leaves no
    folder. Raises SourceError.
    """
    if not _BATCH_ID.match(batch_id):
        raise UsageError(f"{batch_id!r} cannot name a batch", remedy="Use letters, digits, dots, - and _.")
    kind = check_options(declaration)
    place = _made(home.landing / declaration.name)
    target, partial = place / batch_id, place / f".{batch_id}.partial"
    if target.exists():
        raise SourceError(f"batch {batch_id} has been landed before", source=declaration.name, remedy="Run again; each run makes its own batch.")
    _remove_abandoned(place)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    batch = Batch(declaration, partial, frozenset(seen), settle_seconds, dict(state or {}), now or datetime.now(UTC), _manifests(place))
    try:
        kind.extract(batch)
        shutil.rmtree(partial / ".work", ignore_errors=True)
        done = Extraction(
            declaration.name, batch_id, [replace(d, path=target / d.path.name) for d in batch.deliveries], batch.files,
            batch.extracted_at, kind.is_live, batch.warnings, batch.skipped, batch.ignored, batch.next_state)
        if batch.deliveries:
            (partial / "batch.json").write_text(_manifest(done), encoding="utf-8")
            _flush(partial)
            os.rename(partial, target)
        return done
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def test(declaration: SourceDeclaration, home: Home) -> list[str]:
    """Reach a source and list what would be read, without landing anything. Raises SourceError."""
    kind = check_options(declaration)
    folder = _made(home.temporary / f"test-{declaration.name}-{os.getpid()}")
    try:
        return kind.test(declaration, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


test.__test__ = False  # type: ignore[attr-defined]  # not a test case, whatever its name suggests to a collector


def check_required(entity: str, columns: Iterable[str], source: str, file: str | None = None) -> None:
    """Refuse a table without a column that its contract requires, before it is landed. Raises SourceError."""
    present = [c for c in columns if not c.startswith("_")]
    for name in load_contracts()[entity].required_columns:
        if name not in present:
            near = get_close_matches(name, [c for c in present if c not in load_contracts()[entity].by_name], 1, 0.6)
            raise SourceError(f"{entity} needs the column {name}", source=source, file=file, field=name,
                              remedy=(f"Is it the column {near[0]!r}? Rename it, or use a mapping. " if near else "Add it, or use a mapping. ") + f"Found: {', '.join(present[:60])}.")


def _manifest(extraction: Extraction) -> str:
    """What the batch folder says of itself; names and counts, never a value of a row."""
    content = asdict(extraction) | {"extracted_at": extraction.extracted_at.isoformat()}
    content["deliveries"] = [d | {"path": d["path"].name} for d in content["deliveries"]]
    return json.dumps(content, indent=2, default=str)


def _manifests(place: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(place.glob("[!.]*/batch.json"), reverse=True)]


def _remove_abandoned(place: Path) -> None:
    for leftover in place.glob(".*.partial"):
        if time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Force files to the disk before the rename makes them count: after a power cut a batch is whole or absent."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
