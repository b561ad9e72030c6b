"""One run of the graph in this process.

Belongs here: starting a run and telling what stopped it. Does not belong here: what the run does (`pipelines/assets`), its record
(`pipelines/run_record.py`).
"""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_contracts import environment
from data_contracts.environment import Home
from data_contracts.errors import BusyError, PublishBlocked, RapportError, UsageError, chain, full_disk
from models import ingest, warehouse
from pipelines import batches, run_record, unchanged
from pipelines.progress import PROGRESS
from pipelines.run_record import RunRecord

INSTANCE_FILE = Path(__file__).resolve().parent.parent / "dagster.yaml"
GROUPS = ("sources", "landing", "identity", "staging", "intermediate", "marts", "metrics", "features", "scores", "segments", "serving")
BUILT_ON_MARTS = GROUPS[GROUPS.index("intermediate"):]     # the intermediate layer too: it and the marts take turns


def instance_folder(home: Home) -> Path:
    """DAGSTER_HOME of a home: its folder with the project's `dagster.yaml`, copied when it differs."""
    home.make_folders()
    target = home.dagster / "dagster.yaml"
    if not target.exists() or target.read_bytes() != INSTANCE_FILE.read_bytes():
        shutil.copyfile(INSTANCE_FILE, target)
    return home.dagster


def _free_dead_runs(instance: Any) -> int:
    """Mark runs as failed whose process is gone: the writing lock is ours now, so none of them can be alive."""
    from dagster import DagsterRunStatus, RunsFilter
    found = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]))
    for stale in found:
        instance.report_run_failed(stale, "The process of this run is gone.")
    return len(found)


def free_dead_runs(home: Home) -> int:
    """Mark runs as failed that a crash of the machine has ended, and say how many; none while anybody writes, who may be one of them.

    Dagster's own monitoring asks its launcher, which knows nothing of processes before its time: such a run would hold the one
    place of the queue for ever.
    """
    from dagster import DagsterInstance
    folder = str(instance_folder(home))
    try:
        with warehouse.locked(home), environment.exported(DAGSTER_HOME=folder), DagsterInstance.from_config(folder) as instance:
            return _free_dead_runs(instance)
    except BusyError:
        return 0


def parse_instant(text: str | None) -> datetime | None:
    """`--as-of` as naive UTC. Raises UsageError."""
    if not text:
        return None
    try:
        stated = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no ISO time", field="--as-of", remedy="Write 2026-11-22 or 2026-11-22T08:00:00+01:00.") from None
    return stated.astimezone(UTC).replace(tzinfo=None) if stated.tzinfo else stated


def run(home: Home, *, as_of: str | None = None, full_refresh: bool = False, only: str | None = None) -> RunRecord:
    """Execute the graph, or one group of it, and return the record.

    Raises what stopped it: PublishBlocked after a failed blocking check, SourceError for a source that cannot be read,
    BusyError when another run holds the warehouse. The record is written in every case but the last.
    """
    home.require()
    parse_instant(as_of)
    if only is not None and only not in GROUPS:
        raise UsageError(f"there is no group {only!r}", field="--only", remedy=f"Groups: {', '.join(GROUPS)}.")
    if not home.sources():
        raise UsageError("no source is declared yet", file=str(home.sources_file), remedy="Add one: `rapport source add NAME --type canonical_files --option path=DIR`, or `rapport import DIR --source NAME`.")
    environment.prepare_libraries()
    with warehouse.locked(home):
        record = RunRecord(run_id=str(uuid.uuid4()), started_at=run_record.now())
        instant = parse_instant(as_of)
        if only is None and not full_refresh and unchanged.is_up_to_date(home, instant, batches.utc_now()):
            return _nothing_new(home, record)
        run_record.remember(home, record)
        before = warehouse.current_id(home)
        try:
            with warehouse.writing(home) as con:
                ingest.prepare(con)
                if only in BUILT_ON_MARTS and not con.execute("SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'marts'").fetchone()[0]:
                    raise UsageError(f"{only} builds on tables of an earlier run, and this home has none yet", field="--only", remedy="Run once without --only.")
            _execute(home, record, as_of, full_refresh, only)
        except BaseException as error:
            record.state = "blocked" if isinstance(error, PublishBlocked) else "failed"
            told = error if isinstance(error, RapportError) else full_disk(error)
            record.message = str(told or f"{type(error).__name__}: {error}")
            if told is not None and told is not error:
                raise told from error
            raise
        finally:
            run_record.close(home, record, before)
        if record.state == "published" and only is None:
            as_it_was = warehouse.read_snapshot(home, record.snapshot_id).as_of
            unchanged.remember(home, datetime.fromisoformat(as_it_was).replace(tzinfo=None), stated=instant is not None)
        return record


def _nothing_new(home: Home, record: RunRecord) -> RunRecord:
    """The record of a run that could only have built what is there. What the last run said still holds."""
    before = run_record.last_run(home)
    record.state, record.snapshot_id, record.ended_at = "unchanged", warehouse.current_id(home), run_record.now()
    record.failures = before.failures if before else []
    record.message = "Nothing has changed since this snapshot was built."
    PROGRESS.line("nothing new: no file, setting or model has changed since the published snapshot was built (`--full-refresh` builds it all the same)")
    run_record.remember(home, record)
    return record


def _execute(home: Home, record: RunRecord, as_of: str | None, full_refresh: bool, only: str | None) -> None:
    with PROGRESS.stage("load the graph"), environment.exported(DAGSTER_HOME=str(instance_folder(home))):
        if only in (None, "scores"):
            # first of all: when imported, skops looks for each of numpy's functions in every module loaded so far, seconds when Dagster and dbt are among them
            import skops.io  # noqa: F401
        from dagster import AssetSelection, DagsterError, DagsterInstance

        from pipelines.definitions import JOB, build_definitions
        from pipelines.schedules import today
        definitions = build_definitions(home, as_of or "", full_refresh)
        instance = DagsterInstance.get()
        _free_dead_runs(instance)
    job = definitions.resolve_job_def(JOB)
    chosen = None
    if only:
        graph = definitions.resolve_asset_graph()
        chosen = sorted(AssetSelection.groups(only).resolve(graph))
        if not chosen:
            raise UsageError(f"group {only!r} holds no asset here", field="--only", remedy="Run without --only.")
    partition = today() if chosen is None or any(k.path[0] == "sources" for k in chosen) else None
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    try:
        result = job.execute_in_process(run_config=quiet, instance=instance, partition_key=partition, run_id=record.run_id, asset_selection=chosen, raise_on_error=True)
    except DagsterError as error:            # what stopped the run is told as itself, not as the step that it stopped
        cause = next((e for e in chain(error) if isinstance(e, RapportError)), None)
        if cause is not None:
            raise cause from None
        if "AssetCheckFailed" in type(error).__name__:
            raise run_record.blocked(home, record.run_id) from None
        raise
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed and str(e.severity.value) == "ERROR"]
    if failed or not result.success:
        raise run_record.blocked(home, record.run_id)
