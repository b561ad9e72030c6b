"""Homes for page tests: the demo's snapshot, and others of the same tables with little or nothing in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

import dashboards
from data_contracts.environment import Home
from models import warehouse

APP = Path(dashboards.__file__).parent
WATERMARK = datetime(2026, 3, 1, 12)
KEPT = ("ops.settings", "meta.metrics", "marts.dim_dates", "metrics.mtr_calendar__day")    # what every home has, however little was delivered


@pytest.fixture(scope="session")
def demo_snapshot(demo_home) -> Path:
    """The published file of the demo home."""
    home = Home(demo_home.home)
    return home.serving / f"{warehouse.current_id(home)}.duckdb"


@pytest.fixture(scope="session")
def make_home(tmp_path_factory: pytest.TempPathFactory, demo_snapshot: Path) -> Callable[..., Home]:
    """A function that publishes a home with the demo's tables, filled only for the named ones; `statements` change the warehouse before it is published."""
    def make(filled: Iterable[str] = (), statements: Iterable[str] = (), watermark: datetime = WATERMARK) -> Home:
        home = Home(tmp_path_factory.mktemp("home"))
        home.make_folders()
        (home.root / "workspace.yml").write_text("company: Test\n", encoding="utf-8")
        (home.root / "sources.yml").write_text("sources: {}\n", encoding="utf-8")
        wanted = {*filled, *KEPT}
        with duckdb.connect(str(home.warehouse)) as con:
            con.execute(f"ATTACH '{demo_snapshot}' AS demo (READ_ONLY)")
            for schema, table in con.execute("SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'demo'").fetchall():
                con.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
                if f"{schema}.{table}" != "meta.snapshot":
                    con.execute(f'CREATE TABLE "{schema}"."{table}" AS FROM demo."{schema}"."{table}" {"" if f"{schema}.{table}" in wanted or "everything" in wanted else "LIMIT 0"}')
            con.execute("UPDATE ops.settings SET watermark = ?, as_of = ?", [watermark, watermark])
            for statement in statements:
                con.execute(statement)
        warehouse.publish(home, "run-1", watermark, watermark)
        return home
    return make


@pytest.fixture(scope="session")
def empty_home(make_home) -> Home:
    """A published home without a row."""
    return make_home()


@pytest.fixture(scope="session")
def orders_home(make_home) -> Home:
    """A company that delivers orders and nothing else."""
    return make_home(filled=("marts.dim_customers", "marts.fct_orders", "marts.fct_order_lines", "marts.fct_new_customers", "metrics.mtr_acquisitions__customer"))


@pytest.fixture
def use_home(monkeypatch: pytest.MonkeyPatch) -> Callable[[Home], None]:
    """A function that makes the pages show a home."""
    return lambda home: monkeypatch.setenv("RAPPORT_HOME", str(home.root))


@pytest.fixture
def show(use_home) -> Callable[..., AppTest]:
    """A function that draws a page of a home, as if its address carried the given parameters."""
    def draw(home: Home, page: str, **parameters: str) -> AppTest:
        use_home(home)
        app = AppTest.from_file(str(APP / "app_pages" / f"{page}.py"), default_timeout=60)
        for name, value in parameters.items():
            app.query_params[name] = value
        return app.run()
    return draw


@pytest.fixture
def html() -> Callable[[AppTest], str]:
    """A function that gives everything a page shows through our own elements."""
    return lambda app: "\n".join(e.proto.body for e in app.get("html"))


@pytest.fixture(scope="session")
def demo(demo_home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The demo home's published part, in a folder of its own."""
    home = Home(tmp_path_factory.mktemp("demo_copy"))
    shutil.copytree(Home(demo_home.home).serving, home.serving)
    for name in ("workspace.yml", "sources.yml"):
        shutil.copy(Home(demo_home.home).root / name, home.root / name)
    shutil.copytree(Home(demo_home.home).segments, home.segments)
    return home


@pytest.fixture
def say_last_run() -> Callable[[Home, str, str], None]:
    """A function that writes what a run would have said of itself."""
    def say(home: Home, state: str, message: str) -> None:
        failure = {"check": "contract", "subject": "landing.orders", "severity": "error", "detail": "amount <b>is</b> missing", "failing_rows": 3}
        warehouse.write_state(home, "last_run", json.dumps({"run_id": "r", "started_at": "2026-03-02T01:00:00+00:00", "ended_at": "2026-03-02T01:01:00+00:00", "state": state, "snapshot_id": None,
                                                            "message": message, "failures": [failure]}))
    return say
