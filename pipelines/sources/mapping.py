"""A mapping: for each canonical entity one SELECT over the tables as the source has them.

Belongs here: reading a mapping file, running it where it can reach nothing but its own tables, and explaining its mistakes. Does
not belong here: any particular mapping; those are YAML files beside their source.

    tables:                       # optional: what the mapping relies on. Columns that are absent are NULL; rows with a value that
      customers:                  # does not fit its type go to quarantine
        columns: {id: bigint, name: varchar, score: "bigint?"}   # a column with ? may be missing without a word
        optional: true
    lookups:                      # optional: small tables with the columns `key` and `value`
      countries: {United Kingdom: GB}
    macros:                       # optional: expressions used more than once
      tidy(text): nullif(trim(text), '')
    views:                        # optional: SELECTs that later views and entities may use by name
      people: select * from customers where name is not null
    entities:                     # one SELECT each, in DuckDB's SQL, columns named as in the contract
      contacts: select id as contact_id, name as last_name from customers
    ignored:                      # optional: rows left out on purpose; counted and reported under their reason
      test rows: select * from customers where name = 'TEST'
    checks:                       # optional: what must hold, as a SELECT of the rows that break it
      every customer has an id: select * from customers where id is null
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import duckdb
import yaml

from data_contracts.contract import load_contracts
from data_contracts.errors import SourceError
from pipelines.sources.base import Batch, Mode
from pipelines.sources.readers import PARQUET, literal, quoted, union

_SECTIONS = ("tables", "lookups", "macros", "views", "entities", "ignored", "checks")
_TABLE_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
_TYPE_NAME = re.compile(r"^[A-Za-z]+(\(\d+(,\s*\d+)?\))?\??$")
_SIGNATURE = re.compile(r"^[a-z_][a-z0-9_]*\([a-z_][a-z0-9_]*(, [a-z_][a-z0-9_]*)*\)$")


@dataclass(frozen=True)
class TableSpec:
    """What a mapping relies on in one table: column → DuckDB type. An optional table may be missing and is then empty."""

    columns: dict[str, str]
    optional: bool = False
    optional_columns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Mapping:
    """A mapping file, checked for form. `file` is where it lies."""

    file: Path
    entities: dict[str, str]
    tables: dict[str, TableSpec] = field(default_factory=dict)
    lookups: dict[str, dict[str, str]] = field(default_factory=dict)
    macros: dict[str, str] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)

    def entities_using(self, table: str) -> list[str]:
        """The entities whose SELECT reads a table, by itself or through views, in the file's order."""
        names = {table}
        for view, sql in self.views.items():   # a view may use those above it
            if any(_names(sql, n) for n in names):
                names.add(view)
        return [entity for entity, sql in self.entities.items() if any(_names(sql, n) for n in names)]


def _names(sql: str, table: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(table)}(?!\w)", sql, re.IGNORECASE) is not None


