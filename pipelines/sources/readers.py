"""From one file to one Parquet file with the same rows: values as they came, and where each row stood.

Belongs here: the four formats, delimiters, encodings, lines that are no rows. Does not belong here: what a column means; text
stays text here and is parsed by its contract.
"""

from __future__ import annotations

import base64
import codecs
import csv
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from data_contracts.errors import SourceError, full_disk
from pipelines.sources.base import MAX_COLUMNS
from pipelines.sources.files import SourceFile

DELIMITERS = (",", ";", "\t", "|")
MAX_LINE = 4 * 1024**2        # bytes; a longer line is an unclosed quote or a broken export, and is rejected
MAX_RAW = 65_536              # characters of a rejected line that are kept
REJECT_SCHEMA = {"_file": pl.String, "_row_number": pl.Int64, "_raw": pl.String, "_reason": pl.String}
WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüýßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝœŒšŠžŽŸ€£¥§°²³µ·«»¿¡ªº©®™…–—‘’‚“”„•\u00a0")
PARQUET = "(FORMAT parquet, COMPRESSION zstd)"
_serial = count(1)
# bytes that their encoding does not know become a lone surrogate, which is no UTF-8: the line is rejected like any other that is no text
_UNREADABLE = "rapport-unreadable"
codecs.register_error(_UNREADABLE, lambda error: ("\udcff", error.end))  # type: ignore[union-attr]  # reading raises UnicodeDecodeError only


