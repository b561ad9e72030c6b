"""Values and files that no export should hold, from the file to landing: each is either the same value or in quarantine, never another number and never gone."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from data_contracts.contract import load_contracts
from data_contracts.environment import Home
from data_contracts.errors import SourceError
from models import ingest, warehouse
from pipelines.sources import apart, base

NOW = datetime(2026, 11, 22)


@pytest.fixture
def landing() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with empty landing tables."""
    with warehouse.scratch() as con:
        ingest.prepare(con)
        yield con


def land(con: duckdb.DuckDBPyConnection, extraction: base.Extraction, seq: int = 1) -> ingest.LoadReport:
    """The only delivery of a batch, through its contract into landing and quarantine."""
    (delivery,) = extraction.deliveries
    context = ingest.BatchContext("shop", extraction.batch_id, seq, NOW, "UTC", "USD")
    ingest.prepare(con)
    rejected = ingest.quarantine_rejects(con, delivery.entity, delivery.rejects_path, context) if delivery.rejected else 0
    report = ingest.load(con, load_contracts()[delivery.entity], delivery.path, context, full=False)
    report.quarantined += rejected
    report.delivered += rejected
    return report


def quarantined(con: duckdb.DuckDBPyConnection) -> list[tuple]:
    return con.execute("SELECT row_number, reasons[1].field, reasons[1].reason FROM quarantine.rows ORDER BY row_number").fetchall()


