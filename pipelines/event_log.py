"""Where Dagster keeps what happened: one SQLite file per home, written through one connection that stays open.

Belongs here: how the file is opened and written. Does not belong here: what is recorded (Dagster decides) or read back
(`make ui`). Dagster's own storage opens and closes a connection for every statement and waits for the disk at every commit,
three to four times an event; a run has a thousand events, and that was half of what a small run cost.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster import EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy.pool import StaticPool


def _when_opened(connection: sqlite3.Connection, _: Any) -> None:
    # a commit waits for no disk: a power cut may lose the last events, never the file (write-ahead log)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class EventLog(ConsolidatedSqliteEventLogStorage):
    """Dagster's event log in `<base_dir>/events/event_log.db`; `dagster.yaml` names this class."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._lock = threading.RLock()
        self._engine: sqlalchemy.Engine | None = None
        self._tables: set[str] = set()
        self._asset_columns: set[str] = set()
        super().__init__(str(Path(base_dir) / "events"), inst_data)

    def _opened(self) -> sqlalchemy.Engine:
        if self._engine is None:
            self._engine = sqlalchemy.create_engine(self._conn_string, poolclass=StaticPool,
                                                    connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False})
            sqlalchemy.event.listen(self._engine, "connect", _when_opened)
        return self._engine

    @contextmanager
    def _connect(self) -> Iterator[sqlalchemy.Connection]:
        """The connection within a transaction; a call inside another joins its transaction."""
        with self._lock:
            inside: sqlalchemy.Connection | None = getattr(self, "_inside", None)
            if inside is not None:
                yield inside
                return
            with self._opened().connect() as connection, connection.begin():
                self._inside = connection
                try:
                    yield connection
                finally:
                    self._inside = None

    def has_table(self, table_name: str) -> bool:
        """Whether the file has the table. One that is there stays: it is asked before every event of a check."""
        if table_name not in self._tables:
            with self._connect() as connection:
                self._tables |= set(sqlalchemy.inspect(connection).get_table_names())
        return table_name in self._tables

    def _has_asset_key_col_on_connection(self, conn: sqlalchemy.Connection, column_name: str) -> bool:
        # asked for every event of an asset; a column, too, is only ever added
        if column_name not in self._asset_columns:
            self._asset_columns |= {str(column["name"]) for column in sqlalchemy.inspect(conn).get_columns("asset_keys")}
        return column_name in self._asset_columns

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Write events in one transaction."""
        with self._connect():
            for event in events:
                self.store_event(event)

    def dispose(self) -> None:
        """Close the connection and stop watching."""
        super().dispose()
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None
