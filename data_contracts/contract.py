"""Contracts of tables, read from Open Data Contract Standard YAML (v3.1, https://bitol-io.github.io/open-data-contract-standard/).

Belongs here: what a contract says, and what is derived from it alone (table layout, dbt source declarations). Does not belong
here: touching data; `models/ingest.py` parses rows with it and `data_contracts/expectations.py` turns it into expectations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOM = Path(__file__).parent
CANONICAL = ROOM / "inbound" / "canonical"
DBT_SOURCES = ROOM.parent / "models" / "layers" / "staging" / "_sources.yml"

# What Rapport adds to every accepted row. `_batch_seq` grows with each batch of a home; `_row_hash` is over the typed columns.
LINEAGE = {
    "_source": ("VARCHAR", "Source the row came from"),
    "_batch_id": ("VARCHAR", "Batch the row came in"),
    "_batch_seq": ("BIGINT", "Order of the batches of this home"),
    "_loaded_at": ("TIMESTAMP", "When the batch was loaded (UTC)"),
    "_row_number": ("BIGINT", "Row in the delivered file or table, from 1"),
    "_row_hash": ("VARCHAR", "Fingerprint of the typed row"),
    "_custom": ("VARCHAR", "Columns the contract does not know, a JSON object"),
    "_is_tombstone": ("BOOLEAN", "The row disappeared from a full extract"),
}


@dataclass(frozen=True)
class Column:
    """One agreed column. `physical_type` is DuckDB's; `references` is the entity an id points to."""

    name: str
    logical_type: str
    physical_type: str
    description: str
    required: bool
    is_personal: bool
    references: str | None = None
    valid_values: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class RowRule:
    """A condition over several columns of one row; a row for which it is false is quarantined."""

    id: str
    description: str
    predicate: str


@dataclass(frozen=True)
class Contract:
    """The agreement on one entity."""

    entity: str
    version: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[RowRule, ...]
    file: Path

    @property
    def by_name(self) -> dict[str, Column]:
        return {c.name: c for c in self.columns}

    @property
    def personal_columns(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.is_personal)

    @property
    def required_columns(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.required)


def _column(item: dict[str, Any]) -> Column:
    options = item.get("logicalTypeOptions") or {}
    values: tuple[str, ...] = ()
    for rule in item.get("quality") or []:
        if rule.get("metric") == "invalidValues":
            values = tuple(rule["arguments"]["validValues"])
    relations = item.get("relationships") or []
    return Column(
        name=item["name"], logical_type=item["logicalType"], physical_type=item["physicalType"], description=item["description"],
        required=bool(item.get("required")), is_personal=item.get("classification") == "personal",
        references=relations[0]["to"].split(".")[0] if relations else None, valid_values=values,
        minimum=options.get("minimum"), maximum=options.get("maximum"), pattern=options.get("pattern"))


def read_contract(file: Path) -> Contract:
    """One contract file. Raises KeyError with the missing ODCS field where the file is not a contract."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    (table,) = document["schema"]
    keyed = [p for p in table["properties"] if p.get("primaryKey")]
    return Contract(
        entity=table["name"], version=document["version"], description=table["description"],
        columns=tuple(_column(p) for p in table["properties"]),
        key=tuple(p["name"] for p in sorted(keyed, key=lambda p: p["primaryKeyPosition"])),
        rules=tuple(RowRule(q["id"], q["description"], q["implementation"]) for q in table.get("quality") or []
                    if q["type"] == "custom" and q["engine"] == "rapport-row"),
        file=file)


@cache
def load_contracts() -> dict[str, Contract]:
    """The canonical contracts by entity, in alphabetical order."""
    contracts = [read_contract(f) for f in sorted(CANONICAL.glob("*.odcs.yaml"))]
    return {c.entity: c for c in contracts}


def vocabulary() -> dict[str, Any]:
    """Words with a fixed meaning (`vocabulary.yml`)."""
    return yaml.safe_load((ROOM / "vocabulary.yml").read_text(encoding="utf-8"))


def table_columns(contract: Contract) -> dict[str, str]:
    """Column name → DuckDB type of the landing table: the contract's columns, then the lineage columns."""
    return {c.name: c.physical_type for c in contract.columns} | {name: kind for name, (kind, _) in LINEAGE.items()}


def dbt_sources() -> str:
    """The dbt source declarations as YAML text; `tests/data_contracts` holds the committed file to it."""
    tables = []
    for contract in load_contracts().values():
        columns = [{"name": c.name, "description": c.description, "data_type": c.physical_type,
                    "config": {"meta": {"privacy": "personal" if c.is_personal else "internal", "required": c.required}}}
                   for c in contract.columns]
        columns += [{"name": name, "description": text, "data_type": kind} for name, (kind, text) in LINEAGE.items()]
        tables.append({"name": contract.entity, "description": contract.description, "columns": columns})
    own = {
        "ops": {"settings": "Workspace settings of this build. One row.",
                "source_state": "What each source last delivered. One row per source.",
                "ingestion_gaps": "Spans in which a source delivered nothing although it should have. One row per source and span."},
        "identity": {"members": "Which customer each source record belongs to. One row per source record.",
                     "aliases": "Former customer ids. One row per former id.",
                     "customer_attributes": "Attributes of each customer chosen by survivorship rules. One row per customer.",
                     "hierarchy": "Persons and their organisation. One row per person and organisation."},
    }
    sources = [{"name": "landing", "schema": "landing", "description": "Accepted rows of every batch, all versions.", "tables": tables}]
    sources += [{"name": name, "schema": name, "tables": [{"name": t, "description": d} for t, d in entries.items()]}
                for name, entries in own.items()]
    header = "# Written from the contracts by `python -m data_contracts.contract`; edit the contracts, not this file.\n"
    return header + yaml.safe_dump({"version": 2, "sources": sources}, sort_keys=False, width=160, allow_unicode=True)


if __name__ == "__main__":
    DBT_SOURCES.parent.mkdir(parents=True, exist_ok=True)
    DBT_SOURCES.write_text(dbt_sources(), encoding="utf-8")
