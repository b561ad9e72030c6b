"""Commands on data: import, sources, runs, snapshots, quarantine, queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import yaml

from data_contracts.environment import SourceDeclaration, declared_sources, find_home
from data_contracts.errors import UsageError
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

source_app = typer.Typer(no_args_is_help=True, help="Declare, list and try sources.")
snapshot_app = typer.Typer(no_args_is_help=True, help="Published snapshots: list them, go back to one.")
PATH_OPTIONS = ("path", "files", "mapping")     # options of source types whose text is a path or a pattern
quarantine_app = typer.Typer(no_args_is_help=True, help="Rows that broke their contract: see why, send them again.")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="import")(import_files)
    app.add_typer(source_app, name="source")
    app.command()(run)
    app.add_typer(snapshot_app, name="snapshot")
    app.add_typer(quarantine_app, name="quarantine")
    app.command()(query)


def import_files(directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder (or file) in the canonical shape: orders.csv, contacts.parquet, …")],
                 source: Annotated[str, typer.Option("--source", help="Name of the source the rows belong to; ids are unique within it.")],
                 home: HomeOption = None,
                 time_zone: Annotated[Optional[str], typer.Option(help="Zone of timestamps without an offset. Default: as declared, else UTC.")] = None,
                 currency: Annotated[Optional[str], typer.Option(help="Currency of rows that name none. Default: as declared, else the reporting currency.")] = None,
                 full: Annotated[bool, typer.Option("--full", help="The files are complete: rows that are missing were deleted.")] = False) -> None:
    """Land canonical files. Contents met before are recognised and skipped; `rapport run` builds from what has landed."""
    from pipelines import batches
    from pipelines.workspace_files import add_source
    place = find_home(home).require()
    declared = declared_sources(place.sources_file)
    if source not in declared:
        entry: dict[str, Any] = {"type": "imports"}
        entry |= {"time_zone": time_zone} if time_zone else {}
        entry |= {"default_currency": currency} if currency else {}
        add_source(place, source, entry)
    known = place.source(source)
    declaration = SourceDeclaration(name=source, type="canonical_files", time_zone=time_zone or known.time_zone, default_currency=currency or known.default_currency,
                                    options={"path": str(directory.expanduser().resolve()), **({"full": True} if full else {})}, base=Path.cwd())
    done = batches.extract_source(place, declaration)
    for text in [*done.warnings, *done.skipped]:
        print(text)
    for delivery in done.deliveries:
        print(f"{delivery.entity}: {delivery.rows:,} rows landed" + (f", {delivery.rejected:,} lines unreadable (to quarantine)" if delivery.rejected else ""))
    print("Nothing new." if not done.deliveries else f"Batch {done.batch_id} is in landing. Next: rapport run")


@source_app.command(name="add")
def source_add(name: Annotated[str, typer.Argument(help="Small letters, digits and _.")],
               type_: Annotated[str, typer.Option("--type", help="See `rapport source list --types`.")],
               option: Annotated[Optional[list[str]], typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the type; VALUE may be YAML. Secrets as ${NAME}.")] = None,
               time_zone: Annotated[str, typer.Option(help="Zone of timestamps without an offset.")] = "UTC",
               currency: Annotated[Optional[str], typer.Option(help="Currency of rows that name none.")] = None,
               home: HomeOption = None) -> None:
    """Declare a source in `sources.yml`."""
    from pipelines.sources import base
    from pipelines.workspace_files import add_source
    place = find_home(home).require()
    options: dict[str, Any] = {}
    for text in option or []:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"{text!r} is not KEY=VALUE", field="--option", remedy="Write --option path=/data/exports.")
        options[key] = value if "${" in value else yaml.safe_load(value)
        if key in PATH_OPTIONS:
            options[key] = _from_here(options[key], place.root)
    base.check_options(SourceDeclaration(name=name, type=type_, options=options, base=place.root))
    entry = {"type": type_, **options, "time_zone": time_zone, **({"default_currency": currency} if currency else {})}
    add_source(place, name, entry)
    print(f"Source {name} is declared in {place.sources_file}. Try it: rapport source test {name}")


def _from_here(value: Any, root: Path) -> Any:
    """Paths of a declaration start at the home; one given on the command line may start at the current folder, and is kept absolute then."""
    if isinstance(value, dict):
        return {name: _from_here(v, root) for name, v in value.items()}
    if isinstance(value, list):
        return [_from_here(v, root) for v in value]
    if not isinstance(value, str) or not value or Path(value).expanduser().is_absolute() or any(root.glob(value)) or not any(Path.cwd().glob(value)):
        return value
    return str(Path.cwd() / value)


@source_app.command(name="list")
def source_list(types: Annotated[bool, typer.Option("--types", help="List the types and their options instead.")] = False,
                form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """The declared sources and what each last delivered."""
    import polars as pl

    from pipelines.output import emit
    from pipelines.sources import base
    if types:
        rows = [{"type": n, "summary": d["summary"], "option": o, "says": s, "required": o in d["required"]} for n, d in base.describe().items() for o, s in (d["options"] or {"": ""}).items()]
        emit(pl.DataFrame(rows), form.value, output)
        return
    from pipelines import batches
    place = find_home(home).require()
    rows = []
    for name, entry in declared_sources(place.sources_file).items():
        done = batches.landed(place, name)
        rows.append({"source": name, "type": entry["type"], "time_zone": entry.get("time_zone", "UTC"), "batches": len(done),
                     "last_extracted_at": done[-1].manifest["extracted_at"] if done else None})
    emit(pl.DataFrame(rows, schema={"source": pl.String, "type": pl.String, "time_zone": pl.String, "batches": pl.Int64, "last_extracted_at": pl.String}), form.value, output)


@source_app.command(name="test")
def source_test(name: Annotated[str, typer.Argument(help="A declared source.")], home: HomeOption = None) -> None:
    """Reach a source and list what would be read, without landing anything."""
    from pipelines.sources import base
    place = find_home(home).require()
    for line in base.test(place.source(name), place):
        print(line)


def run(home: HomeOption = None,
        full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Rebuild incremental tables from scratch.")] = False,
        as_of: Annotated[Optional[str], typer.Option("--as-of", metavar="ISO_TIME", help="Build as if this were now, the data complete up to it; later events are left out.")] = None,
        only: Annotated[Optional[str], typer.Option("--only", metavar="GROUP", help="One group of the graph, e.g. landing, marts, scores, serving.")] = None) -> None:
    """Sources to published snapshot: the whole Dagster graph in this process."""
    from pipelines import run as runs
    from pipelines.commands.workspace import _tell
    _tell(runs.run(find_home(home), as_of=as_of, full_refresh=full_refresh, only=only))


@snapshot_app.command(name="list")
def snapshot_list(form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Published snapshots, newest first."""
    import polars as pl

    from models import warehouse
    from pipelines.output import emit
    place = find_home(home).require()
    current = warehouse.current_id(place)
    rows = [{"snapshot_id": s.id, "is_current": s.id == current, "created_at": s.created_at, "as_of": s.as_of, "watermark": s.watermark, "bytes": s.bytes, "warnings": len(s.warnings)}
            for s in warehouse.list_snapshots(place)]
    emit(pl.DataFrame(rows, schema={"snapshot_id": pl.String, "is_current": pl.Boolean, "created_at": pl.String, "as_of": pl.String, "watermark": pl.String, "bytes": pl.Int64, "warnings": pl.Int64}), form.value, output)


