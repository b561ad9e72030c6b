"""What the dbt project promises about itself."""

import re
from pathlib import Path

import pytest
import yaml

from data_contracts.contract import vocabulary

PROJECT = Path(__file__).parents[3] / "models"
OWN_LAYERS = ("staging", "intermediate", "marts")


@pytest.fixture(scope="module")
def models(warehouse):
    """Models of the manifest by name; the warehouse is built first, so the project is parsed."""
    return {n.name: n for n in warehouse.dbt.manifest.nodes.values() if n.resource_type == "model" and n.schema in OWN_LAYERS}


def test_unit_tests_of_the_sql_pass(warehouse):
    warehouse.open().close()
    results = warehouse.dbt(warehouse.file, "test", "--select", "test_type:unit", *OWN_LAYERS)
    named = {r.node.name: r.status for r in results if r.node.resource_type == "unit_test"}
    assert len(named) >= 5 and set(named.values()) == {"pass"}, named


def test_every_description_ends_with_the_grain(models):
    wrong = {name for name, node in models.items() if not re.search(r"One row per [^.;]+([;,][^.]+)?\.$", node.description)}
    assert wrong == set()


def test_schemas_are_called_exactly_like_the_layers(models):
    assert {n.schema for n in models.values()} == set(OWN_LAYERS)


def test_every_mart_has_a_contract_a_described_column_each_and_a_key(warehouse, models):
    tested = {dependency for n in warehouse.dbt.manifest.nodes.values() if n.resource_type == "test" and getattr(n, "test_metadata", None)
              and n.test_metadata.name in ("primary_key", "unique_together") for dependency in n.depends_on.nodes}
    for name, node in models.items():
        if node.schema == "marts":
            assert node.contract.enforced, f"{name} has no enforced contract"
            assert all(c.description and c.data_type for c in node.columns.values()), f"{name} has a column without description or type"
            assert node.unique_id in tested, f"{name} has no key test"


def test_statuses_that_are_not_counted_are_those_of_the_vocabulary():
    seed = (PROJECT / "seeds" / "order_statuses_not_counted.csv").read_text().split()[1:]
    assert sorted(seed) == sorted(vocabulary()["order_statuses_not_counted"])


def test_marts_read_no_landing_table_but_for_the_calendars_first_day(models):
    readers = {name for name, node in models.items() if node.schema == "marts" for d in node.depends_on.nodes if d.startswith("source.") and ".landing." in d}
    assert readers <= {"dim_dates"}


def test_the_project_names_no_home(models):
    profile = yaml.safe_load((PROJECT / "profiles.yml").read_text())
    assert "RAPPORT_WAREHOUSE" in profile["rapport"]["outputs"]["duckdb"]["path"]
    assert all("/tmp" not in node.raw_code and "Europe/" not in node.raw_code for node in models.values())
