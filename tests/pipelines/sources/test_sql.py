"""Databases as sources: SQLite files and a real PostgreSQL server."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest

from data_contracts.environment import Home, SourceDeclaration
from data_contracts.errors import SourceError
from pipelines.sources import base, database
from pipelines.sources.databases import postgresql
from pipelines.sources.types import sql

Declare = Callable[..., SourceDeclaration]
Take = Callable[..., base.Extraction]


@pytest.fixture
def take(home: Home, declared: Declare) -> Take:
    """Extracts a `sql` source; every call is a batch of its own."""
    count = iter(range(1000))

    def run(state: dict[str, Any] | None = None, now: datetime | None = None, time_zone: str = "UTC", **options: Any) -> base.Extraction:
        return base.extract(declared("sql", time_zone=time_zone, **options), home, f"b{next(count):03}", set(), state=state, now=now)
    return run


@pytest.fixture
def crm(home: Home) -> Iterator[sqlite3.Connection]:
    """A SQLite CRM at `crm.db` in the home."""
    with closing(sqlite3.connect(home.root / "crm.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = off")
        connection.execute("CREATE TABLE orders (order_id INTEGER, Ordered_At TEXT, net_amount DECIMAL(18,4), is_test BOOLEAN, updated_at TIMESTAMP, note TEXT)")
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", [
            (1, "2026-01-01T10:00:00Z", "0.10", 0, "2026-01-01 10:00:00", "a"), (2, "2026-01-02", 19.99, 1, "2026-01-02 10:00:00", None), (3, None, 12345678901234, None, None, "")])
        yield connection


def table(extraction: base.Extraction, entity: str) -> pl.DataFrame:
    (delivery,) = [d for d in extraction.deliveries if d.entity == entity]
    read = pl.read_parquet(delivery.path)
    assert read.height == delivery.rows
    return read


def mistake(take: Take, home: Home, **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        take(**options)
    assert caught.value.source == "shop" and caught.value.remedy and "Traceback" not in str(caught.value)
    assert list((home.landing / "shop").iterdir()) == []
    return caught.value


# -- SQLite ------------------------------------------------------------------------------------------------------------

def test_tables_named_like_entities_are_taken_as_they_are_with_exact_values(crm: sqlite3.Connection, take: Take) -> None:
    crm.execute("CREATE TABLE unrelated (x)")
    taken = take(url="sqlite:///crm.db")
    orders = table(taken, "orders")
    assert [d.entity for d in taken.deliveries] == ["orders"] and taken.is_live and taken.deliveries[0].mode == "full"
    assert orders["order_id"].to_list() == [1, 2, 3]
    assert orders["net_amount"].to_list() == [Decimal("0.10"), Decimal("19.99"), Decimal("12345678901234.00")] and orders.schema["net_amount"].is_decimal()
    assert orders["is_test"].to_list() == [False, True, None] and orders.schema["updated_at"] == pl.Datetime("us")
    assert orders["ordered_at"].to_list() == ["2026-01-01T10:00:00Z", "2026-01-02", None] and orders["note"].to_list() == ["a", None, ""]
    assert orders["_row_number"].to_list() == [1, 2, 3] and set(orders["_file"]) == {"orders"}
    assert taken.warnings == []


def test_a_value_that_does_not_fit_its_column_leaves_the_column_as_text(crm: sqlite3.Connection, take: Take) -> None:
    crm.execute("INSERT INTO orders VALUES ('A-4', '2026-01-04', '12 EUR', 7, '2026-01-04T10:00:00+02:00', x'ff')")
    taken = take(url="sqlite:///crm.db")
    orders = table(taken, "orders")
    assert orders["order_id"].to_list() == ["1", "2", "3", "A-4"] and orders["net_amount"].to_list()[1::2] == ["19.99", "12 EUR"]
    assert orders["updated_at"].to_list()[-1] == "2026-01-04T10:00:00+02:00", "a time with an offset must not lose it"
    assert orders["note"].to_list()[-1] == "\ufffd"
    assert [w.split("values of ")[1].split(" ")[0] for w in taken.warnings] == ["order_id", "net_amount", "is_test"]


def test_whole_numbers_are_not_rounded_and_dates_lose_no_time(crm: sqlite3.Connection, take: Take) -> None:
    crm.execute("CREATE TABLE events (event_id INTEGER, name TEXT, occurred_at DATE)")
    crm.execute("INSERT INTO events VALUES (12.5, 'x', '2026-01-01 23:00:00')")
    assert table(take(url="sqlite:///crm.db", tables=["events"]), "events").row(0)[:3] == ("12.5", "x", "2026-01-01 23:00:00")


def test_queries_and_a_mapping_give_entities(crm: sqlite3.Connection, home: Home, take: Take) -> None:
    crm.execute("CREATE TABLE persons (id INTEGER, full_name TEXT)")
    crm.execute("INSERT INTO persons VALUES (1, 'Ada'), (2, 'Bob')")
    (home.root / "m.yml").write_text("entities:\n  contacts: select cast(id as varchar) as contact_id, full_name as last_name from people\n  orders: select order_id, cast(ordered_at as timestamp) as ordered_at from orders where ordered_at is not null\n")
    taken = take(url="sqlite:///crm.db", mapping="m.yml", tables={"people": "select id, full_name from persons where id < 2", "orders": "orders"})
    assert table(taken, "contacts").select("contact_id", "last_name").rows() == [("1", "Ada")]
    assert {d.entity: d.rows for d in taken.deliveries} == {"contacts": 1, "orders": 2}
    assert sorted(p.name for p in (home.landing / "shop" / taken.batch_id / "raw").iterdir()) == ["orders.parquet", "people.parquet"]


def test_a_mapping_names_the_tables_it_needs_and_only_their_columns_are_read(crm: sqlite3.Connection, home: Home, take: Take) -> None:
    (home.root / "m.yml").write_text("tables:\n  orders: {columns: {order_id: varchar, ordered_at: varchar, gone: varchar?}}\n  persons: {columns: {id: bigint}, optional: true}\n".replace("varchar?}", '"varchar?"}')
                                     + "entities:\n  orders: select order_id, ordered_at from orders\n  contacts: select cast(id as varchar) as contact_id from persons\n")
    taken = take(url="sqlite:///crm.db", mapping="m.yml")
    assert {d.entity: d.rows for d in taken.deliveries} == {"orders": 3, "contacts": 0} and taken.warnings == []
    assert pl.read_parquet(home.landing / "shop" / taken.batch_id / "raw" / "orders.parquet").columns == ["order_id", "Ordered_At"]


def test_many_rows_come_in_several_fetches(crm: sqlite3.Connection, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "FETCH_ROWS", 100)
    crm.execute("CREATE TABLE events (event_id INTEGER, name TEXT, occurred_at TEXT)")
    crm.executemany("INSERT INTO events VALUES (?, 'x', '2026-01-01')", [(i,) for i in range(1234)])
    assert table(take(url="sqlite:///crm.db", tables="events"), "events")["event_id"].to_list() == list(range(1234))


def test_a_source_is_never_written(crm: sqlite3.Connection, home: Home, take: Take) -> None:
    error = mistake(take, home, url="sqlite:///crm.db", tables={"orders": "with x as (select 1) delete from orders returning order_id"})
    assert error.remedy and crm.execute("SELECT count(*) FROM orders").fetchone() == (3,)
    mistake(take, home, url="sqlite:///none.db")
    assert not (home.root / "none.db").exists()


def test_a_locked_database_says_so(crm: sqlite3.Connection, home: Home, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.1)
    crm.execute("BEGIN EXCLUSIVE")
    error = mistake(take, home, url="sqlite:///crm.db")
    assert "locked" in error.message and "try again" in error.remedy


@pytest.mark.parametrize(("options", "message", "remedy"), [
    ({"url": "sqlite:///none.db"}, "does not exist", "sources.yml"),
    ({"url": "sqlite:///text.db"}, "no SQLite database", "path"),
    ({"url": "sqlite:///crm.db", "tables": ["contacts"]}, "no table contacts", "orders"),
    ({"url": "sqlite:///crm.db", "tables": ["invoices"]}, "no table invoices", "orders"),
    ({"url": "sqlite:///crm.db", "tables": {"orders": "select nowhere from orders"}}, "no column nowhere", "tables"),
    ({"url": "sqlite:///crm.db", "tables": {"orders": "select from from orders"}}, "syntax error", "tables"),
    ({"url": "sqlite:///crm.db", "tables": {"bills": "select * from orders"}}, "no entity", "mapping"),
    ({"url": "sqlite:///crm.db", "tables": {"orders": "select order_id from orders"}}, "needs the column ordered_at", "Found: order_id"),
    ({"url": "sqlite:///crm.db", "incremental": {"deals": "id"}}, "deals", "orders"),
    ({"url": "sqlite:///crm.db", "incremental": {"orders": "changed"}}, "no column changed", "updated_at"),
    ({"url": "not a url"}, "cannot be understood", "%40"),
    ({"url": "oracle://u:p@h/db"}, "'oracle'", "postgresql"),
    ({"url": "sqlite:///crm.db", "mode": "sometimes"}, "mode", "upsert")])
def test_mistakes_are_told_with_what_to_do(crm: sqlite3.Connection, home: Home, take: Take, options: dict[str, Any], message: str, remedy: str) -> None:
    (home.root / "text.db").write_text("this is not a database" * 100)
    if options.get("tables") == ["invoices"]:
        (home.root / "m.yml").write_text("entities:\n  orders: select 1 as order_id, now() as ordered_at\n")
        options = options | {"mapping": "m.yml"}
    error = mistake(take, home, **options) if "mode" not in options else pytest.raises(SourceError, take, **options).value
    assert message in error.message and remedy in error.remedy


# -- incremental reading -----------------------------------------------------------------------------------------------

def ids(extraction: base.Extraction) -> list[int]:
    return sorted(table(extraction, "orders")["order_id"].to_list())


def test_an_incremental_read_starts_an_overlap_before_its_last_value(crm: sqlite3.Connection, take: Take) -> None:
    options = {"url": "sqlite:///crm.db", "incremental": {"orders": "updated_at"}, "overlap_days": 3}
    crm.execute("DELETE FROM orders")
    crm.executemany("INSERT INTO orders (order_id, ordered_at, updated_at) VALUES (?, '2026-01-01', ?)", [(i, f"2026-01-{i:02} 12:00:00") for i in range(1, 11)])
    first = take(now=datetime(2026, 2, 1, tzinfo=UTC), **options)
    assert ids(first) == list(range(1, 11)) and first.deliveries[0].mode == "upsert"
    crm.executemany("INSERT INTO orders (order_id, ordered_at, updated_at) VALUES (?, '2026-01-01', ?)",
                    [(11, "2026-01-08 00:00:00"), (12, "2026-01-10 12:00:00"), (13, None), (14, "2026-01-02 00:00:00")])
    second = take(state=first.state, now=datetime(2026, 2, 2, tzinfo=UTC), **options)
    assert ids(second) == [7, 8, 9, 10, 11, 12, 13], "late rows, ties and rows without a value are met; 14 is older than the overlap"
    assert second.state == first.state == {"orders": {"column": "updated_at", "kind": "instant", "value": "2026-01-10 12:00:00"}}


def test_a_row_from_the_future_does_not_hide_the_rows_after_it(crm: sqlite3.Connection, take: Take) -> None:
    options = {"url": "sqlite:///crm.db", "incremental": {"orders": "updated_at"}, "overlap_days": 0}
    crm.execute("INSERT INTO orders (order_id, ordered_at, updated_at) VALUES (99, '2026-01-01', '2999-01-01 00:00:00')")
    first = take(now=datetime(2026, 1, 5, tzinfo=UTC), **options)
    assert 99 in ids(first) and first.state["orders"]["value"] == "2026-01-02 10:00:00" and any("future" in w for w in first.warnings)
    crm.execute("INSERT INTO orders (order_id, ordered_at, updated_at) VALUES (100, '2026-01-01', '2026-01-06 00:00:00')")
    assert 100 in ids(take(state=first.state, now=datetime(2026, 1, 7, tzinfo=UTC), **options))


def test_a_cursor_may_be_a_number_and_never_goes_back(crm: sqlite3.Connection, take: Take) -> None:
    options = {"url": "sqlite:///crm.db", "incremental": {"orders": "order_id"}}
    first = take(**options)
    assert first.state["orders"]["value"] == 3
    crm.execute("DELETE FROM orders WHERE order_id = 3")
    second = take(state=first.state, **options)
    assert second.state == first.state and second.deliveries[0].rows == 0
    crm.execute("INSERT INTO orders (order_id, ordered_at) VALUES (4, '2026-01-01')")
    assert ids(take(state=second.state, **options)) == [4]


def test_local_times_are_capped_at_the_local_now(crm: sqlite3.Connection, take: Take) -> None:
    crm.execute("INSERT INTO orders (order_id, ordered_at, updated_at) VALUES (9, '2026-01-01', '2026-01-05 08:30:00')")
    taken = take(time_zone="Asia/Shanghai", now=datetime(2026, 1, 5, 1, tzinfo=UTC), url="sqlite:///crm.db", incremental={"orders": "updated_at"})
    assert taken.state["orders"]["value"] == "2026-01-05 08:30:00", "it is nine o'clock in Shanghai"


# -- PostgreSQL --------------------------------------------------------------------------------------------------------

@pytest.fixture
def shop(postgres: str) -> Iterator[tuple[psycopg.Connection, str]]:
    """A schema of its own on the server: a connection and the URL."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS shop CASCADE")
        connection.execute("CREATE SCHEMA shop")
        connection.execute("SET search_path = shop")
        yield connection, postgres


