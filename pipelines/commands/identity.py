"""Commands on identity: who is one customer, why, and what a person decides about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from data_contracts.environment import find_home
from data_contracts.errors import UsageError
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

if TYPE_CHECKING:
    import polars as pl

identity_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help=(
    "Which source records are one customer, why, and decisions on it.\n\n"
    "`list` finds a customer, `show` explains it, `log` tells what was joined and parted, `review` lists pairs for you to judge. "
    "Decide with `merge` or `unmerge`, take a decision back with `undo`; the next `rapport run` applies it. Nothing is ever merged by probability alone."))
Name = Annotated[str, typer.Argument(metavar="ID", help="A customer id (a former one too), or a record as source:type:id, e.g. crm:contact:17.")]
Left = Annotated[str, typer.Argument(metavar="LEFT", help="A customer id (a former one too), or a record as source:type:id.")]
Right = Annotated[str, typer.Argument(metavar="RIGHT", help="The other one.")]
By = Annotated[Optional[str], typer.Option("--by", metavar="NAME", help="Who decides. Default: the system account.", show_default=False)]
Limit = Annotated[int, typer.Option(min=1, help="Rows given.")]


# What a terminal has room for; other formats and files carry every column.
SHOWN = {
    "list": ("customer_id", "customer_type", "name", "email", "record_count", "source_count", "former_ids", "is_deleted"),
    "records": ("record", "joined_by", "evidence", "decided_by", "name", "first_name", "last_name", "email", "phone", "merged_into_id", "is_deleted"),
    "fields": ("field", "value", "rule", "record", "other_values"),
    "log": ("decided_at", "kind", "rule", "evidence", "decided_by", "left_record", "right_record", "left_customer_id", "right_customer_id"),
    "review": ("probability", "matched_fields", "reason", "left_customer_id", "left_name", "right_customer_id", "right_name"),
}


class Kind(str, Enum):
    """What the log tells of."""

    merge = "merge"
    unmerge = "unmerge"


class Part(str, Enum):
    """The tables of `show`."""

    records = "records"
    fields = "fields"
    former = "former"
    organisations = "organisations"
    log = "log"
    review = "review"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(identity_app, name="identity")


def _give(frame: pl.DataFrame, table: str, form: OutputFormat, output: Path | None, title: str | None = None, notes: Sequence[str] = ()) -> None:
    """Rows to a file or another program whole; to a terminal the columns of `SHOWN` that hold something, and the notes."""
    import polars as pl

    from pipelines.output import emit
    if form is not OutputFormat.table or output is not None:
        emit(frame, form.value, output, title=title)
        return
    kept = [name for name in SHOWN.get(table, frame.columns) if frame.is_empty() or frame[name].null_count() < frame.height]
    lists = [pl.col(name).list.join(", ") for name in kept if frame.schema[name] == pl.List]
    instants = [pl.col(name).dt.truncate("1s") for name in kept if frame.schema[name] == pl.Datetime]
    emit(frame.select(kept).with_columns(*lists, *instants), title=title, notes=notes)


@contextmanager
def _reading(home: Path | None) -> Iterator[tuple[Any, bool, str]]:
    """The published snapshot, whether its viewer may see personal data, and the note under every table."""
    from models import warehouse
    with warehouse.reading(find_home(home).require()) as opened:
        if "identity.records" not in opened.snapshot.tables:
            raise UsageError("the published snapshot was built before identity was served", remedy="Run `rapport run` once.")
        yield opened.con, opened.viewer.role == "admin", f"snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}, times in UTC"


@identity_app.command(name="list")
def identity_list(text: Annotated[str, typer.Argument(metavar="[TEXT]", help="Part of an id, a name or an e-mail address.")] = "",
                  min_records: Annotated[int, typer.Option(min=1, help="Customers of so many source records or more; 1 lists everybody.")] = 2,
                  limit: Limit = 50, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Customers made of several source records, those of most records first."""
    from models.engines import identity_answers
    with _reading(home) as (con, personal, note):
        frame = identity_answers.customers(con, personal=personal, text=text, min_records=min_records, limit=limit)
    _give(frame, "list", form, output, notes=[note, "Next: rapport identity show ID"])


