"""A source that is only ever filled by `rapport import`: a run extracts nothing from it, what has landed is used."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from data_contracts.environment import SourceDeclaration
from pipelines.sources.base import Batch


class Imports:
    """Batches delivered by hand."""

    summary = "files delivered by `rapport import DIR --source NAME`; a run reads nothing by itself"
    options: ClassVar[dict[str, str]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    is_live = False

    def extract(self, batch: Batch) -> None:
        """Nothing is read: `rapport import` lands the batches."""
        batch.skipped.append("waits for `rapport import`; what was imported before is used")

    def test(self, declaration: SourceDeclaration, scratch_folder: Path) -> list[str]:
        return [f"{declaration.name} is filled by `rapport import DIR --source {declaration.name}`"]


SOURCE = Imports()
