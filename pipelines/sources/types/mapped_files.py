"""Files of any shape with a mapping: each file becomes a table, each entity a SELECT over these tables."""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from data_contracts.environment import SourceDeclaration
from data_contracts.errors import SourceError
from models.warehouse import scratch
from pipelines.sources.apart import read
from pipelines.sources.base import Batch, FileRecord, delivery_mode
from pipelines.sources.files import SourceFile, check_format, fingerprint, one_file, settled
from pipelines.sources.mapping import Mapping, check_table_names, load_mapping, run
from pipelines.sources.readers import Job, union, write_rejects

READING_OPTIONS = ("encoding", "delimiter", "sheet")


class MappedFiles:
    """CSV, Parquet, JSON lines and XLSX files of any shape, with one SELECT per entity."""

    summary = "CSV, Parquet, JSON lines or XLSX files of any shape, and a mapping with one SELECT per entity"
    options: ClassVar[dict[str, str]] = {
        "files": "table name: a path, a pattern such as exports/*.csv, or a list of these",
        "mapping": "path of the mapping (YAML with `entities:`)",
        "mode": "upsert (default) or full: each delivery holds everything, and rows that are absent are deleted",
        "full": "true is another way to write mode: full",
        "encoding": "of text files, when it is not recognised",
        "delimiter": "of CSV files, when it is not recognised",
        "sheet": "of XLSX files, when it is not the first",
    }
    required = ("files", "mapping")
    is_live = False

    def extract(self, batch: Batch) -> None:
        declaration = batch.declaration
        mapping = self._mapping(declaration)
        tables = {table: settled(files, batch.settle_seconds, batch) for table, files in self._files(declaration).items()}
        reading = {k: declaration.options[k] for k in READING_OPTIONS if k in declaration.options}
        records = {file.path: fingerprint(file, reading) for files in tables.values() for file in files}
        own = fingerprint(replace(one_file(mapping.file, declaration.name), format="mapping"))
        # A mapping joins its tables, so one new file, or a mended mapping, means reading all of them.
        mode = delivery_mode(declaration, "upsert")
        present = {r.sha256 for r in [*records.values(), own]}
        last = {r.sha256 for r in batch.last_files()}
        unchanged = present <= batch.seen if mode == "upsert" else present == last
        if unchanged or not all(tables.values()):
            batch.skipped += [f"{r.name}: delivered before" for r in records.values() if unchanged]
            return
        batch.files += [*_once(records), own]
        with scratch() as con:
            raw: dict[str, Path] = {}
            set_aside: dict[str, Path] = {}
            for table, files in tables.items():
                raw[table] = batch.raw / f"{table}.parquet"
                parts, rejects = [], []
                for file in _distinct(files, records, batch):
                    parts.append(batch.work / f"{table}.{len(parts)}.parquet")
                    result = read(Job(con, file, parts[-1], batch.work, declaration.name, frozenset(), reading))
                    rejects += result.rejects
                    batch.warnings += result.warnings
                union(con, parts, raw[table])
                if rejects:
                    set_aside[table] = batch.work / f"{table}.rejects.parquet"
                    write_rejects(rejects, set_aside[table])
            run(con, mapping, batch, raw, lambda entity: mode, set_aside)

    def test(self, declaration: SourceDeclaration, scratch_folder: Path) -> list[str]:
        mapping = self._mapping(declaration)
        lines = [f"{table}: {file.name} ({file.bytes:,} bytes)" for table, files in self._files(declaration).items() for file in files]
        return [*lines, f"mapping {mapping.file.name}: {', '.join(mapping.entities)}"]

    def _mapping(self, declaration: SourceDeclaration) -> Mapping:
        return load_mapping(declaration.path(declaration.options["mapping"]), declaration.name)

    def _files(self, declaration: SourceDeclaration) -> dict[str, list[SourceFile]]:
        """The files of each table, each checked to be what its name says."""
        named = declaration.options["files"]
        if not isinstance(named, dict):
            raise SourceError("`files` must name tables", source=declaration.name, field="files", remedy="Write `files: {lines: exports/*.csv}`.")
        check_table_names(named, declaration.name)
        tables = {str(table): _found(declaration, paths) for table, paths in named.items()}
        for files in tables.values():
            for file in files:
                check_format(file, declaration.name)
        return tables


def _found(declaration: SourceDeclaration, paths: str | list[str]) -> list[SourceFile]:
    files: list[SourceFile] = []
    for given in [paths] if isinstance(paths, str) else paths:
        exact = declaration.path(given)
        if exact.is_file() or not glob.has_magic(str(given)):
            files.append(one_file(exact, declaration.name))
            continue
        found = glob.glob(str(Path(given).expanduser()), root_dir=declaration.base, recursive=True)
        matches = sorted(p for p in (declaration.base / f for f in found) if p.is_file() and not p.is_symlink())
        if not matches:
            raise SourceError("no file fits the pattern", source=declaration.name, file=str(given), field="files",
                              remedy="Check it in sources.yml; relative paths start at its folder.")
        files += [one_file(p, declaration.name) for p in matches]
    return files


def _distinct(files: list[SourceFile], records: dict[Path, FileRecord], batch: Batch) -> list[SourceFile]:
    """Each content once: the same export saved twice must not double its rows."""
    first: dict[str, SourceFile] = {}
    for file in files:
        twin = first.setdefault(records[file.path].sha256, file)
        if twin is not file:
            batch.skipped.append(f"{file.name}: the same content as {twin.name}")
    return list(first.values())


def _once(records: dict[Path, FileRecord]) -> list[FileRecord]:
    return list({r.sha256: r for r in reversed(records.values())}.values())[::-1]


SOURCE = MappedFiles()
