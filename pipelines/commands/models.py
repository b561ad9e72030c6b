"""Commands on models: train, judge on past cut-offs, score, choose which one scores."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from data_contracts.environment import Home, find_home
from ml.registry import MODELS
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

model_app = typer.Typer(no_args_is_help=True, help="Trained models: list them, read a card, explain a score, promote one or go back.")


# Questions that are scored.
ModelName = Enum("ModelName", {name: name for name in MODELS}, type=str)
Which = Annotated[ModelName, typer.Argument(help="Which question.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="train")(train)
    app.command(name="backtest")(backtest)
    app.command(name="score")(score)
    app.add_typer(model_app, name="model")


def train(model: Which, home: HomeOption = None) -> None:
    """Train a model now on the built warehouse. It becomes champion, which `rapport score` uses, unless it learned nothing or is worse on the same people."""
    from data_contracts.errors import UsageError
    from ml import scoring
    from models import warehouse
    from pipelines.progress import PROGRESS
    place = find_home(home).require()
    with warehouse.writing(place) as con, PROGRESS.stage(f"train {model.value}"):
        question, frames = scoring.QUESTIONS[model.value], scoring.open_frames(con)
        calendar = question.calendar(frames)
        if calendar is None:
            raise UsageError("there is no history to learn from", remedy="Run `rapport run` with data first.")
        _, manifest, decision = scoring.train_again(place, question, frames)
        PROGRESS.detail(decision.reason)
        for kind, part in manifest["parts"].items():
            PROGRESS.detail(f"{kind}: {part['candidate']}, {part['verdict']}")
    print(manifest["model_id"])


def backtest(model: Which, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Let all candidates compete on past cut-offs of the published data and print how they did. Keeps nothing.

    Every measure comes with its 95 % interval: of each candidate at each cut-off, and of the chosen one by subgroup, by predicted chance
    (reliability), by tenth of scores (lift, gain, bias) or share contacted. The terminal shows the chosen candidate beside the naive rule;
    csv, json and parquet hold all candidates and cut-offs in one table.
    """
    from data_contracts.errors import UsageError
    from ml import scoring
    from models import warehouse
    from pipelines.output import emit
    from pipelines.progress import PROGRESS
    place = find_home(home).require()
    with warehouse.reading(place) as opened:
        question, frames = scoring.QUESTIONS[model.value], scoring.open_frames(opened.con)
        if question.calendar(frames) is None:
            raise UsageError("there is no history to judge on", remedy="Run `rapport run` with data first.")
        with PROGRESS.stage(f"judge {model.value} on past cut-offs"):
            trained = scoring.train(question, frames)
        note = f"snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}; lower and upper bound 95 % intervals"
    parts = question.parts(trained)
    notes = [*(f"{kind or model.value}: {part.verdict}" for kind, part in parts.items()), *(f"warning: {text}" for part in parts.values() for text in part.warnings), scoring.UNITS[next(iter(parts.values())).measured_as], note]
    found = scoring.backtest_frame(question, trained)
    if form is not OutputFormat.table or output is not None:
        emit(found, form.value, output, notes=notes)
        return
    for title, rows in scoring.backtest_tables(question, trained, found):
        emit(rows, title=title)
    for text in notes:
        print(text, file=sys.stderr)


def score(home: HomeOption = None) -> None:
    """Score everybody again on the built warehouse with the current champions; `rapport run` publishes."""
    from pipelines import run as running
    record = running.run(find_home(home).require(), only="scores")
    print(f"scores are {record.state}; `rapport run` publishes them")


def _frame(rows: list[dict[str, Any]]) -> Any:
    import polars as pl

    from ml import registry
    return pl.DataFrame([{
        "model": m["model"], "model_id": m["model_id"], "trained_on": m["trained_on"], "is_champion": m["is_champion"],
        "published": ", ".join(kind for kind, part in m["parts"].items() if not part["is_fallback"]) or "nothing: a simple rule or the average is shown",
        "verdict": registry.spoken({kind if len(m["parts"]) > 1 else "": part["verdict"] for kind, part in m["parts"].items()}),
    } for m in rows], schema={"model": pl.String, "model_id": pl.String, "trained_on": pl.String, "is_champion": pl.Boolean, "published": pl.String, "verdict": pl.String})


