"""Publishing: the last assets, reached only when no blocking check has failed."""

from contextlib import ExitStack

from dagster import AssetCheckResult, AssetCheckSpec, AssetKey, AssetsDefinition, MaterializeResult, asset

from data_contracts.errors import RapportError
from models import history, ingest, invariants, restatements, warehouse
from pipelines import checks
from pipelines.batches import utc_now
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

VERDICTS = ["serving", "verdicts"]


def verdicts_asset(upstream: list[AssetKey]) -> AssetsDefinition:
    """The invariants over everything that is built; `upstream` is all of it. It belongs to the group `serving`, so that nobody publishes around it."""
    @asset(key=VERDICTS, group_name="serving", deps=upstream, kinds={"duckdb"}, description="Identities that hold over the finished warehouse.",
           check_specs=[AssetCheckSpec(i.name, asset=VERDICTS, blocking=True, description=i.description) for i in invariants.BEFORE_PUBLISHING])
    def verify(run: RunContext):
        with PROGRESS.stage("hold the warehouse to its invariants"), warehouse.writing(run.home) as con:
            found = invariants.verify(con, invariants.BEFORE_PUBLISHING)
            PROGRESS.detail(f"{sum(v.is_met for v in found)} of {len(found)} hold")
        checks.record(run.home, run.run_id, [(v.name, v.subject, "error", v.is_met, v.failing_rows, v.detail) for v in found])
        yield MaterializeResult(asset_key=VERDICTS, metadata={"invariants": len(found)})
        for verdict in found:
            yield AssetCheckResult(passed=verdict.is_met, asset_key=VERDICTS, check_name=verdict.name, metadata={"failing_rows": verdict.failing_rows, "detail": verdict.detail})
    return verify


def snapshot_asset() -> AssetsDefinition:
    """The published snapshot."""
    @asset(key=["serving", "snapshot"], group_name="serving", deps=[AssetKey(VERDICTS)], kinds={"duckdb"},
           description="The immutable file that pages, exports and queries read.")
    def publish(run: RunContext) -> MaterializeResult:
        snapshot_id = warehouse.new_snapshot_id()
        with PROGRESS.stage("compare with what was published"):
            restated = _record_restatements(run, snapshot_id)
        with PROGRESS.stage("publish"):
            with warehouse.writing(run.home) as con:
                ingest.summarise_quarantine(con)
                history.write_macros(con)
                as_of, watermark = con.execute("SELECT as_of, watermark FROM ops.settings").fetchone()
                warnings = [r[0] for r in con.execute("SELECT DISTINCT subject || ': ' || check_name FROM ops.check_results WHERE run_id = ? AND NOT is_passed", [run.run_id]).fetchall()]
            try:
                snapshot = warehouse.publish(run.home, run.run_id, as_of, watermark, warnings, snapshot_id)
            except BaseException:
                with warehouse.writing(run.home) as con:
                    restatements.forget(con, snapshot_id)
                raise
            PROGRESS.detail(f"snapshot {snapshot.id}, {snapshot.bytes / 1e6:,.1f} MB, data up to {watermark:%Y-%m-%d %H:%M} UTC")
        return MaterializeResult(metadata={"snapshot_id": snapshot.id, "bytes": snapshot.bytes, "tables": len(snapshot.tables), "restated_numbers": restated})
    return publish


def _record_restatements(run: RunContext, snapshot_id: str) -> int:
    published, former_id = warehouse.list_snapshots(run.home), warehouse.current_id(run.home)
    unreadable = None
    with ExitStack() as opened:
        former = None
        if former_id is not None:
            try:
                reading = opened.enter_context(warehouse.opened(run.home, snapshot_id=former_id))
                former, unreadable = (reading.con, None) if warehouse.is_whole(run.home, reading.snapshot) else (None, warehouse.DAMAGED_BLOCK)
            except RapportError as error:      # a damaged snapshot must not keep its successor from being published
                unreadable = error.message
        with warehouse.writing(run.home) as con:
            rows = restatements.record(con, former, previous_id=former_id, snapshot_id=snapshot_id, run_id=run.run_id, newest_id=published[0].id if published else None,
                                       full_refresh=run.full_refresh, at=utc_now())
    if unreadable:
        checks.record(run.home, run.run_id, [("restatements", "serving.snapshot", "warn", False, 0, f"not compared with what was published: {unreadable}")])
    periods = sorted({f"{p:%Y-%m}" for p in rows["period"]}) if rows.height else []
    PROGRESS.detail(f"{rows.height:,} published numbers restated, of {len(periods)} months from {periods[0]} to {periods[-1]} (`rapport restatement list`)" if periods else "no published number changed")
    return rows.height
