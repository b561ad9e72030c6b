"""Commands on metrics: what is defined, what a definition says, what the number is."""

from __future__ import annotations

from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from data_contracts.environment import find_home
from data_contracts.errors import UsageError
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

metric_app = typer.Typer(no_args_is_help=True, help="Metrics: list them, read a definition, ask for numbers.")


class Grain(str, Enum):
    """Lengths of a period."""

    day = "day"
    week = "week"
    month = "month"
    quarter = "quarter"
    year = "year"


class Comparison(str, Enum):
    """What a period is compared with."""

    previous = "previous"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(metric_app, name="metric")


def day(text: str | None, option: str) -> date | None:
    """A date given on the command line. Raises UsageError."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date", field=option, remedy="Write YYYY-MM-DD.") from None


def split(text: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _registry(home: Path | None) -> Any:
    """The definitions of the published snapshot, or of this installation when nothing is published."""
    from models import metrics, warehouse
    place = find_home(home)
    if place.exists and warehouse.current_id(place):
        with warehouse.reading(place) as opened:
            return metrics.registry(opened.con)
    return metrics.registry()


@metric_app.command(name="list")
def metric_list(form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Every metric with its unit, variants and dimensions (on a terminal without dimensions and owner: `metric show` has them)."""
    import polars as pl

    from pipelines.output import emit
    rows = [{"metric": m.id, "label": m.label, "group": m.group, "unit": m.unit, "direction": m.direction, "default_variant": m.default_variant,
             "variants": ", ".join(m.variants), "dimensions": ", ".join(m.dimensions), "owner": m.owner} for m in _registry(home).values()]
    frame = pl.DataFrame(rows)
    emit(frame.select("metric", "label", "group", "unit", "variants") if form is OutputFormat.table else frame, form.value, output)


@metric_app.command(name="show")
def metric_show(name: Annotated[str, typer.Argument(help="A metric id, e.g. churn_rate.")],
                form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """What a metric means: definition, unit, direction, variants, completeness, dimensions, owner."""
    from difflib import get_close_matches

    import polars as pl

    from pipelines.output import emit
    known = _registry(home)
    if name not in known:
        near = get_close_matches(name, list(known), 3)
        raise UsageError(f"there is no metric {name!r}", remedy=f"Did you mean {', '.join(near)}?" if near else "See `rapport metric list`.")
    metric = known[name]
    if form is not OutputFormat.table:
        rows = [{"metric": metric.id, "label": metric.label, "variant": v.name, "is_default": v.name == metric.default_variant, "definition": v.definition, "unit": metric.unit,
                 "direction": metric.direction, "completeness": metric.completeness, "is_additive": metric.is_additive, "dimensions": list(metric.dimensions), "owner": metric.owner}
                for v in metric.variants.values()]
        emit(pl.DataFrame(rows), form.value, output)
        return
    print(f"{metric.label} ({metric.id})\n  {metric.definition}\n")
    for label, value in (("unit", metric.unit), ("direction", metric.direction), ("kind", metric.kind), ("additive", "yes" if metric.is_additive else "no"),
                         ("completeness", metric.completeness), ("dimensions", ", ".join(metric.dimensions)), ("owner", metric.owner)):
        print(f"  {label:<13}{value}")
    print("\n  variants")
    for variant in metric.variants.values():
        print(f"    {variant.name}{' (default)' if variant.name == metric.default_variant else ''}: {variant.definition}")


@metric_app.command(name="query")
def metric_query(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="One metric or several.")],
                 by: Annotated[Optional[str], typer.Option("--by", metavar="DIM,...", help="Break down by dimensions, e.g. channel,country.")] = None,
                 grain: Annotated[Optional[Grain], typer.Option(help="One row a period, in the workspace's time zone.")] = None,
                 from_: Annotated[Optional[str], typer.Option("--from", metavar="DATE", help="First day.")] = None,
                 to: Annotated[Optional[str], typer.Option("--to", metavar="DATE", help="Day after the last one: ranges are half-open.")] = None,
                 where: Annotated[Optional[str], typer.Option(metavar="EXPR", help="E.g. \"country = 'DE' and channel in ('search', 'email')\".")] = None,
                 variant: Annotated[Optional[str], typer.Option(help="Another variant than the default; `all` for every one.")] = None,
                 compare: Annotated[Optional[Comparison], typer.Option(help="Add the like-for-like previous period.")] = None,
                 details: Annotated[bool, typer.Option("--details", help="Add n, completeness, interval and the reason of a null.")] = False,
                 form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """The numbers, from the one definition that the pages use too."""
    from models import analysis, metrics, warehouse
    from pipelines.output import emit
    request = metrics.MetricRequest(names=tuple(n for name in names for n in split(name)), by=split(by), grain=grain.value if grain else None, start=day(from_, "--from"),
                                    end=day(to, "--to"), where=where, variant=variant, compare=compare.value if compare else None)
    with warehouse.reading(find_home(home)) as opened:
        answer = metrics.query(opened.con, request)
        snapshot, known = opened.snapshot, analysis.settings(opened.con)
    units = {"currency": known["reporting_currency"], "count": "number", "share": "share (0 to 1)"}
    notes = [f"{c.name}: {c.label}, variant {c.variant}, {units.get(c.unit, c.unit.replace('_', ' '))}" + (f" ({c.note})" if c.note else "") for c in answer.columns.values()]
    notes.append(f"{answer.start} to {answer.end} (exclusive), days in {known['time_zone']}; snapshot {snapshot.id}, data up to {snapshot.watermark}")
    notes += [f"compared with {answer.previous[0]} to {answer.previous[1]} (exclusive)"] if answer.previous else []
    for name in answer.columns:
        reasons = answer.details[f"{name}__null_reason"].drop_nulls().unique().to_list() if f"{name}__null_reason" in answer.details.columns else []
        notes += [f"{name} is empty where {reason}" for reason in reasons]
    emit(answer.details if details else answer.frame, form.value, output, notes=notes if form is OutputFormat.table else [])
