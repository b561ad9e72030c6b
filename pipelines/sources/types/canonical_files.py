"""Files that already have the canonical shape: one entity a file or folder, columns named as in the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from data_contracts.contract import load_contracts
from data_contracts.environment import SourceDeclaration
from data_contracts.errors import SourceError
from models.warehouse import scratch
from pipelines.sources.apart import read
from pipelines.sources.base import Batch, FileRecord, check_required, delivery_mode
from pipelines.sources.files import SourceFile, check_format, entity_of, files_below, fingerprint, one_file, require_entity, settled
from pipelines.sources.readers import Job, union, write_rejects

READING_OPTIONS = ("encoding", "delimiter", "sheet")


class CanonicalFiles:
    """CSV, Parquet, JSON lines and XLSX files in canonical shape."""

    summary = "CSV, Parquet, JSON lines or XLSX files in the canonical shape, one entity a file or folder"
    options: ClassVar[dict[str, str]] = {
        "path": "a file, or a folder of files named after entities (orders.csv, orders_2024.csv, orders/2024-01.csv)",
        "mode": "upsert (default) or full: each delivery holds everything, and rows that are absent are deleted",
        "full": "true is another way to write mode: full",
        "encoding": "of text files, when it is not recognised (e.g. gb18030)",
        "delimiter": "of CSV files, when it is not recognised",
        "sheet": "of XLSX files, when it is not the first",
    }
    required = ("path",)
    is_live = False

    def extract(self, batch: Batch) -> None:
        declaration = batch.declaration
        mode = delivery_mode(declaration, "upsert")
        by_entity = self._by_entity(declaration, batch)
        reading = {k: declaration.options[k] for k in READING_OPTIONS if k in declaration.options}
        with scratch() as con:
            for entity, files in by_entity.items():
                fresh = _unseen(batch, files, reading) if mode == "upsert" else _unless_unchanged(batch, entity, files, reading)
                if not fresh:
                    continue
                parts, rejects, rows = [], [], 0
                for file, record in fresh:
                    part = batch.work / f"{entity}.{len(parts)}.parquet"
                    known = frozenset(load_contracts()[entity].by_name)
                    result = read(Job(con, file, part, batch.work, declaration.name, known, reading))
                    check_required(entity, result.columns, declaration.name, file.name)
                    parts.append(part)
                    rejects += result.rejects
                    rows += result.rows
                    batch.warnings += result.warnings
                    batch.files.append(record)
                target = batch.folder / f"{entity}.parquet"
                if len(parts) == 1:
                    parts[0].rename(target)
                else:
                    union(con, parts, target)
                if rejects:
                    write_rejects(rejects, target.with_name(f"{entity}.rejects.parquet"))
                    batch.warnings.append(f"{entity}: {len(rejects)} lines could not be read as rows and go to quarantine")
                batch.deliver(entity, mode, rows, len(rejects))

    def test(self, declaration: SourceDeclaration, scratch_folder: Path) -> list[str]:
        by_entity = self._by_entity(declaration, None)
        return [f"{entity}: {file.name} ({file.bytes:,} bytes)" for entity, files in by_entity.items() for file in files]

    def _by_entity(self, declaration: SourceDeclaration, batch: Batch | None) -> dict[str, list[SourceFile]]:
        """Readable files by entity, each checked to be what its name says."""
        path = declaration.path(declaration.options["path"])
        entities = load_contracts()
        if path.is_dir():
            found = files_below(path, declaration.name, batch)
            readable = [f for f in found if f.format or entity_of(f.name, entities)]
            if batch is not None:
                batch.warnings += [f"{f.name}: not read, it is no table" for f in found if f not in readable]
            if not readable:
                raise SourceError("the folder holds no file that could be read", source=declaration.name, file=str(path),
                                  remedy="Put files such as orders.csv or contacts.parquet there, or mend `path:` in sources.yml.")
            files = settled(readable, batch.settle_seconds if batch else 0.0, batch)
        else:
            files = [one_file(path, declaration.name)]
        by_entity: dict[str, list[SourceFile]] = {}
        for file in files:
            entity = require_entity(file, entities, declaration.name)
            check_format(file, declaration.name)
            by_entity.setdefault(entity, []).append(file)
        return by_entity


Fresh = list[tuple[SourceFile, FileRecord]]


def _unseen(batch: Batch, files: list[SourceFile], reading: dict[str, Any]) -> Fresh:
    """The files whose content was not delivered before, each content once."""
    fresh: Fresh = []
    for file, record in _distinct(batch, files, reading):
        if record.sha256 in batch.seen:
            batch.skipped.append(f"{file.name}: delivered before")
        else:
            fresh.append((file, record))
    return fresh


def _unless_unchanged(batch: Batch, entity: str, files: list[SourceFile], reading: dict[str, Any]) -> Fresh:
    """All files of a full extract, unless they are exactly those of the last one: without the unchanged ones their rows would count as deleted."""
    present = _distinct(batch, files, reading)
    last = {r.sha256 for r in batch.last_files(entity) if entity_of(r.name, load_contracts()) == entity}
    if {r.sha256 for _, r in present} == last:
        batch.skipped += [f"{file.name}: delivered before" for file, _ in present]
        return []
    return present


def _distinct(batch: Batch, files: list[SourceFile], reading: dict[str, Any]) -> Fresh:
    first: dict[str, tuple[SourceFile, FileRecord]] = {}
    for file in files:
        record = fingerprint(file, reading)
        if record.sha256 in first:
            batch.skipped.append(f"{file.name}: the same content as {first[record.sha256][0].name}")
        else:
            first[record.sha256] = (file, record)
    return list(first.values())


SOURCE = CanonicalFiles()