def test_postgresql_values_keep_their_meaning(shop: tuple[psycopg.Connection, str], take: Take) -> None:
    connection, url = shop
    connection.execute("SET TimeZone = 'Asia/Tokyo'")
    connection.execute("""CREATE TABLE orders (order_id uuid, ordered_at timestamptz, local_at timestamp, day date, net_amount numeric, exact numeric(20,6), real_number double precision,
                          is_test boolean, tags text[], extra jsonb, picture bytea, "Odd ""name" text, status text)""")
    connection.execute("""INSERT INTO orders VALUES
        ('6f1c2a34-0000-4000-8000-000000000001', '2026-03-29 03:30:00+02', '2026-01-01 10:00:00.123456', '2026-01-05', 0.1, 1.5, 0.1, true, '{a,b}', '{"a": 1.10}', '\\x00', 'x', ''),
        ('6f1c2a34-0000-4000-8000-000000000002', '2026-01-01 00:00:00+09', NULL, NULL, 12345678901234567890.1234, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""")
    orders = table(take(url=url, schema="shop"), "orders")
    first, second = orders.rows(named=True)
    assert first["order_id"] == "6f1c2a34-0000-4000-8000-000000000001" and "picture" not in orders.columns
    assert first["ordered_at"] == datetime(2026, 3, 29, 1, 30, tzinfo=UTC) and second["ordered_at"] == datetime(2025, 12, 31, 15, tzinfo=UTC)
    assert first["local_at"] == datetime(2026, 1, 1, 10, 0, 0, 123456) and str(first["day"]) == "2026-01-05"
    assert (first["net_amount"], second["net_amount"]) == (Decimal("0.1000"), Decimal("12345678901234567890.1234")) and first["exact"] == Decimal("1.500000")
    assert first["real_number"] == 0.1 and first["is_test"] is True and first["tags"] == "{a,b}" and first["extra"] == '{"a": 1.10}' and first['Odd "name'] == "x"
    assert first["status"] == "" and second["status"] is None