def load_mapping(file: Path, source: str) -> Mapping:
    """Read a mapping file. Raises SourceError naming the file, and the entity or section at fault."""
    def fault(message: str, remedy: str, field_: str | None = None, row: int | None = None) -> SourceError:
        return SourceError(message, source=source, file=str(file), field=field_, row=row, remedy=remedy)

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise fault(f"the mapping cannot be read: {error.strerror}", "Check `mapping:` in sources.yml; relative paths start at its folder.") from None
    except (yaml.YAMLError, UnicodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise fault(f"the mapping is not valid YAML: {getattr(error, 'problem', 'it is not UTF-8')}", "Mend the syntax there.", row=mark.line + 1 if mark else None) from None
    if not isinstance(content, dict) or not isinstance(content.get("entities"), dict) or not content["entities"]:
        raise fault("the mapping has no entities", "Write `entities:` with one SELECT for each, such as `orders: select … from …`.", "entities")
    for section in content:
        if section not in _SECTIONS:
            raise fault(f"the mapping has an unknown section {section!r}", f"Use {', '.join(_SECTIONS)}.", str(section))
    for section in ("macros", "views", "entities", "ignored", "checks"):
        for name, sql in (content.get(section) or {}).items():
            if not isinstance(sql, str) or not sql.strip():
                raise fault(f"{section}.{name} is no SQL text", "Give one SELECT statement.", f"{section}.{name}")
    known = load_contracts()
    for entity in content["entities"]:
        if entity not in known:
            near = get_close_matches(str(entity), known, 1)
            raise fault(f"there is no entity {entity!r}", f"Did you mean {near[0]}?" if near else f"Entities: {', '.join(known)}.", f"entities.{entity}")
    for name in content.get("macros") or {}:
        if not _SIGNATURE.match(str(name)):
            raise fault(f"macros.{name} is no name with parameters", "Write `name(one, two): expression`.", f"macros.{name}")
    for name in content.get("views") or {}:
        if not _TABLE_NAME.match(str(name)):
            raise fault(f"{name!r} cannot name a view", "Use letters, digits and _, starting with a letter.", f"views.{name}")
    lookups = content.get("lookups") or {}
    for name, pairs in lookups.items():
        if not _TABLE_NAME.match(str(name)) or not isinstance(pairs, dict):
            raise fault(f"lookups.{name} is no table of keys and values", "Write `name: {key: value}`.", f"lookups.{name}")
    return Mapping(file, dict(content["entities"]), {str(n): _table_spec(str(n), s, fault) for n, s in (content.get("tables") or {}).items()},
                   {str(n): {str(k): str(v) for k, v in pairs.items()} for n, pairs in lookups.items()},
                   *(dict(content.get(section) or {}) for section in ("macros", "views", "ignored", "checks")))


def _table_spec(name: str, spec: object, fault: Callable[..., SourceError]) -> TableSpec:
    columns = spec.get("columns") if isinstance(spec, dict) else None
    if not _TABLE_NAME.match(name) or not isinstance(columns, dict) or not columns or set(spec) - {"columns", "optional"}:
        raise fault(f"tables.{name} does not say its columns", "Write `name: {columns: {column: type}, optional: true}`.", f"tables.{name}")
    for column, kind in columns.items():
        if not _TYPE_NAME.match(str(kind)):
            raise fault(f"tables.{name}.{column}: {kind!r} is no type", "Use a type of DuckDB such as varchar, bigint, decimal(18,4), timestamp.", f"tables.{name}.{column}")
    return TableSpec({str(c): str(t).rstrip("?") for c, t in columns.items()}, bool(spec.get("optional")), frozenset(str(c) for c, t in columns.items() if str(t).endswith("?")))


def check_table_names(names: Dict[str, object], source: str) -> None:
    """Names by which a mapping calls its tables must be plain identifiers."""
    for name in names:
        if not _TABLE_NAME.match(str(name)):
            raise SourceError(f"{name!r} cannot name a table", source=source, remedy="Use letters, digits and _, starting with a letter.")


def run(con: duckdb.DuckDBPyConnection, mapping: Mapping, batch: Batch, raw: dict[str, Path], mode_of: Callable[[str], Mode],
        rejects: Dict[str, Path]) -> None:
    """Deliver every entity of a mapping from Parquet tables, in a connection that is locked down first and useless afterwards.

    `raw` maps table names to files, `mode_of` an entity to its mode, `rejects` a table to the lines already set aside for it.
    """
    set_aside = {table: [path] for table, path in rejects.items()}
    for table, path in raw.items():
        relation = f"read_parquet({literal(str(path))})"
        if table in mapping.tables:
            misfits = batch.work / f"{table}.misfits.parquet"
            if _write_misfits(con, relation, mapping.tables[table], misfits):
                set_aside.setdefault(table, []).append(misfits)
            con.execute(f"CREATE VIEW {quoted(table)} AS {_typed(con, relation, mapping.tables[table], table, batch)}")
        else:
            con.execute(f"CREATE VIEW {quoted(table)} AS SELECT * FROM {relation}")
    for table, spec in mapping.tables.items():
        if table not in raw:
            empty = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(column)}" for column, kind in spec.columns.items())
            con.execute(f"CREATE VIEW {quoted(table)} AS SELECT {empty} WHERE false")
    for name, pairs in mapping.lookups.items():
        values = ", ".join(f"({literal(key)}, {literal(value)})" for key, value in pairs.items()) or "(NULL, NULL)"
        con.execute(f"CREATE TABLE {quoted(name)} AS SELECT key, value FROM (VALUES {values}) AS t(key, value) WHERE key IS NOT NULL")
    rejected = _write_rejects(con, mapping, batch, set_aside)
    _lock_down(con, batch)
    runner = _Runner(con, mapping, batch.declaration.name)
    for signature, expression in mapping.macros.items():
        runner.define(f"macros.{signature}", f"CREATE MACRO {signature} AS ({expression})", expression)
    for name, sql in mapping.views.items():
        runner.columns(f"views.{name}", sql)
        runner.define(f"views.{name}", f"CREATE TABLE {quoted(name)} AS {sql}", sql)   # a table: several entities read it, and it is computed once
    for name, sql in mapping.checks.items():
        runner.check(name, sql)
    for reason, sql in mapping.ignored.items():
        batch.ignored[reason] = runner.count(f"ignored.{reason}", sql)
    for entity, sql in mapping.entities.items():
        rows = runner.deliver(entity, sql, batch.folder / f"{entity}.parquet", batch.warnings)
        batch.deliver(entity, mode_of(entity), rows, rejected.get(entity, 0))


