"""Runs that Dagster starts by itself (schedule, sensor, web interface) are told by `status` and the pages as those of `rapport run` are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Cli, write_csv
from dagster import AssetSelection, DagsterInstance
from fixtures import worked_examples

from data_contracts.environment import Home, exported
from models import volumes, warehouse
from pipelines import run, run_record
from pipelines.definitions import JOB, build_definitions
from pipelines.schedules import today


@pytest.fixture
def cli(examples_home: Cli, tmp_path: Path) -> Cli:
    return Cli(Path(shutil.copytree(examples_home.home, tmp_path / "home")))


def dagster_runs(home: Home, group: str, **stated: str) -> str:
    """Execute one group of the job as Dagster's own launcher does; the id of the run."""
    folder = str(run.instance_folder(home))
    with exported(DAGSTER_HOME=folder), DagsterInstance.from_config(folder) as instance:
        definitions = build_definitions(home, **stated)
        chosen = sorted(AssetSelection.groups(group).resolve(definitions.resolve_asset_graph()))
        return definitions.resolve_job_def(JOB).execute_in_process(instance=instance, asset_selection=chosen, partition_key=today() if group == "sources" else None, raise_on_error=False).run_id


def test_a_run_that_publishes_says_so(cli):
    home = Home(cli.home)
    former = warehouse.current_id(home)
    run_id = dagster_runs(home, "serving", as_of=worked_examples.AS_OF)
    told = warehouse.last_run(home)
    assert (told["run_id"], told["state"], told["snapshot_id"]) == (run_id, "published", warehouse.current_id(home)) and warehouse.current_id(home) != former
    assert "last run: published" in cli.run("status").stdout


def test_a_blocking_check_and_what_it_found_are_told(cli, tmp_path):
    home = Home(cli.home)
    write_csv(tmp_path / "in", "orders", [{"order_id": "lone", "contact_id": "f1_A", "ordered_at": "2026-11-01", "net_amount": "5.00", "currency": "USD"}])
    cli.run("import", str(tmp_path / "in"), "--source", "crm", "--full")
    run_id = dagster_runs(home, "landing", as_of=worked_examples.AS_OF)
    told = warehouse.last_run(home)
    assert (told["run_id"], told["state"]) == (run_id, "blocked")
    assert "volume on landing.orders: source crm delivered 1 rows" in told["message"] and [f["subject"] for f in told["failures"] if f["severity"] == "error"] == ["landing.orders"]
    said = cli.run("status").stdout
    assert "last run: blocked" in said and "The pages still show the snapshot above." in said


def test_a_source_that_cannot_be_read_is_told_with_its_remedy(cli, tmp_path):
    home = Home(cli.home)
    cli.run("source", "add", "late", "--type", "canonical_files", "-o", f"path={tmp_path / 'nowhere'}")
    dagster_runs(home, "sources")
    told = warehouse.last_run(home)
    by_hand = cli.run("run", "--only", "sources", ok=False)
    assert (told["state"], told["failures"]) == ("failed", []) and str(tmp_path / "nowhere") in told["message"]
    assert told["message"] in by_hand.stderr, "the same words as on the command line"
    assert warehouse.last_run(home)["message"] == told["message"]


def test_an_error_that_nobody_foresaw_ends_the_run_and_is_told(cli, monkeypatch):
    """Dagster raises it again, and its chain closes on itself: looking along it for a full disk never ended."""
    def fail(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")
    monkeypatch.setattr(volumes, "compare", fail)
    done = cli.run("run", "--only", "landing", ok=False)
    told = warehouse.last_run(Home(cli.home))
    assert done.returncode == 70 and "nobody foresaw this" in done.stderr and (told["state"], told["message"]) == ("failed", "ZeroDivisionError: nobody foresaw this")
    dagster_runs(Home(cli.home), "landing")
    assert warehouse.last_run(Home(cli.home))["message"] == "ZeroDivisionError: nobody foresaw this"


def test_a_run_that_somebody_stops_is_told_as_failed(cli, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(volumes, "compare", stop)
    dagster_runs(Home(cli.home), "landing")
    told = warehouse.last_run(Home(cli.home))
    assert (told["state"], told["message"]) == ("failed", run_record.STOPPED) and told["ended_at"]
