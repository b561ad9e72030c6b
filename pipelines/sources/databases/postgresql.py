"""PostgreSQL, through psycopg: a repeatable-read snapshot, a server-side cursor, every value as the server's own text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg.types.string import TextLoader

from pipelines.sources.database import Table

# pg_type OIDs (src/include/catalog/pg_type.dat); anything else is text
_TYPES = {16: "BOOLEAN", 20: "BIGINT", 21: "BIGINT", 23: "BIGINT", 26: "BIGINT", 700: "DOUBLE", 701: "DOUBLE", 1700: "DECIMAL",
          1082: "DATE", 1114: "TIMESTAMP", 1184: "TIMESTAMPTZ", 17: "BINARY"}


class PostgreSQL:
    """See `Dialect`."""

    driver = "postgresql+psycopg"
    errors = (psycopg.Error,)
    mends = (
        (r"password authentication failed|no password supplied", "the database refuses user name or password", "Check both in the URL; keep the password in an environment variable, as ${NAME}."),
        (r"database \"([^\"]+)\" does not exist", "there is no database {0}", "Check the database name at the end of the URL."),
        (r"role \"([^\"]+)\" does not exist", "there is no user {0}", "Check the user name in the URL."),
        (r"permission denied for (\w+ \S+)", "the user may not read {0}", "Grant SELECT on it to the user in the URL."),
        (r"relation \"([^\"]+)\" does not exist", "there is no table {0}", "Check `tables:` and `schema:` in sources.yml."),
        (r"column \"?([^\" ]+)\"? does not exist", "there is no column {0}", "Check the query under `tables:` in sources.yml."),
        (r"could not translate host name|Name or service not known|nodename nor servname", "the database host is not known", "Check the host in the URL."),
        (r"refused|timeout expired|No route to host|Network is unreachable|No such file or directory", "the database host does not answer", "Check host and port in the URL, and that the server runs and lets this machine in."),
        (r"remaining connection slots|too many (clients|connections)", "the database has no free connection", "Try again later."),
        (r"syntax error at or near (.*)", "the query has a syntax error near {0}", "Check the query under `tables:` in sources.yml."),
    )
    lost = r"server closed the connection|connection.*(lost|reset|closed)|terminating connection|SSL SYSCALL|EOF detected"

    def connect_arguments(self, seconds: int) -> dict[str, Any]:
        return {"connect_timeout": seconds, "application_name": "rapport"}

    def begin(self, raw: psycopg.Connection) -> None:
        raw.rollback()
        raw.execute("SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET bytea_output = 'hex'")   # text must not depend on the server's settings
        raw.commit()
        raw.isolation_level, raw.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True

    def table(self, raw: psycopg.Connection, name: str, select: str, parameters: Sequence[Any]) -> Table:
        with raw.cursor() as cursor:
            cursor.execute(f"SELECT * FROM ({select}) AS q LIMIT 0", parameters or None)
            return Table({c.name: _TYPES.get(c.type_code, "VARCHAR") for c in cursor.description})

    def batches(self, raw: psycopg.Connection, select: str, columns: Sequence[str], parameters: Sequence[Any], size: int) -> Iterator[list[tuple]]:
        listed = ", ".join(self.quoted(c) for c in columns)
        with raw.cursor(name="rapport") as cursor:
            for known in psycopg.adapters.types:
                for oid in (known.oid, known.array_oid):
                    if oid:
                        cursor.adapters.register_loader(oid, TextLoader)
            cursor.itersize = size
            cursor.execute(f"SELECT {listed} FROM ({select}) AS q", parameters or None)
            while rows := cursor.fetchmany(size):
                yield rows

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    placeholder = "%s"


DIALECT = PostgreSQL()
