"""The `sql` source on a real MariaDB server, spoken to through PyMySQL as MySQL is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pymysql
import pytest
from fixtures.mariadb_server import Server, running_server

from data_contracts.contract import load_contracts
from data_contracts.environment import Home, SourceDeclaration
from data_contracts.errors import SourceError
from models import ingest, warehouse
from pipelines.sources import base, database
from pipelines.sources.databases import mysql
from pipelines.sources.types import sql

Declare = Callable[..., SourceDeclaration]
Take = Callable[..., base.Extraction]
NAME = "Zoë 😀 d'Arc"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        with running.root() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'right-Passw0rd'")
            cursor.execute("GRANT SELECT ON shop.* TO reader@'127.0.0.1'")
        yield running


@pytest.fixture
def shop(server: Server) -> Iterator[pymysql.Connection]:
    """An empty database, as its owner."""
    with server.root() as connection:
        connection.query("DROP DATABASE IF EXISTS shop")
        connection.query("CREATE DATABASE shop CHARACTER SET utf8mb4")
        connection.select_db("shop")
        yield connection


@pytest.fixture
def url(server: Server) -> str:
    return server.url("reader", "right-Passw0rd", "shop")


@pytest.fixture
def take(home: Home, declared: Declare, url: str) -> Take:
    """Extracts the `sql` source; every call is a batch of its own."""
    count = iter(range(1000))

    def run(state: dict[str, Any] | None = None, now: datetime | None = None, time_zone: str = "UTC", **options: Any) -> base.Extraction:
        return base.extract(declared("sql", time_zone=time_zone, **{"url": url} | options), home, f"b{next(count):03}", set(), state=state, now=now)
    return run


def table(extraction: base.Extraction, entity: str) -> pl.DataFrame:
    (delivery,) = [d for d in extraction.deliveries if d.entity == entity]
    return pl.read_parquet(delivery.path)


def mistake(take: Take, home: Home, **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        take(**options)
    assert caught.value.source == "shop" and caught.value.remedy and list((home.landing / "shop").iterdir()) == []
    return caught.value


def test_values_keep_their_meaning(shop: pymysql.Connection, take: Take) -> None:
    shop.query("""CREATE TABLE orders (order_id BIGINT UNSIGNED, net_amount DECIMAL(38,4), small DECIMAL(10,3), real_number DOUBLE, is_test TINYINT(1), ordered_at DATETIME(6), stamped_at TIMESTAMP NULL,
                  day DATE, year_of YEAR, lasts TIME, extra JSON, kind ENUM('a','b'), picture BLOB, bits BIT(3), status VARCHAR(20), `Odd ``name` TEXT) CHARACTER SET utf8mb4""")
    shop.query("SET time_zone = '+09:00'")
    shop.query(f"""INSERT INTO orders VALUES (18446744073709551615, 1234567890123456789012345678901234.5678, 0.1, 0.1, 1, '2026-03-29 02:30:00.123456', '2026-01-01 09:00:00', '2026-01-05', 2026, '25:10:00',
                  '{{"a": 1.10}}', 'b', x'00ff', b'101', '', '{NAME.replace("'", "''")}')""")
    shop.query("INSERT INTO orders (order_id, net_amount, small) VALUES (2, 0.1, -7.125)")
    orders = table(take(), "orders")
    first, second = orders.sort("small", descending=True).rows(named=True)
    assert first["order_id"] == "18446744073709551615", "beyond a signed 64-bit number the digits stay as text"
    assert (first["net_amount"], second["net_amount"]) == (Decimal("1234567890123456789012345678901234.5678"), Decimal("0.1000"))
    assert (first["small"], second["small"], first["real_number"], first["is_test"]) == (Decimal("0.100"), Decimal("-7.125"), 0.1, 1)
    assert first["ordered_at"] == datetime(2026, 3, 29, 2, 30, 0, 123456) and orders.schema["ordered_at"].time_zone is None
    assert first["stamped_at"] == datetime(2026, 1, 1) and str(first["day"]) == "2026-01-05" and first["year_of"] == 2026 and first["bits"] == 5 and first["lasts"] == "25:10:00"
    assert first["extra"] == '{"a": 1.10}' and first["kind"] == "b" and "picture" not in orders.columns and first["Odd `name"] == NAME
    assert first["status"] == "" and all(second[c] is None for c in orders.columns if c not in ("order_id", "net_amount", "small", "_row_number", "_file"))


