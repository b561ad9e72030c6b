"""Files of any shape with a mapping: what is delivered, what is set aside, and how mistakes of a mapping are told."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from data_contracts.environment import Home, SourceDeclaration
from data_contracts.errors import SourceError
from pipelines.sources import base

Declare = Callable[..., SourceDeclaration]

SALES = "Rechnung;Datum;Kunde;Menge;Preis\nR1;2026-01-05;K1;2;1,50\nR1;2026-01-05;K1;1;3,00\nR2;2026-01-06;;5;2,00\nX9;2026-01-07;K2;1;0,00\n"
TABLES = """
tables:
  sales: {columns: {Rechnung: varchar, Datum: timestamp, Kunde: varchar, Menge: "decimal(18,4)", Preis: varchar, Rabatt: "decimal(18,4)?", _row_number: bigint, _file: varchar}}
macros:
  money(text): cast(replace(text, ',', '.') as decimal(18,4))
"""
ORDERS = """
entities:
  orders: |
    select Rechnung as order_id, any_value(Kunde) as contact_id, min(Datum) as ordered_at, sum(Menge * money(Preis)) as net_amount
    from sales where money(Preis) > 0 group by Rechnung   -- one invoice, one order
"""


@pytest.fixture
def map_files(home: Home, declared: Declare) -> Callable[..., base.Extraction]:
    """Writes the mapping (and the sales file, unless there is one) and extracts."""
    count = iter(range(1000))

    def run(mapping: str, files: dict | None = None, seen: set[str] | None = None, settle_seconds: float = 0, **options: object) -> base.Extraction:
        (home.root / "mapping.yml").write_text(mapping, encoding="utf-8")
        if not (home.root / "sales.csv").exists():
            (home.root / "sales.csv").write_text(SALES, encoding="utf-8")
        return base.extract(declared("mapped_files", files=files or {"sales": "sales.csv"}, mapping="mapping.yml", **options), home, f"b{next(count):03}", seen or set(),
                            settle_seconds=settle_seconds)
    return run


def table(extraction: base.Extraction, entity: str) -> pl.DataFrame:
    (delivery,) = [d for d in extraction.deliveries if d.entity == entity]
    return pl.read_parquet(delivery.path)


def mistake(run: Callable[..., base.Extraction], home: Home, mapping: str, **more: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        run(mapping, **more)
    assert caught.value.source == "shop" and caught.value.remedy
    assert list((home.landing / "shop").iterdir()) == []
    return caught.value


def test_each_entity_is_a_select_over_the_files(map_files: Callable[..., base.Extraction], home: Home) -> None:
    taken = map_files(TABLES + ORDERS)
    orders = table(taken, "orders").sort("order_id")
    assert orders.select("order_id", "contact_id", "net_amount").rows() == [("R1", "K1", Decimal(6)), ("R2", None, Decimal(10))]
    assert orders["_file"].to_list() == ["mapping.yml: orders"] * 2 and sorted(orders["_row_number"].to_list()) == [1, 2]
    raw = pl.read_parquet(home.landing / "shop" / taken.batch_id / "raw" / "sales.parquet")
    assert raw.height == 4 and raw["Preis"].to_list() == ["1,50", "3,00", "2,00", "0,00"], "landing keeps the table as it came"
    assert taken.warnings == [] and not taken.is_live


def test_a_mapping_may_carry_the_place_of_each_row_along(map_files: Callable[..., base.Extraction]) -> None:
    taken = map_files(TABLES + "entities:\n  order_lines: select Rechnung as order_id, _row_number::varchar as line_id, Menge as quantity, money(Preis) as unit_price, _row_number, _file from sales\n")
    assert table(taken, "order_lines").select("_row_number", "_file").rows() == [(n, "sales.csv") for n in (2, 3, 4, 5)]


def test_rows_left_out_on_purpose_are_counted_by_reason(map_files: Callable[..., base.Extraction]) -> None:
    taken = map_files(TABLES + ORDERS + "ignored:\n  free of charge: select * from sales where money(Preis) <= 0\n  never: select * from sales where Menge < 0\n")
    assert taken.ignored == {"free of charge": 1, "never": 0}


def test_a_check_that_is_broken_stops_the_delivery_and_names_the_row(map_files: Callable[..., base.Extraction], home: Home) -> None:
    error = mistake(map_files, home, TABLES + ORDERS + "checks:\n  every sale has a customer: select * from sales where Kunde is null\n")
    assert "every sale has a customer" in error.message and error.row == 4


def test_lookups_and_views_are_tables_of_the_mapping(map_files: Callable[..., base.Extraction]) -> None:
    taken = map_files(TABLES + "lookups:\n  names: {K1: Ada, 'NO': No}\nviews:\n  people: select distinct Kunde from sales where Kunde is not null\n"
                      "  named: select Kunde, value from people left join names on key = Kunde\nentities:\n  contacts: select Kunde as contact_id, value as first_name from named\n")
    assert sorted(table(taken, "contacts").select("contact_id", "first_name").rows(), key=str) == [("K1", "Ada"), ("K2", None)]


def test_rows_whose_value_does_not_fit_its_declared_type_go_to_quarantine_with_the_reason(map_files: Callable[..., base.Extraction], home: Home) -> None:
    (home.root / "sales.csv").write_text(SALES + "R3;05.01.2026;K3;viele;1,00\nR4;2026-01-09;K4\n", encoding="utf-8")
    taken = map_files(TABLES + ORDERS)
    (delivery,) = taken.deliveries
    kept = {n: (raw, reason) for _, n, raw, reason in pl.read_parquet(delivery.rejects_path).rows()}
    assert delivery.rejected == 2 and delivery.rows == 2 and set(kept) == {6, 7}
    assert kept[6][1] == "Datum is not timestamp; Menge is not decimal(18,4)" and '"Menge":"viele"' in kept[6][0]
    assert kept[7][0] == "R4;2026-01-09;K4"


def test_a_column_the_mapping_relies_on_is_taken_as_empty_with_a_word_when_it_is_absent(map_files: Callable[..., base.Extraction], home: Home) -> None:
    (home.root / "sales.csv").write_text("Rechnung;Datum;Menge;Preis\nR1;2026-01-05;2;1,50\n", encoding="utf-8")
    taken = map_files(TABLES + ORDERS)
    assert table(taken, "orders")["contact_id"].to_list() == [None]
    assert taken.warnings == ["table sales has no column Kunde; taken as empty"], "Rabatt is marked as optional and stays unmentioned"


def test_several_files_make_one_table_and_the_same_content_counts_once(map_files: Callable[..., base.Extraction], home: Home) -> None:
    (home.root / "exports").mkdir()
    head, *lines = SALES.splitlines()
    for name, content in (("a", lines[:2]), ("b", lines[2:]), ("c", lines[2:])):
        (home.root / "exports" / f"{name}.csv").write_text("\n".join([head, *content]) + "\n", encoding="utf-8")
    taken = map_files(TABLES + ORDERS, files={"sales": "exports/*.csv"})
    assert table(taken, "orders").height == 2 and taken.skipped == ["c.csv: the same content as b.csv"]
    assert sorted(f.name for f in taken.files) == ["a.csv", "b.csv", "mapping.yml"]


def test_nothing_new_is_skipped_but_a_mended_mapping_reads_everything_again(map_files: Callable[..., base.Extraction]) -> None:
    first = map_files(TABLES + ORDERS)
    seen = {f.sha256 for f in first.files}
    again = map_files(TABLES + ORDERS, seen=seen)
    assert again.deliveries == [] and again.skipped == ["sales.csv: delivered before"]
    assert map_files(TABLES + ORDERS.replace("sum(Menge", "2 * sum(Menge"), seen=seen).deliveries[0].rows == 2


def test_one_new_file_brings_the_others_along_since_tables_are_joined(map_files: Callable[..., base.Extraction], home: Home) -> None:
    mapping = TABLES + "entities:\n  orders: select Rechnung as order_id, min(Datum) as ordered_at, any_value(name) as channel from sales left join shops on shop = left(Rechnung, 1) group by 1\n"
    (home.root / "shops.jsonl").write_text('{"shop": "R", "name": "web"}\n')
    files = {"sales": "sales.csv", "shops": "shops.jsonl"}
    first = map_files(mapping, files)
    (home.root / "shops.jsonl").write_text('{"shop": "R", "name": "store"}\n')
    assert set(table(map_files(mapping, files, {f.sha256 for f in first.files}), "orders")["channel"].to_list()) == {"store", None}


def test_a_file_still_being_written_holds_the_whole_delivery_back(map_files: Callable[..., base.Extraction]) -> None:
    taken = map_files(TABLES + ORDERS, settle_seconds=3600)
    assert taken.deliveries == [] and "less than 3600 s ago" in taken.skipped[0]


# -- mistakes ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("select", "says", "remedy"), [
    ("select Rechnungg as order_id, Datum as ordered_at from sales", 'column "Rechnungg" not found', "Columns of sales: Rechnung, Datum"),
    ("select 1 as order_id, now() as ordered_at from sale", "Table with name sale does not exist", "Tables: sales"),
    ("select Rechnung as order_id from sales", "gives no column ordered_at", "gives order_id"),
    ("select Rechnung as order_id, Datum as ordered_at, Datum as Ordered_At from sales", "gives the column ordered_at twice", "once"),
    ("select Rechnung as order_id, Datum as ordered_at from sales order by order by", "syntax error", ""),
    ("select Rechnung as order_id, cast(Kunde as date) as ordered_at from sales", "Conversion|convert|a value", "Columns of sales"),
    ("drop table sales", "not one SELECT", "single SELECT"),
    ("select 1; select 2", "not one SELECT", "single SELECT"),
    ("copy (select 1) to 'x.csv'", "not one SELECT", "single SELECT"),
    ("", "no SQL", "SELECT")])
def test_a_mistake_in_a_select_names_the_entity_and_what_exists(map_files: Callable[..., base.Extraction], home: Home, select: str, says: str, remedy: str) -> None:
    error = mistake(map_files, home, TABLES + f"entities:\n  orders: \"{select}\"\n".replace('""', "''"))
    assert error.field == "entities.orders" and error.file == str(home.root / "mapping.yml")
    assert any(s in error.message for s in says.split("|")) and remedy in error.remedy
    assert "K1" not in str(error), "a message holds no data"


def test_a_likely_misspelling_of_a_column_is_pointed_out(map_files: Callable[..., base.Extraction]) -> None:
    taken = map_files(TABLES + "entities:\n  orders: select Rechnung as order_id, Datum as ordered_at, Menge as net_ammount from sales\n")
    assert any("net_ammount" in w and "net_amount?" in w for w in taken.warnings)


@pytest.mark.parametrize(("mapping", "field"), [
    ("entities:\n  order: select 1\n", "entities.order"), ("entities: {}\n", "entities"), ("- a\n", "entities"), ("entities:\n  orders: [1]\n", "entities.orders"),
    ("entity: {}\nentities:\n  orders: select 1\n", "entity"), ("tables: {sales: {columns: {a: nonsense type}}}\nentities:\n  orders: select 1\n", "tables.sales.a"),
    ("tables: {sales: [a]}\nentities:\n  orders: select 1\n", "tables.sales"), ("macros: {'f(x': x}\nentities:\n  orders: select 1\n", "macros.f(x"),
    ("lookups: {a: [1]}\nentities:\n  orders: select 1\n", "lookups.a"), ("views: {'a b': select 1}\nentities:\n  orders: select 1\n", "views.a b")])
def test_a_mapping_of_the_wrong_form_is_refused_where_it_is_wrong(map_files: Callable[..., base.Extraction], home: Home, mapping: str, field: str) -> None:
    assert mistake(map_files, home, mapping).field == field


def test_a_mapping_that_is_no_yaml_is_refused_with_its_line(map_files: Callable[..., base.Extraction], home: Home) -> None:
    assert mistake(map_files, home, "entities:\n  orders: 'select\n").row is not None


def test_a_missing_mapping_or_file_is_named(map_files: Callable[..., base.Extraction], home: Home, declared: Declare) -> None:
    error = mistake(map_files, home, TABLES + ORDERS, files={"sales": "sale.csv"})
    assert error.file == str(home.root / "sale.csv")
    assert mistake(map_files, home, TABLES + ORDERS, files={"sales": "nothing/*.csv"}).file == "nothing/*.csv"
    assert mistake(map_files, home, TABLES + ORDERS, files={"no table": "sales.csv"}).message.startswith("'no table'")
    with pytest.raises(SourceError, match="mapping cannot be read"):
        base.test(declared("mapped_files", files={"sales": "sales.csv"}, mapping="none.yml"), home)


@pytest.mark.parametrize("attack", [
    "select content as order_id, now() as ordered_at from read_text('{secret}')",
    "select * from read_csv('{secret}', columns={{'order_id': 'VARCHAR'}}), (select now() as ordered_at)",
    "select order_id, now() as ordered_at from '{secret}'",
    "select getenv('HOME') as order_id, now() as ordered_at"])
def test_a_mapping_reaches_nothing_but_its_tables(map_files: Callable[..., base.Extraction], home: Home, tmp_path: Path, attack: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("order_id\ncanary\n")
    error = mistake(map_files, home, TABLES + "entities:\n  orders: \"" + attack.format(secret=secret) + "\"\n")
    assert error.field == "entities.orders" and "canary" not in str(error)


def test_a_source_test_lists_files_and_entities(map_files: Callable[..., base.Extraction], home: Home, declared: Declare) -> None:
    map_files(TABLES + ORDERS)
    lines = base.test(declared("mapped_files", files={"sales": "sales.csv"}, mapping="mapping.yml"), home)
    assert lines == [f"sales: sales.csv ({len(SALES)} bytes)", "mapping mapping.yml: orders"]