NUMBERS = {"NaN": None, "nan": None, "Infinity": None, "-inf": None, "1e400": None, str(2**70): None, "12 EUR": None, "1,234.50": None, "1.234,50": None, "0x10": None, "1_000": None, "--5": None, "١٢": None,
           "99999999999999.9999": Decimal("99999999999999.9999"), "100000000000000": None, "1e3": Decimal(1000), "-7.25": Decimal("-7.25"), " 5 ": Decimal(5), "0.1": Decimal("0.1"), "+3": Decimal(3)}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_number_is_the_same_number_or_in_quarantine_and_never_empty(inbox: Path, take: Callable, ending: str) -> None:
    table = [{"order_id": str(i), "ordered_at": "2026-01-01", "currency": "USD", "net_amount": text} for i, text in enumerate(NUMBERS)]
    if ending == "csv":
        pl.DataFrame(table).write_csv(inbox / "orders.csv", quote_style="always")
    else:
        (inbox / "orders.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    with warehouse.scratch() as con:
        report = land(con, take())
        found = {NUMBERS_BY_ID[i]: value for i, value in con.execute("SELECT order_id, net_amount FROM landing.orders").fetchall()}
        assert found == {text: value for text, value in NUMBERS.items() if value is not None}
        assert report.quarantined == sum(value is None for value in NUMBERS.values()) and {q[1] for q in quarantined(con)} == {"net_amount"}


NUMBERS_BY_ID = {str(i): text for i, text in enumerate(NUMBERS)}


def test_floating_numbers_of_parquet_that_are_no_amounts_go_to_quarantine(inbox: Path, take: Callable) -> None:
    pl.DataFrame({"order_id": ["a", "b", "c", "d", "e"], "ordered_at": ["2026-01-01"] * 5, "net_amount": [float("nan"), float("inf"), 1e300, 0.1, -0.0]}).write_parquet(inbox / "orders.parquet")
    with warehouse.scratch() as con:
        assert (report := land(con, take())).quarantined == 3 and report.accepted == 2
        assert con.execute("SELECT net_amount FROM landing.orders ORDER BY order_id").fetchall() == [(Decimal("0.1"),), (Decimal(0),)]


def test_bytes_that_are_no_text_wait_in_quarantine_as_base64_and_odd_characters_stay_as_they_are(inbox: Path, take: Callable) -> None:
    names = ["Zoë", "\u202eevil\u202c", "a\x07b", "😀", "  x  ", "line\u2028break", "=1+1"]
    lines = [f'{i},2026-01-01,"{name}"'.encode() for i, name in enumerate(names)] + [b'20,2026-01-01,"a\xff\xfeb"', b'21,2026-01-01,"a\x00b"', b'22,2026-01-01,"\xed\xa0\x80"']
    (inbox / "companies.csv").write_bytes(b"\xef\xbb\xbfcompany_id,created_at,name\n" + b"\n".join(lines) + b"\n")
    with warehouse.scratch() as con:
        report = land(con, take())
        assert report.delivered == len(lines) and report.accepted + report.quarantined == len(lines)
        kept = dict(con.execute("SELECT company_id, name FROM landing.companies ORDER BY 1").fetchall())
        assert {i: kept.get(str(i)) for i in range(len(names))} == dict(enumerate(names))
        assert "20" not in kept and "22" not in kept
        raw = [r for (r,) in con.execute("SELECT raw FROM quarantine.rows").fetchall()]
        assert sum(r.startswith("base64:") for r in raw) >= 2


@pytest.mark.parametrize(("encoding", "broken"), [("utf-16", b"\x00\xd8"), ("gb18030", b"\xff")])
def test_bytes_that_their_encoding_does_not_know_reject_their_line(inbox: Path, take: Callable, encoding: str, broken: bytes) -> None:
    head, bad, good = (text.encode(encoding).removeprefix(b"\xff\xfe" if text[0] != "c" else b"") for text in ("company_id,created_at,name\n1,2026-01-01,北京\n", "2,2026-01-01,x", "3,2026-01-01,y\n"))
    (inbox / "companies.csv").write_bytes(head + bad + broken + "\n".encode(encoding).removeprefix(b"\xff\xfe") + good)
    taken = take(**({} if encoding == "utf-16" else {"encoding": encoding}))
    with warehouse.scratch() as con:
        assert (report := land(con, taken)).quarantined == 1 and report.accepted == 2
        assert con.execute("SELECT company_id, name FROM landing.companies ORDER BY 1").fetchall() == [("1", "北京"), ("3", "y")]


def test_ids_are_text_to_the_letter_and_blank_ones_are_refused(inbox: Path, take: Callable) -> None:
    ids = ["7", "007", "7.0", "A1", "a1", "1e3", "ｱ", "", "  ", "\u00a0"]
    pl.DataFrame({"contact_id": ids, "created_at": ["2026-01-01"] * len(ids)}).write_csv(inbox / "contacts.csv", quote_style="always")
    with warehouse.scratch() as con:
        assert land(con, take()).quarantined == 3
        assert {r[0] for r in con.execute("SELECT contact_id FROM landing.contacts").fetchall()} == set(ids[:7])


def test_twenty_orders_of_a_batch_with_repeated_ids_land_the_same_rows(inbox: Path, landing: duckdb.DuckDBPyConnection) -> None:
    table = [{"company_id": f"c{n % 7}", "created_at": "2026-01-01", "updated_at": f"2026-01-0{1 + n % 3}", "name": f"n{n % 5}"} for n in range(60)]
    outcomes = set()
    contract = load_contracts()["companies"]
    for seed in range(20):
        random.Random(seed).shuffle(table)
        file = inbox.parent / f"{seed}.parquet"
        pl.DataFrame(table).with_columns(pl.int_range(1, pl.len() + 1).alias("_row_number"), pl.lit("companies.csv").alias("_file")).write_parquet(file)
        landing.execute("DELETE FROM landing.companies")
        ingest.load(landing, contract, file, ingest.BatchContext("shop", f"b{seed}", 1, NOW, "UTC", "USD"), full=False)
        newest = landing.execute("SELECT company_id, name FROM landing.companies QUALIFY row_number() OVER (PARTITION BY company_id ORDER BY updated_at DESC, _row_hash DESC) = 1 ORDER BY 1").fetchall()
        outcomes.add((landing.execute("SELECT count(*), sum(hash(company_id, updated_at, name, _row_hash)::HUGEINT) FROM landing.companies").fetchone(), tuple(newest)))
    assert len(outcomes) == 1


def test_wide_and_long_json_is_capped_and_deep_json_stays_text(inbox: Path, take: Callable) -> None:
    good = {"company_id": "1", "created_at": "2026-01-01", "name": "x", "extra": json.loads("[" * 60 + "]" * 60)}
    long = [{"company_id": "2", "created_at": "2026-01-01", "name": "x" * 2_000_000}, {"company_id": "3", "created_at": "2026-01-01", "name": "x" * 10_000_000},
            {"company_id": "4", "created_at": "2026-01-01", "name": "x", "extra": "y" * 2_000_000}]
    (inbox / "companies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [good, *long]), encoding="utf-8")
    with warehouse.scratch() as con:
        report = land(con, take())
        assert (report.delivered, report.accepted, report.quarantined) == (4, 1, 3)
        assert json.loads(con.execute("SELECT _custom FROM landing.companies").fetchone()[0])["extra"] == "[" * 60 + "]" * 60
        assert {r for (r,) in con.execute("SELECT reasons[1].reason FROM quarantine.rows").fetchall()} >= {"is longer than 1 MB", "further columns are longer than 1 MB"}
        assert max(len(r) for (r,) in con.execute("SELECT reasons[1].value FROM quarantine.rows WHERE reasons[1].value IS NOT NULL").fetchall()) <= 200
    (inbox / "companies.jsonl").write_text(json.dumps({f"c{n}": 1 for n in range(3000)} | good) + "\n", encoding="utf-8")
    with pytest.raises(SourceError, match="columns"):
        take()


PAYLOADS = ["..%2f..%2forders.csv", "..\\..\\orders.csv", "C:\\orders.csv", "orders.csv\n", "$(touch pwned).csv", "`id`.csv", "; rm -rf .csv", "' OR 1=1 --.csv", "%00.csv", "\u202evsc.sredro", "orders.csv ", "~root.csv",
            "{{7*7}}.csv", "<script>.csv", "con.csv", "a" * 240 + ".csv", "-rf.csv", "*", "?.csv", "[!a].csv", "\x1b[31mred.csv", "orders.csv;type=x", "\\\\host\\share.csv", "file:%2f%2fetc%2fpasswd", "..csv", "...", "s3:bucket.csv",
            "orders::$DATA.csv", "ord\u0000ers.csv".replace("\0", "0"), "％s.csv"]


def test_thirty_odd_file_names_stay_inside_the_batch_folder_and_disturb_no_terminal(inbox: Path, take: Callable, home: Home, tmp_path: Path) -> None:
    (inbox / "orders").mkdir()
    for n, name in enumerate(PAYLOADS):
        (inbox / "orders" / name).write_text(f"order_id,ordered_at\n{n},2026-01-01\n", encoding="utf-8")
    before = {p for p in tmp_path.rglob("*") if home.landing not in p.parents}
    try:
        taken = take()
        said = " ".join([*taken.warnings, *taken.skipped, *(f.name for f in taken.files)])
    except SourceError as error:      # one that cannot be read is named, and nothing is landed
        taken, said = None, str(error)
        for name in PAYLOADS:
            if not name.endswith(".csv"):
                (inbox / "orders" / name).unlink()
        taken = take()
    assert all(c.isprintable() for c in said)
    read = {r[0] for r in pl.read_parquet(taken.deliveries[0].path).select("order_id").rows()}
    assert read <= {str(n) for n in range(len(PAYLOADS))} and len(read) >= 20
    assert {p for p in tmp_path.rglob("*") if home.landing not in p.parents} <= before | {home.landing}
    assert all(p.resolve().is_relative_to(home.landing) for p in home.landing.rglob("*"))


def resident() -> int:
    """The most memory this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_archives_are_never_unpacked_and_a_bomb_takes_no_memory(inbox: Path, take: Callable) -> None:
    zeros = bytes(1024**2)
    with gzip.open(inbox / "orders.csv.gz", "wb", compresslevel=1) as packed:
        for _ in range(400):
            packed.write(zeros)
    with zipfile.ZipFile(inbox / "inner.zip", "w", zipfile.ZIP_DEFLATED) as inner:
        inner.writestr("orders.csv", zeros * 50)
    with zipfile.ZipFile(inbox / "orders.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
        with book.open("xl/worksheets/sheet1.xml", "w") as sheet:
            for _ in range(400):
                sheet.write(zeros)
    before = resident()
    for name, says in (("orders.csv.gz", "cannot be read"), ("orders.xlsx", "unpacks more than")):
        with pytest.raises(SourceError, match=says) as caught:
            take(path=f"inbox/{name}")
        assert caught.value.remedy
    (inbox / "inner.zip").rename(inbox / "orders.csv.zip")
    with pytest.raises(SourceError):
        take(path="inbox/orders.csv.zip")
    assert resident() - before < 300 * 1024**2


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_a_file_that_ends_the_process_reading_it_is_refused_and_the_next_one_is_read(inbox: Path, take: Callable, home: Home, format: str) -> None:
    frame = pl.DataFrame({"contact_id": ["1"], "created_at": ["2026-01-01"]})
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[format](inbox / f"contacts.{format}")
    assert take().deliveries[0].rows == 1
    child = apart._child
    assert child is not None and child.pid != os.getpid()
    os.kill(child.pid, signal.SIGSTOP)      # so that it dies while it has the file, as on a fault of the decoder
    threading.Timer(0.3, lambda: (os.kill(child.pid, signal.SIGSEGV), os.kill(child.pid, signal.SIGCONT))).start()
    with pytest.raises(SourceError, match="ended the process that read it") as caught:
        take()
    assert "SIGSEGV" in caught.value.message and caught.value.file == f"contacts.{format}"
    assert [p.name for p in (home.landing / "shop").iterdir()] == ["b000"]
    assert take().deliveries[0].rows == 1
