"""Contracts: what is derived from them equals them."""

from __future__ import annotations

import pytest
import yaml
from fixtures.shared_data import given

from data_contracts import contract as contracts
from data_contracts.contract import LINEAGE, dbt_sources, load_contracts, table_columns
from data_contracts.expectations import suite
from models import ingest


def test_the_dbt_sources_equal_the_contracts():
    written = contracts.DBT_SOURCES.read_text(encoding="utf-8")
    assert written == dbt_sources(), "contracts changed: run `python -m data_contracts.contract`"


def test_there_is_a_contract_for_each_canonical_entity():
    assert len(load_contracts()) == 25
    agreed = yaml.safe_load(given("canonical_schema.yml").read_text(encoding="utf-8"))["entities"]
    for entity, spec in agreed.items():
        held = load_contracts()[entity]
        assert list(held.key) == spec["key"], entity
        assert set(spec["columns"]) <= set(held.by_name), entity
        for name, words in spec["columns"].items():
            column = held.by_name[name]
            assert column.required == ("!" in words), f"{entity}.{name}"
            assert column.is_personal == words.endswith("pii"), f"{entity}.{name}"
            assert (column.references or "") == (words.split(">")[1].split()[0] if ">" in words else ""), f"{entity}.{name}"


@pytest.mark.parametrize("entity", sorted(load_contracts()))
def test_a_contract_names_itself_and_every_column_says_what_it_is(entity):
    held = load_contracts()[entity]
    document = yaml.safe_load(held.file.read_text(encoding="utf-8"))
    assert held.file.name == f"{entity}.odcs.yaml" and document["kind"] == "DataContract" and document["name"] == entity
    assert held.description.rstrip().split(".")[-2].strip().startswith("One row per") or "One row per" in held.description
    for item in document["schema"][0]["properties"]:
        assert item["description"] and item["classification"] in ("internal", "personal"), item["name"]
        assert item["physicalType"] in {"VARCHAR", "BIGINT", "BOOLEAN", "DATE", "TIMESTAMP", "DECIMAL(18,4)", "DECIMAL(18,8)"}, item["name"]


@pytest.mark.parametrize("entity", sorted(load_contracts()))
def test_the_suite_expects_what_the_contract_says(entity):
    held = load_contracts()[entity]
    expected = suite(held)
    required = {e["kwargs"]["column"] for e in expected if e["type"] == "expect_column_values_to_not_be_null"}
    in_set = {e["kwargs"]["column"]: tuple(e["kwargs"]["value_set"]) for e in expected if e["type"] == "expect_column_values_to_be_in_set"}
    between = {e["kwargs"]["column"] for e in expected if e["type"] == "expect_column_values_to_be_between"}
    assert required == set(held.required_columns)
    assert in_set == {c.name: c.valid_values for c in held.columns if c.valid_values}
    assert between == {c.name for c in held.columns if c.minimum is not None or c.maximum is not None}
    assert sum(e["type"] == "unexpected_rows_expectation" for e in expected) == len(held.rules) + sum(bool(c.pattern) for c in held.columns)


def test_the_landing_tables_have_the_contracts_columns(tmp_path):
    import duckdb
    con = duckdb.connect(str(tmp_path / "w.duckdb"))
    ingest.prepare(con)
    ingest.prepare(con)   # twice: an existing warehouse is left as it is
    for entity, held in load_contracts().items():
        found = dict(con.execute("SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'landing' AND table_name = ?", [entity]).fetchall())
        assert found == table_columns(held)
        assert set(LINEAGE) <= set(found)


def test_a_column_added_to_a_contract_is_added_to_an_existing_warehouse(tmp_path):
    import duckdb
    con = duckdb.connect(str(tmp_path / "w.duckdb"))
    ingest.prepare(con)
    con.execute("ALTER TABLE landing.orders DROP COLUMN channel")
    ingest.prepare(con)
    assert "channel" in [r[0] for r in con.execute("DESCRIBE landing.orders").fetchall()]
