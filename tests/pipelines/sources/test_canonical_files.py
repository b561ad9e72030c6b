"""Files in canonical shape: what is read, what is refused, what is set aside. Every expectation is written out by hand."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import openpyxl
import polars as pl
import pytest

from data_contracts.contract import load_contracts
from data_contracts.environment import Home, SourceDeclaration
from data_contracts.errors import RapportError, SourceError, UsageError
from pipelines.sources import base, files
from pipelines.sources.files import entity_of

Declare = Callable[..., SourceDeclaration]


def rows(extraction: base.Extraction, entity: str, *columns: str) -> list[tuple]:
    (delivery,) = [d for d in extraction.deliveries if d.entity == entity]
    table = pl.read_parquet(delivery.path)
    assert table.height == delivery.rows
    return table.select(columns or table.columns).rows()


def rejects(extraction: base.Extraction, entity: str) -> list[tuple]:
    (delivery,) = [d for d in extraction.deliveries if d.entity == entity]
    table = pl.read_parquet(delivery.rejects_path)
    assert table.columns == ["_file", "_row_number", "_raw", "_reason"] and table.height == delivery.rejected
    return table.rows()


# -- reading -----------------------------------------------------------------------------------------------------------

def test_a_csv_keeps_every_value_as_text_and_says_where_it_stood(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.csv").write_text('order_id,ordered_at,net_amount,note\n007,2026-01-05T10:00:00Z,12.10,"a, ""b"""\n8,2026-01-06,1e3,\n', encoding="utf-8")
    taken = take()
    assert rows(taken, "orders") == [("007", "2026-01-05T10:00:00Z", "12.10", 'a, "b"', 2, "orders.csv"), ("8", "2026-01-06", "1e3", None, 3, "orders.csv")]
    assert taken.deliveries[0].mode == "upsert" and not taken.is_live and taken.warnings == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_from_the_header(inbox: Path, take: Callable[..., base.Extraction], delimiter: str) -> None:
    text = delimiter.join(["order_id", "ordered_at", "net_amount"]) + "\n" + delimiter.join(["1", "2026-01-05", '"3,5;x|y\tz"']) + "\n"
    (inbox / "orders.csv").write_text(text, encoding="utf-8")
    assert rows(take(), "orders", "order_id", "net_amount") == [("1", "3,5;x|y\tz")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_encoding_is_recognised(inbox: Path, take: Callable[..., base.Extraction], encoding: str) -> None:
    (inbox / "contacts.csv").write_text("contact_id,first_name\n1,José\n2,Zoë\n", encoding=encoding)
    taken = take()
    assert rows(taken, "contacts", "contact_id", "first_name") == [("1", "José"), ("2", "Zoë")]
    assert any("Windows-1252" in w for w in taken.warnings) == (encoding == "cp1252")


def test_a_named_encoding_is_used_and_an_unknown_one_refused(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "contacts.csv").write_text("contact_id,first_name\n1,王芳\n", encoding="gb18030")
    assert rows(take(encoding="gb18030"), "contacts", "first_name") == [("王芳",)]
    with pytest.raises(SourceError, match="klingon") as caught:
        take(encoding="klingon")
    assert caught.value.file == "contacts.csv" and caught.value.field == "encoding"


def test_lines_that_are_no_rows_are_kept_with_their_line_number_and_reason(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.csv").write_bytes(b'order_id,ordered_at,net_amount\n1,2026-01-01,1\n2,2026-01-02\n3,2026-01-03,3,extra\n4,"2026"x,4\n5,2026-01-05,5\n')
    taken = take()
    assert rows(taken, "orders", "order_id", "_row_number") == [("1", 2), ("5", 6)]
    kept = rejects(taken, "orders")
    assert [(f, n, raw) for f, n, raw, _ in kept] == [("orders.csv", 3, "2,2026-01-02"), ("orders.csv", 4, "3,2026-01-03,3,extra"), ("orders.csv", 5, '4,"2026"x,4')]
    assert "Expected Number of Columns: 3 Found: 2" in kept[0][3] and all(reason for *_, reason in kept)
    assert any("3 lines" in w for w in taken.warnings)


def test_a_line_that_is_not_utf8_is_kept_as_base64_while_the_others_are_read(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "contacts.csv").write_bytes("contact_id,first_name\n1,Zoë\n".encode() + b"2,\xff\xfe\n" + "3,José\n".encode())
    taken = take()
    assert rows(taken, "contacts", "contact_id", "_row_number") == [("1", 2), ("3", 4)]
    ((_, number, raw, reason),) = rejects(taken, "contacts")
    assert number == 3 and base64.b64decode(raw.removeprefix("base64:")) == b"2,\xff\xfe" and "UTF-8" in reason


def test_every_line_of_a_large_ragged_file_is_either_a_row_or_a_reject(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    total = 300_000
    with open(inbox / "events.csv", "w", encoding="utf-8") as out:
        out.write("event_id,name,occurred_at\n")
        out.writelines(f"{i},click\n" if i % 1000 == 7 else f"{i},click,2026-01-01\n" for i in range(total))
    taken = take()
    (delivery,) = taken.deliveries
    table = pl.read_parquet(delivery.path)
    assert (delivery.rows, delivery.rejected) == (total - 300, 300)
    assert table.select((pl.col("event_id").cast(pl.Int64) + 2 == pl.col("_row_number")).all()).item()
    assert [int(raw.split(",")[0]) + 2 for _, _, raw, _ in rejects(taken, "events")] == pl.read_parquet(delivery.rejects_path)["_row_number"].to_list()


def test_a_quoted_value_may_span_lines_and_a_million_characters(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "activities.csv").write_text(f'activity_id,kind,occurred_at,body\n1,note,2026-01-01,"one\ntwo"\n2,note,2026-01-01,{"x" * 1_000_000}\n', encoding="utf-8")
    assert [(i, len(body)) for i, body in rows(take(), "activities", "activity_id", "body")] == [("1", 7), ("2", 1_000_000)]


def test_headers_are_matched_whatever_their_case_and_odd_ones_are_renamed(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.csv").write_text("Order_ID, ORDERED_AT ,Region,region,\n1,2026-01-01,a,b,c\n", encoding="utf-8")
    taken = take()
    assert pl.read_parquet(taken.deliveries[0].path).columns == ["order_id", "ordered_at", "Region", "region_2", "column_5", "_row_number", "_file"]
    assert any("column 5" in w for w in taken.warnings)


def test_json_lines_keep_values_as_text_and_set_bad_lines_aside(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.jsonl").write_text('{"order_id": "007", "ordered_at": "2026-01-05T10:00:00Z", "net_amount": 12.5, "is_test": true, "tags": ["a", {"b": 1}]}\n\n'
                                        'no json\n[1, 2]\n{"order_id": 8, "ordered_at": null, "a/b~c": "x"}\n', encoding="utf-8")
    taken = take()
    assert rows(taken, "orders", "order_id", "ordered_at", "net_amount", "is_test", "tags", "a/b~c", "_row_number") == [
        ("007", "2026-01-05T10:00:00Z", "12.5", "true", '["a",{"b":1}]', None, 1), ("8", None, None, None, None, "x", 5)]
    assert [(n, raw) for _, n, raw, _ in rejects(taken, "orders")] == [(3, "no json"), (4, "[1, 2]")]


def test_parquet_keeps_its_types_and_nested_values_become_json(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    pl.DataFrame({"order_id": [7], "ordered_at": [datetime(2026, 1, 5, 10)], "net_amount": ["1.5"], "tags": [["a"]]}).with_columns(pl.col("net_amount").cast(pl.Decimal(18, 4))).write_parquet(inbox / "orders.parquet")
    taken = take()
    table = pl.read_parquet(taken.deliveries[0].path)
    assert table.schema["net_amount"] == pl.Decimal(18, 4) and table.schema["ordered_at"] == pl.Datetime("us")
    assert table.select("order_id", "tags", "_row_number").rows() == [(7, '["a"]', 1)]


def test_a_workbook_gives_its_first_sheet_as_text(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    book = openpyxl.Workbook()
    for row in (["order_id", "ordered_at", "net_amount", "is_test"], ["007", datetime(2026, 1, 5, 13, 30), 12.5, True], [None] * 4, [8, datetime(2026, 1, 6), 1234567890123, False]):
        book.active.append(row)
    book.create_sheet("notes").append(["other"])
    book.save(inbox / "orders.xlsx")
    taken = take()
    assert rows(taken, "orders") == [("007", "2026-01-05 13:30:00", "12.5", "true", 2, "orders.xlsx"), ("8", "2026-01-06 00:00:00", "1234567890123", "false", 4, "orders.xlsx")]
    assert any("first of 2 sheets" in w for w in taken.warnings)
    with pytest.raises(SourceError, match="no sheet 'orders'"):
        take(sheet="orders")


def test_parts_of_an_entity_are_one_delivery_with_columns_matched_by_name(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders").mkdir()
    (inbox / "orders" / "2026-01.csv").write_text("order_id,ordered_at\n1,2026-01-01\n", encoding="utf-8")
    (inbox / "orders.part1.csv").write_text("ordered_at,order_id,channel\n2026-02-01,2,web\n", encoding="utf-8")
    pl.DataFrame({"order_id": [3], "ordered_at": ["2026-03-01"]}).write_parquet(inbox / "orders_2026-03.parquet")
    assert sorted(rows(take(), "orders", "order_id", "channel", "_file")) == [("1", None, "orders/2026-01.csv"), ("2", "web", "orders.part1.csv"), ("3", None, "orders_2026-03.parquet")]


@pytest.mark.parametrize(("name", "entity"), [
    ("orders.csv", "orders"), ("ORDERS.CSV", "orders"), ("orders_2024.csv", "orders"), ("orders-2024-01-31.csv", "orders"), ("orders (1).csv", "orders"), ("orders.part1.csv", "orders"),
    ("orders/2024-01.csv", "orders"), ("deep/orders/any name.csv", "orders"), ("orders_2024q1.csv", "orders"), ("orders_20240131T120000Z.csv", "orders"), ("order_lines.csv", "order_lines"),
    ("campaign_members_export_2.csv", "campaign_members"), ("orders_lines.csv", None), ("orders2.csv", None), ("my_orders.csv", None), ("order.csv", None), ("orders_backup.csv", None), ("x.csv", None)])
def test_a_file_name_means_an_entity_only_when_nothing_else_stands_in_it(name: str, entity: str | None) -> None:
    assert entity_of(name, load_contracts()) == entity


# -- the same delivery again -------------------------------------------------------------------------------------------

def test_content_delivered_before_is_skipped_and_said_so_under_any_name(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.csv").write_text("order_id,ordered_at\n1,2026-01-01\n", encoding="utf-8")
    first = take()
    assert first.files[0].sha256 == hashlib.sha256((inbox / "orders.csv").read_bytes()).hexdigest()
    (inbox / "orders.csv").rename(inbox / "orders_2.csv")
    again = take({f.sha256 for f in first.files})
    assert again.deliveries == [] and again.files == [] and again.skipped == ["orders_2.csv: delivered before"]
    assert sorted(p.name for p in (home.landing / "shop").iterdir()) == [first.batch_id]


def test_the_same_content_twice_in_one_delivery_counts_once(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    for name in ("orders.csv", "orders_copy_2.csv".replace("copy_", "")):
        (inbox / name).write_text("order_id,ordered_at\n1,2026-01-01\n", encoding="utf-8")
    taken = take()
    assert len(rows(taken, "orders")) == 1 and taken.skipped == ["orders_2.csv: the same content as orders.csv"]


def test_a_full_extract_brings_its_unchanged_files_along(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    """Were the unchanged part left out as known, its rows would be taken for deleted."""
    (inbox / "contacts_1.csv").write_text("contact_id\na\n", encoding="utf-8")
    (inbox / "contacts_2.csv").write_text("contact_id\nb\n", encoding="utf-8")
    first = take(full=True)
    seen = {f.sha256 for f in first.files}
    assert take(seen, full=True).deliveries == []
    (inbox / "contacts_2.csv").write_text("contact_id\nc\n", encoding="utf-8")
    second = take(seen, full=True)
    assert second.deliveries[0].mode == "full" and {r[0] for r in rows(second, "contacts")} == {"a", "c"}


def test_a_full_extract_that_returns_to_older_content_is_a_change(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    seen: set[str] = set()
    delivered = []
    for ids in ("a\nb", "a", "a\nb"):
        (inbox / "contacts.csv").write_text(f"contact_id\n{ids}\n", encoding="utf-8")
        taken = take(seen, mode="full")
        seen |= {f.sha256 for f in taken.files}
        delivered.append([r[0] for r in rows(taken, "contacts")])
    assert delivered == [["a", "b"], ["a"], ["a", "b"]]


def test_a_changed_reading_option_reads_the_file_again(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "contacts.csv").write_text("contact_id,first_name\n1,Łódź\n", encoding="cp1250")
    first = take()
    again = take({f.sha256 for f in first.files}, encoding="cp1250")
    assert rows(again, "contacts", "first_name") == [("Łódź",)]


# -- refusals ----------------------------------------------------------------------------------------------------------

def refused(take: Callable[..., base.Extraction], home: Home, **options: object) -> RapportError:
    with pytest.raises(RapportError) as caught:
        take(**options)
    assert caught.value.remedy and caught.value.source == "shop"
    assert list((home.landing / "shop").iterdir()) == [], "a refused delivery leaves nothing behind"
    return caught.value


def test_an_empty_folder_is_an_error(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / ".hidden").write_text("x")
    error = refused(take, home)
    assert "no file" in error.message and error.file == str(inbox)


def test_a_path_that_does_not_exist_is_an_error(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    assert "does not exist" in refused(take, home, path="nowhere").message


def test_an_unknown_name_is_an_error_naming_the_file_and_the_known_names(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / "order.csv").write_text("order_id\n1\n")
    error = refused(take, home)
    assert error.file == "order.csv" and "Did you mean orders?" in error.remedy and "survey_responses" in error.remedy


def test_a_missing_required_column_is_named_with_what_was_found(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.csv").write_text("order_id,orderedat,net_amount\n1,2026-01-01,3\n")
    error = refused(take, home)
    assert (error.file, error.field) == ("orders.csv", "ordered_at") and "'orderedat'" in error.remedy and "net_amount" in error.remedy


def test_a_column_named_twice_is_refused(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.csv").write_text("order_id,ordered_at,Order_Id\n1,2026-01-01,2\n")
    assert refused(take, home).field == "order_id"


@pytest.mark.parametrize(("name", "content", "says"), [
    ("orders.csv", b"", "empty"), ("orders.parquet", b"order_id,ordered_at\n1,2\n", "Parquet"), ("orders.parquet", b"PAR1" + b"\0" * 100, "Parquet"), ("orders.parquet", b"PAR1" + b"\0" * 100 + b"PAR1", "Parquet|PARQUET"),
    ("orders.csv", b"PK\x03\x04" + b"\0" * 100, "ZIP archive"), ("orders.csv", b"<!DOCTYPE html><html>log in</html>", "web page"), ("orders.csv", b"SQLite format 3\0" + b"\0" * 100, "SQLite"),
    ("orders.jsonl", b"PAR1abcPAR1", "Parquet"), ("orders.jsonl", b'["no", "objects"]\n', "no line holds a JSON object"), ("orders.csv", bytes(range(1, 8)) + b"\0" * 200, "binary"),
    ("orders.xlsx", b"order_id\n1\n", "XLSX"), ("orders.xlsx", b"PK\x03\x04" + b"x" * 100, "damaged"), ("orders.csv.gz", b"\x1f\x8b\x08\0", "cannot be read"), ("orders.xls", b"\xd0\xcf\x11\xe0", "cannot be read"),
    ("orders.csv", b"\n\n\n", "no columns")])
def test_a_file_that_is_not_what_its_name_says_is_refused(inbox: Path, home: Home, take: Callable[..., base.Extraction], name: str, content: bytes, says: str) -> None:
    (inbox / name).write_bytes(content)
    error = refused(take, home)
    assert error.file == name
    assert any(word in error.message for word in says.split("|")), error.message


def _workbook(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_workbook_bomb_is_refused_before_it_is_unpacked(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    _workbook(inbox / "orders.xlsx", {"xl/workbook.xml": b"<x/>", "xl/worksheets/sheet1.xml": b"0" * 50_000_000})
    assert (inbox / "orders.xlsx").stat().st_size < 100_000
    assert "unpacks" in refused(take, home).message


def test_a_workbook_of_too_many_parts_is_refused(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    _workbook(inbox / "orders.xlsx", {"xl/workbook.xml": b"<x/>", **{f"part{i}": b"x" for i in range(files.MAX_MEMBERS)}})
    assert "parts" in refused(take, home).message


def test_a_workbook_larger_than_allowed_in_sum_is_refused(inbox: Path, home: Home, take: Callable[..., base.Extraction], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED", 1000)
    _workbook(inbox / "orders.xlsx", {"xl/workbook.xml": os.urandom(600), "other": os.urandom(600)})
    assert "unpacks to more" in refused(take, home).message


def test_a_zip_that_is_no_workbook_is_refused(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    _workbook(inbox / "orders.xlsx", {"orders.csv": b"order_id\n"})
    assert "not an XLSX" in refused(take, home).message


def test_a_table_of_too_many_columns_is_refused(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders.csv").write_text("order_id,ordered_at," + ",".join(f"c{i}" for i in range(600)) + "\n")
    assert "602 columns" in refused(take, home).message


def test_options_that_do_not_exist_or_are_missing_are_named(home: Home, declared: Declare) -> None:
    with pytest.raises(SourceError, match="pth") as caught:
        base.extract(declared("canonical_files", path="inbox", pth="x"), home, "b", set())
    assert "'path'" in caught.value.remedy
    with pytest.raises(SourceError, match="needs the option 'path'"):
        base.extract(declared("canonical_files"), home, "b", set())
    with pytest.raises(UsageError, match="salesfarce") as unknown:
        base.extract(declared("salesfarce"), home, "b", set())
    assert "canonical_files" in unknown.value.remedy


# -- folders, links, half-written files --------------------------------------------------------------------------------

def test_links_and_odd_files_are_not_followed(inbox: Path, home: Home, take: Callable[..., base.Extraction], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "orders.csv").write_text("order_id,ordered_at\nsecret,2026-01-01\n")
    (inbox / "contacts.csv").write_text("contact_id\n1\n")
    (inbox / "orders.csv").symlink_to(secret / "orders.csv")
    (inbox / "orders").symlink_to(secret, target_is_directory=True)
    os.mkfifo(inbox / "deals.csv")
    taken = take()
    assert [d.entity for d in taken.deliveries] == ["contacts"]
    assert sum("link or a special file" in w for w in taken.warnings) == 3


def test_names_with_wildcards_quotes_and_line_breaks_read_only_their_own_file(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "orders").mkdir()
    odd = ["*.csv", "[ab].csv", "it's \"1\".csv", "x\n1.csv", "%s{}.csv"]
    for i, name in enumerate(odd):
        (inbox / "orders" / name).write_text(f"order_id,ordered_at\n{i},2026-01-01\n")
    taken = take()
    assert sorted(r[0] for r in rows(taken, "orders", "order_id")) == ["0", "1", "2", "3", "4"]
    assert not any("\n" in f.name for f in taken.files)


def test_files_still_being_written_wait_for_the_next_time(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "contacts.csv").write_text("contact_id\n1\n")
    os.utime(inbox / "contacts.csv", (1_000_000_000, 1_000_000_000))
    (inbox / "orders.csv").write_text("order_id,ordered_at\n1,2026-01-01\n")
    (inbox / "orders.csv.part").write_text("order_id,ord")
    taken = take(settle_seconds=60)
    assert [d.entity for d in taken.deliveries] == ["contacts"]
    assert any(s.startswith("orders.csv:") for s in taken.skipped) and any(s.startswith("orders.csv.part:") for s in taken.skipped)
    assert {d.entity for d in take().deliveries} == {"contacts", "orders"}


def test_files_that_are_no_tables_are_left_with_a_word(inbox: Path, take: Callable[..., base.Extraction]) -> None:
    (inbox / "contacts.csv").write_text("contact_id\n1\n")
    (inbox / "README.md").write_text("hello")
    assert any(w.startswith("README.md:") for w in take().warnings)


def test_a_source_test_lists_what_would_be_read_and_lands_nothing(inbox: Path, home: Home, declared: Declare) -> None:
    (inbox / "contacts.csv").write_text("contact_id\n1\n")
    assert base.test(declared("canonical_files", path="inbox"), home) == ["contacts: contacts.csv (13 bytes)"]
    assert not home.landing.exists() and list(home.temporary.iterdir()) == []


# -- the batch folder --------------------------------------------------------------------------------------------------

def test_a_batch_appears_whole_or_not_at_all(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / "contacts.csv").write_text("contact_id\n1\n")
    (inbox / "orders.parquet").write_bytes(b"PAR1" + b"\0" * 50 + b"PAR1")
    refused(take, home)
    (inbox / "orders.parquet").unlink()
    taken = take()
    folder = home.landing / "shop" / taken.batch_id
    assert sorted(p.name for p in folder.iterdir()) == ["batch.json", "contacts.parquet"]
    assert [p.name for p in (home.landing / "shop").iterdir()] == [taken.batch_id]


def test_what_a_dead_process_left_is_cleared_away(inbox: Path, home: Home, take: Callable[..., base.Extraction]) -> None:
    (inbox / "contacts.csv").write_text("contact_id\n1\n")
    old, young = home.landing / "shop" / ".dead.partial", home.landing / "shop" / ".running.partial"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1_000_000_000, 1_000_000_000))
    take()
    assert not old.exists() and young.exists()


@pytest.mark.parametrize("batch_id", ["../x", "a/b", "", ".hidden", "x" * 200])
def test_a_batch_id_cannot_leave_the_landing_folder(inbox: Path, home: Home, declared: Declare, batch_id: str) -> None:
    with pytest.raises(UsageError):
        base.extract(declared("canonical_files", path="inbox"), home, batch_id, set())


def test_a_batch_id_is_used_once(inbox: Path, home: Home, declared: Declare) -> None:
    (inbox / "contacts.csv").write_text("contact_id\n1\n")
    base.extract(declared("canonical_files", path="inbox"), home, "b1", set())
    with pytest.raises(SourceError, match="landed before"):
        base.extract(declared("canonical_files", path="inbox"), home, "b1", set())


def test_every_source_type_describes_itself() -> None:
    described = base.describe()
    assert {"canonical_files", "mapped_files", "sql", "odoo", "demo"} <= set(described)
    for kind in described.values():
        assert kind["summary"] and set(kind["required"]) <= set(kind["options"])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_process(inbox: Path, home: Home, take: Callable[..., base.Extraction], ending: str) -> None:
    """Bytes are overwritten, cut off or doubled at random places (fixed seed)."""
    table = pl.DataFrame({"order_id": [str(i) for i in range(50)], "ordered_at": ["2026-01-01"] * 50, "net_amount": [i / 7 for i in range(50)]})
    path = inbox / f"orders.{ending}"
    {"csv": table.write_csv, "jsonl": table.write_ndjson, "parquet": table.write_parquet}.get(ending, lambda p: _save_workbook(table, p))(path)
    whole, chance = path.read_bytes(), random.Random(7)
    outcomes: Counter[str] = Counter()
    for _ in range(50):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(damaged))
            change = chance.choice(("overwrite", "cut", "double"))
            if change == "overwrite":
                damaged[place] = chance.randrange(256)
            elif change == "cut":
                del damaged[place:place + chance.randint(1, 40)]
            else:
                damaged[place:place] = damaged[place:place + 20]
            damaged = damaged or bytearray(b"x")
        path.write_bytes(damaged)
        try:
            taken = take()
            outcomes["read"] += 1
            assert taken.deliveries[0].rows + taken.deliveries[0].rejected > 0
        except SourceError as error:
            outcomes["refused"] += 1
            assert error.file == path.name and error.remedy
    assert sum(outcomes.values()) == 50 and outcomes["read" if ending in ("csv", "jsonl") else "refused"] > 0


def _save_workbook(table: pl.DataFrame, path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [table.columns, *table.rows()]:
        book.active.append(list(row))
    book.save(path)