@dataclass
class Reading:
    """What came of one file. `rejects` are `(file, row number, raw text, reason)`."""

    rows: int
    columns: list[str]
    rejects: list[tuple[str, int | None, str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One file to be read: into `target`, with `work` for intermediate files. `known` are column names that help to guess."""

    con: duckdb.DuckDBPyConnection
    file: SourceFile
    target: Path
    work: Path
    source: str
    known: frozenset[str] = frozenset()
    options: dict[str, Any] = field(default_factory=dict)

    def fail(self, message: str, remedy: str, **where: Any) -> SourceError:
        return SourceError(message, source=self.source, file=self.file.name, remedy=remedy, **where)


def read(job: Job) -> Reading:
    """Read one file into `job.target`: its columns, then `_row_number` and `_file`. Raises SourceError.

    `_row_number` is the place in the file, the header line being 1 (Parquet: from 1). In a CSV a value that spans several
    lines counts as one, and blank lines do not count.
    """
    try:
        return READERS[job.file.format](job)
    except (duckdb.Error, pa.ArrowException, pl.exceptions.PolarsError, UnicodeError, OSError) as error:
        if full := full_disk(error):
            raise job.fail(full.message, full.remedy) from error
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise job.fail(f"the file cannot be read as {job.file.format.upper()}: {first[:300]}",
                       "It may be damaged or cut short; export or copy it again.") from None


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal, for the few statements in which DuckDB takes no parameters."""
    return "'" + text.replace("'", "''") + "'"


def header_names(cells: list[str], job: Job) -> tuple[list[str], list[str]]:
    """Column names from a header row, with warnings. Canonical names are recognised whatever their case."""
    if not any(c.strip() for c in cells):
        raise job.fail("the first line names no columns", "The first line must hold the column names.", row=1)
    if len(cells) > MAX_COLUMNS:
        raise job.fail(f"the table has {len(cells)} columns, {MAX_COLUMNS} are allowed", "Export one row per record, with its attributes as columns.", row=1)
    names, warnings = [], []
    for place, cell in enumerate(cells, 1):
        name = cell.strip().strip("\ufeff")
        if not name:
            name = f"column_{place}"
            warnings.append(f"{job.file.name}: column {place} has no name, it is called {name}")
        if name.lower() in job.known:
            name = name.lower()
        if name.lower() in (n.lower() for n in names) or name.lower() in ("_row_number", "_file"):
            if name in job.known:
                raise job.fail(f"the column {name} stands twice in the header", "Remove or rename one of the two.", row=1, field=name)
            renamed = next(f"{name}_{i}" for i in count(2) if f"{name}_{i}".lower() not in (n.lower() for n in names))
            warnings.append(f"{job.file.name}: a second column named {name!r} is called {renamed!r}")
            name = renamed
        names.append(name)
    return names, warnings


# -- CSV ---------------------------------------------------------------------------------------------------------------

def _encoding(path: Path) -> tuple[str, str | None]:
    """The encoding of a text file, and a warning where it is a guess.

    A file with a mark says it itself. Without one it is UTF-8, whose bad lines are rejected one by one, unless every
    character outside ASCII makes sense in the Western single-byte encoding that spreadsheets write and none in UTF-8.
    """
    decoder, multibyte, western = codecs.getincrementaldecoder("utf-8")("replace"), False, True
    invalid = False
    with open(path, "rb") as handle:
        head = handle.read(4)
        if head.startswith(codecs.BOM_UTF8):
            return "utf-8-sig", None
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", None
        handle.seek(0)
        while piece := handle.read(1 << 20):
            if piece.isascii() and not decoder.getstate()[0]:
                continue
            beyond = {c for c in set(decoder.decode(piece)) if ord(c) > 127}
            invalid = invalid or "\ufffd" in beyond
            multibyte = multibyte or bool(beyond - {"\ufffd"})
            western = western and {c for c in set(piece.decode("cp1252", "replace")) if ord(c) > 127} <= WESTERN
    if invalid and not multibyte and western:
        return "cp1252", "read as Windows-1252, since it is not UTF-8; set `encoding:` if that is wrong"
    return "utf-8", None


def _as_utf8(job: Job) -> tuple[Path, list[str]]:
    """The file under a generated name, in UTF-8 without a mark; a copy only where that is not what it is."""
    given = job.options.get("encoding")
    encoding, warning = (given, None) if given else _encoding(job.file.path)
    target = job.work / f"input_{next(_serial)}"
    try:
        plain = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except LookupError:
        raise job.fail(f"the encoding {encoding!r} is not known", "Use a name such as utf-8, cp1252 or gb18030.", field="encoding") from None
    if plain:
        with open(job.file.path, "rb") as incoming:
            if incoming.read(3) == codecs.BOM_UTF8:
                with open(target, "wb") as outgoing:      # byte for byte: what is no UTF-8 must be rejected, not replaced
                    shutil.copyfileobj(incoming, outgoing, 1 << 20)
            else:
                os.symlink(job.file.path.resolve(), target)   # a generated name: a delivered one may hold wildcards that DuckDB expands
    else:
        with open(job.file.path, encoding=encoding, errors=_UNREADABLE, newline="") as incoming, open(target, "w", encoding="utf-8", errors="surrogatepass", newline="") as outgoing:
            while piece := incoming.read(1 << 20):
                outgoing.write(piece)
    return target, [f"{job.file.name}: {warning}"] if warning else []


def _first_line(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace", newline="") as handle:
        text = handle.read(1 << 20)
    inside = False
    for place, char in enumerate(text):
        if char == '"':
            inside = not inside
        elif char in "\r\n" and not inside and text[:place].strip():
            return text[:place].lstrip("\r\n")
    return text


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter), [])


def _delimiter(line: str, job: Job) -> str:
    """The delimiter under which the header names most known columns, then most columns."""
    given = job.options.get("delimiter")
    if given:
        if len(given) != 1:
            raise job.fail(f"the delimiter {given!r} is not one character", "Give a single character.", field="delimiter")
        return given

    def score(delimiter: str) -> tuple[int, int]:
        cells = _cells(line, delimiter)
        return sum(c.strip().lower() in job.known for c in cells), len(cells)
    return max(DELIMITERS, key=score)


def _read_csv(job: Job) -> Reading:
    path, warnings = _as_utf8(job)
    line = _first_line(path)
    delimiter = _delimiter(line, job)
    names, more = header_names(_cells(line, delimiter), job)
    number = next(_serial)
    rows = _csv_to_parquet(job, path, delimiter, names, number)
    rejects = _csv_rejects(job, path, f"rejects_{number}")
    if not rows and len(rejects) > 1:
        warnings.append(f"{job.file.name}: no line fits the header; is {delimiter!r} the delimiter?")
    return Reading(rows, names, rejects, warnings + more)


def _csv_to_parquet(job: Job, path: Path, delimiter: str, names: list[str], number: int) -> int:
    """Rows in file order, numbered by the line they stand on, rejected lines counted in."""
    columns = ", ".join(f"{literal(n)}: 'VARCHAR'" for n in names)
    options = f"auto_detect=false, header=true, delim={literal(delimiter)}, quote='\"', escape='\"', columns={{{columns}}}"
    options += f", null_padding=false, ignore_errors=true, store_rejects=true, max_line_size={MAX_LINE}, buffer_size={MAX_LINE * 8}"
    options += f", rejects_table='rejects_{number}', rejects_scan='rejects_scan_{number}'"
    rows, con = f"csv_{number}", job.con
    plain = job.work / f"{rows}.parquet"
    con.execute(f"COPY (SELECT row_number() OVER () AS _n, * FROM read_csv({literal(str(path))}, {options})) TO {literal(str(plain))} {PARQUET}")
    con.execute(f"CREATE TEMP TABLE {rows}_gaps AS SELECT _n, max(_k) AS _k FROM (SELECT line - row_number() OVER (ORDER BY line) AS _n, "
                f"row_number() OVER (ORDER BY line) AS _k FROM (SELECT DISTINCT line FROM rejects_{number})) GROUP BY _n")
    select = (f"SELECT r.* EXCLUDE (_n), r._n + 1 + coalesce(g._k, 0) AS _row_number, {literal(job.file.name)} AS _file "
              f"FROM {literal(str(plain))} r ASOF LEFT JOIN {rows}_gaps g ON r._n >= g._n")
    total = con.execute(f"COPY ({select} ORDER BY _row_number) TO {literal(str(job.target))} {PARQUET}").fetchone()[0]
    plain.unlink()
    con.execute(f"DROP TABLE {rows}_gaps")
    return total


def _csv_rejects(job: Job, path: Path, table: str) -> list[tuple[str, int | None, str, str]]:
    """The lines that are no rows, once each. A line that is not text is kept as the base64 of its bytes."""
    reasons = f"SELECT line, min(byte_position), any_value(left(csv_line, {MAX_RAW})), min(error_type::VARCHAR), min(error_message) FROM {table} GROUP BY line ORDER BY line"
    result = []
    with open(path, "rb") as handle:
        for line, position, raw, kind, message in job.con.execute(reasons).fetchall():
            if kind == "INVALID ENCODING":
                raw = "base64:" + base64.b64encode(_bytes_of_line(handle, position)).decode()
                message = "the line is not valid UTF-8"
            result.append((job.file.name, line, raw or "", message.splitlines()[0]))
    for name in (table, table.replace("rejects_", "rejects_scan_")):
        job.con.execute(f"DROP TABLE {name}")
    return result


def _bytes_of_line(handle: io.BufferedReader, position: int | None) -> bytes:
    """The line around a byte position (from 1)."""
    place = max((position or 1) - 1, 0)
    start = max(place - MAX_RAW, 0)
    handle.seek(start)
    before = handle.read(place - start)
    handle.seek(start + before.rfind(b"\n") + 1)
    return handle.readline(MAX_RAW).rstrip(b"\r\n")


# -- JSON lines --------------------------------------------------------------------------------------------------------

def _read_jsonl(job: Job) -> Reading:
    path, warnings = _as_utf8(job)
    number, con = next(_serial), job.con
    lines, table = job.work / f"json_{number}.parquet", f"rejects_{number}"
    options = f"auto_detect=false, header=false, delim='\x01', quote='', escape='', columns={{'line': 'VARCHAR'}}, max_line_size={MAX_LINE}, buffer_size={MAX_LINE * 8}"
    options += f", ignore_errors=true, store_rejects=true, rejects_table='{table}', rejects_scan='rejects_scan_{number}'"
    con.execute(f"COPY (SELECT row_number() OVER () AS _n, line FROM read_csv({literal(str(path))}, {options})) TO {literal(str(lines))} {PARQUET}")
    con.execute(f"CREATE TEMP VIEW json_{number} AS SELECT *, CASE WHEN json_valid(line) THEN json_type(line) END AS kind FROM {literal(str(lines))}")
    rejects = _csv_rejects(job, path, table)
    bad = f"SELECT _n, left(line, {MAX_RAW}), coalesce(kind, 'no JSON') FROM json_{number} WHERE trim(line) <> '' AND kind IS DISTINCT FROM 'OBJECT' ORDER BY _n"
    rejects += [(job.file.name, n, raw, "the line is not valid JSON" if kind == "no JSON" else f"the line holds a JSON {kind.lower()}, not an object")
                for n, raw, kind in con.execute(bad).fetchall()]
    keys = [k for (k,) in con.execute(f"SELECT key FROM (SELECT unnest(json_keys(line)) AS key, _n FROM json_{number} WHERE kind = 'OBJECT') GROUP BY key ORDER BY min(_n), key").fetchall()]
    if not keys:
        raise job.fail("no line holds a JSON object with names and values", "Write one object a line, such as {\"order_id\": \"7\"}.", row=1)
    names, more = header_names(keys, job)
    values = ", ".join(f"json_extract_string(line, {literal('/' + k.replace('~', '~0').replace('/', '~1'))}) AS {quoted(n)}" for k, n in zip(keys, names, strict=True))
    select = f"SELECT {values}, _n AS _row_number, {literal(job.file.name)} AS _file FROM json_{number} WHERE kind = 'OBJECT' ORDER BY _n"
    rows = con.execute(f"COPY ({select}) TO {literal(str(job.target))} {PARQUET}").fetchone()[0]
    con.execute(f"DROP VIEW json_{number}")
    return Reading(rows, names, rejects, warnings + more)


# -- Parquet and XLSX --------------------------------------------------------------------------------------------------

def _read_parquet(job: Job) -> Reading:
    path = job.work / f"input_{next(_serial)}"
    os.symlink(job.file.path.resolve(), path)
    described = job.con.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(str(path))})").fetchall()
    names, warnings = header_names([row[0] for row in described], job)
    columns = []
    for (old, kind, *_), name in zip(described, names, strict=True):
        nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))
        columns.append(f"{f'to_json({quoted(old)})::VARCHAR' if nested else quoted(old)} AS {quoted(name)}")
    select = f"SELECT {', '.join(columns)}, file_row_number + 1 AS _row_number, {literal(job.file.name)} AS _file FROM read_parquet({literal(str(path))}, file_row_number=true)"
    rows = job.con.execute(f"COPY ({select}) TO {literal(str(job.target))} {PARQUET}").fetchone()[0]
    return Reading(rows, names, [], warnings)


