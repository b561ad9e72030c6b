"""From features to score tables: train when due, score, keep history, say how good it is.

Belongs here: the order of work, when a model is due for training, the tables of the `scores` schema. Does not belong here: any
formula of a model, opening the warehouse (the caller gives the connection).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from data_contracts.environment import Home
from ml import features, registry
from ml.question import Frames, Question

# A model older than this many days of data is trained again; a daily run in between only scores. Valid: 1 to 365.
RETRAIN_DAYS = 30
# Raise it when what is learned, or its state, changes: kept models of before are then trained again.
METHOD = 3

# Every room with a `question.py` asks one; its folder's name is the question's, the model's and the table's.
QUESTIONS: dict[str, Question] = {name: importlib.import_module(f"ml.{name}.question").QUESTION for name in registry.MODELS}

TABLES = {
    **{question.name: question.columns for question in QUESTIONS.values()},
    **{table: columns for question in QUESTIONS.values() for table, (columns, _) in question.more.items()},
    "model_evaluations": "model VARCHAR, candidate VARCHAR, cut_off DATE, metric VARCHAR, value DOUBLE, lower DOUBLE, upper DOUBLE, n BIGINT, is_published BOOLEAN, verdict VARCHAR",
    "model_cards": "model VARCHAR, model_id VARCHAR, trained_on DATE, question VARCHAR, verdict VARCHAR, is_published BOOLEAN, card VARCHAR",
}
HISTORY = ("model VARCHAR, entity_id VARCHAR, model_id VARCHAR, as_of DATE, score DOUBLE, lower DOUBLE, upper DOUBLE, reasons VARCHAR[], is_fallback BOOLEAN, run_id VARCHAR, "
           "scored_at TIMESTAMP")


@dataclass
class ScoreReport:
    """What was scored. `rows` by model; `verdicts` and `notes` in plain words; `drift` holds sentences, empty when nothing moved."""

    rows: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    drift: dict[str, list[str]] = field(default_factory=dict)


def prepare(con: Any) -> None:
    """Create the score tables that are missing, empty."""
    con.execute("CREATE SCHEMA IF NOT EXISTS scores")
    for table, columns in TABLES.items():
        con.execute(f"CREATE OR REPLACE TABLE scores.{table} ({columns})")
    con.execute(f"CREATE TABLE IF NOT EXISTS scores.score_history ({HISTORY})")


def score_all(con: Any, home: Home, run_id: str, instant: datetime, force_training: bool = False, say: Callable[[str], None] = lambda text: None) -> ScoreReport:
    """Fill the score tables from the `features` schema; models are trained when due.

    Parameters
    ----------
    con : an open connection to the warehouse, for writing.
    instant : the time of the run, naive UTC; kept in the history.
    """
    report = ScoreReport()
    frames = Frames(con)
    con.execute("BEGIN")
    try:
        prepare(con)
        for question in QUESTIONS.values():
            _answer(con, home, question, frames, run_id, instant, force_training, report)
            say(f"{question.name}: {report.rows[question.name]:,} scores" + (", trained" if question.name in report.trained else "") + f"; {report.verdicts[question.name]}")
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise
    return report


def _answer(con: Any, home: Home, question: Question, frames: Frames, run_id: str, instant: datetime, force: bool, report: ScoreReport) -> None:
    calendar = question.calendar(frames)
    name = question.name
    if calendar is None:
        report.rows[name], report.verdicts[name] = 0, "no model: there is no history yet."
        report.drift[name] = []
        con.execute("INSERT INTO scores.model_cards VALUES (?, NULL, NULL, ?, ?, false, '{}')", [name, question.says, report.verdicts[name]])
        return
    model, manifest = _current(home, question, calendar)
    if model is None or force or _is_due(question, manifest, calendar):
        model = train(question, frames)
        manifest = keep(home, question, model, calendar)
        report.trained.append(name)
    scores = question.score(frames, model)
    report.rows[name] = scores.height
    report.verdicts[name] = "; ".join(f"{kind}: {part.verdict}" if kind else part.verdict for kind, part in question.parts(model).items())
    report.notes += [f"{name}: {text}" for part in question.parts(model).values() for text in getattr(part, "warnings", [])]
    _write(con, question, scores, manifest, calendar.scoring_date)
    for table, (_, fill) in question.more.items():
        _insert(con, table, fill(model).with_columns(pl.lit(manifest["model_id"]).alias("model_id"), pl.lit(calendar.scoring_date).alias("as_of")))
    _insert(con, "model_evaluations", evaluation_frame(question, model))
    con.execute("INSERT INTO scores.model_cards VALUES (?, ?, CAST(? AS DATE), ?, ?, ?, ?)", [
        name, manifest["model_id"], manifest["trained_on"], question.says, report.verdicts[name],
        any(not part.is_fallback for part in question.parts(model).values()), json.dumps(manifest, default=str)])  # fmt: skip
    report.drift[name] = _drift(con, name, calendar.scoring_date)
    _remember(con, question, run_id, instant)


def open_frames(con: Any) -> Frames:
    """The feature frames of a warehouse or snapshot."""
    return Frames(con)


def train(question: Question, frames: Frames) -> Any:
    """The trained model of a question, kept nowhere."""
    return question.train(frames)


def keep(home: Home, question: Question, model: Any, calendar: features.Calendar) -> dict[str, Any]:
    """Keep a trained model as champion with its card; returns the manifest."""
    parts = question.parts(model)
    described = {
        "question": question.says, "inputs": list(question.inputs), "horizon_days": calendar.horizon_days, "cut_offs": [str(c) for c in calendar.cut_offs],
        "first_date": str(calendar.first_date), "inputs_fingerprint": _fingerprint(question, calendar), "scikit_learn": importlib.metadata.version("scikit-learn"),
        "parts": {kind or question.name: {
            "candidate": part.candidate, "is_fallback": part.is_fallback, "verdict": part.verdict, "training_rows": part.training_rows,
            "importance": getattr(part, "importance", {}), "warnings": getattr(part, "warnings", []),
        } for kind, part in parts.items()},
    }  # fmt: skip
    model_id = registry.save(home, question.name, model.state(), described, calendar.scoring_date)
    return registry.read_manifest(home, question.name, model_id)


def _fingerprint(question: Question, calendar: features.Calendar) -> str:
    return hashlib.sha256(json.dumps([METHOD, sorted(question.inputs), calendar.horizon_days]).encode()).hexdigest()[:16]


def _current(home: Home, question: Question, calendar: features.Calendar) -> tuple[Any, dict[str, Any]]:
    model_id = registry.champion(home, question.name)
    if model_id is None:
        return None, {}
    state, manifest = registry.load(home, question.name, model_id)
    return (question.restore(state), manifest) if manifest.get("inputs_fingerprint") == _fingerprint(question, calendar) else (None, {})


def _is_due(question: Question, manifest: dict[str, Any], calendar: features.Calendar) -> bool:
    age = (calendar.scoring_date - date.fromisoformat(manifest["trained_on"])).days
    # a model of the future of these data (an earlier as-of date is being rebuilt) must not score them
    return age >= RETRAIN_DAYS or age < 0


def _write(con: Any, question: Question, scores: pl.DataFrame, manifest: dict[str, Any], as_of: date) -> None:
    table = question.name
    frame = scores.with_columns(pl.lit(manifest["model_id"]).alias("model_id"), pl.lit(as_of).alias("as_of"))
    columns = [c.split()[0] for c in TABLES[table].split(", ")]
    _insert(con, table, frame.select(columns))


def evaluation_frame(question: Question, model: Any) -> pl.DataFrame:
    """How every candidate did at every cut-off, with the columns of `scores.model_evaluations`."""
    rows = []
    for kind, part in question.parts(model).items():
        label = f"{question.name}_{kind}" if kind else question.name
        rows += [
            {"model": label, **row, "cut_off": date.fromisoformat(str(row["cut_off"])), "is_published": not part.is_fallback and row["candidate"] == part.candidate, "verdict": part.verdict}
            for row in part.evaluations
        ]
        if not part.evaluations:
            rows.append({"model": label, "candidate": "none", "cut_off": None, "metric": "none", "value": None, "lower": None, "upper": None, "n": part.training_rows,
                         "is_published": False, "verdict": part.verdict})
    names = [c.split()[0] for c in TABLES["model_evaluations"].split(", ")]
    schema = dict(zip(names, [pl.String, pl.String, pl.Date, pl.String, pl.Float64, pl.Float64, pl.Float64, pl.Int64, pl.Boolean, pl.String], strict=True))
    return pl.DataFrame(rows, schema=schema)


def _insert(con: Any, table: str, frame: pl.DataFrame) -> None:
    con.register("_rows", frame.to_arrow())
    try:
        con.execute(f"INSERT INTO scores.{table} BY NAME SELECT * FROM _rows")
    finally:
        con.unregister("_rows")


def _remember(con: Any, question: Question, run_id: str, instant: datetime) -> None:
    """Append today's scores to the history; a repeated run of the same day replaces its own rows."""
    con.execute("DELETE FROM scores.score_history WHERE model = ? AND as_of IN (SELECT DISTINCT as_of FROM scores." + question.name + ")", [question.name])
    con.execute(
        f"INSERT INTO scores.score_history SELECT ?, {question.entity}, model_id, as_of, score, lower, upper, reasons, is_fallback, ?, ? FROM scores.{question.name}",
        [question.name, run_id, instant],
    )