def test_a_naive_time_is_taken_in_the_zone_of_its_source(shop: pymysql.Connection, take: Take, home: Home, tmp_path: Any) -> None:
    shop.query("CREATE TABLE orders (order_id INT, contact_id INT, ordered_at DATETIME, net_amount DECIMAL(10,2), currency CHAR(3))")
    shop.query("INSERT INTO orders VALUES (1, 1, '2026-07-01 00:30:00', 0.10, 'EUR'), (2, 1, '2026-01-01 00:30:00', 19.99, 'EUR')")
    (delivery,) = take(time_zone="Europe/Berlin").deliveries
    with warehouse.scratch() as con:
        ingest.prepare(con)
        context = ingest.BatchContext("shop", "b000", 1, datetime(2026, 8, 1), "Europe/Berlin", "EUR")
        report = ingest.load(con, load_contracts()["orders"], delivery.path, context, full=True)
        assert (report.accepted, report.quarantined) == (2, 0)
        found = con.execute("SELECT ordered_at, net_amount FROM landing.orders ORDER BY order_id").fetchall()
    assert found == [(datetime(2026, 6, 30, 22, 30), Decimal("0.1000")), (datetime(2025, 12, 31, 23, 30), Decimal("19.9900"))]


def test_all_tables_are_read_from_one_state_of_the_database(shop: pymysql.Connection, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.query("CREATE TABLE orders (order_id INT, ordered_at DATETIME)")
    shop.query("CREATE TABLE order_lines (order_id INT, line_id INT, quantity DECIMAL(10,2), unit_price DECIMAL(10,2))")
    shop.query("INSERT INTO orders VALUES (1, NOW())")
    shop.query("INSERT INTO order_lines VALUES (1, 1, 1, 1)")
    plain = mysql.MySQL.batches

    def with_a_sale_meanwhile(self: Any, *arguments: Any) -> Iterator[list[tuple]]:
        yield from plain(self, *arguments)
        shop.query("INSERT INTO orders SELECT MAX(order_id) + 1, NOW() FROM orders")
        shop.query("INSERT INTO order_lines SELECT MAX(order_id) + 1, 1, 1, 1 FROM order_lines")
    monkeypatch.setattr(mysql.MySQL, "batches", with_a_sale_meanwhile)
    taken = take(tables=["orders", "order_lines"])
    assert {d.entity: d.rows for d in taken.deliveries} == {"orders": 1, "order_lines": 1}
    with shop.cursor() as cursor:
        assert cursor.execute("SELECT * FROM order_lines") == 3


def test_a_wrong_password_and_a_missing_database_are_told_without_the_password(server: Server, shop: pymysql.Connection, home: Home, take: Take, url: str) -> None:
    error = mistake(take, home, url=server.url("reader", "wrong-Secr3t", "shop"))
    assert "refuses user name or password" in error.message and "reader:***@" in error.remedy and "Secr3t" not in str(error)
    assert "may not use a database elsewhere" in mistake(take, home, url=server.url("reader", "right-Passw0rd", "elsewhere")).message


def test_the_source_is_never_written(shop: pymysql.Connection, take: Take, home: Home, server: Server) -> None:
    shop.query("CREATE TABLE orders (order_id INT, ordered_at DATETIME)")
    shop.query("GRANT ALL ON shop.* TO owner@'127.0.0.1' IDENTIFIED BY 'x'")
    mistake(take, home, url=server.url("owner", "x", "shop"), tables={"orders": "WITH q AS (SELECT 1) DELETE FROM orders"})
    with shop.cursor() as cursor, database.Database(SourceDeclaration("shop", "sql", {"url": server.url("owner", "x", "shop")}, base=home.root)) as opened, opened.raw.cursor() as inside:
        with pytest.raises(pymysql.MySQLError, match="READ ONLY"):
            inside.execute("INSERT INTO orders VALUES (1, NOW())")
        assert cursor.execute("SELECT * FROM orders") == 0


def test_a_table_locked_by_another_program_is_told_in_time(shop: pymysql.Connection, take: Take, home: Home, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.query("CREATE TABLE orders (order_id INT, ordered_at DATETIME)")
    monkeypatch.setattr(mysql, "LOCK_SECONDS", 1)
    shop.query("LOCK TABLES orders WRITE")
    try:
        error = mistake(take, home)
    finally:
        shop.query("UNLOCK TABLES")
    assert "locked" in error.message and error.field == "orders" and "later" in error.remedy
    assert table(take(), "orders").height == 0


def cutting(shop: pymysql.Connection, always: bool) -> tuple[Any, list[int]]:
    """A stand-in for `batches` that has the server end the reader's connection after its first rows."""
    plain, cuts = mysql.MySQL.batches, []

    def cut(self: Any, raw: pymysql.Connection, *arguments: Any) -> Iterator[list[tuple]]:
        for batch in plain(self, raw, *arguments):
            yield batch
            if raw.thread_id() not in cuts and (always or not cuts):
                cuts.append(raw.thread_id())
                shop.query(f"KILL CONNECTION {raw.thread_id()}")
    return cut, cuts


@pytest.mark.parametrize("always", [False, True])
def test_a_connection_killed_while_reading_starts_over_or_ends_in_one_message(shop: pymysql.Connection, take: Take, home: Home, monkeypatch: pytest.MonkeyPatch, always: bool) -> None:
    # long rows: a short result would be in the client's buffers already when the server hangs up
    shop.query("CREATE TABLE events AS SELECT seq AS event_id, REPEAT('x', 4000) AS name, NOW() AS occurred_at FROM seq_1_to_4000")
    monkeypatch.setattr(database, "FETCH_ROWS", 100)
    waits: list[float] = []
    monkeypatch.setattr(sql.time, "sleep", waits.append)
    cut, cuts = cutting(shop, always)
    monkeypatch.setattr(mysql.MySQL, "batches", cut)
    if always:
        error = mistake(take, home, tables=["events"])
        assert "connection broke" in error.message and len(waits) == sql.ATTEMPTS - 1
    else:
        assert sorted(table(take(tables=["events"]), "events")["event_id"].to_list()) == list(range(1, 4001))
    assert cuts


def test_an_incremental_read_binds_its_cursor(shop: pymysql.Connection, take: Take) -> None:
    shop.query("CREATE TABLE orders AS SELECT seq AS order_id, NOW() AS ordered_at, '2026-01-01 00:00:00' + INTERVAL seq DAY AS updated_at, NULLIF('50% off', '') AS note FROM seq_1_to_10")
    options: dict[str, Any] = {"incremental": {"orders": "updated_at"}, "overlap_days": 2, "now": datetime(2026, 2, 1, tzinfo=UTC)}
    first = take(**options)
    assert first.state["orders"]["value"].startswith("2026-01-11")
    shop.query("INSERT INTO orders VALUES (11, NOW(), '2026-01-12 00:00:00', NULL), (12, NOW(), NULL, NULL)")
    second = take(state=first.state, **options)
    assert sorted(table(second, "orders")["order_id"].to_list()) == [8, 9, 10, 11, 12], "two days of overlap, the new row, and the row without a time"
    assert [d.mode for d in second.deliveries] == ["upsert"]
    narrowed = options | {"tables": {"orders": "select * from orders where note like '%off' or note is null"}}
    assert sorted(table(take(state=first.state, **narrowed), "orders")["order_id"].to_list()) == [8, 9, 10, 11, 12], "a per cent sign of a query is no placeholder"
