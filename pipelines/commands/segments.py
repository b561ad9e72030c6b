"""Commands on segments: list, preview, explain, export."""

from __future__ import annotations

from typing import Annotated

import typer

from data_contracts.environment import find_home
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

segment_app = typer.Typer(no_args_is_help=True, help="Who fits a description: preview, explain and export segments.")
Named = Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="A saved segment, or the path of a YAML file.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(segment_app, name="segment")


@segment_app.command(name="list")
def segment_list(form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Saved segments with their size on the published snapshot."""
    import polars as pl

    from models import warehouse
    from models.segments import compiler, grammar
    from pipelines.output import emit
    place = find_home(home).require()
    with warehouse.reading(place) as opened:
        rows = [{"segment": s.name, "label": s.label, "customers": compiler.count(opened.con, s), "owner": s.owner, "description": s.description}
                for s in (grammar.read(f) for f in grammar.saved(place.segments))]
        note = f"snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
    emit(pl.DataFrame(rows, schema={"segment": pl.String, "label": pl.String, "customers": pl.Int64, "owner": pl.String, "description": pl.String}), form.value, output, notes=[note])


@segment_app.command(name="preview")
def segment_preview(name: Named, limit: Annotated[int, typer.Option(min=1, help="Customers shown.")] = 20,
                    form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """The size of a segment and its most valuable members."""
    from models import warehouse
    from models.segments import compiler, grammar
    from pipelines.output import emit
    place = find_home(home).require()
    segment = grammar.find(name, place.segments)
    with warehouse.reading(place) as opened:
        frame = compiler.members(opened.con, segment, personal=False, limit=limit)
        size, everybody = compiler.count(opened.con, segment), compiler.universe_size(opened.con)
        note = f"{segment.label}: {size:,} of {everybody:,} customers; snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
    emit(frame, form.value, output, notes=[note])


@segment_app.command(name="explain")
def segment_explain(name: Named, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """A segment in plain words, and how many customers each condition keeps."""
    from models import warehouse
    from models.segments import explain, grammar
    from pipelines.output import emit
    place = find_home(home).require()
    segment = grammar.find(name, place.segments)
    with warehouse.reading(place) as opened:
        frame = explain.explain(opened.con, segment)
    emit(frame, form.value, output, title=segment.label, notes=[explain.sentence(segment.condition)])


@segment_app.command(name="export")
def segment_export(name: Named, form: FormatOption = OutputFormat.csv, output: OutputOption = None, home: HomeOption = None) -> None:
    """Every member with profile, contact data and scores. The file holds personal data: keep it accordingly."""
    from models import warehouse
    from models.segments import compiler, grammar
    from pipelines.output import emit
    place = find_home(home).require()
    segment = grammar.find(name, place.segments)
    with warehouse.reading(place) as opened:
        frame = compiler.members(opened.con, segment, personal=opened.viewer.role == "admin")
        note = f"{segment.label}: {frame.height:,} customers; snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
    emit(frame, form.value, output, title=segment.label, notes=[note])
