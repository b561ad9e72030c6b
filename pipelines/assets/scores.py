"""Scores: churn, lifetime value and conversion from the frozen features, and whether they have drifted."""

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetSpec, MaterializeResult, multi_asset

from models import warehouse
from pipelines import checks
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

FEATURES = {
    "churn": ["ftr_as_of_dates", "ftr_customers__behaviour", "ftr_customers__outcomes", "ftr_purchases__day"],
    "clv": ["ftr_as_of_dates", "ftr_customers__behaviour", "ftr_customers__outcomes", "ftr_purchases__day"],
    "conversion": ["ftr_as_of_dates", "ftr_leads__conversion", "ftr_leads__outcomes"],
}
SAYS = {
    "churn": "Chance that a customer stops, with interval and reasons. One row per customer who could stop.",
    "clv": "Net revenue expected in the next 365 days, with interval. One row per customer who has ordered.",
    "conversion": "Chance that an open lead becomes business. One row per open lead.",
}


@multi_asset(
    name="scores", can_subset=False,
    specs=[AssetSpec(["scores", name], group_name="scores", kinds={"scikitlearn", "duckdb"}, description=SAYS[name], deps=[["features", t] for t in tables])
           for name, tables in FEATURES.items()],
    check_specs=[AssetCheckSpec("drift", asset=["scores", name], description="The distribution of scores has not moved since the last scoring.") for name in FEATURES])
def score_assets(run: RunContext):
    """Train what is due, score everybody, keep the history."""
    from ml import scoring
    with PROGRESS.stage("score churn, lifetime value and conversion"), warehouse.writing(run.home) as con:
        report = scoring.score_all(con, run.home, run.run_id, run.instant, say=PROGRESS.detail)
        for note in report.notes:
            PROGRESS.detail(f"note: {note}")
    checks.record(run.home, run.run_id, [("drift", f"scores.{name}", "warn", not found, len(found), "; ".join(found)) for name, found in report.drift.items()])
    for name in FEATURES:
        yield MaterializeResult(asset_key=["scores", name], metadata={"rows": report.rows[name], "verdict": report.verdicts[name], "trained": name in report.trained})
        found = report.drift.get(name, [])
        yield AssetCheckResult(passed=not found, asset_key=["scores", name], check_name="drift", severity=AssetCheckSeverity.WARN, metadata={"detail": "; ".join(found) or "none"})
