"""What a run meets that follows a crash, and what one leaves that fails: a torn log, a lock without a holder, a run that nobody ended, a model that breaks."""

from __future__ import annotations

import fcntl
import random
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from dagster import DagsterInstance, DagsterRunStatus, job, op

from data_contracts.environment import Home, exported
from data_contracts.errors import BusyError, PublishBlocked, RapportError
from models import ingest, warehouse
from pipelines import batches, checks, dbt_project, run
from pipelines.assets import warehouse as warehouse_assets
from pipelines.workspace_files import make_home

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 22)


@pytest.fixture
def home(tmp_path) -> Home:
    place = Home(tmp_path / "home")
    make_home(place)
    place.sources_file.write_text("sources: {shop: {type: canonical_files, path: inbox}}\n", encoding="utf-8")
    (place.root / "inbox").mkdir()
    return place


def _take_in(home: Home, con) -> int:
    """Load what has landed and is not in the warehouse yet; how many deliveries that were."""
    return len(batches.load_pending(home, con, home.sources(), lambda text: None).reports)


def _content(con) -> list[tuple]:
    return con.execute("SELECT 'contact', contact_id FROM landing.contacts UNION ALL SELECT 'order', order_id FROM landing.orders UNION ALL SELECT 'file', file FROM ops.files ORDER BY ALL").fetchall()


def test_what_a_torn_log_of_the_warehouse_lost_is_taken_in_again_and_a_garbled_one_is_refused(home):
    """A power cut may take the end of DuckDB's write-ahead log, and DuckDB opens the file without a word. Batches are loaded whole, and stay in `landing` outside of it."""
    with warehouse.writing(home) as con:
        ingest.prepare(con)
    with warehouse.writing(home) as con:
        con.execute("PRAGMA disable_checkpoint_on_shutdown")      # as if the process were killed before it could close the file
        for day in (1, 2):
            for entity, row in (("contacts", f"contact_id,email\nc{day},c{day}@a.example\n"), ("orders", f"order_id,ordered_at,net_amount\no{day},2026-01-0{day},5\n")):
                (home.root / "inbox" / f"{entity}.csv").write_text(row, encoding="utf-8")
            batches.extract_source(home, home.source("shop"))
            assert _take_in(home, con) == 2
        whole = _content(con)
    assert len(whole) == 8
    log, base = home.warehouse.with_name(home.warehouse.name + ".wal"), home.warehouse.read_bytes()
    content, lost = log.read_bytes(), []
    for cut in (0, *random.Random(7).sample(range(len(content)), 5)):
        home.warehouse.write_bytes(base)
        log.write_bytes(content[:cut])
        with warehouse.writing(home) as con:
            lost.append(_take_in(home, con))
            assert _content(con) == whole, f"after {cut} of {len(content)} bytes"
    assert set(lost) <= {0, 2, 4} and {2, 4} & set(lost), "a batch is there with all its entities or not at all"
    home.warehouse.write_bytes(base)
    log.write_bytes(content[:len(content) // 2] + bytes([content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1:])
    with pytest.raises(RapportError, match="still in `landing`"), warehouse.writing(home):
        pass


def test_a_copy_of_the_open_file_lets_no_second_writer_in_and_a_killed_holder_leaves_the_lock_free(home):
    """DuckDB's own lock is dropped when the process that holds it opens and closes the file by other means."""
    code = ("import sys, pathlib, shutil, time; sys.path.insert(0, sys.argv[2]);"
            "from data_contracts.environment import Home; from models import warehouse;\n"
            "home = Home(pathlib.Path(sys.argv[1]))\n"
            "with warehouse.writing(home) as con:\n"
            "    con.execute('CREATE TABLE kept AS SELECT 1 AS n'); shutil.copyfile(home.warehouse, home.root / 'copy.duckdb')\n"
            "    con.begin(); con.execute('INSERT INTO kept VALUES (2)'); print('held', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code, str(home.root), str(ROOT)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid}"), warehouse.writing(home):
            pass
    finally:
        holder.kill()
        holder.wait()
    begun = time.monotonic()
    with warehouse.writing(home) as con:
        assert con.execute("SELECT n FROM kept").fetchall() == [(1,)]
    assert time.monotonic() - begun < 10


@op
def nothing() -> None:
    """An op, so that there is a job to have runs of."""


@job
def build() -> None:
    nothing()


def test_runs_whose_process_is_gone_are_marked_failed_by_the_next_one_and_ended_ones_are_left_alone(home):
    """Dagster would keep them as running for ever, and the one place of its queue with them."""
    folder, status = str(run.instance_folder(home)), DagsterRunStatus
    with exported(DAGSTER_HOME=folder), DagsterInstance.from_config(folder) as instance:
        made = {was: instance.create_run_for_job(build, status=was).run_id for was in (status.STARTED, status.STARTING, status.CANCELING, status.NOT_STARTED, status.SUCCESS, status.CANCELED)}
        with open(home.lock_file, "a", encoding="utf-8") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            assert run.free_dead_runs(home) == 0, "one of them may be who holds the lock"
        assert run.free_dead_runs(home) == 3 and run.free_dead_runs(home) == 0
        assert {was: instance.get_run_by_id(run_id).status for was, run_id in made.items()} == {
            status.STARTED: status.FAILURE, status.STARTING: status.FAILURE, status.CANCELING: status.FAILURE,
            status.NOT_STARTED: status.NOT_STARTED, status.SUCCESS: status.SUCCESS, status.CANCELED: status.CANCELED}
        told = [record.event_log_entry.message for record in instance.get_records_for_run(made[status.STARTED]).records]
        assert any("The process of this run is gone." in text for text in told)


def test_a_model_that_fails_is_named_what_builds_on_it_is_left_alone_and_nothing_is_published(home):
    """Two real models, of which the second reads the first; a table that the first needs has lost its column."""
    with warehouse.writing(home) as con:
        ingest.prepare(con)
        ingest.write_settings(con, home.workspace, NOW, NOW)
        con.execute("CREATE SCHEMA marts")
        con.execute("CREATE TABLE marts.dim_users AS SELECT 'as it was' AS user_id")
    published = warehouse.publish(home, "run-1", NOW, NOW)
    with warehouse.writing(home) as con:
        con.execute("ALTER TABLE landing.users DROP COLUMN team")
    results = dbt_project.build(home, ["stg_canonical__users", "dim_users"])
    assert {r.name: r.status for r in results if r.kind == "model"} == {"stg_canonical__users": "error", "dim_users": "skipped"}
    logged = (home.logs / "dbt" / "dbt.log").read_text(encoding="utf-8")
    assert " ERROR " in logged and "stg_canonical__users" in logged and "team" in logged, "what dbt says of a failure is in its log, though its debugging is not"
    context = SimpleNamespace(selected_asset_check_keys=set())
    with pytest.raises(PublishBlocked, match="model stg_canonical__users: .*team") as told:
        list(warehouse_assets._report(context, SimpleNamespace(home=home, run_id="run-2"), results))
    assert "former snapshot stays" in str(told.value)
    with warehouse.writing(home) as con:
        assert "stg_canonical__users" in {failure["subject"] for failure in checks.describe_failures(con, "run-2")}
        assert con.execute("SELECT user_id FROM marts.dim_users").fetchall() == [("as it was",)]
    assert warehouse.current_id(home) == published.id and len(warehouse.list_snapshots(home)) == 1
