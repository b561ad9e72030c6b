"""MySQL and MariaDB, through PyMySQL: a consistent snapshot, an unbuffered cursor, every value as the server's own text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor

from pipelines.sources.database import Table

_TYPES = {FIELD_TYPE.TINY: "BIGINT", FIELD_TYPE.SHORT: "BIGINT", FIELD_TYPE.INT24: "BIGINT", FIELD_TYPE.LONG: "BIGINT", FIELD_TYPE.LONGLONG: "BIGINT",
          FIELD_TYPE.YEAR: "BIGINT", FIELD_TYPE.FLOAT: "DOUBLE", FIELD_TYPE.DOUBLE: "DOUBLE", FIELD_TYPE.DECIMAL: "DECIMAL", FIELD_TYPE.NEWDECIMAL: "DECIMAL",
          FIELD_TYPE.DATE: "DATE", FIELD_TYPE.NEWDATE: "DATE", FIELD_TYPE.DATETIME: "TIMESTAMP", FIELD_TYPE.TIMESTAMP: "TIMESTAMP", FIELD_TYPE.GEOMETRY: "BINARY"}


class MySQL:
    """See `Dialect`. TIMESTAMP columns come in UTC, DATETIME columns as they were written."""

    driver = "mysql+pymysql"
    errors = (pymysql.MySQLError, RuntimeError)   # RuntimeError: a way to log in that the driver does not speak
    mends = (
        (r"Access denied for user", "the database refuses user name or password", "Check both in the URL; keep the password in an environment variable, as ${NAME}."),
        (r"Unknown database '([^']+)'", "there is no database {0}", "Check the database name at the end of the URL."),
        (r"Table '([^']+)' doesn't exist", "there is no table {0}", "Check `tables:` in sources.yml."),
        (r"Unknown column '([^']+)'", "there is no column {0}", "Check the query under `tables:` in sources.yml."),
        (r"command denied to user", "the user may not read a table", "Grant SELECT on it to the user in the URL."),
        (r"Can't connect|timed out|refused|Name or service not known", "the database host does not answer", "Check host and port in the URL, and that the server runs and lets this machine in."),
        (r"Too many connections", "the database has no free connection", "Try again later."),
        (r"error in your SQL syntax", "the query has a syntax error", "Check the query under `tables:` in sources.yml."),
    )
    lost = r"Lost connection|gone away|Packet sequence number wrong|\(0, ''\)"
    placeholder = "%s"

    def connect_arguments(self, seconds: int) -> dict[str, Any]:
        return {"connect_timeout": seconds, "charset": "utf8mb4", "init_command": "SET SESSION time_zone = '+00:00'"}

    def begin(self, raw: pymysql.Connection) -> None:
        raw.rollback()
        with raw.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def table(self, raw: pymysql.Connection, name: str, select: str, parameters: Sequence[Any]) -> Table:
        with raw.cursor() as cursor:
            cursor.execute(f"SELECT * FROM ({select}) AS q LIMIT 0", parameters or None)
            return Table({c[0]: _TYPES.get(c[1], "VARCHAR") for c in cursor.description})

    def batches(self, raw: pymysql.Connection, select: str, columns: Sequence[str], parameters: Sequence[Any], size: int) -> Iterator[list[tuple]]:
        listed = ", ".join(f"CAST({self.quoted(c)} AS CHAR)" for c in columns)
        with raw.cursor(SSCursor) as cursor:
            cursor.execute(f"SELECT {listed} FROM ({select}) AS q", parameters or None)
            while rows := cursor.fetchmany(size):
                yield rows

    def quoted(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"


DIALECT = MySQL()
