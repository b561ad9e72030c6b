"""What all tests share: the command line as its user runs it, and homes built through it. Homes are built once a test session and read by many tests."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures import worked_examples

ROOT = Path(__file__).resolve().parents[1]


# Files that build a home or a warehouse, longest first. Workers take them before all others, so that none is left over at the end; the
# first two start together, and only one of them waits for the demo home.
LONG_FILES = ("journeys/test_demo_kpis.py", "journeys/test_identity.py", "journeys/test_online_retail.py", "journeys/test_order_of_arrival.py", "journeys/test_odoo.py",
              "pipelines/test_killed_runs.py", "journeys/test_edge_cases.py", "journeys/test_definitions_fixtures.py", "models/warehouse_door/test_snapshots.py",
              "models/warehouse/test_rebuilding.py", "journeys/test_bad_input.py", "browser/test_pages_in_a_browser.py", "models/metrics/test_metricflow_agrees.py")


def pytest_collection_finish() -> None:
    """Take the loaded libraries out of every later garbage collection: a tenth of the suite went by walking their million objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first (`--no-loadscope-reorder` keeps this order)."""
    rank = {str(ROOT / "tests" / name): place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(str(item.path), len(rank)))


@dataclass(frozen=True)
class Cli:
    """`rapport` with a home."""

    home: Path

    def alone(self, *arguments: str, ok: bool = True, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own; with `ok` it must end with 0."""
        done = subprocess.run([sys.executable, "-m", "pipelines.cli", *arguments, "--home", str(self.home)], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
                              env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"})
        assert not ok or done.returncode == 0, f"rapport {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def run(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, from the parsing of its words to its exit code: the imports, a second for a question and ten for a build, are paid once a worker."""
        from pipelines.cli import main
        told, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(complained), pytest.raises(SystemExit) as ended:
            main([*arguments, "--home", str(self.home)])
        done = subprocess.CompletedProcess(["rapport", *arguments], int(ended.value.code or 0), told.getvalue(), complained.getvalue())
        assert not ok or done.returncode == 0, f"rapport {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def build(self, *options: str) -> None:
        """`rapport run`, which must publish or find nothing new."""
        self.run("run", *options)

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command with `--format json` and read its rows."""
        return json.loads(self.run(*arguments, "--format", "json").stdout)


def write_csv(folder: Path, entity: str, rows: list[dict[str, Any]]) -> None:
    """Write canonical rows as a CSV file; columns are those of any row."""
    import csv
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(folder / f"{entity}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def make_home(place: Path, entities: dict[str, list[dict[str, Any]]], *, as_of: str | None = None, time_zone: str = "UTC", currency: str = "USD", run: bool = True) -> Cli:
    """A home below `place` with canonical rows of the source `crm`, through `init`, `import` and `run`."""
    for entity, rows in entities.items():
        write_csv(place / "files", entity, rows)
    cli = Cli(place / "home")
    cli.run("init", "--time-zone", time_zone, "--currency", currency)
    cli.run("import", str(place / "files"), "--source", "crm")
    if run:
        cli.build(*(["--as-of", as_of] if as_of else []))
    return cli


@pytest.fixture(scope="session")
def build_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Cli]:
    """A function that makes a home of its own from canonical rows."""
    def build(name: str, entities: dict[str, list[dict[str, Any]]], **options: Any) -> Cli:
        return make_home(tmp_path_factory.mktemp(name), entities, **options)
    return build


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function that has a folder filled once for all worker processes, by whichever comes first."""
    base = tmp_path_factory.getbasetemp()

    def place_of(name: str, fill: Callable[[Path], None]) -> Path:
        place = (base if worker_id == "master" else base.parent) / name
        with open(place.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / "built").exists():
                place.mkdir(exist_ok=True)
                fill(place)
                (place / "built").touch()
        return place
    return place_of


@pytest.fixture(scope="session")
def demo_home(built_once: Callable[..., Path]) -> Cli:
    """A small demo company, simulated, built and published; tests only read it."""
    return Cli(built_once("demo_company", lambda place: Cli(place / "home").run("demo", "--customers", "400", "--seed", "11", "--no-serve")) / "home")


@pytest.fixture(scope="session")
def examples_home(built_once: Callable[..., Path]) -> Cli:
    """The worked examples of the definitions, imported, built and published; tests read it, or copy it."""
    def fill(place: Path) -> None:
        make_home(place, worked_examples.entities(), as_of=worked_examples.AS_OF)
    return Cli(built_once("worked_examples", fill) / "home")


@pytest.fixture(scope="session")
def company_home(built_once: Callable[..., Path]) -> Cli:
    """A company of three sources, imported, built and published; tests read it, or copy it."""
    from fixtures import company_of_sources  # which needs this module
    return Cli(built_once("company_of_sources", company_of_sources.fill) / "home")
