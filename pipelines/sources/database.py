"""Reading tables of a database completely, in one snapshot and in bounded memory.

Belongs here: connecting, the catalogue, the way from rows to a typed Parquet file, errors that a person can act on. Does not
belong here: what differs between servers (`databases/`), or what the columns mean (a mapping).

Every value travels as the text the server writes, and is given its column's type only where that loses nothing: money never
becomes a floating-point number on the way, and one odd value leaves its column as text instead of failing the extraction.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from data_contracts.environment import SourceDeclaration
from data_contracts.errors import SourceError
from pipelines.sources.readers import PARQUET, literal, quoted

FETCH_ROWS = 20_000          # rows in memory at a time: 20,000 rows of 50 columns of text are about 100 MB
CONNECT_SECONDS = 10
MAX_DIGITS = 38              # of a DuckDB decimal


@dataclass(frozen=True)
class Table:
    """Columns of a table or query, in order: name → BOOLEAN, BIGINT, DOUBLE, DECIMAL, DATE, TIMESTAMP, TIMESTAMPTZ, VARCHAR or BINARY."""

    columns: dict[str, str]


class Dialect(Protocol):
    """What a module of `pipelines.sources.databases` offers as `DIALECT`. `raw` is the driver's own connection."""

    driver: str                                   # SQLAlchemy's dialect+driver
    mends: tuple[tuple[str, str, str], ...]       # pattern in the driver's message, what it means, what to do
    errors: tuple[type[Exception], ...]           # what the driver raises
    lost: str                                     # pattern of messages of a connection that broke while reading
    placeholder: str

    def connect_arguments(self, seconds: int) -> dict[str, Any]: ...
    def begin(self, raw: Any) -> None:
        """Start one read-only transaction that sees a single state of the database."""
    def table(self, raw: Any, name: str, select: str, parameters: Sequence[Any]) -> Table: ...
    def batches(self, raw: Any, select: str, columns: Sequence[str], parameters: Sequence[Any], size: int) -> Iterator[list[tuple]]:
        """Rows of a SELECT as tuples of text, at most `size` at a time."""
    def quoted(self, name: str) -> str: ...


class ConnectionLost(SourceError):
    """The connection broke while reading; trying again may help."""


