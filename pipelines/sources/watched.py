"""Which files of the declared file sources are looked at for news. Reads no content."""

from __future__ import annotations

from pathlib import Path

from data_contracts.environment import SourceDeclaration

FILE_TYPES = ("canonical_files", "mapped_files")


def files_of(declaration: SourceDeclaration) -> list[Path]:
    """Every file that the declaration's folder, name or pattern means now."""
    options = declaration.options
    places = [options["path"]] if "path" in options else list((options.get("files") or {}).values())
    found: list[Path] = []
    for place in places:
        path = declaration.path(place)
        if path.is_dir():
            found += [f for f in path.rglob("*") if f.is_file()]
        elif path.exists():
            found.append(path)
        else:
            found += [f for f in path.parent.glob(path.name) if f.is_file()]
    return found