def _read_xlsx(job: Job) -> Reading:
    """The first sheet, or the one named by the option `sheet`; cells as text, dates in ISO form."""
    import fastexcel

    try:
        book = fastexcel.read_excel(job.file.path)
        sheet = job.options.get("sheet", 0)
        if isinstance(sheet, str) and sheet not in book.sheet_names:
            raise job.fail(f"the workbook has no sheet {sheet!r}", f"It has {', '.join(book.sheet_names)}.", field="sheet")
        cells = book.load_sheet(sheet, header_row=None, dtypes="string").to_polars()
    except fastexcel.FastExcelError as error:
        raise job.fail(f"the workbook cannot be read: {str(error).splitlines()[0][:300]}", "Open and save it again, or export the sheet as CSV.") from None
    if cells.height == 0:
        raise job.fail("the sheet is empty", "The first row must hold the column names.", row=1)
    names, warnings = header_names([c or "" for c in cells.row(0)], job)
    if len(book.sheet_names) > 1 and "sheet" not in job.options:
        warnings.append(f"{job.file.name}: only the first of {len(book.sheet_names)} sheets is read")
    table = cells.rename(dict(zip(cells.columns, names, strict=True))).with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("_row_number"), pl.lit(job.file.name).alias("_file"))
    filled = table.slice(1).filter(~pl.all_horizontal(pl.col(names).is_null()))
    filled.write_parquet(job.target, compression="zstd")
    return Reading(filled.height, names, [], warnings)


READERS: dict[str, Callable[[Job], Reading]] = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet, "xlsx": _read_xlsx}


def write_rejects(rejects: list[tuple[str, int | None, str, str]], target: Path) -> None:
    """Rejected lines as Parquet (`_file`, `_row_number`, `_raw`, `_reason`)."""
    pl.DataFrame(rejects, schema=REJECT_SCHEMA, orient="row").write_parquet(target)


def union(con: duckdb.DuckDBPyConnection, parts: list[Path], target: Path) -> int:
    """Several parts as one table, columns matched by name; a column typed differently in two parts becomes text. Rows written."""
    listed = "[" + ", ".join(literal(str(p)) for p in parts) + "]"
    return con.execute(f"COPY (SELECT * FROM read_parquet({listed}, union_by_name=true)) TO {literal(str(target))} {PARQUET}").fetchone()[0]
