"""What a run says of itself while it goes on and once it has ended: for `status`, the pages and whoever looks after the home.

Belongs here: the record, and how a run that Dagster started by itself (schedule, sensor, web interface) keeps it. Does not belong
here: executing a run (`pipelines/run.py`, which keeps the record of `rapport run`), reading the record (`models.warehouse.last_run`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from data_contracts.environment import Home
from data_contracts.errors import PublishBlocked, RapportError
from models import warehouse
from pipelines import checks

STOPPED = "It was stopped before its end."


@dataclass
class RunRecord:
    """The last run of a home, as `status` and the pages tell it. Instants are ISO 8601, UTC."""

    run_id: str
    started_at: str
    ended_at: str | None = None
    state: str = "running"               # running | published | built | unchanged | failed | blocked
    snapshot_id: str | None = None
    message: str = ""
    failures: list[dict[str, Any]] = field(default_factory=list)


def now() -> str:
    """The present instant as a record states it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def remember(home: Home, record: RunRecord) -> None:
    """Keep the record as that of the last run."""
    warehouse.write_state(home, warehouse.RUN_STATE, json.dumps(asdict(record)))


def last_run(home: Home) -> RunRecord | None:
    """The record of the last run; None when there was none."""
    found = warehouse.last_run(home)
    return RunRecord(**found) if found else None


def close(home: Home, record: RunRecord, former: str | None) -> None:
    """Keep the record of a run that has ended, with the checks that failed in it. `former`: id of the snapshot that was current before.

    A run whose record still says `running` did what it should.
    """
    record.ended_at = now()
    if record.state == "running":
        record.snapshot_id = warehouse.current_id(home)
        record.state = "published" if record.snapshot_id != former else "built"
    remember(home, record)            # before what may be wrong with the warehouse itself
    record.failures = failures(home, record.run_id)
    remember(home, record)


def failures(home: Home, run_id: str) -> list[dict[str, Any]]:
    """The failed checks of a run, errors first."""
    with warehouse.writing(home) as con:
        return checks.describe_failures(con, run_id)


def blocked(home: Home, run_id: str) -> PublishBlocked:
    """What to tell of a run that a blocking check stopped."""
    errors = [f for f in failures(home, run_id) if f["severity"] == "error"]
    named = "; ".join(f"{f['check']} on {f['subject']}: {f['detail']}" for f in errors[:3]) or "a blocking check failed"
    return PublishBlocked(f"nothing was published: {named}", remedy="See `rapport status`; the former snapshot stays. Mend the data and run again.")


@contextmanager
def kept(home: Home, run_id: str, instance: Any) -> Iterator[None]:
    """Keep the record of the run that Dagster executes in the body, unless it has one already. The caller holds the writing lock.

    Dagster tells a resource nothing of how the steps ended, so that is read from its log of events.
    """
    before = warehouse.last_run(home)
    if before and before["run_id"] == run_id:
        yield
        return
    record, former = RunRecord(run_id=run_id, started_at=now()), warehouse.current_id(home)
    remember(home, record)
    try:
        yield
    finally:
        if error := _first_failure(instance, run_id):
            record.state, record.message = _told(home, run_id, error)
        close(home, record, former)


def _first_failure(instance: Any, run_id: str) -> Any:
    from dagster import DagsterEventType
    found = instance.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE)
    return found[0].dagster_event.step_failure_data.error if found else None


def _told(home: Home, run_id: str, error: Any) -> tuple[str, str]:
    """State and message of a failed run. `error`: Dagster's copy of the exception, of which the names and texts of its chain are left."""
    if "AssetCheckFailed" in (error.cls_name or ""):
        return "blocked", str(blocked(home, run_id))
    if "Interrupt" in (error.cls_name or ""):
        return "failed", STOPPED
    causes = [error]
    while causes[-1].cause is not None:
        causes.append(causes[-1].cause)
    ours = {RapportError.__name__, *(kind.__name__ for kind in RapportError.__subclasses__())}
    cause = next((e for e in causes if e.cls_name in ours), None) or next((e for e in causes if not (e.cls_name or "").startswith("Dagster")), error)
    return "blocked" if cause.cls_name == PublishBlocked.__name__ else "failed", re.sub(r"^[\w.]+: ", "", cause.message.strip()) if cause.cls_name in ours else cause.message.strip()
