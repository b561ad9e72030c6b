"""A run is spared only when it could build nothing but what is published: whatever a number depends on makes it run again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from data_contracts.environment import Home
from models import ingest, warehouse
from pipelines import unchanged

AS_OF = datetime(2026, 5, 4, 12)
LATER = AS_OF + timedelta(minutes=1)
FUTURE = "2026-05-04 15:00:00"      # a landed time after the run's instant, on the same day


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A published home with one file source; Berlin's midnight comes two hours before the one of UTC."""
    made = Home(tmp_path / "home")
    made.make_folders()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "orders.csv").write_text("order_id\n1\n", encoding="utf-8")
    (made.root / "workspace.yml").write_text("time_zone: Europe/Berlin\n", encoding="utf-8")
    declare(made, "canonical_files", path=str(tmp_path / "in"))
    publish(made)
    unchanged.remember(made, AS_OF, stated=False)
    return made


def declare(home: Home, kind: str, **options: str) -> None:
    (home.root / "sources.yml").write_text(json.dumps({"sources": {"crm": {"type": kind, **options}}}), encoding="utf-8")


def publish(home: Home, watermark: datetime = AS_OF - timedelta(days=3)) -> None:
    with warehouse.writing(home) as con:
        ingest.prepare(con)
        ingest.write_settings(con, home.workspace, AS_OF, watermark)
        con.execute("CREATE OR REPLACE TABLE meta.anything AS SELECT 1 AS x")
    warehouse.publish(home, "run", AS_OF, watermark)


def land(home: Home, column: str) -> None:
    with warehouse.writing(home) as con:
        con.execute(f"INSERT INTO landing.orders (order_id, {column}) VALUES ('1', '{FUTURE}')")


def test_nothing_new_is_seen_again_and_again(home):
    for _ in range(2):
        assert unchanged.is_up_to_date(home, None, LATER)


CHANGES: dict[str, Callable[[Home], object]] = {
    "a new file": lambda home: (home.root.parent / "in" / "orders_2.csv").write_text("order_id\n2\n", encoding="utf-8"),
    "a file changed": lambda home: (home.root.parent / "in" / "orders.csv").write_text("order_id\n3\n", encoding="utf-8"),
    "a file rewritten with its old time": lambda home: _rewritten(home.root.parent / "in" / "orders.csv"),
    "a file gone": lambda home: (home.root.parent / "in" / "orders.csv").unlink(),
    "a batch landed": lambda home: _batch(home),
    "a setting": lambda home: (home.root / "workspace.yml").write_text("time_zone: Europe/Berlin\nchurn_window_days: 30\n", encoding="utf-8"),
    "a segment": lambda home: (home.segments / "mine.yml").write_text("name: mine\n", encoding="utf-8"),
    "a model": lambda home: (home.artifacts / "champion.json").write_text("{}", encoding="utf-8"),
    "a hand in the warehouse": lambda home: land(home, "ordered_at"),
    "another snapshot": publish,
    "a damaged snapshot": lambda home: _flipped(home.serving / f"{warehouse.current_id(home)}.duckdb"),
    "a database among the sources": lambda home: declare(home, "sql", url="sqlite:///crm.db"),
}


def _batch(home: Home) -> None:
    folder = home.landing / "crm" / "b2"
    folder.mkdir(parents=True)
    (folder / "batch.json").write_text("{}", encoding="utf-8")


def _rewritten(file: Path) -> None:
    known = file.stat()
    other = file.with_name("other")
    other.write_text(file.read_text(encoding="utf-8").replace("1", "9"), encoding="utf-8")
    os.utime(other, ns=(known.st_atime_ns, known.st_mtime_ns))
    other.replace(file)


def _flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_it_run(home, change):
    CHANGES[change](home)
    assert not unchanged.is_up_to_date(home, None, LATER)


def test_a_changed_program_makes_it_run(home, monkeypatch):
    monkeypatch.setattr(unchanged, "_program", lambda: "newer")
    assert not unchanged.is_up_to_date(home, None, LATER)


def test_time_makes_it_run_at_the_next_local_day_and_at_a_landed_time_that_comes_true(home):
    assert unchanged.is_up_to_date(home, None, datetime(2026, 5, 4, 21, 59))
    assert not unchanged.is_up_to_date(home, None, datetime(2026, 5, 4, 22)), "midnight in Berlin"
    assert not unchanged.is_up_to_date(home, None, AS_OF - timedelta(seconds=1))
    for column in ("updated_at", "_loaded_at"):
        land(home, column)
        unchanged.remember(home, AS_OF, stated=False)
        assert unchanged.is_up_to_date(home, None, datetime(2026, 5, 4, 14, 59)) and not unchanged.is_up_to_date(home, None, datetime(2026, 5, 4, 15))


def test_a_watermark_cut_off_at_the_instant_moves_with_it(home):
    publish(home, watermark=AS_OF)
    unchanged.remember(home, AS_OF, stated=False)
    assert not unchanged.is_up_to_date(home, None, LATER)


def test_a_stated_instant_is_spared_only_when_it_is_the_same(home):
    assert not unchanged.is_up_to_date(home, AS_OF, LATER), "the last run spoke of its own present"
    unchanged.remember(home, AS_OF, stated=True)
    assert unchanged.is_up_to_date(home, AS_OF, LATER + timedelta(days=400))
    assert not unchanged.is_up_to_date(home, LATER, LATER) and not unchanged.is_up_to_date(home, None, LATER)
