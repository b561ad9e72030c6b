"""What people are told who ask a snapshot that an older Rapport wrote, or that the disk has damaged: which one, and what to do. Never an error of the database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest
from conftest import Cli

from data_contracts.environment import Home
from models import warehouse

HEADERS, BLOCK = 3 * 4096, 262_144      # of a DuckDB file: what it is, two states of it, then blocks
ASKED = [
    ("metric", "query", "mrr", "--grain", "month"), ("metric", "query", "churn_rate", "--by", "country"), ("metric", "list"), ("funnel", "--steps", "lead_created; first_order"), ("retention",), ("attribution",),
    ("segment", "list"), ("segment", "preview", "big"), ("segment", "explain", "big"), ("segment", "export", "big", "--format", "csv"), ("pipeline",), ("pipeline", "--from", "2026-01-01", "--to", "2026-02-01"),
    ("rfm",), ("rules",), ("cluster", "list"), ("identity", "list"), ("identity", "log"), ("identity", "review"), ("history", "customer", "nobody"), ("restatement", "list"), ("model", "list"),
    ("query", "SELECT * FROM marts.dim_customers"), ("status",), ("snapshot", "list"), ("quarantine", "list"), ("doctor",)]


def _copy(source: Cli, home: Path) -> Home:
    """The published part of a home, in one of its own."""
    place = Home(home)
    shutil.copytree(source.home / "serving", place.serving)
    for file in ("workspace.yml", "sources.yml", "warehouse.duckdb"):
        shutil.copy(source.home / file, home / file)
    place.segments.mkdir()
    (place.segments / "big.yml").write_text("label: Big\nall:\n  - {attribute: country, is: DE}\n", encoding="utf-8")
    return place


def _describe_anew(file: Path) -> None:
    description = file.with_suffix(".json")
    told = json.loads(description.read_text(encoding="utf-8")) | {"bytes": file.stat().st_size, "sha256": sha256(file.read_bytes()).hexdigest()}
    description.write_text(json.dumps(told), encoding="utf-8")


def _of_an_older_rapport(place: Home) -> None:
    """Every table but the settings has lost all columns except the first; the file is whole."""
    file = place.serving / f"{warehouse.current_id(place)}.duckdb"
    with duckdb.connect(str(file)) as con:
        for schema, table, columns in con.execute("SELECT table_schema, table_name, list(column_name ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema NOT IN ('meta', 'information_schema') GROUP BY ALL").fetchall():
            if (schema, table) != ("ops", "settings"):
                con.execute(f'CREATE OR REPLACE TABLE "{schema}"."{table}" AS SELECT "{columns[0]}" FROM "{schema}"."{table}"')
    _describe_anew(file)


def _damaged(place: Home) -> None:
    """One bit of every block that holds rows has changed. Blocks with the list of tables are left alone, or the file would not even open."""
    file = place.serving / f"{warehouse.current_id(place)}.duckdb"
    with duckdb.connect(str(file), read_only=True) as con:
        tables = con.execute("SELECT table_schema || '.' || table_name FROM information_schema.tables").fetchall()
        blocks = {block for (table,) in tables for (block,) in con.execute("SELECT DISTINCT block_id FROM pragma_storage_info(?) WHERE block_id >= 0", [table]).fetchall()}
    content = bytearray(file.read_bytes())
    for block in blocks:
        content[HEADERS + block * BLOCK + 4000] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(("fault", "said"), [(_of_an_older_rapport, "needs an upgrade"), (_damaged, "is damaged: a block of its file is not what was written")])
def test_every_command_that_asks_a_faulty_snapshot_says_which_and_what_to_do(demo_home: Cli, tmp_path: Path, fault: Callable[[Home], None], said: str):
    place = _copy(demo_home, tmp_path / "home")
    fault(place)
    cli, faulty, told = Cli(place.root), warehouse.current_id(place), []
    for asked in ASKED:
        done = cli.run(*asked, ok=False)
        assert done.returncode in (0, 1) or asked[0] == "history", f"{asked}: {done.returncode} {done.stderr}"
        if done.returncode == 1 and asked != ("doctor",):
            assert f"snapshot {faulty} {said}" in done.stderr and "`rapport run`" in done.stderr and "rapport snapshot rollback" in done.stderr, f"{asked}: {done.stderr}"
            told.append(asked[0])
        (place.serving / f"{faulty}.damaged").unlink(missing_ok=True)      # each command finds it by itself
    assert {"metric", "funnel", "retention", "attribution", "segment", "pipeline", "rfm", "identity"} <= set(told), told


def test_whoever_finds_a_damaged_block_has_the_former_snapshot_served_and_the_next_run_builds_anew(demo_home: Cli, tmp_path: Path):
    place = _copy(demo_home, tmp_path / "home")
    former = warehouse.current_id(place)
    with warehouse.reading(place) as opened:
        about = opened.snapshot
    newer = warehouse.new_snapshot_id()
    for suffix in ("duckdb", "json"):
        shutil.copy(place.serving / f"{former}.{suffix}", place.serving / f"{newer}.{suffix}")
    (place.serving / f"{newer}.json").write_text((place.serving / f"{newer}.json").read_text(encoding="utf-8").replace(about.id, newer), encoding="utf-8")
    (place.serving / "current").write_text(newer, encoding="utf-8")
    _damaged(place)
    cli = Cli(place.root)
    assert f"Ask again: readers are given {former}" in cli.run("segment", "preview", "big", ok=False).stderr
    assert f"snapshot {former}" in cli.run("segment", "preview", "big").stderr
    assert f"warning: snapshot {newer} is damaged" in cli.run("status").stdout
    assert f"WRONG snapshot {newer}" in cli.run("doctor", ok=False).stdout
    assert cli.run("snapshot", "rollback", newer, ok=False).returncode == 1
