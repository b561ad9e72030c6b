"""How Great Expectations reaches DuckDB: a SQLAlchemy dialect without transactions.

Great Expectations reads a result after its connection has been rolled back, which throws DuckDB's result away ("list index out
of range" on every expectation). With statements that commit by themselves there is nothing to roll back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from duckdb_engine import ConnectionWrapper, Dialect
from sqlalchemy.dialects import registry

NAME = "rapportduckdb"
_shared: list[duckdb.DuckDBPyConnection] = []    # the open warehouse, then every connection made from it


class AutocommitDialect(Dialect):
    """DuckDB's dialect, every statement its own transaction, on a connection that is open already.

    A connection of its own would carry another configuration, which DuckDB refuses within one process, and would outlive the
    checks in Great Expectations' pools.
    """

    supports_statement_cache = False

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        """One more cursor on the shared connection."""
        _shared.append(_shared[0].cursor())
        return ConnectionWrapper(_shared[-1])

    def do_begin(self, connection: Any) -> None:
        """Nothing is begun."""

    def do_commit(self, connection: Any) -> None:
        """Everything is committed already."""

    def do_rollback(self, connection: Any) -> None:
        """Nothing is open."""


registry.register(NAME, __name__, "AutocommitDialect")


@contextmanager
def connection_string(con: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """A SQLAlchemy URL that reaches `con` for the length of the context; every connection made from it is closed after."""
    _shared[:] = [con]
    try:
        yield f"{NAME}:///shared"
    finally:
        for made in _shared[1:]:
            made.close()
        _shared.clear()
