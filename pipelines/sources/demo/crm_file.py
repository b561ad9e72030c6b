"""Writes frames into a SQLite file in bounded batches.

Belongs here: creating the file, appending rows, numbering them, and moving the finished file into place. What the rows say
does not belong here.
"""

import os
import sqlite3
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl

_BATCH_ROWS = 50_000  # bounds the Python objects alive at once; larger batches are not faster


class CrmFile:
    """A SQLite file under construction: readable at `path` only once everything is in it.

    Use as a context manager. On success the file replaces `path` atomically; on any error nothing is left behind.
    """

    def __init__(self, path: Path, tables: Path) -> None:
        self._path = Path(path)
        self._draft = self._path.with_name(self._path.name + ".part")
        self._tables = tables
        self._next: dict[str, int] = {}

    def __enter__(self) -> "CrmFile":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._draft.unlink(missing_ok=True)
        self._connection = sqlite3.connect(self._draft, isolation_level=None)
        # The draft is thrown away on failure, so no journal is needed to protect it.
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(self._tables.read_text(encoding="utf-8"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        if kind is None:
            os.replace(self._draft, self._path)
        else:
            self._draft.unlink(missing_ok=True)

    def number(self, table: str, count: int) -> np.ndarray:
        """Reserve `count` consecutive ids of a table; ids start at 1."""
        first = self._next.get(table, 1)
        self._next[table] = first + count
        return np.arange(first, first + count, dtype=np.int64)

    def append(self, table: str, frame: pl.DataFrame) -> None:
        """Append rows; the frame's column names are the table's."""
        names = ", ".join(f'"{name}"' for name in frame.columns)
        marks = ", ".join("?" for _ in frame.columns)
        statement = f'INSERT INTO "{table}" ({names}) VALUES ({marks})'
        self._connection.execute("BEGIN")
        for batch in frame.iter_slices(_BATCH_ROWS):
            self._connection.executemany(statement, zip(*(column.to_list() for column in batch.iter_columns()), strict=True))
        self._connection.execute("COMMIT")