@snapshot_app.command(name="rollback")
def snapshot_rollback(snapshot_id: Annotated[str, typer.Argument(metavar="ID")], home: HomeOption = None) -> None:
    """Make an earlier snapshot current again. Readers follow within seconds; the next run publishes anew."""
    from models import warehouse
    snapshot = warehouse.rollback(find_home(home).require(), snapshot_id)
    print(f"Current is {snapshot.id} again, data up to {snapshot.watermark}.")


@quarantine_app.command(name="list")
def quarantine_list(all_: Annotated[bool, typer.Option("--all", help="Resolved rows too.")] = False,
                    form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Quarantined rows by source, entity and reason."""
    from models import ingest
    from pipelines.output import emit
    with _prepared(home) as con:
        frame = ingest.quarantine_summary(con, all_)
    emit(frame, form.value, output, notes=[] if frame.height else ["Nothing is in quarantine."])


@quarantine_app.command(name="show")
def quarantine_show(identifier: Annotated[Optional[str], typer.Argument(metavar="[ID]", help="One row, or all open ones.")] = None,
                    source: Annotated[Optional[str], typer.Option()] = None, entity: Annotated[Optional[str], typer.Option()] = None,
                    limit: Annotated[int, typer.Option(min=1)] = 100,
                    form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Quarantined rows as they came, with file, row number and every reason."""
    from models import ingest
    from pipelines.output import emit
    with _prepared(home) as con:
        frame = ingest.quarantine_rows(con, identifier, source, entity, limit)
    emit(frame, form.value, output)


@quarantine_app.command(name="replay")
def quarantine_replay(identifiers: Annotated[Optional[list[str]], typer.Argument(metavar="[ID]...", help="Rows to replay; all open ones of the filters when none is named.")] = None,
                      source: Annotated[Optional[str], typer.Option()] = None, entity: Annotated[Optional[str], typer.Option()] = None,
                      set_: Annotated[Optional[list[str]], typer.Option("--set", metavar="COLUMN=VALUE", help="Mend a column before replaying.")] = None,
                      home: HomeOption = None) -> None:
    """Send quarantined rows through their contract again, as they came or with a column mended. The next run builds from them."""
    from pipelines import batches
    place = find_home(home).require()
    mended = {}
    for text in set_ or []:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"{text!r} is not COLUMN=VALUE", field="--set", remedy="Write --set amount=12.50.")
        mended[key] = value
    taken, remaining = batches.replay(place, identifiers or None, source, entity, mended)
    print(f"{taken:,} rows accepted, {remaining:,} still in quarantine." + (" Next: rapport run" if taken else ""))


def _prepared(home: Path | None) -> Any:
    from contextlib import contextmanager

    from models import ingest, warehouse

    @contextmanager
    def opened():
        with warehouse.writing(find_home(home).require(), wait_seconds=10) as con:
            ingest.prepare(con)
            yield con
    return opened()


def query(sql: Annotated[str, typer.Argument(help="One SELECT over the schemas marts, metrics, features, scores, segments, identity, ops, meta.")],
          form: FormatOption = OutputFormat.table, output: OutputOption = None,
          snapshot: Annotated[Optional[str], typer.Option(help="Another snapshot than the current one.")] = None, home: HomeOption = None) -> None:
    """Ask the published snapshot in SQL. Nothing can be changed, and no file or network is reachable."""
    from models import warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home), snapshot_id=snapshot) as opened:
        frame = warehouse.run_query(opened, sql).pl()
        note = f"snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
    emit(frame, form.value, output, notes=[note] if form is OutputFormat.table else [])
