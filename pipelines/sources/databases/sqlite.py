"""SQLite files: opened read-only, one read transaction, values as text because a column may hold several types."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.sources.database import Table

# a declared type is any text in SQLite; the first pattern that fits decides
_TYPES = ((r"BOOL", "BOOLEAN"), (r"INT", "BIGINT"), (r"DEC|NUMERIC|MONEY", "DECIMAL"), (r"REAL|FLOA|DOUB", "DOUBLE"),
          (r"TIMESTAMP|DATETIME", "TIMESTAMP"), (r"DATE", "DATE"), (r"BLOB|BINARY", "BINARY"))


class SQLite:
    """See `Dialect`."""

    driver = "sqlite"
    errors = (sqlite3.Error,)
    mends = (
        (r"unable to open database file", "the database file cannot be opened", "Check the path in the URL; relative paths start at the folder of sources.yml."),
        (r"file is not a database|file is encrypted", "the file is no SQLite database", "Check the path in the URL."),
        (r"database (table )?is locked|database schema is locked", "the database is locked by another process", "Close the program that writes to it, or try again later."),
        (r"malformed", "the database file is damaged", "Restore it from a backup; `sqlite3 FILE .recover` may save what is left."),
        (r"no such table: (\S+)", "there is no table {0}", "Check `tables:` in sources.yml."),
        (r"no such column: (\S+)", "there is no column {0}", "Check the query under `tables:` in sources.yml."),
        (r"near \"?([^\"]*)\"?: syntax error", "the query has a syntax error near {0}", "Check the query under `tables:` in sources.yml."),
        (r"readonly|read-only|not authorized", "the database is opened for reading only", "Use only SELECT under `tables:` in sources.yml."),
    )
    lost = r"disk I/O error"
    placeholder = "?"

    def connect_arguments(self, seconds: int) -> dict[str, Any]:
        return {"timeout": seconds}

    def begin(self, raw: sqlite3.Connection) -> None:
        raw.rollback()
        raw.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
        raw.execute("PRAGMA query_only = true")
        raw.execute("BEGIN")
        raw.execute("SELECT count(*) FROM sqlite_master").fetchone()   # the snapshot starts with the first read, not with BEGIN

    def table(self, raw: sqlite3.Connection, name: str, select: str, parameters: Sequence[Any]) -> Table:
        cursor = raw.execute(f"SELECT * FROM ({select}) AS q LIMIT 0", parameters)
        declared = {row[1].lower(): row[2] or "" for row in raw.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall()}
        return Table({c[0]: _type(declared.get(c[0].lower(), "")) for c in cursor.description})

    def batches(self, raw: sqlite3.Connection, select: str, columns: Sequence[str], parameters: Sequence[Any], size: int) -> Iterator[list[tuple]]:
        listed = ", ".join(f"CAST({self.quoted(c)} AS TEXT)" for c in columns)
        cursor = raw.execute(f"SELECT {listed} FROM ({select}) AS q", parameters)
        while rows := cursor.fetchmany(size):
            yield rows

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


def _type(declared: str) -> str:
    return next((kind for pattern, kind in _TYPES if re.search(pattern, declared.upper())), "VARCHAR")


DIALECT = SQLite()