# Population stability index from which the scores' distribution counts as moved: 0.25 is the usual mark of a major shift.
DRIFTED = 0.25


def _drift(con: Any, model: str, as_of: date) -> list[str]:
    """Sentences about what moved against the latest earlier scoring of the same model; empty when nothing did."""
    before = con.execute("SELECT max(as_of) FROM scores.score_history WHERE model = ? AND as_of < ?", [model, as_of]).fetchone()[0]
    if before is None:
        return []
    old = con.execute("SELECT score FROM scores.score_history WHERE model = ? AND as_of = ?", [model, before]).pl()["score"].drop_nulls().to_numpy()
    new = con.execute(f"SELECT score FROM scores.{model}").pl()["score"].drop_nulls().to_numpy()
    index = stability_index(old, new)
    if index is None or index < DRIFTED:
        return []
    return [f"the distribution of {model} scores moved since {before} (population stability index {index:.2f}, {DRIFTED} is a major shift)"]


def stability_index(old: Any, new: Any) -> float | None:
    """Population stability index of two samples over the old one's deciles; None with fewer than 100 values in either."""
    import numpy as np
    if len(old) < 100 or len(new) < 100:
        return None
    edges = np.unique(np.quantile(old, np.arange(1, 10) / 10))
    a, b = (np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1) / len(v) + 1e-4 for v in (old, new))
    return float(np.sum((b - a) * np.log(b / a)))
