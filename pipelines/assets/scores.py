"""Scores: every question answered from the frozen features, and whether the answers have drifted."""

import importlib

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetSpec, MaterializeResult, multi_asset

from ml.registry import MODELS
from models import metrics, warehouse
from pipelines import checks
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

# Each room says itself what its rows are and which feature tables it reads: light enough to be asked whenever the graph is loaded.
ROOMS = {name: importlib.import_module(f"ml.{name}") for name in MODELS}


@multi_asset(
    name="scores", can_subset=False,
    specs=[AssetSpec(["scores", name], group_name="scores", kinds={"scikitlearn", "duckdb"}, description=room.ROWS, deps=[["features", t] for t in room.FEATURES])
           for name, room in ROOMS.items()],
    check_specs=[AssetCheckSpec("drift", asset=["scores", name], description="The distribution of scores has not moved since the last scoring.") for name in MODELS])
def score_assets(run: RunContext):
    """Train what is due, score everybody, keep the history."""
    from ml import scoring
    with PROGRESS.stage(f"score {len(MODELS)} questions"), warehouse.writing(run.home) as con:
        report = scoring.score_all(con, run.home, run.run_id, run.instant, say=PROGRESS.detail)
        metrics.store_predicted_values(con)
        for note in report.notes:
            PROGRESS.detail(f"note: {note}")
    checks.record(run.home, run.run_id, [("drift", f"scores.{name}", "warn", not found, len(found), "; ".join(found)) for name, found in report.drift.items()])
    for name in MODELS:
        yield MaterializeResult(asset_key=["scores", name], metadata={"rows": report.rows[name], "verdict": report.verdicts[name], "trained": name in report.trained})
        found = report.drift.get(name, [])
        yield AssetCheckResult(passed=not found, asset_key=["scores", name], check_name="drift", severity=AssetCheckSeverity.WARN, metadata={"detail": "; ".join(found) or "none"})
