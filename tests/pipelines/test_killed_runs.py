"""Runs killed in every phase: readers keep the former version, and the next whole run is exactly what it had been without them. Fault 30."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from conftest import Cli, write_csv
from fixtures import killed_runs, worked_examples

from data_contracts.environment import Home
from models import warehouse

ROOT = Path(__file__).resolve().parents[2]
COMPARED = ("marts", "metrics", "features", "scores", "segments")
OF_THE_RUN = ("run_id", "scored_at", "card")      # the card of a model names the hash of its file


def _content(home: Home) -> dict[str, tuple]:
    """Rows and hash of every published table, without what names the run."""
    with duckdb.connect(str(home.serving / f"{warehouse.current_id(home)}.duckdb"), read_only=True) as con:
        tables = con.execute("SELECT table_schema, table_name, list(column_name) FROM information_schema.columns WHERE list_contains(?, table_schema) GROUP BY ALL ORDER BY ALL", [list(COMPARED)]).fetchall()
        found = {}
        for schema, table, columns in tables:
            own = ", ".join(f'"{c}"' for c in sorted(columns) if c not in OF_THE_RUN)
            found[f"{schema}.{table}"] = con.execute(f'SELECT count(*), sum(hash({own}))::VARCHAR FROM "{schema}"."{table}"').fetchone()
    return found


@pytest.mark.timeout(900)      # a minute on a quiet machine
def test_a_run_killed_at_any_moment_leaves_the_former_version_and_the_next_one_is_exact(examples_home: Cli, tmp_path: Path):
    reference = Home(examples_home.home)
    entities = worked_examples.entities()
    late = {entity: entities.pop(entity) for entity in ("subscriptions", "deal_changes")}      # delivered once two runs have died
    for entity, rows in entities.items():
        write_csv(tmp_path / "files", entity, rows)
    cli = Cli(tmp_path / "home")
    cli.run("init", "--time-zone", "UTC", "--currency", "USD")
    cli.run("source", "add", "crm", "--type", "canonical_files", "-o", f"path={tmp_path / 'files'}")
    home = Home(cli.home)
    shutil.copytree(reference.serving, home.serving, dirs_exist_ok=True)       # a version that readers had before
    former = warehouse.current_id(home)
    process = subprocess.Popen([sys.executable, "-m", "tests.fixtures.killed_runs", str(home.root), worked_examples.AS_OF], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    moments = []
    for line in process.stdout:
        told = json.loads(line)
        if told["moment"] == "whole":
            break
        moments.append(told["moment"])
        assert told["killed"], f"the run did not come to the moment {told['moment']!r}: {process.communicate()[1]}"
        assert warehouse.current_id(home) == former, told
        with warehouse.reading(home) as opened:
            assert opened.con.execute("SELECT count(*) > 0 FROM marts.fct_orders").fetchone() == (True,)
        if told["moment"] == "landing":
            for entity, rows in late.items():
                write_csv(tmp_path / "files", entity, rows)
        process.stdin.write("\n")
        process.stdin.flush()
    _, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained
    assert moments == list(killed_runs.MOMENTS) and told["state"] == "published"
    assert warehouse.current_id(home) != former
    expected, found = _content(reference), _content(home)
    assert {table: (content, found.get(table)) for table, content in expected.items() if found.get(table) != content} == {}
    assert set(found) == set(expected)
    assert not list(home.serving.glob(".*")) and not list(home.serving.glob("*.wal"))
