"""Sources and landing: extract every declared source, take the batches in, hold what landed to its contract."""

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    DailyPartitionsDefinition,
    MaterializeResult,
    asset,
    multi_asset,
)

from data_contracts.contract import load_contracts
from data_contracts.environment import SourceDeclaration
from models import ingest, volumes, warehouse
from pipelines import batches, checks
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

FIRST_DAY = "2020-01-01"   # days before are never extracted again one by one; a first extraction brings all history at once
DAYS = DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1)


def source_asset(declaration: SourceDeclaration) -> AssetsDefinition:
    """The asset of one source: each day's extraction is a partition."""
    @asset(key=["sources", declaration.name], group_name="sources", partitions_def=DAYS, kinds={declaration.type},
           description=f"Batches extracted from the source {declaration.name} ({declaration.type}), kept as they came.")
    def extract(context: AssetExecutionContext, run: RunContext) -> MaterializeResult:
        with PROGRESS.stage(f"extract {declaration.name} ({declaration.type})"):
            found = batches.extract_source(run.home, run.home.source(declaration.name))
            for text in [*found.warnings, *found.skipped]:
                PROGRESS.detail(text)
        return MaterializeResult(metadata={"batch": found.batch_id, "rows": sum(d.rows for d in found.deliveries),
                                           "files": len(found.files), "skipped": len(found.skipped), "warnings": len(found.warnings)})
    return extract


def landing_asset(declarations: list[SourceDeclaration]) -> AssetsDefinition:
    """One asset per canonical entity, written by one step: batches are taken in whole."""
    specs = [AssetSpec(["landing", c.entity], group_name="landing", description=c.description, kinds={"duckdb"},
                       deps=[AssetKey(["sources", d.name]) for d in declarations]) for c in load_contracts().values()]
    check_specs = [AssetCheckSpec("contract", asset=s.key, blocking=True, description="Great Expectations suite generated from the contract.") for s in specs]
    check_specs += [AssetCheckSpec("volume", asset=s.key, blocking=True, description="A full extract has not lost more rows than the workspace allows.") for s in specs]

    @multi_asset(name="landing", specs=specs, check_specs=check_specs, can_subset=False)
    def take_in(run: RunContext):
        home = run.home
        with PROGRESS.stage("take in batches"), warehouse.writing(home) as con:
            outcome = batches.load_pending(home, con, declarations, PROGRESS.detail)
            for warning in outcome.warnings:
                PROGRESS.detail(f"note: {warning}")
            watermark = batches.record_state(home, con, declarations, run.instant, run.is_stated)
            ingest.write_settings(con, home.workspace, run.instant, watermark)
            counts = {e: con.execute(f"SELECT count(*) FROM landing.{e}").fetchone()[0] for e in load_contracts()}
            volume = checks.volume_drops(con, home.workspace.max_row_drop)
            usual, ahead, tied = volumes.compare(con), ingest.future_versions(con), ingest.tied_versions(con)
            for found in usual:
                if not found.is_usual:
                    PROGRESS.detail(f"WARNING: {found.sentence}")
            for entity, rows in ahead.items():
                PROGRESS.detail(f"WARNING: {rows:,} rows of {entity} say they were changed after they arrived; they count as of their arrival")
            for entity, rows in tied.items():
                PROGRESS.detail(f"WARNING: {rows:,} keys of {entity} came more than once in one batch with one time of change and different content; the content decides which row counts")
        for entity, rows in counts.items():
            yield MaterializeResult(asset_key=["landing", entity], metadata={"rows": rows})
        with PROGRESS.stage("hold landed rows to their contracts"):
            results = checks.run_expectations(home, [e for e, rows in counts.items() if rows])
        for entity in counts:
            verdict = results.get(entity, checks.Verdict.empty(entity))
            yield AssetCheckResult(passed=verdict.is_passed, asset_key=["landing", entity], check_name="contract", severity=AssetCheckSeverity.ERROR,
                                   metadata={"expectations": verdict.evaluated, "failed": ", ".join(verdict.failures)})
            drop = volume.get(entity)
            yield AssetCheckResult(passed=drop is None, asset_key=["landing", entity], check_name="volume", severity=AssetCheckSeverity.ERROR,
                                   metadata={"detail": drop or "within bounds"})
        checks.record_landing(home, run.run_id, results, volume, usual, ahead, tied)
    return take_in
