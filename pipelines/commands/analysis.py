"""Commands that ask the engines: funnel, retention, attribution."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from data_contracts.environment import find_home
from data_contracts.errors import UsageError
from pipelines.commands.metrics import Comparison, Grain, day, split
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

STAGE_COUNTS = ("in_order", "any_stage", "imputed")
REENTRIES = ("first_entry", "best_entry", "totals")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(funnel)
    app.command()(retention)
    app.command()(attribution)


def funnel(steps: Annotated[str, typer.Option("--steps", metavar="'NAME; NAME…'", help="Steps in order; a step may carry conditions: page[path=/price].")],
           order: Annotated[str, typer.Option(help="sequential, strict (nothing between) or any_order; for stages of deals in_order, any_stage or imputed.")] = "sequential",
           window: Annotated[Optional[str], typer.Option(help="All steps within this time of the first: 30m, 1h, 7d, 2w. Default 30d; stages of deals have none.")] = None,
           step_window: Annotated[Optional[list[str]], typer.Option("--step-window", help="A limit for each step after the first, in order; `-` for none.")] = None,
           entry: Annotated[str, typer.Option(help="first_matching or first_ever; or how often one may enter: first_entry, best_entry, totals.")] = "first_matching",
           reentry: Annotated[str, typer.Option(help="first_entry, best_entry (any entry that converts counts) or totals (every attempt).")] = "first_entry",
           exclude: Annotated[Optional[list[str]], typer.Option(help="Doing this ends an attempt: NAME, or NAME@1-2 for between steps 1 and 2.")] = None,
           by: Annotated[Optional[str], typer.Option("--by", metavar="DIM", help="Break down by an attribute of the log or the customer.")] = None,
           at: Annotated[str, typer.Option(help="Touch at which the attribute is read: first, last or a step's number.")] = "first",
           log: Annotated[Optional[str], typer.Option(help="events, leads, deals or touchpoints; else the one that has the steps.")] = None,
           pipeline: Annotated[Optional[str], typer.Option(help="Stages of deals: one pipeline only.")] = None,
           grain: Annotated[Optional[Grain], typer.Option(help="One funnel a period, by the date of entry.")] = None,
           where: Annotated[Optional[str], typer.Option(metavar="EXPR", help="Only these: \"channel = 'email' and country = 'DE'\". Leads by their own channel, country, campaign, owner, status, rating; deals by channel, campaign; all by country, segment, acquisition_channel … of the customer.")] = None,
           compare: Annotated[Optional[Comparison], typer.Option(help="Beside the range before it (needs --from and --to), with difference, 95 % interval and p-value of each step.")] = None,
           times: Annotated[bool, typer.Option("--times", help="How long converted entries took instead: count, median, p90, mean in seconds.")] = False,
           histogram: Annotated[Optional[int], typer.Option(metavar="PARTS", min=1, max=1000, help="How many converted in each of PARTS equal parts of the window instead.")] = None,
           from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="Entries from this day.")] = None,
           to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Entries before this day.")] = None,
           form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """How far people get along a list of steps. A conversion belongs to the date of its entry; open windows are `maturing`.

    `rapport funnel --steps "lead_created; lead_converted; first_order" --window 90d --from 2026-01-01 --to 2026-07-01 --compare previous`
    says whether the half-year was better than the one before, and how sure that is.
    """
    from models import analysis, scope, warehouse
    from pipelines.output import emit
    if entry in REENTRIES:
        entry, reentry = "first_matching", entry
    if sum((compare is not None, times, histogram is not None)) > 1:
        raise UsageError("--compare, --times and --histogram are three answers", field="--times", remedy="Ask for one of them.")
    with warehouse.reading(find_home(home)) as opened:
        chosen = log or analysis.log_for(opened.con, analysis.parse_steps(steps))
        con = scope.scoped(opened.con, analysis.log_subject(chosen), where)
        stamp = f"{where + '; ' if where else ''}snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
        if chosen == "deals" and (order in STAGE_COUNTS or window is None):
            if compare or times or histogram:
                raise UsageError("stages of deals have no window", field="--window", remedy="Give --window, and order sequential, for a funnel in time.")
            frame = analysis.stage_counts(con, steps, order if order in STAGE_COUNTS else "in_order", pipeline, day(from_, "--from"), day(to, "--to"))
            emit(frame, form.value, output, notes=[f"entries are counted in_order unless --order says any_stage or imputed; give --window for a funnel in time; {stamp}"] if form is OutputFormat.table else [])
            return
        spec = analysis.funnel_spec(con, steps, log=chosen, window=window, step_windows=[None if w == "-" else w for w in step_window or []], order=order, reentry=reentry,
                                    entry=entry, exclude=exclude or [], by=by, at=at, grain=grain.value if grain else None, start=day(from_, "--from"), end=day(to, "--to"))
        ask = analysis.funnel_comparison if compare else analysis.time_to_convert if times else analysis.funnel
        frame = analysis.conversion_histogram(con, spec, histogram) if histogram else ask(con, spec)
        if by and "breakdown" in frame.columns:
            frame = frame.rename({"breakdown": by})
        note = f"window {window or analysis.DEFAULT_WINDOW}, {order}, {reentry}, {entry}; {stamp}"
    emit(frame, form.value, output, notes=[note] if form is OutputFormat.table else [])


def retention(variant: Annotated[Optional[str], typer.Option(help="One of each choice, comma-separated: bounded|unbounded, first_time|recurring, from_start|from_previous, revenue|cumulative_revenue.")] = None,
              grain: Annotated[Grain, typer.Option(help="Length of a period.")] = Grain.month,
              start_event: Annotated[Optional[str], typer.Option(help="What begins a cohort: an event's name; default: a counted order.")] = None,
              return_event: Annotated[Optional[str], typer.Option(help="What counts as coming back; default: the start event.")] = None,
              by: Annotated[Optional[str], typer.Option("--by", metavar="DIM,...", help="Break down, e.g. country.")] = None,
              from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="Cohorts from this day.")] = None,
              to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Cohorts before this day.")] = None,
              where: Annotated[Optional[str], typer.Option(metavar="EXPR", help="Only these customers: \"country = 'DE' and segment != 'lost'\"; country, segment, channel (of the acquisition), acquisition_campaign, customer_type, industry, owner.")] = None,
              periods: Annotated[Optional[int], typer.Option(min=0, help="Highest period number.")] = None,
              mean: Annotated[bool, typer.Option("--mean", help="The mean row instead: weighted by cohort size over complete cells only.")] = False,
              show_incomplete: Annotated[bool, typer.Option("--show-incomplete", help="Show incomplete cells too, marked.")] = False,
              form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Which share of each cohort comes back. Incomplete periods are empty, since they would understate."""
    from models import analysis, scope, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        con = scope.scoped(opened.con, "customers", where)
        spec = analysis.retention_spec(con, variants=split(variant), grain=grain.value, start_event=start_event, return_event=return_event, by=split(by),
                                       start=day(from_, "--from"), end=day(to, "--to"), max_periods=periods, show_incomplete=show_incomplete)
        cells, row = analysis.retention(con, spec)
        note = f"{grain.value} cohorts, {variant or 'bounded, first_time, from_start'}; {where + '; ' if where else ''}snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
    emit(row if mean else cells, form.value, output, notes=[note] if form is OutputFormat.table else [])


def attribution(model: Annotated[Optional[str], typer.Option("--model", help="first, last, linear, u_shaped, w_shaped, time_decay, markov, shapley, or all; default: the workspace's.")] = None,
                conversions: Annotated[str, typer.Option(help="order (every valued order) or new_customer (the first ever payment).")] = "order",
                lookback: Annotated[Optional[float], typer.Option(min=0, help="Days before a conversion in which touches count; default: the workspace's.")] = None,
                half_life: Annotated[float, typer.Option(help="Days after which a touch counts half, for time_decay.")] = 7.0,
                from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="Conversions from this day.")] = None,
                to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Conversions before this day.")] = None,
                form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Which channels the conversions and their revenue are owed to. Credits sum to the whole; `no_touch` is what nobody touched."""
    from models import analysis, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        frame = analysis.attribution(opened.con, model, conversions=conversions, lookback_days=lookback, half_life_days=half_life, start=day(from_, "--from"), end=day(to, "--to"))
        note = f"amounts in {analysis.settings(opened.con)['reporting_currency']}; snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}"
    emit(frame, form.value, output, notes=[note] if form is OutputFormat.table else [])
