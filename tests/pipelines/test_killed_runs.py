"""Runs killed in every phase: readers keep the former version, and the next whole run is exactly what it had been without them. Fault 30."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli, write_csv
from fixtures import killed_runs, worked_examples
from fixtures.published import contents, tables_of

from data_contracts.environment import Home
from models import warehouse

ROOT = Path(__file__).resolve().parents[2]
COMPARED = ("marts", "metrics", "features", "scores", "segments")
OF_THE_RUN = ("run_id", "scored_at", "card")      # the card of a model names the hash of its file


@pytest.mark.timeout(900)      # a minute on a quiet machine
def test_a_run_killed_at_any_moment_leaves_the_former_version_and_the_next_one_is_exact(examples_home: Cli, tmp_path: Path):
    reference, home = Home(examples_home.home), Home(tmp_path / "home")
    shutil.copytree(reference.root, home.root)
    former = warehouse.current_id(home)
    with warehouse.writing(home) as con:       # as if the power had failed before: the batch is to be taken in again, and half of it is there
        con.execute("DELETE FROM ops.batches; DELETE FROM landing.subscriptions; DELETE FROM landing.touchpoints")
    declared = home.sources_file.read_text(encoding="utf-8")
    write_csv(tmp_path / "inbox", "contacts", [{"contact_id": "f1_A", "created_at": "2026-01-01"}])
    Cli(home.root).run("source", "add", "late", "--type", "canonical_files", "-o", f"path={tmp_path / 'inbox'}")
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
        assert (warehouse.last_run(home)["state"], warehouse.last_run(home)["message"]) == ("failed", warehouse.DIED), "a dead run says of itself that it is running"
        with warehouse.reading(home) as opened:
            assert opened.con.execute("SELECT count(*) > 0 FROM marts.fct_orders").fetchone() == (True,)
        if told["moment"] == "extract":        # a batch that was not whole yet was never delivered
            home.sources_file.write_text(declared, encoding="utf-8")
        process.stdin.write("\n")
        process.stdin.flush()
    _, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained
    assert moments == list(killed_runs.MOMENTS) and told["state"] == "published"
    assert warehouse.current_id(home) != former
    expected, found = (contents(place, tables_of(place, COMPARED), OF_THE_RUN) for place in (reference, home))
    assert {table: (rows, found.get(table)) for table, rows in expected.items() if found.get(table) != rows} == {}
    assert set(found) == set(expected)
    assert not list(home.serving.glob(".*")) and not list(home.serving.glob("*.wal"))
