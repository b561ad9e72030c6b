"""Bad input gives one clear message that names the place and the remedy, an exit code that is not 0, and leaves what is published untouched."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from conftest import Cli, write_csv
from fixtures import worked_examples

from data_contracts.environment import Home
from models import warehouse


@pytest.fixture(scope="module")
def published(examples_home, tmp_path_factory) -> Cli:
    return Cli(shutil.copytree(examples_home.home, tmp_path_factory.mktemp("bad_input") / "home"))


@pytest.fixture
def untouched(published):
    """The published snapshot before and after are the same; sources that a test declares are taken away again."""
    before = warehouse.current_id(Home(published.home))
    declared = (published.home / "sources.yml").read_text(encoding="utf-8")
    yield published
    (published.home / "sources.yml").write_text(declared, encoding="utf-8")
    assert warehouse.current_id(Home(published.home)) == before


def complaint(cli: Cli, *arguments: str) -> str:
    done = cli.run(*arguments, ok=False)
    assert done.returncode not in (0, 70), f"exit code {done.returncode}: {done.stderr}"
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr


def test_a_missing_required_column_is_named_with_its_file(untouched, tmp_path):
    write_csv(tmp_path / "in", "orders", [{"order_id": "x", "net_amount": "1"}])
    text = complaint(untouched, "import", str(tmp_path / "in"), "--source", "crm")
    assert "ordered_at" in text and "orders.csv" in text


def test_an_empty_directory_and_a_missing_one_are_named(untouched, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in complaint(untouched, "import", str(tmp_path / "empty"), "--source", "crm")
    assert "nowhere" in complaint(untouched, "import", str(tmp_path / "nowhere"), "--source", "crm")


def test_a_file_that_is_no_entity_is_named_with_the_entities_there_are(untouched, tmp_path):
    write_csv(tmp_path / "in", "ordres", [{"order_id": "x", "ordered_at": "2026-01-01"}])
    text = complaint(untouched, "import", str(tmp_path / "in"), "--source", "crm")
    assert "ordres" in text and "orders" in text


def test_a_binary_file_with_the_wrong_ending_is_refused(untouched, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "orders.parquet").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    assert "orders.parquet" in complaint(untouched, "import", str(tmp_path / "in"), "--source", "crm")


def test_a_locked_database_and_a_wrong_path_are_told_apart(untouched, tmp_path):
    file = tmp_path / "crm.sqlite"
    holder = sqlite3.connect(file)
    holder.execute("CREATE TABLE orders (order_id TEXT, ordered_at TEXT)")
    holder.commit()
    untouched.run("source", "add", "locked", "--type", "sql", "-o", f"url=sqlite:///{file}", "-o", "tables=[orders]")
    untouched.run("source", "add", "gone", "--type", "sql", "-o", f"url=sqlite:///{tmp_path / 'none.sqlite'}", "-o", "tables=[orders]")
    holder.execute("BEGIN EXCLUSIVE")
    assert "locked" in complaint(untouched, "source", "test", "locked").lower()
    assert "none.sqlite" in complaint(untouched, "source", "test", "gone")
    holder.close()


def test_a_secret_that_is_not_set_is_named_and_never_printed(untouched):
    untouched.run("source", "add", "secret", "--type", "sql", "-o", "url=postgresql://me:${RAPPORT_TEST_UNSET}@localhost:1/crm", "-o", "tables=[orders]")
    assert "RAPPORT_TEST_UNSET" in complaint(untouched, "source", "test", "secret")


@pytest.mark.parametrize("arguments, names", [
    (("metric", "query", "chrun_rate"), "churn_rate"), (("metric", "query", "orders", "--by", "colour"), "channel"), (("metric", "query", "orders", "--from", "yesterday"), "YYYY-MM-DD"),
    (("metric", "query", "orders", "--where", "1=1; drop table x"), "condition"), (("funnel", "--steps", ""), "step"), (("retention", "--variant", "sideways"), "bounded"),
    (("attribution", "--model", "magic"), "linear"), (("segment", "preview", "nobody_knows"), "segment"), (("snapshot", "rollback", "never"), "snapshot"),
    (("run", "--as-of", "soon"), "2026-11-22"), (("run", "--only", "everything"), "marts"), (("query", "DELETE FROM marts.fct_orders"), "SELECT"), (("source", "test", "unknown"), "source")])
def test_a_question_that_makes_no_sense_says_what_would(untouched, arguments, names):
    assert names in complaint(untouched, *arguments)


def test_a_home_that_does_not_exist_says_how_to_make_one(tmp_path):
    assert "rapport init" in complaint(Cli(tmp_path / "none"), "status")
    assert "rapport init" in complaint(Cli(tmp_path / "none"), "run")


def test_a_part_that_builds_on_what_is_not_there_yet_says_so(tmp_path):
    cli = Cli(tmp_path / "new")
    cli.run("init", "--time-zone", "UTC", "--currency", "EUR")
    cli.run("source", "add", "crm", "--type", "canonical_files", "-o", f"path={tmp_path}")
    done = cli.run("run", "--only", "marts", ok=False)
    assert done.returncode == 2 and "Run once without --only" in done.stderr and "Traceback" not in done.stderr


def test_a_warehouse_that_cannot_be_opened_is_a_failed_run_and_status_says_so(tmp_path):
    cli = Cli(tmp_path / "new")
    cli.run("init", "--time-zone", "UTC", "--currency", "EUR")
    cli.run("source", "add", "crm", "--type", "canonical_files", "-o", f"path={tmp_path}")
    Home(cli.home).warehouse.write_bytes(b"no database" * 5_000)
    done = cli.run("run", ok=False)
    assert done.returncode not in (0, 70) and "warehouse.duckdb" in done.stderr
    assert "last run: failed" in cli.run("status").stdout


def test_bad_rows_wait_in_quarantine_with_their_reason_and_can_be_replayed(untouched, tmp_path):
    rows = [{"order_id": "q1", "contact_id": "c1", "ordered_at": "2026-09-31", "net_amount": "5", "currency": "USD"}, {"order_id": "q2", "contact_id": "c1", "ordered_at": "2026-09-30", "net_amount": "12 EUR", "currency": "USD"},
            {"order_id": " ", "contact_id": "c1", "ordered_at": "2026-09-30", "net_amount": "1", "currency": "USD"}, {"order_id": "q3", "contact_id": "c1", "ordered_at": "2026-09-30", "net_amount": "7.50", "currency": "USD"},
            *({"order_id": "twice", "contact_id": "c1", "ordered_at": "2026-09-30", "net_amount": amount, "currency": "USD"} for amount in ("8", "9"))]
    write_csv(tmp_path / "in", "orders", rows)
    untouched.run("import", str(tmp_path / "in"), "--source", "crm")
    untouched.run("run", "--only", "landing")
    assert "warn: one row of each key is the newest on landing.orders, 1 rows" in untouched.run("status").stdout
    shown = untouched.rows("quarantine", "show")
    assert {(r["row_number"], r["reasons"].split(" ")[0]) for r in shown} == {(2, "ordered_at"), (3, "net_amount"), (4, "order_id")}    # line 1 is the header
    assert all(r["file"] == "orders.csv" for r in shown)
    broken = next(r["quarantine_id"] for r in shown if "q2" in r["raw"])
    assert "1 rows accepted" in untouched.run("quarantine", "replay", broken, "--set", "net_amount=12.00").stdout
    assert len(untouched.rows("quarantine", "show")) == 2


def test_a_full_extract_that_lost_most_of_its_rows_is_not_published(published, tmp_path):
    before = warehouse.current_id(Home(published.home))
    write_csv(tmp_path / "in", "orders", worked_examples.f2()[:6])
    published.run("import", str(tmp_path / "in"), "--source", "crm", "--full")
    done = published.run("run", "--as-of", worked_examples.AS_OF, ok=False)
    assert done.returncode == 3 and "volume" in done.stderr and "Traceback" not in done.stderr
    assert warehouse.current_id(Home(published.home)) == before
    told = published.run("status").stdout
    assert "blocked" in told and "still show the snapshot" in told


def test_a_second_run_at_the_same_time_ends_with_75(published):
    with warehouse.locked(Home(published.home)):
        done = published.alone("run", ok=False)
    assert done.returncode == 75 and "process" in done.stderr
