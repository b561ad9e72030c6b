"""Commands on the past: the versions of a row, and published numbers that changed since."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from data_contracts.environment import find_home
from pipelines.commands.metrics import day
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

restatement_app = typer.Typer(no_args_is_help=True, help="Published numbers that changed since: from what to what, and why.")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(history)
    app.add_typer(restatement_app, name="restatement")


def history(entity: Annotated[str, typer.Argument(help="customer, company, deal or subscription.")],
            identifier: Annotated[str, typer.Argument(metavar="ID", help="As in the marts: crm:42 for record 42 of source crm; a customer by customer_id.")],
            as_of: Annotated[Optional[str], typer.Option("--as-of", metavar="ISO_TIME", help="Only the version that held then (UTC unless the time names its offset).")] = None,
            snapshot: Annotated[Optional[str], typer.Option(help="Another snapshot than the current one.")] = None,
            form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Every version of one row: from when to when it held, and what changed.

    Whole tables as of a time: `rapport query "SELECT * FROM marts.deals_as_of(TIMESTAMP '2026-03-01')"`, likewise
    `customers_as_of`, `companies_as_of` and `subscriptions_as_of`.
    """
    from models import history as past
    from models import warehouse
    from pipelines.output import emit
    from pipelines.run import parse_instant
    kept, instant = past.find(entity), parse_instant(as_of)
    with warehouse.reading(find_home(home), snapshot_id=snapshot) as opened:
        frame = past.versions(opened.con, kept, identifier, instant)
        notes = [f"times in UTC; valid_to is the instant from which a version no longer held; snapshot {opened.snapshot.id}"]
    if instant is not None and frame.is_empty():
        notes.append(f"{identifier} was not there at {instant:%Y-%m-%d %H:%M:%S} UTC: not yet created, or deleted or merged before")
    emit(frame, form.value, output, notes=notes if form is OutputFormat.table else [])


@restatement_app.command(name="list")
def restatement_list(metric: Annotated[Optional[str], typer.Option(help="One metric id.")] = None,
                     from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="First period to show, by its first day.")] = None,
                     to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Day after the last period's first day.")] = None,
                     cause: Annotated[Optional[str], typer.Option(help="One cause, e.g. late_rows, later_rows, definition, setting, identity, as_of.")] = None,
                     form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Numbers of past months that a run changed after they had been published, newest change first."""
    from models import restatements, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        frame = restatements.listed(opened.con, metric=metric, start=day(from_, "--from"), end=day(to, "--to"), cause=cause)
        notes = [f"months that were complete when they were published; snapshot {opened.snapshot.id}"]
    emit(frame, form.value, output, notes=notes if form is OutputFormat.table else [])
