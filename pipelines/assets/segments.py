"""Segments: the members of every saved segment, as of the run."""

from dagster import AssetCheckResult, AssetCheckSpec, AssetSpec, MaterializeResult, multi_asset

from models import warehouse
from models.segments import compiler, grammar
from pipelines import checks
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

DEPENDS_ON = [["marts", "dim_customers"], ["marts", "fct_orders"], ["marts", "fct_tickets"], ["scores", "churn"], ["scores", "clv"], ["scores", "customer_clusters"]]


@multi_asset(
    name="segments", can_subset=False,
    specs=[AssetSpec(["segments", t], group_name="segments", deps=DEPENDS_ON, kinds={"duckdb"}, description=d) for t, d in (
        ("definitions", "Saved segments and their size. One row per segment."), ("memberships", "Who belongs to which segment. One row per segment and customer."))],
    check_specs=[AssetCheckSpec("count_equals_rows", asset=["segments", "memberships"], blocking=True, description="A segment's count is the number of its rows, each customer once.")])
def segment_assets(run: RunContext):
    """Compile and fill every saved segment of the home."""
    with PROGRESS.stage("fill segments"), warehouse.writing(run.home) as con:
        saved = [grammar.read(f) for f in grammar.saved(run.home.segments)]
        sizes = compiler.build_tables(con, saved)
        rows = dict(con.execute("SELECT segment, count(DISTINCT customer_id) FROM segments.memberships GROUP BY segment").fetchall())
        total = con.execute("SELECT count(*) FROM segments.memberships").fetchone()[0]
        PROGRESS.detail(", ".join(f"{name} {size:,}" for name, size in sizes.items()) or "no segment is saved")
    wrong = [name for name, size in sizes.items() if rows.get(name, 0) != size]
    checks.record(run.home, run.run_id, [("segment count equals rows", "segments.memberships", "error", not wrong, len(wrong), ", ".join(wrong))])
    yield MaterializeResult(asset_key=["segments", "definitions"], metadata={"segments": len(sizes)})
    yield MaterializeResult(asset_key=["segments", "memberships"], metadata={"rows": total})
    yield AssetCheckResult(passed=not wrong, asset_key=["segments", "memberships"], check_name="count_equals_rows", metadata={"wrong": ", ".join(wrong)})
