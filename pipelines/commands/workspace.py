"""Commands on the home itself: init, demo, status, serve, doctor."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from data_contracts import environment
from data_contracts.environment import find_home
from data_contracts.errors import RapportError, UsageError
from pipelines.commands.options import HomeOption

DEMO_SOURCE = "crm"
PORT = 8501
UI_PORT = 3000


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(init)
    app.command()(demo)
    app.command()(status)
    app.command()(serve)
    app.command()(ui)
    app.command()(doctor)


def init(home: HomeOption = None,
         company: Annotated[str, typer.Option(help="Name shown on the pages.")] = "My company",
         time_zone: Annotated[str, typer.Option(help="Reporting time zone, an IANA name.")] = "UTC",
         currency: Annotated[str, typer.Option(help="Reporting currency, ISO 4217.")] = "USD") -> None:
    """Make a home: `workspace.yml` and `sources.yml` with every setting explained."""
    from pipelines.workspace_files import make_home
    place = find_home(home)
    written = make_home(place, company=company, time_zone=time_zone, currency=currency)
    for file in written:
        print(f"wrote {file}")
    print(f"The home {place.root} is ready. Next: `rapport source add`, or `rapport import DIR --source NAME`, then `rapport run`.")


def demo(home: HomeOption = None,
         customers: Annotated[int, typer.Option(min=50, max=5_000_000, help="Contacts of the simulated company.")] = 20_000,
         seed: Annotated[int, typer.Option(help="The same seed gives the same company.")] = 7,
         no_serve: Annotated[bool, typer.Option("--no-serve", help="Build only; do not open the pages.")] = False,
         port: Annotated[int, typer.Option(help="Port of the pages.")] = PORT) -> None:
    """Simulate a whole company's CRM, build everything from it, and show the pages."""
    from pipelines import run as runs
    from pipelines.progress import PROGRESS
    from pipelines.sources import demo as company
    from pipelines.workspace_files import add_source, make_home
    place = find_home(home)
    make_home(place, company="Fernwood Supply (demo)", time_zone="Europe/Berlin", currency="EUR", test_domains=company.TEST_EMAIL_DOMAINS)
    declared = {s.name: s for s in place.sources()}
    if declared and DEMO_SOURCE not in declared:
        raise UsageError(f"{place.root} holds a real workspace", remedy="Give the demo a home of its own: `rapport demo --home DIR`.")
    file = place.root / "demo" / "crm.sqlite"
    with PROGRESS.stage(f"simulate a company of {customers:,} contacts (seed {seed})"):
        company.simulate_into(file, customers=customers, seed=seed, say=PROGRESS.detail)
    if not declared:
        add_source(place, DEMO_SOURCE, {"type": "demo", "url": "sqlite:///demo/crm.sqlite", "time_zone": company.TIME_ZONE, "default_currency": company.CURRENCY})
    record = runs.run(place)
    _tell(record)
    if no_serve:
        print(f"Open the pages with: rapport serve --home {place.root}")
    else:
        serve(home=place.root, port=port)


def _tell(record: object) -> None:
    import time

    from pipelines.progress import PROGRESS
    print(f"{record.state}: snapshot {record.snapshot_id} after {time.monotonic() - PROGRESS.started:.0f} s")


def status(home: HomeOption = None) -> None:
    """What is published, how far the data reach, and what the last run said."""
    from models import warehouse
    from pipelines.run_record import last_run
    place = find_home(home).require()
    current = warehouse.current_id(place)
    if current is None:
        print("published: nothing yet")
    else:
        snapshot = warehouse.read_snapshot(place, current)
        print(f"published: {snapshot.id}, built {snapshot.created_at}, data up to {snapshot.watermark}, {sum(snapshot.tables.values()):,} rows in {len(snapshot.tables)} tables")
        for warning in snapshot.warnings:
            print(f"  warning: {warning}")
    record = last_run(place)
    if record is None:
        print("last run: none")
        return
    print(f"last run: {record.state}, started {record.started_at}" + (f", ended {record.ended_at}" if record.ended_at else ""))
    if record.message:
        print(f"  {record.message}")
    for failure in record.failures:
        rows = f", {failure['failing_rows']} rows" if failure["failing_rows"] else ""
        print(f"  {failure['severity']}: {failure['check']} on {failure['subject']}{rows}: {failure['detail']}")
    if record.state in ("failed", "blocked") and current:
        print("  The pages still show the snapshot above.")


