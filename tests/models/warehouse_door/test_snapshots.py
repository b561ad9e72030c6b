"""Snapshots: whole or not at all, however many read while others publish."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from data_contracts.environment import Home
from data_contracts.errors import BusyError, RapportError, UsageError
from models import ingest, warehouse
from pipelines.workspace_files import make_home

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 22)


@pytest.fixture
def home(tmp_path):
    place = Home(tmp_path / "home")
    make_home(place)
    with warehouse.writing(place) as con:
        ingest.prepare(con)
        ingest.write_settings(con, place.workspace, NOW, NOW)
    return place


def publish(home: Home, version: int, rows: int = 20_000) -> warehouse.Snapshot:
    """Two tables that belong together: a reader that sees two versions has seen a mixed snapshot."""
    with warehouse.writing(home) as con:
        con.execute("CREATE SCHEMA IF NOT EXISTS marts")
        for table in ("one", "two"):
            con.execute(f"CREATE OR REPLACE TABLE marts.{table} AS SELECT {version} AS version, range AS id FROM range({rows})")
    return warehouse.publish(home, f"run-{version}", NOW, NOW)


def read_until(root: str, stop: multiprocessing.Event, ready: multiprocessing.Queue, answers: multiprocessing.Queue) -> None:
    home, seen, faults = Home(Path(root)), set(), []
    is_last = False
    while not is_last:
        is_last = stop.is_set()     # one more read after the last publish
        try:
            with warehouse.reading(home) as opened:
                found = opened.con.execute("SELECT min(version), max(version), count(*) FROM (SELECT version FROM marts.one UNION ALL SELECT version FROM marts.two)").fetchone()
                named = opened.con.execute("SELECT snapshot_id FROM meta.snapshot").fetchone()[0]
            if found[0] != found[1] or found[2] != 40_000 or named != opened.snapshot.id:
                faults.append(f"mixed: {found}")
            seen.add(found[0])
        except Exception as error:  # noqa: BLE001  any error at all is what this test looks for
            faults.append(f"{type(error).__name__}: {error}")
        if ready is not None:
            ready.put(True)
            ready = None
    answers.put((seen, faults))


def test_ten_readers_never_see_an_error_or_a_mixed_snapshot_while_three_runs_publish(home):
    publish(home, 1)
    context = multiprocessing.get_context("spawn")
    stop, ready, answers = context.Event(), context.Queue(), context.Queue()
    readers = [context.Process(target=read_until, args=(str(home.root), stop, ready, answers)) for _ in range(10)]
    for reader in readers:
        reader.start()
    for _ in readers:
        ready.get(timeout=120)
    for version in (2, 3, 4):
        publish(home, version)
    stop.set()
    results = [answers.get(timeout=120) for _ in readers]
    for reader in readers:
        reader.join()
    assert [faults for _, faults in results if faults] == []
    assert all(4 in seen for seen, _ in results)


def test_retention_keeps_the_newest_and_a_held_reader_goes_on(home):
    (home.workspace_file).write_text("keep_snapshots: 2\n", encoding="utf-8")
    place = Home(home.root)
    first = publish(place, 1)
    with warehouse.reading(place) as opened:
        for version in (2, 3, 4):
            publish(place, version)
        assert opened.con.execute("SELECT max(version) FROM marts.one").fetchone() == (1,)
    assert len(warehouse.list_snapshots(place)) == 2
    with pytest.raises(UsageError), warehouse.reading(place, snapshot_id=first.id):
        pass


def test_a_rollback_goes_back_and_refuses_a_damaged_file(home):
    first, second = publish(home, 1), publish(home, 2)
    warehouse.rollback(home, first.id)
    with warehouse.reading(home) as opened:
        assert opened.snapshot.id == first.id
    file = home.serving / f"{second.id}.duckdb"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(RapportError, match="damaged"):
        warehouse.rollback(home, second.id)
    assert warehouse.current_id(home) == first.id


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-512])


def _log_left(file: Path) -> None:
    """As a program leaves it that opened the snapshot, wrote and was killed. DuckDB itself would show its rows."""
    with duckdb.connect(str(file)) as con:
        con.execute("PRAGMA disable_checkpoint_on_shutdown; INSERT INTO marts.one SELECT 9, 9")
    assert file.with_name(file.name + ".wal").stat().st_size > 0


def _description_garbled(file: Path) -> None:
    file.with_suffix(".json").write_text('{"id": "2', encoding="utf-8")


def _description_strange(file: Path) -> None:
    file.with_suffix(".json").write_text('{"idea": 2}', encoding="utf-8")


@pytest.mark.parametrize("damage", [_cut, _log_left, _description_garbled, _description_strange, Path.unlink])
def test_a_snapshot_without_its_end_its_description_or_with_a_log_beside_it_is_refused_and_the_former_one_served(home, damage):
    first, second = publish(home, 1, rows=10), publish(home, 2, rows=10)
    damage(home.serving / f"{second.id}.duckdb")
    with warehouse.reading(home) as opened:
        assert opened.con.execute("SELECT max(version) FROM marts.one").fetchone() == (1,)
        assert opened.snapshot.warnings == [f"snapshot {second.id} is damaged; this is the one before it, until the next run"]
    with pytest.raises(RapportError) as told, warehouse.reading(home, snapshot_id=second.id):
        pass
    assert "damaged" in str(told.value) and "rapport snapshot rollback" in str(told.value) and second.id in str(told.value)
    publish(home, 3, rows=10)
    with warehouse.reading(home) as opened:
        assert opened.con.execute("SELECT max(version) FROM marts.one").fetchone() == (3,) and opened.snapshot.warnings == []
    (home.serving / f"{opened.snapshot.id}.duckdb").unlink()
    assert warehouse.current_id(home) == first.id


def test_the_only_snapshot_is_refused_when_it_is_cut(home):
    _cut(home.serving / f"{publish(home, 1, rows=10).id}.duckdb")
    with pytest.raises(RapportError, match="damaged: its file has another length"), warehouse.reading(home):
        pass


def test_a_flipped_bit_is_refused_or_lay_where_nothing_was_written(home):
    """One hundred bits, one at a time: never another number. The hash knows every one of them."""
    snapshot = publish(home, 1, rows=2_000)
    file, chance, refused = home.serving / f"{snapshot.id}.duckdb", random.Random(31), 0
    whole, manifest = file.read_bytes(), file.with_suffix(".json").read_text(encoding="utf-8")
    asked = "SELECT sum(hash(o))::VARCHAR, (SELECT sum(hash(t))::VARCHAR FROM marts.two AS t) FROM marts.one AS o"
    with warehouse.reading(home) as opened:
        expected = opened.con.execute(asked).fetchall()
    for n in range(100):
        place, copy = chance.randrange(len(whole)), home.serving / f"flip{n}.duckdb"      # a new name each: DuckDB knows a file by its path
        copy.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1:])
        copy.with_suffix(".json").write_text(manifest.replace(snapshot.id, copy.stem), encoding="utf-8")
        assert not warehouse.is_whole(home, warehouse.read_snapshot(home, copy.stem))
        try:
            with warehouse.reading(home, snapshot_id=copy.stem) as opened:
                assert warehouse.run_query(opened, asked).fetchall() == expected
        except RapportError as error:
            assert not isinstance(error, UsageError) and "rapport snapshot rollback" in str(error)
            refused += 1
        copy.unlink()
        copy.with_suffix(".json").unlink()
    assert refused > 50


def test_a_publish_that_dies_leaves_the_former_snapshot_current(home):
    """Killed at every moment of a publish, the pointer names a whole snapshot."""
    publish(home, 1)
    code = ("import sys, pathlib; sys.path.insert(0, sys.argv[2]);"
            "from data_contracts.environment import Home; from models import warehouse; from datetime import datetime;"
            "h = Home(pathlib.Path(sys.argv[1])); print('go', flush=True);"
            "[warehouse.publish(h, f'run-{n}', datetime(2026, 11, 22), datetime(2026, 11, 22)) for n in range(1000)]")
    for wait in (0.05, 0.11, 0.23, 0.37):
        process = subprocess.Popen([sys.executable, "-c", code, str(home.root), str(ROOT)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(wait)
        process.kill()
        process.wait()
        with warehouse.reading(home) as opened:
            assert opened.con.execute("SELECT count(*) FROM marts.one").fetchone() == (20_000,)
        publish(home, 2)      # the lock of a dead process is free, and its half-built file is no obstacle
    assert not list(home.serving.glob(".building-*"))


def test_a_second_writer_is_told_to_wait_and_a_dead_one_holds_nothing(home):
    code = ("import sys, pathlib, time; sys.path.insert(0, sys.argv[2]);"
            "from data_contracts.environment import Home; from models import warehouse;\n"
            "with warehouse.locked(Home(pathlib.Path(sys.argv[1]))):\n    print('held', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code, str(home.root), str(ROOT)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    with pytest.raises(BusyError, match="process"), warehouse.locked(home):
        pass
    holder.kill()
    holder.wait()
    with warehouse.locked(home):
        with warehouse.locked(home):      # a run locks once and its steps again
            pass


@pytest.mark.parametrize("sql", [
    "CREATE TABLE t AS SELECT 1", "INSERT INTO marts.one VALUES (1, 1)", "DROP TABLE marts.one", "UPDATE marts.one SET version = 9", "COPY marts.one TO '/tmp/out.csv'",
    "ATTACH '/tmp/other.duckdb'", "SET memory_limit = '1GB'", "INSTALL httpfs", "LOAD httpfs", "SELECT 1; SELECT 2", "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_text('/etc/hostname')", "SELECT * FROM glob('/*')", "EXPORT DATABASE '/tmp/x'", "CALL pragma_version()", "SELECT getenv('HOME')", "nonsense"])
def test_a_query_can_only_read_the_snapshot(home, sql):
    publish(home, 1, rows=10)
    with warehouse.reading(home) as opened, pytest.raises(UsageError):
        warehouse.run_query(opened, sql).fetchall()


def test_an_endless_query_is_stopped(home):
    publish(home, 1, rows=10)
    begun = time.monotonic()
    with warehouse.reading(home) as opened, pytest.raises(UsageError, match="longer than"):
        warehouse.run_query(opened, "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = -1", seconds=0.5)
    assert time.monotonic() - begun < 20


def test_a_newer_format_is_not_read_wrongly(home):
    snapshot = publish(home, 1, rows=10)
    file = home.serving / f"{snapshot.id}.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"format_version": 1', '"format_version": 99'), encoding="utf-8")
    with pytest.raises(RapportError, match="newer"), warehouse.reading(home):
        pass
