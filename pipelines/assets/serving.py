"""Publishing: the last asset, reached only when no blocking check has failed."""

from dagster import AssetKey, AssetsDefinition, MaterializeResult, asset

from models import ingest, warehouse
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext


def snapshot_asset(upstream: list[AssetKey]) -> AssetsDefinition:
    """The published snapshot; `upstream` is everything that has to be built and checked before."""
    @asset(key=["serving", "snapshot"], group_name="serving", deps=upstream, kinds={"duckdb"},
           description="The immutable file that pages, exports and queries read.")
    def publish(run: RunContext) -> MaterializeResult:
        with PROGRESS.stage("publish"):
            with warehouse.writing(run.home) as con:
                ingest.summarise_quarantine(con)
                as_of, watermark = con.execute("SELECT as_of, watermark FROM ops.settings").fetchone()
                warnings = [r[0] for r in con.execute("SELECT DISTINCT subject || ': ' || check_name FROM ops.check_results WHERE run_id = ? AND NOT is_passed", [run.run_id]).fetchall()]
            snapshot = warehouse.publish(run.home, run.run_id, as_of, watermark, warnings)
            PROGRESS.detail(f"snapshot {snapshot.id}, {snapshot.bytes / 1e6:,.1f} MB, data up to {watermark:%Y-%m-%d %H:%M} UTC")
        return MaterializeResult(metadata={"snapshot_id": snapshot.id, "bytes": snapshot.bytes, "tables": len(snapshot.tables)})
    return publish
