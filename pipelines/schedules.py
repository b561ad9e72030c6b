"""When the pipeline runs by itself: every day, and when new files have arrived."""

from __future__ import annotations

from datetime import UTC, datetime

from dagster import DefaultSensorStatus, RunRequest, ScheduleDefinition, SensorDefinition, SensorEvaluationContext, SkipReason

from data_contracts.environment import Home
from pipelines.sources.watched import FILE_TYPES, files_of

DAILY_AT = "15 4 * * *"       # after midnight everywhere the company works, before anybody looks
WATCH_SECONDS = 60
SETTLE_SECONDS = 30           # a file changed more recently may still be being written


def daily_schedule(home: Home, job_name: str) -> ScheduleDefinition:
    """The whole graph once a day in the workspace's time zone."""
    return ScheduleDefinition(name="build_daily", job_name=job_name, cron_schedule=DAILY_AT, execution_timezone=home.workspace.time_zone,
                              tags_fn=lambda _: {"dagster/partition": today()}, description="Sources to published snapshot, every day.")


def today() -> str:
    """The partition of the present day (UTC)."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def new_files_sensor(home: Home, job_name: str) -> SensorDefinition:
    """Asks for a run when a file of a file source is newer than the last one seen and has stopped changing."""
    def look(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        last = float(context.cursor or 0)
        now = datetime.now(UTC).timestamp()
        times = [f.stat().st_mtime for d in home.sources() if d.type in FILE_TYPES for f in files_of(d)]
        settled = [t for t in times if last < t <= now - SETTLE_SECONDS]
        if not settled:
            return SkipReason("No new file has settled since the last run.")
        context.update_cursor(str(max(settled)))
        return RunRequest(run_key=f"files-{max(settled)}", partition_key=today())
    return SensorDefinition(name="new_files", job_name=job_name, evaluation_fn=look, minimum_interval_seconds=WATCH_SECONDS,
                            default_status=DefaultSensorStatus.STOPPED, description="New or changed files of the declared file sources.")
