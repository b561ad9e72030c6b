"""The demo company's operational CRM, a SQLite file, read like anybody's database."""

from __future__ import annotations

from typing import ClassVar

from data_contracts.environment import SourceDeclaration
from pipelines.sources.demo import MAPPING_FILE
from pipelines.sources.mapping import Mapping, load_mapping
from pipelines.sources.types.sql import SqlSource


class Demo(SqlSource):
    """A `sql` source with the demo's own mapping."""

    summary = "the demo company's CRM, written by `rapport demo`"
    options: ClassVar[dict[str, str]] = {"url": "sqlite:///demo/crm.sqlite", "mode": SqlSource.options["mode"]}

    def mapping(self, declaration: SourceDeclaration) -> Mapping:
        return load_mapping(MAPPING_FILE, declaration.name)


SOURCE = Demo()
