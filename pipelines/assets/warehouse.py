"""Identity and the dbt layers: every model an asset, every dbt test a check of it."""

from collections.abc import Iterator
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity, AssetExecutionContext, AssetKey, AssetsDefinition, AssetSpec, MaterializeResult, multi_asset
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from data_contracts.contract import load_contracts
from data_contracts.environment import Home
from data_contracts.errors import PublishBlocked
from models import ingest, warehouse
from models.engines import identity
from models.engines.identity_rules import rules_of
from pipelines import checks, dbt_project
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

IDENTITY_TABLES = ("members", "aliases", "customer_attributes", "hierarchy")


class LayerTranslator(DagsterDbtTranslator):
    """Group = layer, taken from the model's folder; seeds come with the first of them."""

    def get_group_name(self, dbt_resource_props: Any) -> str | None:
        return dbt_resource_props["fqn"][1] if dbt_resource_props["resource_type"] in ("model", "snapshot") else "staging"


TRANSLATOR = LayerTranslator(settings=DagsterDbtTranslatorSettings(enable_asset_checks=True))


@multi_asset(name="identity", can_subset=False, specs=[
    AssetSpec(["identity", table], group_name="identity", kinds={"duckdb"}, deps=[AssetKey(["landing", e]) for e in load_contracts()],
              description="Which records are one customer.") for table in IDENTITY_TABLES])
def identity_assets(run: RunContext):
    """Resolve customers over everything that landed."""
    with PROGRESS.stage("resolve identities"), warehouse.writing(run.home) as con:
        report = identity.resolve(con, run.run_id, run.instant, rules_of(run.home.identity_file), anew=run.full_refresh)
        PROGRESS.detail(f"{report.customers:,} customers, {report.merges:,} merges, {report.splits:,} splits, {report.conflicts:,} kept apart or naming no known record")
        counts = {t: con.execute(f"SELECT count(*) FROM identity.{t}").fetchone()[0] for t in IDENTITY_TABLES}
    for table, rows in counts.items():
        yield MaterializeResult(asset_key=["identity", table], metadata={"rows": rows})


def layer_assets(home: Home, name: str, layers: tuple[str, ...]) -> AssetsDefinition:
    """One dbt invocation as assets: the models of `layers`, with their tests as checks."""
    selectors = [f"fqn:rapport.{layer}" for layer in layers] + (["resource_type:seed"] if "staging" in layers else [])
    manifest_file = dbt_project.manifest_path(home)

    @dbt_assets(manifest=manifest_file, select=" ".join(selectors), name=name, dagster_dbt_translator=TRANSLATOR)
    def build(context: AssetExecutionContext, run: RunContext):
        with PROGRESS.stage(f"build {name} ({', '.join(layers)})"):
            selection = selectors
            if context.is_subset:
                selection = sorted({".".join(["fqn:rapport", *_fqn_tail(run.home, key)]) for key in context.selected_asset_keys})
            results = dbt_project.build(run.home, selection, full_refresh=run.full_refresh)
            PROGRESS.detail(_sentence(results))
            if "intermediate" in layers:
                _tell_missing_rates(run)
        yield from _report(context, run, results)
    return build


def _fqn_tail(home: Home, key: AssetKey) -> list[str]:
    for node in dbt_project.manifest(home)["nodes"].values():
        if node["resource_type"] in ("model", "seed", "snapshot") and get_asset_key(node) == key:
            return node["fqn"][1:]
    raise PublishBlocked(f"{key.to_user_string()} is no model of the dbt project", remedy="Reload the definitions.")


def get_asset_key(node: dict[str, Any]) -> AssetKey:
    """The asset key of a dbt node: schema and name."""
    return TRANSLATOR.get_asset_key(node)


def _tell_missing_rates(run: RunContext) -> None:
    with warehouse.writing(run.home) as con:
        missing = ingest.missing_rates(con)
    for entity, currency, rows in missing:
        PROGRESS.detail(f"WARNING: {rows:,} {entity} in {currency} have no exchange rate and are in no number")
    checks.record(run.home, run.run_id, [("exchange rate known", f"marts.{entity}", "warn", False, rows, f"no rate for {currency} on or before the day of these rows") for entity, currency, rows in missing])


def _sentence(results: list[dbt_project.NodeResult]) -> str:
    models = [r for r in results if r.kind in ("model", "seed", "snapshot")]
    tests = [r for r in results if r.kind in ("test", "unit")]
    failed = [r for r in results if r.status in ("error", "fail", "runtime error")]
    warned = [r for r in results if r.status == "warn"]
    return (f"{len(models)} tables, {len(tests)} tests" + (f", {len(warned)} warnings" if warned else "") + (f", {len(failed)} failed" if failed else ""))


def _report(context: AssetExecutionContext, run: RunContext, results: list[dbt_project.NodeResult]) -> Iterator[Any]:
    manifest = dbt_project.manifest(run.home)
    wanted_checks = {c for c in context.selected_asset_check_keys}
    rows = []
    for result in results:
        node = manifest["nodes"].get(result.unique_id) or manifest.get("unit_tests", {}).get(result.unique_id)
        passed = result.status in ("success", "pass")
        if result.kind in ("model", "seed", "snapshot"):
            if passed:
                yield MaterializeResult(asset_key=get_asset_key(node), metadata={"seconds": result.seconds})
            else:
                rows.append(("model", result.name, "error", False, 0, result.message))
        elif result.status != "skipped":
            severity = "warn" if result.status == "warn" else "error"
            rows.append(("dbt test", result.name, severity, passed, result.failures or 0, "" if passed else result.message))
            key = get_asset_check_key_for_test(manifest, TRANSLATOR, result.unique_id, None) if result.kind == "test" else None
            if key in wanted_checks:
                yield AssetCheckResult(passed=passed, asset_key=key.asset_key, check_name=key.name, metadata={"failing_rows": result.failures or 0},
                                       severity=AssetCheckSeverity.WARN if severity == "warn" else AssetCheckSeverity.ERROR)
    checks.record(run.home, run.run_id, rows)
    blocking = [r for r in rows if r[2] == "error" and not r[3]]
    if blocking:
        named = "; ".join(f"{r[0]} {r[1]}" + (f" ({r[4]} rows)" if r[4] else f": {r[5][:300]}") for r in blocking[:5])
        raise PublishBlocked(f"{len(blocking)} blocking failure{'s' if len(blocking) > 1 else ''} while building: {named}",
                             remedy="`rapport status` lists them; mend the data or the model and run again. The former snapshot stays.")
