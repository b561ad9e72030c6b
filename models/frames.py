"""Frames into tables of an open database.

Belongs here: the one way rows that Python made are written. Does not belong here: what a table holds, opening the database, a transaction.
"""

from __future__ import annotations

import duckdb
import polars as pl


def append(con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, select: str = "SELECT * FROM appended") -> None:
    """Insert a frame's rows by the names of its columns; `select` may join `appended` with what is there. `table` is no user's text.

    Nothing is asked of the database for a frame without rows: DuckDB 1.5.5 loses the rows of a large INSERT that follows one of none
    into the same table in one transaction.
    """
    if frame.is_empty():
        return
    con.register("appended", frame.to_arrow())
    try:
        con.execute(f"INSERT INTO {table} BY NAME {select}")
    finally:
        con.unregister("appended")
