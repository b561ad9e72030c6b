"""Engine tables below the metric layer, and the invariants that must hold before anything is published."""

from dagster import AssetCheckResult, AssetCheckSpec, AssetSpec, MaterializeResult, multi_asset

from models import invariants, metrics, warehouse
from pipelines import checks
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

MARTS = ["dim_customers", "fct_orders", "fct_new_customers", "fct_subscription_terms", "fct_subscriptions", "fct_exchange_rates", "fct_touchpoints"]
TABLES = {
    "mtr_revenue_movements": "MRR from opening to closing. One row per period, customer and currency.",
    "mtr_attribution_credits": "Credit of each touch for each conversion. One row per kind of conversion, model, conversion and touch.",
}


@multi_asset(
    name="engines", can_subset=False,
    specs=[AssetSpec(["metrics", t], group_name="metrics", kinds={"duckdb"}, description=d, deps=[["marts", m] for m in MARTS]) for t, d in TABLES.items()],
    check_specs=[AssetCheckSpec(i.name, asset=i.table.split("."), blocking=True, description=i.description) for i in invariants.INVARIANTS])
def engine_assets(run: RunContext):
    """Run the movement and attribution engines, then hold the results to their identities."""
    with PROGRESS.stage("run the metric engines"), warehouse.writing(run.home) as con:
        invariants.build_engine_tables(con)
        metrics.write_definitions(con)
        counts = {t: con.execute(f"SELECT count(*) FROM metrics.{t}").fetchone()[0] for t in TABLES}
        verdicts = invariants.verify(con)
        PROGRESS.detail(", ".join(f"{t} {n:,} rows" for t, n in counts.items()))
    # those that hold are recorded once, before publishing
    checks.record(run.home, run.run_id, [(v.name, v.subject, "error", v.is_met, v.failing_rows, v.detail) for v in verdicts if not v.is_met])
    for table, rows in counts.items():
        yield MaterializeResult(asset_key=["metrics", table], metadata={"rows": rows})
    for verdict in verdicts:
        yield AssetCheckResult(passed=verdict.is_met, asset_key=verdict.table.split("."), check_name=verdict.name, metadata={"failing_rows": verdict.failing_rows, "detail": verdict.detail})