def serve(home: HomeOption = None, port: Annotated[int, typer.Option(help="Port on this machine.")] = PORT,
          address: Annotated[str, typer.Option(help="Interface to listen on; 0.0.0.0 only behind a proxy with authentication.")] = "127.0.0.1") -> None:
    """Show the pages until stopped (Ctrl-C)."""
    place = find_home(home).require()
    folder = Path(__file__).resolve().parent.parent.parent / "dashboards"      # Streamlit looks there for .streamlit/config.toml (theme, limits)
    print(f"Rapport is served at http://{'localhost' if address == '127.0.0.1' else address}:{port}", flush=True)
    command = [sys.executable, "-m", "dashboards.server", "--server.port", str(port), "--server.address", address, "--server.headless", "true",
               "--browser.gatherUsageStats", "false", "--client.toolbarMode", "minimal", "--server.fileWatcherType", "none"]
    sys.exit(subprocess.run(command, cwd=folder, env=environment.child_environment(RAPPORT_HOME=str(place.root), PYTHONPATH=str(folder.parent)), check=False).returncode)


def ui(home: HomeOption = None, port: Annotated[int, typer.Option(help="Port on this machine.")] = UI_PORT) -> None:
    """Open the pipeline's web interface: lineage, checks, partitions, the daily schedule and the file sensor (Ctrl-C stops)."""
    from pipelines.run import free_dead_runs, instance_folder
    place = find_home(home).require()
    if freed := free_dead_runs(place):
        print(f"{freed} unfinished run{'s' if freed > 1 else ''} of a process that is gone marked as failed", flush=True)
    print(f"The pipeline is shown at http://localhost:{port}", flush=True)
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-m", "dagster", "dev", "--module-name", "pipelines.definitions", "--attribute", "defs", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    binaries = str(Path(sys.executable).parent)       # dagster starts its web server and daemon by name
    path = environment.child_environment().get("PATH", "")
    sys.exit(subprocess.run(command, cwd=place.root, check=False, env=environment.child_environment(
        RAPPORT_HOME=str(place.root), DAGSTER_HOME=str(instance_folder(place)), PYTHONPATH=str(root), PATH=f"{binaries}:{path}")).returncode)


def doctor(home: HomeOption = None) -> None:
    """Check this installation and home, and say how to mend what is wrong."""
    from models import warehouse
    place = find_home(home)
    wrong = 0

    def tell(fine: bool, what: str, remedy: str = "") -> None:
        nonlocal wrong
        wrong += 0 if fine else 1
        print(f"{'ok   ' if fine else 'WRONG'} {what}" + (f" — {remedy}" if remedy and not fine else ""))

    tell(sys.version_info >= (3, 11), f"Python {sys.version.split()[0]}", "Use Python 3.11 or newer.")
    tell(place.exists, f"home {place.root}", "Run `rapport init`.")
    if place.exists:
        free = shutil.disk_usage(place.root).free / 1e9
        tell(free > 2, f"{free:.1f} GB free", "Free some space: a build needs about three times the size of its data.")
        for what, read in (("workspace.yml", lambda: place.workspace), ("sources.yml", place.sources)):
            try:
                read()
                tell(True, what)
            except RapportError as error:
                tell(False, what, str(error))
        try:
            with warehouse.locked(place):
                tell(True, "no run holds the warehouse")
        except RapportError as error:
            tell(True, f"a run is going on: {error.message}")
        for snapshot in warehouse.list_snapshots(place):
            tell(warehouse.is_whole(place, snapshot), f"snapshot {snapshot.id}", "Its file is damaged; roll back to another (`rapport snapshot list`).")
        described = {snapshot.id for snapshot in warehouse.list_snapshots(place)}
        for file in place.serving.glob("[0-9]*.duckdb"):
            if file.stem not in described:
                tell(False, f"snapshot {file.stem}", "Its description is damaged or was never written, so nobody is given it; delete the file.")
        tell(warehouse.current_id(place) is not None, "a snapshot is published", "Run `rapport run`.")
    if wrong:
        raise RapportError(f"{wrong} of the checks above failed", remedy="Follow the hints beside them.")
