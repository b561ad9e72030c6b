"""An Odoo 17 database (PostgreSQL), read with the mapping that comes with Rapport."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from data_contracts.environment import SourceDeclaration
from pipelines.sources.mapping import Mapping, load_mapping
from pipelines.sources.types.sql import SqlSource

MAPPING_FILE = Path(__file__).parent.parent / "odoo" / "mapping.yml"


class Odoo(SqlSource):
    """Needs a user that may SELECT the tables of the mapping; modules that are not installed are taken as empty."""

    summary = "an Odoo 17 database: partners, leads and opportunities with their history, quotations and orders, mailings, ratings"
    options: ClassVar[dict[str, str]] = {
        "url": "postgresql://user:${PASSWORD}@host:5432/database",
        "schema": SqlSource.options["schema"],
        "mapping": "path of a changed copy of the mapping, when the company has customised Odoo",
        "mode": "full (default; merged and deleted records disappear) or upsert",
    }

    def mapping(self, declaration: SourceDeclaration) -> Mapping:
        return super().mapping(declaration) or load_mapping(MAPPING_FILE, declaration.name)


SOURCE = Odoo()
