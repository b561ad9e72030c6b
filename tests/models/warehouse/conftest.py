"""A warehouse that tests fill by hand and build with dbt, in this process.

Belongs here: how to land rows, build, and look at the result. Does not belong here: what the numbers must be.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from data_contracts.contract import load_contracts
from data_contracts.environment import Home, Workspace, exported
from models import ingest
from models.engines import identity
from pipelines import dbt_project

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "models"
LAYERS = ["staging", "intermediate", "marts", "resource_type:seed"]


@dataclass
class Dbt:
    """Runs dbt in this process on the parse that a run would use."""

    folder: Path
    manifest: Any = None

    def __call__(self, warehouse: Path, *arguments: str) -> list[Any]:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner
        from dbt.contracts.graph.manifest import Manifest

        options = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(self.folder / "target"),
                   "--log-path", str(self.folder / "logs"), "--log-level", "none", "--log-level-file", "none", "--no-use-colors",
                   "--no-write-json", "--no-version-check"]
        with exported(RAPPORT_WAREHOUSE=str(warehouse), DBT_SEND_ANONYMOUS_USAGE_STATS="false"):
            if self.manifest is None:
                parse = dbt_project.manifest_path(Home(self.folder)).with_name("partial_parse.msgpack")
                self.manifest = Manifest.from_msgpack(parse.read_bytes())
            outcome = dbtRunner(manifest=self.manifest).invoke([*arguments, *options])
            DuckDBConnectionManager.close_all_connections()
        assert outcome.exception is None, outcome.exception
        return list(outcome.result.results)


@dataclass
class Warehouse:
    """One warehouse file of a test."""

    file: Path
    dbt: Dbt
    runs: int = 0

    looking: duckdb.DuckDBPyConnection | None = None

    def open(self) -> duckdb.DuckDBPyConnection:
        """The file for writing; nothing else may hold it then."""
        if self.looking is not None:
            self.looking.close()
            self.looking = None
        return duckdb.connect(str(self.file))

    def look(self, sql: str, values: tuple) -> duckdb.DuckDBPyConnection:
        """Ask over a connection that stays open until the next change."""
        if self.looking is None:
            self.looking = duckdb.connect(str(self.file), read_only=True)
        return self.looking.execute(sql, list(values))

    def prepare(self, company: dict[str, Any]) -> None:
        """Empty tables and the settings of a company."""
        settings = dict(company["settings"])
        settings["test_email_domains"] = tuple(settings.get("test_email_domains", ()))
        with self.open() as con:
            ingest.prepare(con)
            identity.ensure_tables(con)
            ingest.write_settings(con, Workspace(**settings), datetime.fromisoformat(company["as_of"]), datetime.fromisoformat(company["watermark"]))
            for gap in company.get("gaps", ()):
                con.execute("INSERT INTO ops.ingestion_gaps BY NAME SELECT ? AS source, ? AS starts_at, ? AS ends_at", [gap["source"], gap["starts_at"], gap["ends_at"]])

    def land(self, rows: dict[str, list[dict[str, Any]]], shift: int = 0, tombstone: bool = False) -> None:
        """Append rows to landing. `_batch` and `_source` of a row default to 1 and crm; `shift` is added to the batch."""
        with self.open() as con:
            for entity, contract in load_contracts().items():
                given = rows.get(entity) or []
                if not given:
                    continue
                names = list(contract.by_name)
                values = []
                for number, row in enumerate(given, start=1):
                    unknown = set(row) - set(names) - {"_batch", "_source"}
                    assert not unknown, f"{entity} has no {unknown}"
                    batch = row.get("_batch", 1) + shift
                    typed = [row.get(n) for n in names]
                    values.append([*typed, row.get("_source", "crm"), f"b{batch}", batch, datetime(2026, 11, 1 + batch), number,
                                   md5(repr(typed).encode(), usedforsecurity=False).hexdigest(), None, tombstone])
                places = ", ".join("?" for _ in values[0])
                con.executemany(f"INSERT INTO landing.{entity} VALUES ({places})", values)

    def resolve(self) -> None:
        self.runs += 1
        with self.open() as con:
            identity.resolve(con, f"run-{self.runs}", datetime(2026, 11, 22, 12))

    def build(self, *select: str, checked: bool = False) -> list[Any]:
        """Resolve identities and build everything or a selection; every node, and with `checked` every test of the data, must succeed."""
        self.resolve()
        left_out = ["unit_test"] if checked else ["unit_test", "test"]
        results = self.dbt(self.file, "build", "--select", *(select or LAYERS), *(f"--exclude-resource-type={kind}" for kind in left_out))
        failed = [f"{r.node.name}: {r.status} {r.message}" for r in results if r.status not in ("success", "pass")]
        assert not failed, "\n".join(failed)
        return results

    def rows(self, sql: str, *values: Any) -> list[tuple]:
        return self.look(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> dict[str, Any]:
        """The only row of a query, by column."""
        result = self.look(sql, values)
        names = [d[0] for d in result.description]
        found = result.fetchall()
        assert len(found) == 1, f"{len(found)} rows instead of one for {sql}"
        return dict(zip(names, found[0], strict=True))

    def column(self, sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in self.rows(sql, *values)]

    def customer(self, contact: str, node_type: str = "contact") -> str:
        """Customer id of a record of source crm."""
        return self.rows("SELECT customer_id FROM identity.members WHERE source = 'crm' AND node_type = ? AND source_id = ?", node_type, contact)[0][0]

    def fingerprints(self) -> dict[str, tuple]:
        """Rows and order-free content hash of every mart."""
        tables = self.column("SELECT table_name FROM information_schema.tables WHERE table_schema = 'marts' ORDER BY 1")
        return {t: self.rows(f'SELECT count(*), sum(hash(t)::HUGEINT) FROM marts."{t}" AS t')[0] for t in tables}


@pytest.fixture(scope="session")
def dbt(tmp_path_factory) -> Dbt:
    return Dbt(tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="session")
def company() -> dict[str, Any]:
    """The hand-made company of `company.yml`."""
    return yaml.safe_load((Path(__file__).parent / "company.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def new_warehouse(tmp_path_factory, dbt):
    """Makes an empty warehouse for a company. The file keeps its name: dbt takes the database's name from it."""
    def make(company: dict[str, Any]) -> Warehouse:
        warehouse = Warehouse(tmp_path_factory.mktemp("home") / "warehouse.duckdb", dbt)
        warehouse.prepare(company)
        return warehouse
    return make


@pytest.fixture(scope="session")
def warehouse(new_warehouse, company) -> Warehouse:
    """The hand-made company, built, with every test of the marts passed."""
    made = new_warehouse(company)
    made.land(company)
    made.build(checked=True)
    return made