class Database:
    """An open snapshot of a database. Use as a context manager. Raises SourceError, never with a secret in its text."""

    def __init__(self, declaration: SourceDeclaration) -> None:
        self.source = declaration.name
        self.schema = declaration.options.get("schema")
        self.url = _url(declaration)
        self.dialect: Dialect = importlib.import_module(f"pipelines.sources.databases.{self.url.get_backend_name()}").DIALECT
        self.failures = (sa.exc.SQLAlchemyError, OSError, *self.dialect.errors)

    def __enter__(self) -> Database:
        engine = sa.create_engine(self.url.set(drivername=self.dialect.driver), poolclass=NullPool, connect_args=self.dialect.connect_arguments(CONNECT_SECONDS))
        try:
            self.connection = engine.connect()
            inspector = sa.inspect(self.connection)
            self.names = sorted({*inspector.get_table_names(schema=self.schema), *inspector.get_view_names(schema=self.schema)})
            self.raw = self.connection.connection.driver_connection
            self.dialect.begin(self.raw)
        except self.failures as error:
            raise self._explained(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sa.exc.SQLAlchemyError):   # a broken connection cannot be closed in good order, and its error was told
            self.connection.close()

    def has(self, table: str) -> bool:
        return table in self.names

    def select(self, table: str) -> str:
        """`SELECT * FROM` a table of the catalogue. Raises SourceError for a table that is not there."""
        if not self.has(table):
            near = get_close_matches(table, self.names, 3, 0.6)
            found = f"Did you mean {', '.join(near)}?" if near else f"It has {', '.join(self.names[:40]) or 'no tables'}."
            raise self._fault(f"the database has no table {table}", found, field=table)
        name = self.dialect.quoted(table)
        return f"SELECT * FROM {self.dialect.quoted(self.schema)}.{name}" if self.schema else f"SELECT * FROM {name}"

    def columns(self, name: str, select: str, parameters: Sequence[Any] = ()) -> dict[str, str]:
        """Column → type of a query; `name` is the table it reads, where it reads one."""
        try:
            return self.dialect.table(self.raw, name, select, parameters).columns
        except self.failures as error:
            raise self._explained(error, name) from None

    def read(self, con: duckdb.DuckDBPyConnection, name: str, select: str, target: Path, work: Path, *, parameters: Sequence[Any] = (),
             only: Sequence[str] | None = None) -> tuple[int, list[str]]:
        """Write a query's rows to a typed Parquet file; `only` keeps these columns where they exist. Rows and warnings."""
        kinds = {c: k for c, k in self.columns(name, select, parameters).items() if k != "BINARY"}
        if only is not None:
            wanted = {c.lower() for c in only}
            kinds = {c: k for c, k in kinds.items() if c.lower() in wanted}
        if not kinds:
            raise self._fault(f"the table {name} has none of the columns that are needed", f"Needed: {', '.join(only or [])}.", field=name)
        schema = dict.fromkeys(kinds, pl.String)
        text = work / f"{name}.text.parquet"
        rows = 0
        try:
            with pq.ParquetWriter(text, pl.DataFrame(schema=schema).to_arrow().schema, compression="zstd") as writer:
                for chunk in self.dialect.batches(self.raw, select, list(kinds), parameters, FETCH_ROWS):
                    writer.write_table(pl.DataFrame(dict(zip(kinds, zip(*chunk, strict=True), strict=True)), schema=schema).to_arrow())
                    rows += len(chunk)
        except (pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise self._fault(f"the table {name} holds text that cannot be read: {error}", "Leave the column out with a query under `tables:`.", field=name) from None
        except self.failures as error:
            raise self._explained(error, name) from None
        warnings = _write_typed(con, name, kinds, text, target)
        text.unlink()
        return rows, warnings

    def _fault(self, message: str, remedy: str, field: str | None = None) -> SourceError:
        return SourceError(message, source=self.source, field=field, remedy=remedy)

    def _explained(self, error: Exception, table: str | None = None) -> SourceError:
        """The driver's complaint as one message with a remedy, cleared of the password."""
        if isinstance(error, SourceError):
            return error
        text = str(getattr(error, "orig", None) or error)
        for pattern, message, remedy in self.dialect.mends:
            if found := re.search(pattern, text, re.IGNORECASE):
                return self._fault(message.format(*(g or "" for g in found.groups())), f"{remedy} (URL: {self._shown()})", field=table)
        first = self._cleared(text.strip().splitlines()[0] if text.strip() else type(error).__name__)
        if re.search(self.dialect.lost, text, re.IGNORECASE):
            return ConnectionLost(f"the connection broke while reading: {first}", source=self.source, field=table, remedy="Try again; nothing was landed.")
        return self._fault(f"the database cannot be read: {first}", f"Check the source in sources.yml (URL: {self._shown()}).", field=table)

    def _shown(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def _cleared(self, text: str) -> str:
        password = self.url.password
        return (text.replace(str(password), "***") if password else text)[:300]


def dialect_names() -> list[str]:
    """The database servers that can be read."""
    from pipelines.sources import databases
    return sorted(module.name for module in pkgutil.iter_modules(databases.__path__))


def _url(declaration: SourceDeclaration) -> sa.URL:
    def fault(message: str, remedy: str) -> SourceError:
        return SourceError(message, source=declaration.name, field="url", remedy=remedy)

    try:
        url = sa.make_url(str(declaration.options["url"]))
    except sa.exc.ArgumentError:
        raise fault("the URL cannot be understood", "Write dialect://user:${PASSWORD}@host:port/database; characters such as @ or / in a password are written as %40, %2F.") from None
    if url.get_backend_name() == "postgres":      # the name that hosting services still use
        url = url.set(drivername="postgresql")
    if url.get_backend_name() not in dialect_names():
        raise fault(f"databases of type {url.get_backend_name()!r} cannot be read", f"Use one of {', '.join(dialect_names())}.")
    if url.get_backend_name() != "sqlite":
        return url
    file = declaration.path(url.database or "")
    if not file.is_file():
        raise SourceError("the database file does not exist", source=declaration.name, file=str(file), field="url",
                          remedy="Check the path in the URL; relative paths (sqlite:///crm.db) start at the folder of sources.yml.")
    # read-only: a source is never changed, and a misspelt path must not create an empty database
    return sa.URL.create("sqlite", database=f"file:{_uri(file)}", query={"mode": "ro", "uri": "true"})


def _uri(file: Path) -> str:
    return file.as_posix().replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _write_typed(con: duckdb.DuckDBPyConnection, name: str, kinds: dict[str, str], text: Path, target: Path) -> list[str]:
    """From text to types, column by column, where every value keeps its meaning; the others stay text, with a warning."""
    relation = f"read_parquet({literal(str(text))})"
    measured = []
    for column, kind in kinds.items():
        measured += [f"count(*) FILTER (WHERE {_unfit(quoted(column), kind)})"]
        parts = f"ltrim({quoted(column)}, '+-')"
        measured += [f"max(length(split_part({parts}, '.', 1)))", f"max(length(split_part({parts}, '.', 2)))"] if kind == "DECIMAL" else ["0", "0"]
    measures = con.execute(f"SELECT {', '.join(measured)} FROM {relation}").fetchone()
    columns, warnings = [], []
    for place, (column, kind) in enumerate(kinds.items()):
        unfit, whole, fraction = measures[place * 3:place * 3 + 3]
        if kind == "DECIMAL":
            fraction = max(fraction or 0, 2)
            unfit = unfit or (whole or 0) + fraction > MAX_DIGITS
            kind = f"DECIMAL({MAX_DIGITS}, {fraction})"
        if unfit and kind not in ("TIMESTAMP", "DATE"):
            warnings.append(f"table {name}: some values of {column} are not of its type; it is read as text")
        columns.append(f"CAST({quoted(column)} AS {'VARCHAR' if unfit else kind}) AS {quoted(column)}")
    con.execute(f"COPY (SELECT {', '.join(columns)} FROM {relation}) TO {literal(str(target))} {PARQUET}")
    return warnings


def _unfit(name: str, kind: str) -> str:
    """The condition under which a text is no value of a type, or would change by becoming one."""
    patterns = {"BIGINT": r"[+-]?\d{1,18}", "DECIMAL": r"[+-]?\d+(\.\d*)?", "DATE": r"\d{4}-\d{2}-\d{2}",
                "TIMESTAMP": r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?"}
    if kind == "VARCHAR":
        return "false"
    fits = f"TRY_CAST({name} AS {'DOUBLE' if kind == 'DECIMAL' else kind}) IS NOT NULL"
    if kind in patterns:
        fits += f" AND regexp_full_match({name}, {literal(patterns[kind])})"
    return f"{name} IS NOT NULL AND NOT ({fits})"
