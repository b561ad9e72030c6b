"""Simulated companies shared by the tests of the demo, and how to look into them."""

import sqlite3
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml

from data_contracts.contract import load_contracts
from pipelines.sources.demo import MAPPING_FILE, simulate

END = date(2026, 11, 22)


def read_tables(path: Path) -> dict[str, pl.DataFrame]:
    """Every table of a SQLite file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        tables = {}
        for name in names:
            cursor = connection.execute(f'SELECT * FROM "{name}"')
            columns = [column[0] for column in cursor.description]
            values = list(zip(*cursor.fetchall(), strict=True)) or [() for _ in columns]
            tables[name] = pl.DataFrame([pl.Series(column, value, strict=False) for column, value in zip(columns, values, strict=True)])
        return tables
    finally:
        connection.close()


@dataclass(frozen=True)
class World:
    """A simulated company: its CRM, the truth, and the CRM as its mapping reads it."""

    crm: dict[str, pl.DataFrame] = field(repr=False)
    truth: dict[str, pl.DataFrame] = field(repr=False)
    canonical: dict[str, pl.DataFrame] = field(repr=False)

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        for name, frame in self.canonical.items():
            connection.register(name, frame.to_arrow())
        for name, frame in self.truth.items():
            connection.register(f"true_{name}", frame.to_arrow())
        return connection

    @cached_property
    def typed(self) -> dict[str, pl.DataFrame]:
        """The canonical entities with the types of their contracts; timestamps are naive UTC."""
        frames = {}
        for entity, contract in load_contracts().items():
            columns = [
                f"""timezone('UTC', cast("{c.name}" as timestamptz)) as "{c.name}\"""" if c.physical_type == "TIMESTAMP" else f'cast("{c.name}" as {c.physical_type}) as "{c.name}"'
                for c in contract.columns
            ]
            frames[entity] = self.query(f"select {', '.join(columns)} from {entity}")
        return frames

    def query(self, sql: str) -> pl.DataFrame:
        """Ask over canonical entities by name and tables of the truth as `true_<name>`."""
        return self._connection.execute(sql).pl()

    def value(self, sql: str):
        """The single value of a query."""
        return self.query(sql).item()


def make_world(folder: Path, customers: int, seed: int = 7, end: date = END, years: int = 3) -> World:
    """Simulate a company and read everything."""
    crm, truth = folder / "crm.sqlite", folder / "truth.sqlite"
    simulate(crm, truth, customers=customers, seed=seed, end=end, years=years)
    tables = read_tables(crm)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name, frame in tables.items():
        connection.register(name, frame.to_arrow())
    mapping = yaml.safe_load(MAPPING_FILE.read_text(encoding="utf-8"))
    canonical = {entity: connection.execute(sql).pl() for entity, sql in mapping["entities"].items()}
    return World(tables, read_tables(truth), canonical)


@pytest.fixture(scope="session")
def read_sqlite():
    """The function that reads every table of a SQLite file."""
    return read_tables


@pytest.fixture(scope="session")
def build_world():
    """The function that simulates a company and reads it."""
    return make_world


@pytest.fixture(scope="session")
def last_day() -> date:
    """Up to which day (exclusive) the shared companies have data."""
    return END


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> World:
    """Three hundred customers."""
    return make_world(tmp_path_factory.mktemp("small"), 300)


@pytest.fixture(scope="session")
def medium(tmp_path_factory) -> World:
    """Enough customers for statistics."""
    return make_world(tmp_path_factory.mktemp("medium"), 4_000)