@model_app.command(name="list")
def model_list(form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Every kept model, which one scores, and what the gate said."""
    from ml import registry
    from pipelines.output import emit
    emit(_frame(registry.kept(find_home(home).require())), form.value, output)


@model_app.command(name="show")
def model_show(model: Which, form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """The card of the champion: question, inputs, cut-offs, verdict, what counts most, limits."""
    import json

    import polars as pl

    from data_contracts.errors import UsageError
    from ml import registry
    from pipelines.output import emit
    place = find_home(home).require()
    current = registry.champion(place, model.value)
    if current is None:
        raise UsageError(f"no {model.value} model was trained yet", remedy=f"Run `rapport run` or `rapport train {model.value}`.")
    manifest = registry.read_manifest(place, model.value, current)
    card = (Path(registry.__file__).parent / model.value / "card.md").read_text(encoding="utf-8")
    if form is OutputFormat.table and output is None:
        emit(pl.DataFrame(registry.readable(manifest)))
        print("\n" + card)
        return
    rows = [{"field": name, "value": value if isinstance(value, str) else json.dumps(value, default=str)} for name, value in manifest.items()]
    emit(pl.DataFrame([*rows, {"field": "card", "value": card}]), form.value, output)


@model_app.command(name="explain")
def model_explain(model: Which, entity_id: Annotated[str, typer.Argument(help="Customer or lead id, as in the score tables.")], form: FormatOption = OutputFormat.table, output: OutputOption = None,
                  home: HomeOption = None) -> None:
    """Why somebody has their score: every contribution with its sign, from base to sum, on the model's own scale (log-odds of a chance, logarithm of an amount)."""
    import polars as pl

    from data_contracts.errors import UsageError
    from ml import scoring
    from models import warehouse
    from pipelines.output import emit
    place = find_home(home).require()
    with warehouse.reading(place) as opened:
        question, frames = scoring.QUESTIONS[model.value], scoring.open_frames(opened.con)
        current = scoring.champion(place, question, frames)[0] if question.calendar(frames) is not None else None
        found = scoring.explain(question, frames, current, entity_id) if current is not None else None
        simple = [f"{kind or model.value}: a simple rule stands in for the model: {part.fallback_reason}" for kind, part in question.parts(current).items() if part.is_fallback] if current is not None else []
    if found is None:
        raise UsageError(f"no {model.value} model scores now", remedy="Run `rapport run` first.")
    if found.is_empty():
        raise UsageError(f"{entity_id!r} is not among those {model.value} is asked of", remedy=f"See scores.{model.value} for who is.")
    shown = found.filter((pl.col("contribution") != 0) | pl.col("feature").is_in(["base", "sum"])) if form is OutputFormat.table else found
    left_out = [f"{found.height - shown.height} features that contribute nothing are left out; csv, json and parquet hold them."] if shown.height < found.height else []
    emit(shown, form.value, output, notes=[*simple, *left_out, "What went along with the outcome before; not what would change it."])


def _able(place: Home, model: str, model_id: str) -> None:
    """Raises UsageError for a kept model that cannot score any more."""
    from data_contracts.errors import UsageError
    from ml import registry, scoring
    if not scoring.can_score(model, registry.read_manifest(place, model, model_id)):
        raise UsageError(f"{model_id} was learned from other features, or by a method of before: it cannot score today's", remedy=f"`rapport train {model}` trains one that can.")


@model_app.command(name="promote")
def model_promote(model: Which, model_id: Annotated[str, typer.Argument(help="An id from `rapport model list`.")], home: HomeOption = None) -> None:
    """Make a kept model the one that scores."""
    from ml import registry
    from models import warehouse
    place = find_home(home).require()
    _able(place, model.value, model_id)
    with warehouse.locked(place):
        registry.promote(place, model.value, model_id)
    print(f"{model_id} scores from the next run on")


@model_app.command(name="rollback")
def model_rollback(model: Which, home: HomeOption = None) -> None:
    """Go back to the champion before."""
    from ml import registry
    from models import warehouse
    place = find_home(home).require()
    with warehouse.locked(place):
        _able(place, model.value, registry.former(place, model.value))
        current = registry.rollback(place, model.value)
    print(f"{current} scores from the next run on")
