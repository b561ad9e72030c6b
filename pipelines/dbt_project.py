"""dbt in this process: the parsed project is kept, each call selects what to build.

Belongs here: parsing, building, reading results. Does not belong here: any model. The dbt command line would import and parse
for ten seconds a call; one runner with the manifest kept needs three for the whole graph.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Callable

from data_contracts import environment
from data_contracts.environment import Home
from data_contracts.errors import RapportError

PROJECT = Path(__file__).resolve().parent.parent / "models"


@dataclass(frozen=True)
class NodeResult:
    """What became of one dbt node: `status` is dbt's word (success, pass, warn, fail, error, skipped)."""

    unique_id: str
    name: str
    kind: str
    status: str
    seconds: float
    failures: int | None
    message: str
    compiled: str


def _fingerprint() -> str:
    digest = hashlib.sha256()
    roots = [PROJECT / "layers", PROJECT / "macros", PROJECT / "seeds", PROJECT / "snapshots", PROJECT.parent / "tests" / "dbt"]
    files = [f for root in roots if root.exists() for f in root.rglob("*") if f.is_file()]
    for file in sorted([*files, PROJECT / "dbt_project.yml", PROJECT / "profiles.yml"]):
        digest.update(str(file.relative_to(PROJECT.parent)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _invoke(home: Home, runner: Any, arguments: list[str]) -> Any:
    home.make_folders()
    folders = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(home.dbt_target), "--log-path", str(home.logs / "dbt")]
    quiet = ["--quiet", "--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check", "--log-level-file", "info"]
    with environment.exported(RAPPORT_WAREHOUSE=str(home.warehouse), DO_NOT_TRACK="1"):
        try:
            return runner.invoke([*quiet, *arguments, *folders])
        finally:
            _release()


def _release() -> None:
    # dbt keeps its DuckDB connection open after a call, and with it the file
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    DuckDBConnectionManager.close_all_connections()


@cache
def _manifest_object(home: Home) -> Any:
    from dbt.cli.main import dbtRunner
    result = _invoke(home, dbtRunner(), ["parse"])
    if not result.success:
        raise RapportError(f"the dbt project cannot be parsed: {result.exception}", remedy="Mend the named file in models/.")
    (home.dbt_target / "fingerprint").write_text(_fingerprint(), encoding="utf-8")
    return result.result


def manifest_path(home: Home) -> Path:
    """`manifest.json` of the project as it is now; parsed again only when a file of it changed."""
    path, mark = home.dbt_target / "manifest.json", home.dbt_target / "fingerprint"
    if not (path.exists() and mark.exists() and mark.read_text(encoding="utf-8") == _fingerprint()):
        _manifest_object.cache_clear()
        _manifest_object(home)
    return path


@cache
def _runner(home: Home) -> Any:
    from dbt.cli.main import dbtRunner
    return dbtRunner(manifest=_manifest_object(home))


def build(home: Home, select: list[str], *, full_refresh: bool = False, exclude: list[str] | None = None) -> list[NodeResult]:
    """`dbt build` of a selection; never raises for a failed node, the results say it. Raises RapportError when dbt itself fails."""
    manifest_path(home)
    arguments = ["build", "--select", *select, *(["--exclude", *exclude] if exclude else []), *(["--full-refresh"] if full_refresh else [])]
    outcome = _invoke(home, _runner(home), arguments)
    if outcome.result is None:
        raise RapportError(f"dbt could not run: {outcome.exception}", remedy=f"See {home.logs / 'dbt'}.")
    return [_node_result(r) for r in outcome.result.results]


def _node_result(item: Any) -> NodeResult:
    node = item.node
    return NodeResult(node.unique_id, node.name, str(node.resource_type), str(item.status), float(item.execution_time or 0), item.failures,
                      " ".join(str(item.message or "").split()), getattr(node, "compiled_code", "") or "")


def manifest(home: Home) -> dict[str, Any]:
    """The manifest as a dictionary."""
    return json.loads(manifest_path(home).read_text(encoding="utf-8"))