def _described(con: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    return {row[0].lower(): row[1] for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def _misfit(present: Dict[str, str], spec: TableSpec) -> list[tuple[str, str]]:
    """(column, condition) for each column whose text may not fit the type the mapping gives it."""
    return [(c, f"TRY_CAST({quoted(c)} AS {kind}) IS NULL AND nullif(trim(CAST({quoted(c)} AS VARCHAR)), '') IS NOT NULL")
            for c, kind in spec.columns.items() if c.lower() in present and kind.lower() != "varchar" and present[c.lower()].lower() != kind.lower()]


def _typed(con: duckdb.DuckDBPyConnection, relation: str, spec: TableSpec, table: str, batch: Batch) -> str:
    present = _described(con, relation)
    absent = [c for c in spec.columns if c.lower() not in present and c not in spec.optional_columns]
    if absent:
        batch.warnings.append(f"table {table} has no column {', '.join(absent)}; taken as empty")
    listed = [f"TRY_CAST({quoted(c) if c.lower() in present else 'NULL'} AS {kind}) AS {quoted(c)}" for c, kind in spec.columns.items()]
    misfits = " OR ".join(f"({condition})" for _, condition in _misfit(present, spec)) or "false"
    return f"SELECT {', '.join(listed)} FROM {relation} WHERE NOT ({misfits})"


def _write_misfits(con: duckdb.DuckDBPyConnection, relation: str, spec: TableSpec, target: Path) -> int:
    """Rows with a value that does not fit, in the shape of rejected lines. Returns how many."""
    present = _described(con, relation)
    conditions = _misfit(present, spec)
    if not conditions:
        return 0
    reasons = ", ".join(f"CASE WHEN {condition} THEN {literal(f'{c} is not {spec.columns[c]}')} END" for c, condition in conditions)
    file, number = (n if n in present else "NULL" for n in ("_file", "_row_number"))
    misfits = " OR ".join(f"({condition})" for _, condition in conditions)
    select = f"SELECT CAST({file} AS VARCHAR) AS _file, CAST({number} AS BIGINT) AS _row_number, CAST(to_json(t) AS VARCHAR) AS _raw"
    return con.execute(f"COPY ({select}, concat_ws('; ', {reasons}) AS _reason FROM {relation} AS t WHERE {misfits}) TO {literal(str(target))} {PARQUET}").fetchone()[0]


def _write_rejects(con: duckdb.DuckDBPyConnection, mapping: Mapping, batch: Batch, set_aside: Dict[str, list[Path]]) -> dict[str, int]:
    """Rejected rows of a table under the first entity that reads it, since quarantine is kept by entity. Counts by entity."""
    parts: dict[str, list[Path]] = {}
    for table, paths in set_aside.items():
        parts.setdefault(next(iter(mapping.entities_using(table)), next(iter(mapping.entities))), []).extend(paths)
    counts = {entity: union(con, paths, batch.folder / f"{entity}.rejects.parquet") for entity, paths in parts.items()}
    batch.warnings += [f"{entity}: {n:,} rows could not be read and go to quarantine" for entity, n in counts.items()]
    return counts


def _lock_down(con: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """From here on the connection reaches the batch folder and nothing else: a mapping is text that somebody wrote."""
    con.execute(f"SET temp_directory={literal(str(batch.work / 'spill'))}")
    con.execute(f"SET allowed_directories=[{literal(str(batch.folder))}]")
    con.execute("SET enable_external_access=false")
    con.execute("SET lock_configuration=true")


class _Runner:
    """Runs the SELECTs of one mapping and turns DuckDB's complaints into errors that name the entity and what exists."""

    def __init__(self, con: duckdb.DuckDBPyConnection, mapping: Mapping, source: str) -> None:
        self.con, self.mapping, self.source = con, mapping, source

    def deliver(self, entity: str, sql: str, target: Path, warnings: list[str]) -> int:
        contract = load_contracts()[entity]
        where = f"entities.{entity}"
        names = self.columns(where, sql)
        missing = [c for c in contract.required_columns if c not in (n.lower() for n in names)]
        if missing:
            raise self._fault(f"the SELECT of {entity} gives no column {', '.join(missing)}", where,
                              f"Name it with AS; the SELECT gives {', '.join(names) or 'nothing'}.")
        for name in names:
            near = get_close_matches(name, [c for c in contract.by_name if c not in names], 1, 0.87)
            if near and name not in contract.by_name and not name.startswith("_"):
                warnings.append(f"mapping of {entity}: the column {name} is kept as a custom field; did you mean {near[0]}?")
        columns = [f"q.{quoted(n)} AS {quoted(n.lower() if n.lower() in contract.by_name else n)}" for n in names]
        if "_row_number" not in names:
            columns.append("row_number() OVER () AS _row_number")
        if "_file" not in names:
            columns.append(f"{literal(f'{self.mapping.file.name}: {entity}')} AS _file")
        return self._execute(where, f"COPY (SELECT {', '.join(columns)} FROM ({sql}\n) AS q) TO {literal(str(target))} {PARQUET}")

    def define(self, where: str, statement: str, sql: str) -> None:
        """Run one CREATE statement built around a mapping's text."""
        try:
            if len(self.con.extract_statements(statement)) != 1:
                raise self._fault(f"{where} is more than one statement", where, "Write a single expression or SELECT.")
            self.con.execute(statement)
        except duckdb.Error as error:
            raise self._explained(error, where, sql) from None

    def count(self, where: str, sql: str) -> int:
        self.columns(where, sql)
        return self._execute(where, f"SELECT count(*) FROM ({sql}\n) AS q")

    def check(self, name: str, sql: str) -> None:
        broken = self.count(f"checks.{name}", sql)
        if broken:
            row = None
            if "_row_number" in self.columns(f"checks.{name}", sql):
                row = self._execute(f"checks.{name}", f"SELECT min(_row_number) FROM ({sql}\n) AS q")
            raise SourceError(f"a check of the mapping fails: {name!r} is broken by {broken:,} rows", source=self.source, file=str(self.mapping.file), row=row,
                              field=f"checks.{name}", remedy="Extend the mapping so that it covers these rows, or mend them at the source.")

    def columns(self, where: str, sql: str) -> list[str]:
        """Output columns of a SELECT; refuses anything else."""
        try:
            statements = self.con.extract_statements(sql)
        except duckdb.Error as error:
            raise self._explained(error, where, sql) from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise self._fault(f"{where} is not one SELECT statement", where, "Write a single SELECT (WITH … SELECT is fine).")
        try:
            names = [row[0] for row in self.con.execute(f"DESCRIBE {sql}").fetchall()]
        except duckdb.Error as error:
            raise self._explained(error, where, sql) from None
        lowered = [n.lower() for n in names]
        twice = sorted({n for n in lowered if lowered.count(n) > 1})
        if twice:
            raise self._fault(f"{where} gives the column {twice[0]} twice", where, "Name each output column once.")
        return names

    def _execute(self, where: str, sql: str) -> int:
        try:
            return self.con.execute(sql).fetchone()[0]
        except duckdb.Error as error:
            raise self._explained(error, where, sql) from None

    def _explained(self, error: duckdb.Error, where: str, sql: str) -> SourceError:
        text = str(error)
        message = re.sub(r"^\w+( \w+)? Error: ", "", text.splitlines()[0]) if text else type(error).__name__
        if isinstance(error, (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)):
            message = re.sub(r"'[^']*'|\"[^\"]*\"", "a value", message)   # a message must not carry data
        line = next((part.split(":")[0].removeprefix("LINE ") for part in text.splitlines() if part.startswith("LINE ")), None)
        at = f" (line {line} of its SQL)" if line and line != "1" else ""
        return self._fault(f"{where} cannot run: {message.rstrip('!.')}{at}", where, self._what_exists(sql))

    def _what_exists(self, sql: str) -> str:
        tables: dict[str, list[str]] = {}
        for table, column in self.con.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index").fetchall():
            tables.setdefault(table, []).append(column)
        used = {t: c for t, c in tables.items() if _names(sql, t)}
        if not used:
            return f"Tables: {', '.join(tables) or 'none'}."
        return " ".join(f"Columns of {t}: {', '.join(c)}." for t, c in used.items())[:2000]

    def _fault(self, message: str, where: str, remedy: str) -> SourceError:
        return SourceError(message, source=self.source, file=str(self.mapping.file), field=where, remedy=remedy)
