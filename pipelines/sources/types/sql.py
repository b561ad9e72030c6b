"""A database behind a SQLAlchemy URL: tables or queries, taken as they are when they have the canonical shape, else mapped."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import duckdb

from data_contracts.contract import load_contracts
from data_contracts.environment import SourceDeclaration
from data_contracts.errors import SourceError
from models.warehouse import scratch
from pipelines.sources.base import Batch, Mode, check_required, delivery_mode
from pipelines.sources.database import ConnectionLost, Database
from pipelines.sources.mapping import Mapping, check_table_names, load_mapping, run
from pipelines.sources.readers import PARQUET, literal, quoted

ATTEMPTS = 3                                  # of a whole extraction when the connection breaks; each starts with a new snapshot
OVERLAP_DAYS = 3                              # late rows: transactions commit after the times they carry
CLOCK_SKEW = timedelta(minutes=5)             # a cursor never goes further into the future: one row dated 2999 would hide all later ones
_QUERY = ("select ", "select\n", "with ", "with\n")


@dataclass(frozen=True)
class Request:
    """One table to be read: the SELECT, and the cursor it is narrowed by, if any."""

    name: str
    select: str
    is_table: bool
    cursor: str | None = None


class SqlSource:
    """See `SourceType`. `odoo` and `demo` are this with a mapping of their own."""

    summary = "a database (PostgreSQL, MySQL, MariaDB, SQLite): tables or queries in canonical shape, or with a mapping"
    options: ClassVar[dict[str, str]] = {
        "url": "dialect://user:${PASSWORD}@host:port/database, or sqlite:///file.db",
        "tables": "a list of tables, or name: table or query; without it, what the mapping names or every table named like an entity",
        "mapping": "path of the mapping (YAML with `entities:`); without it the tables have the canonical shape",
        "schema": "the schema of the tables, when it is not the user's default",
        "incremental": "table: column that grows with every change; only rows since the last extraction are read",
        "overlap_days": f"how far before its last value an incremental read starts again (default {OVERLAP_DAYS})",
        "mode": "full (default; rows that are absent are deleted) or upsert; entities of incremental tables are always upserted",
        "full": "false is another way to write mode: upsert",
    }
    required: tuple[str, ...] = ("url",)
    is_live = True

    def mapping(self, declaration: SourceDeclaration) -> Mapping | None:
        """The declaration's mapping, if it has one."""
        given = declaration.options.get("mapping")
        return load_mapping(declaration.path(given), declaration.name) if given else None

    def extract(self, batch: Batch) -> None:
        mapping = self.mapping(batch.declaration)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with Database(batch.declaration) as database, scratch() as con:
                    self._read(batch, database, con, mapping)
                break
            except ConnectionLost:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(2 ** attempt * random.uniform(0.5, 1.5))
        with scratch() as con:
            self._deliver(batch, con, mapping)

    def test(self, declaration: SourceDeclaration, scratch_folder: Path) -> list[str]:
        mapping = self.mapping(declaration)
        with Database(declaration) as database:
            lines = []
            for request in self._requests(declaration, database, mapping):
                columns = database.columns(request.name, request.select)
                lines.append(f"{request.name}: {len(columns)} columns" + (f", read from {request.cursor}" if request.cursor else ""))
            if mapping:
                absent = [t for t, spec in mapping.tables.items() if spec.optional and not database.has(t)]
                lines += [f"{table}: not in this database, taken as empty" for table in absent]
        return lines + ([f"mapping {mapping.file.name}: {', '.join(mapping.entities)}"] if mapping else [])

    def _requests(self, declaration: SourceDeclaration, database: Database, mapping: Mapping | None) -> list[Request]:
        """What to read, in the order of the declaration."""
        named = declaration.options.get("tables")
        if isinstance(named, str):
            named = [named]
        if named is None and mapping is not None and mapping.tables:
            named = [t for t, spec in mapping.tables.items() if database.has(t) or not spec.optional]
        if named is None:
            named = database.names if mapping else [n for n in database.names if n.lower() in load_contracts()]
            if not named:
                raise SourceError("the database has no table named like an entity", source=declaration.name, field="tables",
                                  remedy=f"Name tables or queries under `tables:`, or give a mapping. It has {', '.join(database.names[:40]) or 'no tables'}.")
        pairs = {str(k): str(v) for k, v in named.items()} if isinstance(named, dict) else {str(n): str(n) for n in named}
        check_table_names(pairs, declaration.name)
        if mapping is None:
            for name in pairs:
                if name.lower() not in load_contracts():
                    raise SourceError(f"{name!r} is no entity, and there is no mapping", source=declaration.name, field="tables",
                                      remedy=f"Give a mapping, or name it after an entity: {', '.join(load_contracts())}.")
        cursors = declaration.options.get("incremental") or {}
        for name in cursors:
            if name not in pairs:
                raise SourceError(f"`incremental` names {name!r}, which is not read", source=declaration.name, field="incremental", remedy=f"Use one of {', '.join(pairs)}.")
        return [self._request(name, text, database, cursors.get(name)) for name, text in pairs.items()]

    def _request(self, name: str, text: str, database: Database, cursor: str | None) -> Request:
        is_query = text.lstrip().lower().startswith(_QUERY)
        return Request(name, text.strip().rstrip(";") if is_query else database.select(text), not is_query, cursor)

    def _read(self, batch: Batch, database: Database, con: duckdb.DuckDBPyConnection, mapping: Mapping | None) -> None:
        """All tables into `raw/`, within one transaction."""
        batch.warnings.clear()
        for request in self._requests(batch.declaration, database, mapping):
            select, parameters = self._narrowed(batch, database, request)
            spec = mapping.tables.get(request.name) if mapping else None
            target = batch.raw / f"{request.name}.parquet"
            _, warnings = database.read(con, request.name, select, target, batch.work, parameters=parameters, only=list(spec.columns) if spec else None)
            if spec is None:
                batch.warnings += warnings   # with declared types the mapping decides what a value may be
            if request.cursor:
                self._remember(batch, con, request, target)

    def _narrowed(self, batch: Batch, database: Database, request: Request) -> tuple[str, Sequence[Any]]:
        """The SELECT from the last cursor on, less the overlap. Rows without a cursor value are read every time."""
        if not request.cursor:
            return request.select, ()
        kinds = database.columns(request.name, request.select)
        if request.cursor not in kinds:
            raise SourceError(f"the table {request.name} has no column {request.cursor}", source=batch.declaration.name, field="incremental", remedy=f"It has {', '.join(kinds)}.")
        last = batch.state.get(request.name)
        if not last or last["column"] != request.cursor:
            return request.select, ()
        low: Any = last["value"]
        if last["kind"] == "instant":
            low = datetime.fromisoformat(low) - timedelta(days=float(batch.declaration.options.get("overlap_days", OVERLAP_DAYS)))
            low = str(low) if database.url.get_backend_name() == "sqlite" else low
        mark = database.dialect.placeholder
        column, select = (t.replace("%", "%%") if mark == "%s" else t for t in (database.dialect.quoted(request.cursor), request.select))
        return f"SELECT * FROM ({select}) AS narrowed WHERE {column} >= {mark} OR {column} IS NULL", (low,)

    def _remember(self, batch: Batch, con: duckdb.DuckDBPyConnection, request: Request, path: Path) -> None:
        """Where the next incremental read starts: the greatest cursor value, never after now."""
        local_now = batch.extracted_at.astimezone(ZoneInfo(batch.declaration.time_zone)).replace(tzinfo=None)
        column = quoted(request.cursor or "")
        (kind,) = con.execute(f"SELECT any_value(typeof({column})) FROM read_parquet({literal(str(path))})").fetchone()
        before = batch.state.get(request.name)
        if kind is None:
            if before:
                batch.next_state[request.name] = before
            return
        if kind == "BIGINT":
            (value,) = con.execute(f"SELECT max({column}) FROM read_parquet({literal(str(path))})").fetchone()
            batch.next_state[request.name] = {"column": request.cursor, "kind": "number", "value": max(value, before["value"]) if before else value}
            return
        cap = (batch.extracted_at.astimezone(UTC) if kind == "TIMESTAMP WITH TIME ZONE" else local_now.replace(tzinfo=UTC)) + CLOCK_SKEW
        at = f"TIMESTAMPTZ {literal(cap.isoformat(sep=' '))}"
        as_instant = f"TRY_CAST({column} AS TIMESTAMPTZ)"
        micros, beyond = con.execute(f"SELECT epoch_us(max({as_instant}) FILTER ({as_instant} <= {at})), count(*) FILTER ({as_instant} > {at}) FROM read_parquet({literal(str(path))})").fetchone()
        if beyond:
            batch.warnings.append(f"table {request.name}: {beyond} rows have {request.cursor} in the future; they are kept, and the cursor stays at now")
        if micros is not None:
            value = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
            text = str(value if kind == "TIMESTAMP WITH TIME ZONE" else value.replace(tzinfo=None))
            if before and before["column"] == request.cursor:
                text = max(text, before["value"])
            batch.next_state[request.name] = {"column": request.cursor, "kind": "instant", "value": text}
        elif before:
            batch.next_state[request.name] = before

    def _deliver(self, batch: Batch, con: duckdb.DuckDBPyConnection, mapping: Mapping | None) -> None:
        whole: Mode = delivery_mode(batch.declaration, "full")
        partial = set(batch.declaration.options.get("incremental") or {})
        raw = {path.stem: path for path in sorted(batch.raw.glob("*.parquet"))}
        if mapping is not None:
            changing = {entity for table in partial for entity in mapping.entities_using(table)}
            run(con, mapping, batch, raw, lambda entity: "upsert" if entity in changing else whole, {})
            return
        for name, path in raw.items():
            entity = name.lower()
            known = load_contracts()[entity].by_name
            columns = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(str(path))})").fetchall()]
            check_required(entity, [c.lower() if c.lower() in known else c for c in columns], batch.declaration.name, name)
            listed = ", ".join(f"{quoted(c)} AS {quoted(c.lower() if c.lower() in known else c)}" for c in columns if c not in ("_row_number", "_file"))
            select = f"SELECT {listed}, row_number() OVER () AS _row_number, {literal(name)} AS _file FROM read_parquet({literal(str(path))})"
            rows = con.execute(f"COPY ({select}) TO {literal(str(batch.folder / f'{entity}.parquet'))} {PARQUET}").fetchone()[0]
            batch.deliver(entity, "upsert" if name in partial else whole, rows)


SOURCE = SqlSource()
