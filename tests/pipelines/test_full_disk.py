"""A disk that is full, in each phase: a clear message, the former version served, no leftovers, and with room again the next run is exact. Fault 33."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from conftest import Cli

from data_contracts.environment import Home
from data_contracts.errors import RapportError
from models import ingest, warehouse
from pipelines import batches
from pipelines.workspace_files import make_home

NOW, ROWS = datetime(2026, 11, 22), 40_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "rapport-test", str(place)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here ({mounted.stderr.strip()}): this test needs root and ran nothing")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


class Filler:
    """Takes all room of a disk but `left` bytes, and gives it back."""

    def __init__(self, disk: Path) -> None:
        self.file, self.disk = disk / "filler", disk

    def fill(self, left: int) -> None:
        free = os.statvfs(self.disk).f_bavail * os.statvfs(self.disk).f_frsize
        with open(self.file, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - left)

    def free(self) -> None:
        self.file.unlink()


@pytest.fixture
def filler(disk: Path) -> Filler:
    return Filler(disk)


@pytest.fixture
def home(disk: Path, tmp_path: Path) -> Home:
    """A home on the small disk; its source stands on another."""
    place = Home(disk / "home")
    make_home(place)
    (tmp_path / "inbox").mkdir()
    lines = (f"c{n},{os.urandom(12).hex()}@x.example,2026-01-01\n" for n in range(ROWS))
    (tmp_path / "inbox" / "contacts.csv").write_text("contact_id,email,created_at\n" + "".join(lines), encoding="utf-8")
    place.sources_file.write_text(f"sources: {{shop: {{type: canonical_files, path: {tmp_path / 'inbox'}}}}}\n", encoding="utf-8")
    with warehouse.writing(place) as con:
        ingest.prepare(con)
        ingest.write_settings(con, place.workspace, NOW, NOW)
        con.execute("CREATE SCHEMA marts; CREATE TABLE marts.one AS SELECT 1 AS version")
    warehouse.publish(place, "run-1", NOW, NOW)
    return place


def _served(home: Home) -> int:
    with warehouse.reading(home) as opened:
        return opened.con.execute("SELECT max(version) FROM marts.one").fetchone()[0]


def _load(home: Home) -> None:
    with warehouse.writing(home) as con:
        batches.load_pending(home, con, home.sources(), lambda text: None)


def test_a_disk_that_fills_up_while_a_source_is_read_or_taken_in_leaves_nothing_behind_and_nothing_out(home: Home, filler: Filler):
    filler.fill(400_000)
    with pytest.raises(RapportError, match="the disk is full.*contacts.csv.*Make room"):
        batches.extract_source(home, home.source("shop"))
    assert list((home.landing / "shop").iterdir()) == []
    filler.free()
    assert batches.extract_source(home, home.source("shop")).deliveries[0].rows == ROWS
    filler.fill(400_000)
    with pytest.raises(RapportError, match="the disk is full.*Make room"):
        _load(home)
    assert _served(home) == 1
    filler.free()
    _load(home)
    with warehouse.writing(home) as con:
        assert con.execute("SELECT count(*), count(DISTINCT contact_id), (SELECT count(*) FROM ops.batches) FROM landing.contacts").fetchone() == (ROWS, ROWS, 1)


def test_a_disk_that_fills_up_with_spilled_rows_is_told_and_empty_again_afterwards(home: Home, filler: Filler):
    filler.fill(8_000_000)
    with pytest.raises(RapportError, match="the disk is full"), warehouse.writing(home) as con:
        con.execute("SET memory_limit = '48MB'; SET threads = 1")
        con.execute("CREATE TEMP TABLE sorted AS SELECT range, hash(range) AS h, hash(range + 1) AS g FROM range(5000000) ORDER BY h")
    assert [file for file in home.temporary.rglob("*") if file.is_file()] == [] and _served(home) == 1


def test_a_disk_that_fills_up_while_publishing_keeps_the_former_version_and_its_room(home: Home, filler: Filler):
    with warehouse.writing(home) as con:
        con.execute("CREATE OR REPLACE TABLE marts.one AS SELECT 2 AS version, range, md5(range::VARCHAR) AS text FROM range(200000)")
    filler.fill(3_000_000)
    before = os.statvfs(filler.disk).f_bavail
    with pytest.raises(RapportError, match="the disk is full.*Make room"):
        warehouse.publish(home, "run-2", NOW, NOW)
    assert _served(home) == 1 and len(list(home.serving.glob("*.duckdb"))) == 1 and not list(home.serving.glob(".*"))
    assert os.statvfs(filler.disk).f_bavail >= before - 100
    filler.free()
    warehouse.publish(home, "run-2", NOW, NOW)
    assert _served(home) == 2


def test_a_run_on_a_full_disk_ends_with_one_sentence_and_the_next_one_takes_everything_in(home: Home, filler: Filler):
    cli = Cli(home.root)
    for left in (0, 700_000):
        filler.fill(left)
        done = cli.run("run", "--only", "sources", ok=False)
        assert done.returncode == 1 and "rapport: the disk is full" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr, done.stderr
        assert _served(home) == 1
        filler.free()
    cli.run("run", "--only", "sources")
    _load(home)
    with warehouse.writing(home) as con:
        assert con.execute("SELECT count(*) FROM landing.contacts").fetchone() == (ROWS,)
