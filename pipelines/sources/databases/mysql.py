"""MySQL and MariaDB, through PyMySQL: a consistent snapshot, an unbuffered cursor, every value as the server's own text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor

from pipelines.sources.database import Table

_TYPES = {FIELD_TYPE.TINY: "BIGINT", FIELD_TYPE.SHORT: "BIGINT", FIELD_TYPE.INT24: "BIGINT", FIELD_TYPE.LONG: "BIGINT", FIELD_TYPE.LONGLONG: "BIGINT",
          FIELD_TYPE.YEAR: "BIGINT", FIELD_TYPE.BIT: "BIGINT", FIELD_TYPE.FLOAT: "DOUBLE", FIELD_TYPE.DOUBLE: "DOUBLE", FIELD_TYPE.DECIMAL: "DECIMAL", FIELD_TYPE.NEWDECIMAL: "DECIMAL",
          FIELD_TYPE.DATE: "DATE", FIELD_TYPE.NEWDATE: "DATE", FIELD_TYPE.DATETIME: "TIMESTAMP", FIELD_TYPE.TIMESTAMP: "TIMESTAMP", FIELD_TYPE.GEOMETRY: "BINARY"}
_STRINGS = {FIELD_TYPE.STRING, FIELD_TYPE.VAR_STRING, FIELD_TYPE.VARCHAR, FIELD_TYPE.TINY_BLOB, FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB, FIELD_TYPE.BLOB}
_NO_TEXT = 63                # the character set named binary
LOCK_SECONDS = 60            # a table locked for longer is not waited for; the server's own patience is a day


class MySQL:
    """See `Dialect`. TIMESTAMP columns come in UTC, DATETIME columns as they were written."""

    driver = "mysql+pymysql"
    errors = (pymysql.MySQLError, RuntimeError)   # RuntimeError: a way to log in that the driver does not speak
    mends = (
        (r"Access denied for user .* to database '([^']+)'", "the user may not use a database {0}, or there is none", "Check the database name at the end of the URL, or grant SELECT on it."),
        (r"Access denied for user", "the database refuses user name or password", "Check both in the URL; keep the password in an environment variable, as ${NAME}."),
        (r"Unknown database '([^']+)'", "there is no database {0}", "Check the database name at the end of the URL."),
        (r"Table '([^']+)' doesn't exist", "there is no table {0}", "Check `tables:` in sources.yml."),
        (r"Unknown column '([^']+)'", "there is no column {0}", "Check the query under `tables:` in sources.yml."),
        (r"command denied to user", "the user may not read a table", "Grant SELECT on it to the user in the URL."),
        (r"Can't connect|timed out|refused|Name or service not known", "the database host does not answer", "Check host and port in the URL, and that the server runs and lets this machine in."),
        (r"Lock wait timeout", "the table is locked by another program", "Wait for it to end (SHOW PROCESSLIST names it), or try again later."),
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
            cursor.execute("SET SESSION lock_wait_timeout = %s", (LOCK_SECONDS,))
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def table(self, raw: pymysql.Connection, name: str, select: str, parameters: Sequence[Any]) -> Table:
        return Table({field.name: "BINARY" if field.type_code in _STRINGS and field.charsetnr == _NO_TEXT else _TYPES.get(field.type_code, "VARCHAR")
                      for field in self._fields(raw, select, parameters)})

    def _fields(self, raw: pymysql.Connection, select: str, parameters: Sequence[Any]) -> list[Any]:
        """The driver's descriptors; `cursor.description` does not tell a BLOB from a TEXT."""
        with raw.cursor() as cursor:
            cursor.execute(f"SELECT * FROM ({select}) AS q LIMIT 0", parameters or None)
            return list(cursor._result.fields)

    def batches(self, raw: pymysql.Connection, select: str, columns: Sequence[str], parameters: Sequence[Any], size: int) -> Iterator[list[tuple]]:
        bits = {field.name for field in self._fields(raw, select, parameters) if field.type_code == FIELD_TYPE.BIT}   # as text they would be raw bytes
        listed = ", ".join(f"CAST({self.quoted(c)}{' + 0' if c in bits else ''} AS CHAR)" for c in columns)
        listed = listed.replace("%", "%%") if parameters else listed
        cursor = raw.cursor(SSCursor)
        try:
            cursor.execute(f"SELECT {listed} FROM ({select}) AS q", parameters or None)
            while rows := cursor.fetchmany(size):
                yield rows
        except pymysql.MySQLError:
            # the connection is gone: closing the cursor would read the rest from it, and hide what happened
            if cursor._result is not None:
                cursor._result.unbuffered_active = False
            cursor.connection = None
            raise
        cursor.close()

    def quoted(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"


DIALECT = MySQL()