@identity_app.command(name="show")
def identity_show(name: Name, part: Annotated[Optional[Part], typer.Option("--part", help="One table only. Formats other than table give the records unless another part is named.", show_default=False)] = None,
                  form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """One customer: its source records and what joined them, which record gave which field, former ids, organisations, log and open pairs."""
    from models.engines import identity_answers as answers
    with _reading(home) as (con, personal, note):
        customer = answers.current(con, name)
        tables = {
            Part.records: ("Source records, the most recently changed first", lambda: answers.records(con, customer, personal=personal)),
            Part.fields: ("Where each field comes from", lambda: answers.survivorship(con, customer, personal=personal)),
            Part.former: ("Former ids", lambda: answers.former_ids(con, customer)),
            Part.organisations: ("Persons and organisations", lambda: answers.organisations(con, customer)),
            Part.log: ("Joined and parted", lambda: answers.log(con, customer=customer, limit=50)),
            Part.review: ("Pairs to judge", lambda: answers.review(con, personal=personal, customer=customer, limit=50)),
        }
        if part is not None or form is not OutputFormat.table or output is not None:
            title, ask = tables[part or Part.records]
            _give(ask(), (part or Part.records).value, form, output, title=f"{customer}: {title}", notes=[note])
            return
        if customer != name:
            print(f"{name} belongs to customer {customer} now.")
        for of_part, (title, ask) in tables.items():
            frame = ask()
            if frame.height or of_part is Part.records:
                _give(frame, of_part.value, form, output, title=f"{customer}: {title}")
        typer.echo(note, err=True)


@identity_app.command(name="log")
def identity_log(kind: Annotated[Optional[Kind], typer.Option("--kind", help="Joins or partings only.", show_default=False)] = None,
                 rule: Annotated[Optional[str], typer.Option("--rule", metavar="RULE", help="One rule, e.g. email, phone, merged_into, identity_link.", show_default=False)] = None,
                 customer: Annotated[Optional[str], typer.Option("--customer", metavar="ID", help="What concerns this customer id or record.", show_default=False)] = None,
                 by: Annotated[Optional[str], typer.Option("--by", metavar="NAME", help="Decisions of this person.", show_default=False)] = None,
                 since: Annotated[Optional[datetime], typer.Option("--since", help="From this time on, UTC.", show_default=False)] = None,
                 limit: Annotated[Optional[int], typer.Option(min=1, help="Rows given. Default: all.", show_default=False)] = None,
                 form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Everything that was joined and parted: when, by which rule, on what evidence, by whom. Evidence never holds a personal value."""
    from models.engines import identity_answers
    with _reading(home) as (con, _, note):
        if rule:
            identity_answers.require_rule(con, rule)
        frame = identity_answers.log(con, kind=kind.value if kind else None, rule=rule, customer=customer, decided_by=by, since=since, limit=limit)
    _give(frame, "log", form, output, notes=[note])


@identity_app.command(name="review")
def identity_review(min_probability: Annotated[float, typer.Option(min=0, max=1, help="Pairs at least so probable (0 to 1).")] = 0.0,
                    customer: Annotated[Optional[str], typer.Option("--customer", metavar="ID", help="Pairs of this customer.", show_default=False)] = None,
                    limit: Limit = 50, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Pairs for you to judge: probability of being one, the fields that agree, and why a rule did not join them."""
    from models.engines import identity_answers
    with _reading(home) as (con, personal, note):
        chosen = identity_answers.current(con, customer) if customer else None
        frame = identity_answers.review(con, personal=personal, min_probability=min_probability, customer=chosen, limit=limit)
    hints = [note, "The same: rapport identity merge LEFT RIGHT. Two: rapport identity unmerge LEFT RIGHT. Decided pairs leave the list with the next run."]
    _give(frame, "review", form, output, notes=hints)


@identity_app.command(name="decisions")
def identity_decisions(form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Decisions taken here, oldest first: waiting for a run, in force, replaced, or undone."""
    from pipelines import decisions
    with _reading(home) as (con, _, note):
        frame = decisions.taken(find_home(home), con).drop("is_applied")
    _give(frame, "decisions", form, output, notes=[note])


@identity_app.command(name="merge")
def identity_merge(left: Left, right: Right, by: By = None, home: HomeOption = None) -> None:
    """Decide that two customers (or records) are the same. The one known longer keeps its id, the other's becomes a former id."""
    _decide("merge", left, right, by, home)


@identity_app.command(name="unmerge")
def identity_unmerge(left: Left, right: Right, by: By = None, home: HomeOption = None) -> None:
    """Decide that two customers (or records) are different: part them for good, or keep a pair of the review list apart. No rule joins them again.

    To take a merge apart, name the customer and one of its former ids, or two of its records. Each part gets back the records and the id it had.
    """
    _decide("unmerge", left, right, by, home)


@identity_app.command(name="undo")
def identity_undo(left: Left, right: Right, by: By = None, home: HomeOption = None) -> None:
    """Take back what was decided here about a pair, as if nothing had been said: rules alone decide again. See `rapport identity decisions`."""
    _decide("undo", left, right, by, home)


def _decide(verb: str, left: str, right: str, by: str | None, home: Path | None) -> None:
    from models.engines import identity_decisions as engine
    from pipelines import decisions
    place = find_home(home).require()
    with _reading(home) as (con, _, _note):
        decision = engine.decide(con, verb, left, right)
        standing = decisions.in_force(place, con, decision)
    if standing == (None if verb == "undo" else decision.word):
        raise UsageError("no decision on this pair is in force" if verb == "undo" else f"this pair is decided to be {standing} already",
                         remedy="See `rapport identity decisions`: a decision is undone by the two records it names." if verb == "undo" else "See `rapport identity decisions`.")
    batch = decisions.take(place, decision, by or decisions.local_user())
    said = {"same": "are the same", "different": "are different", "withdrawn": "are left to the rules again"}[decision.word]
    print(f"Decided: {decision.left} and {decision.right} {said}.")
    if decision.word == "same":
        print("They are one customer already; from now on they stay one." if decision.is_met else f"Customers {decision.left_customer} and {decision.right_customer} become one.")
    elif decision.word == "different":
        print("They are two customers already; from now on they stay two." if decision.is_met else f"Customer {decision.left_customer} is parted.")
    print(f"Batch {batch} is in landing. Next: rapport run")
