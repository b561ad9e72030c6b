"""Commands on sales history: the pipeline of any day and its movement, forecasts, stages, sales by owner, targets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from data_contracts.environment import find_home
from data_contracts.errors import UsageError
from pipelines.commands.metrics import day
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

if TYPE_CHECKING:
    import polars as pl

    from models import warehouse

PipelineOption = Annotated[Optional[str], typer.Option("--pipeline", metavar="NAME", help="One pipeline only.")]
WhereOption = Annotated[Optional[str], typer.Option("--where", metavar="EXPR", help="E.g. \"channel = 'email' and country in ('DE', 'AT')\": channel or campaign of the deal; country, segment, industry, customer_type, acquisition_channel of its customer.")]


class Weight(str, Enum):
    """Whose probability weighs an amount."""

    crm = "crm"
    learned = "learned"


class Split(str, Enum):
    """What splits the open pipeline."""

    stage = "stage"
    owner = "owner"
    pipeline = "pipeline"
    none = "none"


class Owner(str, Enum):
    """For whom a deal counts."""

    at_event = "at_event"
    current = "current"


class Group(str, Enum):
    """What splits sales."""

    owner = "owner"
    pipeline = "pipeline"
    channel = "channel"
    campaign = "campaign"
    none = "none"


class Sum(str, Enum):
    """What targets are summed by."""

    owner = "owner"
    period = "period"


OwnerOption = Annotated[Owner, typer.Option("--owner", help="at_event: a deal counts for who owned it then; current: for who owns it now.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (pipeline, forecast, stages, sales, targets):
        app.command()(command)


def _emit(opened: warehouse.Reading, rows: pl.DataFrame, form: OutputFormat, output: Path | None, notes: Sequence[str]) -> None:
    from models import analysis, analysis_sales
    from pipelines.output import emit
    if not analysis_sales.has_deals(opened.con):
        notes = [*notes, "the snapshot holds no deals: declare a source with deals, and pipeline_stages and deal_changes for their history"]
    last = f"amounts in {analysis.settings(opened.con)['reporting_currency']}; snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
    emit(analysis_sales.with_owner_names(opened.con, rows), form.value, output, notes=[*notes, last] if form is OutputFormat.table else [])


def _pair(first: str | None, second: str | None, names: tuple[str, str]) -> tuple[date, date] | None:
    one, other = day(first, names[0]), day(second, names[1])
    if (one is None) != (other is None):
        raise UsageError(f"{names[0]} and {names[1]} go together", field=names[1] if other is None else names[0], remedy="Give both, or neither.")
    return (one, other) if one and other else None


def pipeline(as_of: Annotated[Optional[str], typer.Option("--as-of", metavar="DATE", help="As it was at the end of this day; default: the newest data.")] = None,
             from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="Movement instead: from the end of this day …")] = None,
             to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="… to the end of this one.")] = None,
             by: Annotated[Split, typer.Option("--by", help="What splits the open pipeline.")] = Split.stage,
             weighted: Annotated[Optional[Weight], typer.Option(help="Only this weight: crm (the stage's probability at the source) or learned (from deals closed before the day).")] = None,
             close_from: Annotated[Optional[str], typer.Option("--close-from", metavar="DATE", help="Only deals expected to close from this day …")] = None,
             close_to: Annotated[Optional[str], typer.Option("--close-to", metavar="DATE", help="… and before this one.")] = None,
             pipeline: PipelineOption = None, where: WhereOption = None, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """The open pipeline as it was on any day, or what moved it between two.

    `rapport pipeline --as-of 2026-03-31` is the report of that evening: stage, amount, owner and closing date of every deal as they were
    then, weighted by the CRM's probability of the stage and by the one learned from deals that had closed by then.

    `rapport pipeline --from 2026-03-31 --to 2026-04-30` is its movement: start + created + reopened + pulled in − pushed out ± amount
    − won − lost − removed = end. With `--close-from/--close-to` only deals expected to close then take part, and a deal whose date
    moves across is pulled in or pushed out.
    """
    from models import analysis_sales, warehouse
    moved, close = _pair(from_, to, ("--from", "--to")), _pair(close_from, close_to, ("--close-from", "--close-to"))
    if moved and as_of:
        raise UsageError("--as-of is one day, --from and --to are two", field="--as-of", remedy="Ask for the state or for the movement.")
    with warehouse.reading(find_home(home)) as opened:
        if moved:
            rows = analysis_sales.movement(opened.con, *moved, pipeline=pipeline, close=close, where=where)
            _emit(opened, rows, form, output, [f"movement from the end of {moved[0]} to the end of {moved[1]}; start and all movements add up to end"])
            return
        at = day(as_of, "--as-of") or analysis_sales.newest_day(opened.con)
        rows = analysis_sales.pipeline(opened.con, at, None if by is Split.none else by.value, pipeline=pipeline, close=close, where=where)
        if weighted:
            rows = rows.drop([name for name in rows.columns if name.endswith({"crm": "_learned", "learned": "_crm"}[weighted.value])])
        removed = analysis_sales.removed_since(opened.con, at, pipeline)
        _emit(opened, rows, form, output, [f"open deals as they were at the end of {at}; probabilities as known then",
                                           *([f"{removed} deals open then have been deleted or merged since; the metric open_pipeline leaves them out"] if removed and not where else [])])


def forecast(on: Annotated[Optional[str], typer.Option("--on", metavar="DATE", help="The day at whose end the forecast is made; without it, the eve of each of the last twelve months.")] = None,
             for_: Annotated[Optional[str], typer.Option("--for", metavar="PERIOD", help="What it is for: 2026-03, 2026-Q1, 2026, or FIRST..AFTER; default: the month that follows.")] = None,
             weighted: Annotated[Optional[Weight], typer.Option(help="Only this weight; default: both.")] = None,
             pipeline: PipelineOption = None, where: WhereOption = None, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """What was forecast on a day, against what came.

    The forecast is what had been won in the period by that evening, plus the weighted amount of the deals open then and expected to close
    in it. Nothing that was learned later enters. `error` is forecast − actual; a period that has not ended shows what has come so far.

    `rapport forecast --on 2026-03-31 --for 2026-Q2`
    """
    from models import analysis_sales, warehouse
    bases = (weighted.value,) if weighted else analysis_sales.BASES
    if for_ and not on:
        raise UsageError("a period needs the day on which it was forecast", field="--on", remedy="Add --on DATE.")
    with warehouse.reading(find_home(home)) as opened:
        made = day(on, "--on")
        if made:
            rows = analysis_sales.forecast(opened.con, made, *(analysis_sales.period(for_) if for_ else analysis_sales.next_period(made)), pipeline=pipeline, where=where, bases=bases)
        else:
            rows = analysis_sales.forecasts(opened.con, pipeline=pipeline, where=where, bases=bases)
        _emit(opened, rows, form, output, ["forecast = won by then + weighted amount of deals open then and expected to close in the period"])


def stages(from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="Deals created from this day.")] = None,
           to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Deals created before this day.")] = None,
           pipeline: PipelineOption = None, where: WhereOption = None, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """How long deals stay in each stage: the first visit, and all visits.

    A visit still open is known only to last at least until now. It is not left out, which would make slow stages look fast: the median is
    the Kaplan-Meier estimate, empty where more than half are still inside. How many deals reach a stage: `rapport funnel`.
    """
    from models import analysis_sales, warehouse
    with warehouse.reading(find_home(home)) as opened:
        rows = analysis_sales.durations(opened.con, pipeline=pipeline, start=day(from_, "--from"), end=day(to, "--to"), where=where)
        _emit(opened, rows, form, output, ["days from entering a stage to leaving it; open_visits are counted as lasting at least until the data end"])


def sales(by: Annotated[Group, typer.Option("--by", help="What splits the deals.")] = Group.owner,
          owner: OwnerOption = Owner.at_event,
          from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="Deals closed from this day.")] = None,
          to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Deals closed before this day.")] = None,
          pipeline: PipelineOption = None, where: WhereOption = None, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Win rate, amounts, sales cycle and velocity, by owner or otherwise.

    Velocity a day = open qualified deals at the end of the range × win rate × average amount won / median cycle, all from the same filter
    and range. Qualified is past the first stage. A rate without closed deals, or a cycle without a won deal, is empty.

    `rapport sales --by owner --owner current --from 2026-01-01 --to 2026-04-01`
    """
    from models import analysis_sales, warehouse
    with warehouse.reading(find_home(home)) as opened:
        rows = analysis_sales.performance(opened.con, day(from_, "--from"), day(to, "--to"), None if by is Group.none else by.value, owner=owner.value, pipeline=pipeline, where=where)
        _emit(opened, rows, form, output, [f"deals closed {'from ' + from_ if from_ else 'ever'}{' before ' + to if to else ''}; owner {owner.value}"])


def targets(metric: Annotated[Optional[str], typer.Option("--metric", metavar="NAME", help="One metric only, e.g. won_amount.")] = None,
            by: Annotated[Optional[Sum], typer.Option("--by", help="Sum over the periods (owner) or over the owners (period); metrics that cannot be summed are left out.")] = None,
            owner: OwnerOption = Owner.at_event,
            from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="Periods that begin from this day; default: twelve complete months and the running one.")] = None,
            to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Periods that begin before this day.")] = None,
            form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Targets and how much of each was attained.

    The actual value is the metric itself, as `rapport metric query` gives it; for a person, their deals by `--owner`. `attainment` 1 is all of
    it. A running period counts what has come so far (`is_complete` no). Targets come from the entity `targets` of a source.
    """
    from models import analysis_targets, warehouse
    with warehouse.reading(find_home(home)) as opened:
        rows = analysis_targets.attainment(opened.con, metric=metric, start=day(from_, "--from"), end=day(to, "--to"), owner=owner.value, by=by.value if by else None)
        _emit(opened, rows, form, output, [f"owner {owner.value}; targets that have begun only"])
