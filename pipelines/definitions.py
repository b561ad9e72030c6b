"""The Dagster definitions of a home: one graph from sources to the published snapshot.

`dagster dev -m pipelines.definitions` (or `make ui`) shows it; `rapport run` executes the same graph in its own process.
"""

from __future__ import annotations

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from data_contracts.environment import Home, find_home
from pipelines.assets import landing, metrics, mining, scores, segments, serving, warehouse
from pipelines.resources import RunContext
from pipelines.schedules import daily_schedule, new_files_sensor

JOB = "build_snapshot"


def build_definitions(home: Home, as_of: str = "", full_refresh: bool = False) -> Definitions:
    """Everything Dagster needs to know of a home."""
    declarations = home.sources()
    built = [
        *(landing.source_asset(d) for d in declarations),
        landing.landing_asset(declarations),
        warehouse.identity_assets,
        warehouse.layer_assets(home, "marts", ("staging", "intermediate", "marts")),
        metrics.engine_assets,
        warehouse.layer_assets(home, "features", ("metrics", "features")),
        scores.score_assets,
        mining.pattern_assets,
        segments.segment_assets,
    ]
    upstream = sorted({key for definition in built for key in definition.keys})
    job = define_asset_job(JOB, selection=AssetSelection.all(), executor_def=in_process_executor, description="Sources to published snapshot.")
    return Definitions(
        assets=[*built, serving.verdicts_asset(upstream), serving.snapshot_asset()], jobs=[job], executor=in_process_executor,
        schedules=[daily_schedule(home, JOB)], sensors=[new_files_sensor(home, JOB)],
        resources={"run": RunContext(home_path=str(home.root), as_of=as_of, full_refresh=full_refresh)})


def __getattr__(name: str) -> Definitions:
    """`defs`, built when Dagster asks for it: importing this module touches no home."""
    if name == "defs":
        globals()["defs"] = build_definitions(find_home().require())
        return globals()["defs"]
    raise AttributeError(name)
