"""Finding the files of a delivery, and refusing those that are not what their name says.

Belongs here: paths, links, formats by name and by first bytes, size limits, fingerprints, which entity a file name means. Does
not belong here: reading rows (`readers.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from data_contracts.errors import SourceError
from pipelines.sources.base import Batch, FileRecord

FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".xlsx": "xlsx"}
UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart", ".partial")
MAX_UNPACKED = 500 * 1024**2   # bytes an XLSX may unpack to: a full sheet of a million rows is about 200 MB
MAX_RATIO = 100                # unpacked to packed; sheets reach 20, bombs 1,000
MAX_MEMBERS = 100              # parts of a workbook; one with 30 sheets has about 50
SMALL_MEMBER = 1024**2         # below this many bytes a high ratio is harmless (empty style sheets compress very well)

FOREIGN = {b"PK\x03\x04": "a ZIP archive or workbook", b"PAR1": "a Parquet file", b"\x1f\x8b": "gzip data", b"%PDF": "a PDF", b"\xd0\xcf\x11\xe0": "an old Office file",
           b"SQLite format 3": "a SQLite database", b"<!doctype html": "a web page", b"<html": "a web page", b"<?xml": "XML", b"{\\rtf": "RTF"}

_MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_PART = re.compile(rf"^(\d+([tqwhmz]\d*)*z?|(part|p|q|w|h|v|fy|week|month|day|batch|chunk|file|page|export|delta|full|incremental|of|to|utc|t|{_MONTH})\d*)$")


@dataclass(frozen=True)
class SourceFile:
    """A file that may be read. `name` is what messages and `_file` call it; `format` is csv, parquet, jsonl or xlsx."""

    path: Path
    name: str
    format: str
    bytes: int


def files_below(folder: Path, source: str, batch: Batch | None = None) -> list[SourceFile]:
    """Every readable file in a folder and its sub-folders, by name. Links are never followed: they may lead anywhere."""
    found: list[SourceFile] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith((".", "~$")) for part in path.relative_to(folder).parts):
            continue
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            continue
        if not stat.S_ISREG(kind):
            _say(batch, f"{shown(name)}: not read, it is a link or a special file; put the file itself into the folder")
            continue
        if any(part.is_symlink() for part in path.relative_to(folder).parents if part.name) or folder.resolve() not in path.resolve().parents:
            _say(batch, f"{shown(name)}: not read, it lies outside {folder.name}")
            continue
        if path.suffix.lower() in UNFINISHED:
            _skip(batch, f"{shown(name)}: still being written")
            continue
        found.append(SourceFile(path, shown(name), FORMATS.get(path.suffix.lower(), ""), path.stat().st_size))
    return found


def one_file(path: Path, source: str) -> SourceFile:
    """A file named by the declaration itself."""
    if not path.exists():
        raise SourceError("the file does not exist", source=source, file=str(path), remedy="Check the path in sources.yml; relative paths start at its folder.")
    if not path.is_file():
        raise SourceError("this is not a file", source=source, file=str(path), remedy="Name a file; to read a whole folder, use a pattern such as folder/*.csv.")
    return SourceFile(path, shown(path.name), FORMATS.get(path.suffix.lower(), ""), path.stat().st_size)


def shown(name: str) -> str:
    """A file name that cannot disturb a terminal or a log."""
    return "".join(c if c.isprintable() else "?" for c in name)[:200]


def settled(files: Iterable[SourceFile], seconds: float, batch: Batch | None = None) -> list[SourceFile]:
    """Those not changed within the last `seconds`; a file that is still growing must not be taken."""
    ready = []
    for file in files:
        if seconds and time.time() - file.path.stat().st_mtime < seconds:
            _skip(batch, f"{file.name}: changed less than {seconds:g} s ago, left for the next time")
        else:
            ready.append(file)
    return ready


def entity_of(name: str, entities: Iterable[str]) -> str | None:
    """The entity a path means: a folder named like it, or a file named like it with an optional part (`orders_2024-01.csv`)."""
    known = set(entities)
    *folders, file = name.lower().split("/")
    for folder in folders:
        if folder in known:
            return folder
    stem = re.sub(r"(\.(csv|tsv|jsonl|ndjson|parquet|xlsx))?\.(gz|zip|bz2|xz|zst|7z|tar)$", ".", file)
    stem = stem.rsplit(".", 1)[0] if "." in stem else stem
    for entity in sorted(known, key=len, reverse=True):
        if stem == entity:
            return entity
        rest = stem.removeprefix(entity)
        if rest != stem and not rest[0].isalnum() and all(_PART.match(token) for token in re.findall(r"[a-z0-9]+", rest)):
            return entity
    return None


def require_entity(file: SourceFile, entities: Iterable[str], source: str) -> str:
    """The entity of a file, or an error with the names that would do."""
    known = sorted(entities)
    entity = entity_of(file.name, known)
    if entity is None:
        near = get_close_matches(file.name.split("/")[-1].split(".")[0].lower(), known, 1, 0.7)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise SourceError("the name says no entity", source=source, file=file.name,
                          remedy=f"{hint}Name it after one of {', '.join(known)}, with an optional part as in orders_2024.csv, or move it away.")
    return entity


def check_format(file: SourceFile, source: str) -> None:
    """Refuse a file whose content cannot be what its name says. Raises SourceError."""
    def refuse(what: str, remedy: str) -> SourceError:
        return SourceError(what, source=source, file=file.name, remedy=remedy)

    if not file.format:
        raise refuse(f"files ending in {file.path.suffix or 'nothing'!r} cannot be read", f"Deliver one of {', '.join(FORMATS)}; unpack archives first.")
    if file.bytes == 0:
        raise refuse("the file is empty", "Deliver it again; a table without rows still has its header line.")
    try:
        with open(file.path, "rb") as handle:
            head = handle.read(4096)
            handle.seek(max(0, file.bytes - 4))
            tail = handle.read(4)
    except OSError as error:
        raise refuse(f"the file cannot be opened: {error.strerror}", "Check its permissions.") from None
    looks = next((what for magic, what in FOREIGN.items() if head.lstrip().lower().startswith(magic.lower())), None)
    if file.format == "parquet":
        if head[:4] != b"PAR1" or tail != b"PAR1":
            raise refuse(f"this is not a whole Parquet file{f' but {looks}' if looks and head[:4] != b'PAR1' else ''}", "Write it again, or give it the ending of what it is.")
    elif file.format == "xlsx":
        if not head.startswith(b"PK\x03\x04"):
            raise refuse(f"this is not an XLSX workbook{f' but {looks}' if looks else ''}", "Save it as .xlsx, or give it the ending of what it is.")
        check_workbook(file, source)
    elif looks:
        raise refuse(f"this is not text but {looks}", "Give it the ending of what it is, or export it again as text.")
    elif not head.startswith((b"\xff\xfe", b"\xfe\xff")) and head.count(0) > len(head) // 10:
        raise refuse("this is not text but binary data", "Export it as CSV or JSON lines in UTF-8.")


def check_workbook(file: SourceFile, source: str) -> None:
    """Refuse a workbook that would unpack beyond all measure, before anything unpacks it. Reads it through once, in pieces."""
    def refuse(what: str) -> SourceError:
        return SourceError(what, source=source, file=file.name, remedy="Export the table as CSV or Parquet, or split the workbook.")

    try:
        with zipfile.ZipFile(file.path) as archive:
            members = archive.infolist()
            if not any(m.filename == "xl/workbook.xml" for m in members):
                raise refuse("this ZIP archive is not an XLSX workbook")
            if len(members) > MAX_MEMBERS:
                raise refuse(f"the workbook has {len(members)} parts, {MAX_MEMBERS} are allowed")
            for member in members:
                if member.file_size > SMALL_MEMBER and member.file_size > MAX_RATIO * max(member.compress_size, 1):
                    raise refuse(f"a part of the workbook unpacks more than {MAX_RATIO}-fold")
            if sum(m.file_size for m in members) > MAX_UNPACKED:
                raise refuse(f"the workbook unpacks to more than {MAX_UNPACKED // 1024**2} MB")
            for member in members:
                with archive.open(member) as part:   # sizes in the directory may lie: the checksum at the end does not
                    while part.read(1 << 20):
                        pass
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError) as error:
        raise refuse(f"the workbook is damaged or protected ({type(error).__name__})") from None


def fingerprint(file: SourceFile, reading: dict[str, Any] | None = None) -> FileRecord:
    """What identifies a delivery: its content, and where given the options that change what is read from it."""
    digest = hashlib.sha256()
    with open(file.path, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    if reading:
        digest.update(json.dumps(reading, sort_keys=True, default=str).encode())
    return FileRecord(file.name, digest.hexdigest(), file.bytes)


def _say(batch: Batch | None, text: str) -> None:
    if batch is not None:
        batch.warnings.append(text)


def _skip(batch: Batch | None, text: str) -> None:
    if batch is not None:
        batch.skipped.append(text)
