"""MetricFlow, dbt's own compiler, as an outside oracle: parse our YAML with dbt, compile with MetricFlow, run on a given database.

Belongs here: a throw-away dbt project and the engine built on it. Shares nothing with our compiler.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

LAYER = Path(__file__).resolve().parents[3] / "models" / "layers" / "metrics"


def _project(folder: Path) -> Path:
    """A project that holds the metric layer's YAML and, for every relation it names, a model of that name and schema."""
    (folder / "models" / "marts").mkdir(parents=True)
    (folder / "models" / "metrics").mkdir()
    texts = []
    for path in sorted(LAYER.glob("*.yml")):
        shutil.copy(path, folder / "models" / "metrics" / path.name)
        texts.append(path.read_text())
    for name in sorted(set(re.findall(r"ref\('(\w+)'\)", "\n".join(texts)))):
        layer = "metrics" if name.startswith("mtr_") else "marts"
        (folder / "models" / layer / f"{name}.sql").write_text("select 1 as placeholder")
    for path in LAYER.glob("mtr_*"):
        (folder / "models" / "metrics" / f"{path.stem}.sql").write_text("select 1 as placeholder")
    (folder / "dbt_project.yml").write_text(
        "name: oracle\nversion: '1.0'\nconfig-version: 2\nprofile: oracle\nmodel-paths: [models]\nmacro-paths: [macros]\n"
        "flags: {send_anonymous_usage_stats: false}\nmodels:\n  oracle:\n    marts: {+schema: marts}\n    metrics: {+schema: metrics}\n")
    (folder / "macros").mkdir()
    (folder / "macros" / "schema.sql").write_text("{% macro generate_schema_name(name, node) -%}{{ name or target.schema }}{%- endmacro %}")
    (folder / "profiles.yml").write_text(f"oracle:\n  target: it\n  outputs:\n    it: {{type: duckdb, path: '{folder / 'base.duckdb'}', schema: main}}\n")
    return folder


class Oracle:
    """Our definitions, compiled by MetricFlow. `sql(...)` returns SQL for a database whose catalogue is called `base`."""

    def __init__(self, folder: Path) -> None:
        from dbt.cli.main import dbtRunner
        from metricflow.engine.metricflow_engine import MetricFlowEngine
        from metricflow.protocols.sql_client import SqlEngine
        from metricflow.sql.render.duckdb_renderer import DuckDbSqlPlanRenderer
        from metricflow_semantic_interfaces.implementations.semantic_manifest import PydanticSemanticManifest
        from metricflow_semantic_interfaces.transformations.pydantic_rule_set import PydanticSemanticManifestTransformRuleSet
        from metricflow_semantic_interfaces.transformations.semantic_manifest_transformer import PydanticSemanticManifestTransformer
        from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup

        project = _project(folder)
        result = dbtRunner().invoke(["--quiet", "parse", "--project-dir", str(project), "--profiles-dir", str(project), "--no-partial-parse"])
        if not result.success:
            raise AssertionError(f"dbt cannot parse the metric layer: {result.exception}")
        self.manifest = json.loads((project / "target" / "semantic_manifest.json").read_text())
        parsed = PydanticSemanticManifest.parse_obj(self.manifest)
        transformed = PydanticSemanticManifestTransformer.transform(parsed, PydanticSemanticManifestTransformRuleSet().all_rules)

        class Client:
            sql_engine_type = SqlEngine.DUCKDB
            sql_plan_renderer = DuckDbSqlPlanRenderer()

        self.engine = MetricFlowEngine(SemanticManifestLookup(transformed), Client())

    def sql(self, metrics: list[str], group_by: list[str], **choices: Any) -> str:
        from metricflow.engine.metricflow_engine import MetricFlowQueryRequest

        request = MetricFlowQueryRequest.create(metric_names=metrics, group_by_names=group_by, **choices)
        return self.engine.explain(request).sql_statement.without_descriptions.sql
