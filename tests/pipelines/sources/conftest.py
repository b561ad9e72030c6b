"""A home for extractions, and a real PostgreSQL server holding the tables of a real CRM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.odoo_database import ODOO, load_odoo, running_server
from fixtures.shared_data import given

from data_contracts.environment import Home, SourceDeclaration
from pipelines.sources import base


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home; relative paths of declarations made by `declared` start at its root."""
    root = tmp_path / "home"
    root.mkdir()
    return Home(root)


@pytest.fixture
def declared(home: Home) -> Callable[..., SourceDeclaration]:
    """Makes a declaration as sources.yml would: `declared("sql", url=…, time_zone=…)`."""
    def make(kind: str, name: str = "shop", time_zone: str = "UTC", **options: Any) -> SourceDeclaration:
        return SourceDeclaration(name, kind, options, time_zone=time_zone, base=home.root)
    return make


@pytest.fixture
def inbox(home: Home) -> Path:
    """An empty folder for files in canonical shape."""
    folder = home.root / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def take(home: Home, declared: Callable[..., SourceDeclaration], inbox: Path) -> Callable[..., base.Extraction]:
    """Extracts the inbox; every call is a batch of its own."""
    count = iter(range(1000))

    def run(seen: set[str] | None = None, settle_seconds: float = 0, **options: object) -> base.Extraction:
        return base.extract(declared("canonical_files", **{"path": "inbox", **options}), home, f"b{next(count):03}", seen or set(), settle_seconds=settle_seconds)
    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URI of a running PostgreSQL server."""
    with running_server() as uri:
        yield uri


@pytest.fixture(scope="session")
def odoo_url(postgres: str) -> str:
    """A database holding the tables that an Odoo 17 wrote over twelve months (Odoo demo data, LGPL-3)."""
    return load_odoo(postgres, given(ODOO), "crm")