def test_all_tables_are_read_from_one_state_of_the_database(shop: tuple[psycopg.Connection, str], take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, url = shop
    connection.execute("CREATE TABLE orders (order_id int, ordered_at timestamptz); CREATE TABLE order_lines (order_id int, line_id int, quantity numeric, unit_price numeric)")
    connection.execute("INSERT INTO orders VALUES (1, now()); INSERT INTO order_lines VALUES (1, 1, 1, 1)")
    plain = postgresql.PostgreSQL.batches

    def with_a_sale_meanwhile(self: Any, *arguments: Any) -> Iterator[list[tuple]]:
        yield from plain(self, *arguments)
        connection.execute("INSERT INTO orders SELECT max(order_id) + 1, now() FROM orders; INSERT INTO order_lines SELECT max(order_id) + 1, 1, 1, 1 FROM order_lines")
    monkeypatch.setattr(postgresql.PostgreSQL, "batches", with_a_sale_meanwhile)
    taken = take(url=url, schema="shop", tables=["orders", "order_lines"])
    assert {d.entity: d.rows for d in taken.deliveries} == {"orders": 1, "order_lines": 1}
    assert connection.execute("SELECT count(*) FROM order_lines").fetchone() == (3,)


def test_a_connection_cut_while_reading_starts_over_and_loses_nothing(shop: tuple[psycopg.Connection, str], take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, url = shop
    connection.execute("CREATE TABLE events AS SELECT i AS event_id, 'x' AS name, now() AS occurred_at FROM generate_series(1, 1000) i")
    monkeypatch.setattr(database, "FETCH_ROWS", 100)
    monkeypatch.setattr(sql.time, "sleep", lambda seconds: None)
    plain, cuts = postgresql.PostgreSQL.batches, []

    def cut_once(self: Any, raw: psycopg.Connection, *arguments: Any) -> Iterator[list[tuple]]:
        for batch in plain(self, raw, *arguments):
            yield batch
            if not cuts:
                cuts.append(connection.execute("SELECT pg_terminate_backend(%s)", (raw.info.backend_pid,)).fetchone())
    monkeypatch.setattr(postgresql.PostgreSQL, "batches", cut_once)
    taken = take(url=url, schema="shop", tables=["events"])
    assert cuts and sorted(table(taken, "events")["event_id"].to_list()) == list(range(1, 1001))


def test_a_connection_that_always_breaks_ends_in_one_message(shop: tuple[psycopg.Connection, str], home: Home, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, url = shop
    connection.execute("CREATE TABLE events AS SELECT 1 AS event_id, 'x' AS name, now() AS occurred_at")
    tries: list[float] = []
    monkeypatch.setattr(sql.time, "sleep", tries.append)

    def cut(self: Any, raw: psycopg.Connection, *arguments: Any) -> Iterator[list[tuple]]:
        connection.execute("SELECT pg_terminate_backend(%s)", (raw.info.backend_pid,))
        raw.execute("SELECT 1")
        yield []
    monkeypatch.setattr(postgresql.PostgreSQL, "batches", cut)
    assert "connection broke" in mistake(take, home, url=url, schema="shop", tables=["events"]).message
    assert len(tries) == sql.ATTEMPTS - 1


@pytest.fixture
def guarded(postgres: str) -> str:
    """The same server, asking the user `reader` for a password. Returns a URL with the right one."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        (file,) = connection.execute("SHOW hba_file").fetchone()
        rules = Path(file).read_text()
        if "reader" not in rules:
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'right-Passw0rd'")
            Path(file).write_text("local all reader scram-sha-256\n" + rules)
            connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:   # the server takes the new rules up in its own time
        try:
            psycopg.connect(postgres.replace("postgres:@", "reader:x@")).close()
        except psycopg.OperationalError:
            break
        time.sleep(0.05)
    return postgres.replace("postgres:@", "reader:right-Passw0rd@")


def test_a_wrong_password_gives_one_message_without_the_password(guarded: str, home: Home, take: Take, declared: Declare) -> None:
    wrong = guarded.replace("right-Passw0rd", "wrong-Secr3t")
    error = mistake(take, home, url=wrong)
    assert "refuses user name or password" in error.message and "${NAME}" in error.remedy and "reader:***@" in error.remedy
    assert "Secr3t" not in str(error) and error.__cause__ is None and error.__suppress_context__
    with pytest.raises(SourceError, match="refuses user name or password"):
        base.test(declared("sql", url=wrong), home)


def test_a_table_that_may_not_be_read_says_so(guarded: str, shop: tuple[psycopg.Connection, str], home: Home, take: Take) -> None:
    shop[0].execute("CREATE TABLE orders (order_id int, ordered_at timestamptz); GRANT USAGE ON SCHEMA shop TO reader")
    error = mistake(take, home, url=guarded, schema="shop")
    assert "may not read table orders" in error.message and "GRANT" in error.remedy.upper()


@pytest.mark.parametrize(("change", "message"), [(("/postgres?", "/nodb?"), "no database nodb"), (("host=/", "host=/nowhere/"), "does not answer"), (("postgres:@", "nobody:@"), "no user nobody")])
def test_a_wrong_address_is_told_plainly(postgres: str, home: Home, take: Take, change: tuple[str, str], message: str) -> None:
    assert message in mistake(take, home, url=postgres.replace(*change)).message


def test_an_unknown_host_and_a_closed_port_are_told_plainly(home: Home, take: Take) -> None:
    assert "does not answer" in mistake(take, home, url="postgresql://u:Secr3t@127.0.0.1:1/db").message
    assert "Secr3t" not in str(mistake(take, home, url="postgres://u:Secr3t@127.0.0.1:1/db"))


def test_an_unreachable_mysql_server_is_told_plainly(home: Home, take: Take) -> None:
    for scheme in ("mysql", "mariadb+pymysql"):
        error = mistake(take, home, url=f"{scheme}://u:Secr3t@127.0.0.1:1/db")
        assert "does not answer" in error.message and "Secr3t" not in str(error)


def test_an_incremental_read_of_postgresql_binds_its_cursor(shop: tuple[psycopg.Connection, str], take: Take) -> None:
    connection, url = shop
    connection.execute("CREATE TABLE orders (order_id int, ordered_at timestamptz, updated_at timestamptz)")
    connection.execute("INSERT INTO orders SELECT i, now(), '2026-01-01T00:00Z'::timestamptz + i * interval '1 day' FROM generate_series(1, 10) i")
    options = {"url": url, "schema": "shop", "incremental": {"orders": "updated_at"}, "overlap_days": 2}
    first = take(now=datetime(2026, 2, 1, tzinfo=UTC), **options)
    second = take(state=first.state, now=datetime(2026, 2, 1, tzinfo=UTC), **options)
    assert (ids(first), ids(second)) == (list(range(1, 11)), [8, 9, 10])
    narrowed = options | {"tables": {"orders": "select * from shop.orders where 'a' like '%a%'"}}
    assert ids(take(state=first.state, now=datetime(2026, 2, 1, tzinfo=UTC), **narrowed)) == [8, 9, 10], "a per cent sign of a query is no placeholder"


def test_a_source_test_lists_tables_and_lands_nothing(shop: tuple[psycopg.Connection, str], home: Home, declared: Declare) -> None:
    connection, url = shop
    connection.execute("CREATE TABLE orders (order_id int, ordered_at timestamptz); CREATE VIEW contacts AS SELECT 1 AS contact_id")
    assert base.test(declared("sql", url=url, schema="shop"), home) == ["contacts: 1 columns", "orders: 2 columns"]
    assert not home.landing.exists()
