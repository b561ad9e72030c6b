"""A source without a place of its own: its batches are landed one by one with `rapport import`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from data_contracts.environment import SourceDeclaration
from pipelines.sources.base import Batch


class Imports:
    """See `SourceType`. A run takes in what was imported and asks for nothing more."""

    summary = "canonical files landed by hand with `rapport import DIR --source NAME`"
    options: ClassVar[dict[str, str]] = {}
    required: tuple[str, ...] = ()
    is_live = False

    def extract(self, batch: Batch) -> None:
        """Nothing is waiting anywhere: `rapport import` has landed it already."""

    def test(self, declaration: SourceDeclaration, scratch_folder: Path) -> list[str]:
        return [f"{declaration.name} takes what `rapport import DIR --source {declaration.name}` lands"]


SOURCE = Imports()
