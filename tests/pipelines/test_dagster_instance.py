"""What `make ui` shows of a home: that a run's events are kept, in one file, and can be asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from dagster._core.definitions.asset_key import AssetCheckKey

from data_contracts.environment import exported
from pipelines.event_log import EventLog


@pytest.fixture
def instance(demo_home) -> Iterator[DagsterInstance]:
    folder = str(demo_home.home / "dagster")
    with exported(DAGSTER_HOME=folder), DagsterInstance.from_config(folder) as opened:
        yield opened


def test_the_instance_is_the_one_that_dagster_yaml_describes(instance, demo_home):
    assert isinstance(instance.event_log_storage, EventLog)
    with sqlite3.connect(demo_home.home / "dagster" / "events" / "event_log.db") as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert instance.run_coordinator.get_run_queue_config().max_concurrent_runs == 1


def test_a_run_leaves_its_status_materialisations_checks_and_partitions(instance):
    run = instance.get_runs(limit=1)[0]
    assert run.status == DagsterRunStatus.SUCCESS
    for key in (["landing", "orders"], ["marts", "dim_customers"], ["metrics", "mtr_revenue_movements"], ["scores", "churn"], ["serving", "snapshot"]):
        event = instance.get_latest_materialization_event(AssetKey(key))
        assert event is not None and event.run_id == run.run_id, key
    (source,) = [k for k in instance.all_asset_keys() if k.path[0] == "sources"]
    assert instance.get_materialized_partitions(source)
    checked = AssetCheckKey(AssetKey(["landing", "orders"]), "contract")
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([checked])
    assert found and all(r.status.value == "SUCCEEDED" for r in found.values())


def test_an_event_written_inside_a_transaction_joins_it(tmp_path):
    log = EventLog(str(tmp_path))
    with log.index_connection() as outer, log.run_connection("any") as inner:
        assert inner is outer
    log.dispose()
    assert (tmp_path / "events" / "event_log.db").exists()
