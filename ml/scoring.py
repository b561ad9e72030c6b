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
from data_contracts.errors import UsageError
from ml import challenge, diagnostics, drift, features, registry
from ml.question import Frames, Question
from models.frames import append

# A model older than this many days of data is trained again; a daily run in between only scores. Valid: 1 to 365.
RETRAIN_DAYS = 30
# Raise it when what is learned, or its state, changes: kept models of before are then trained again.
METHOD = 7

# Every room with a `question.py` asks one; its folder's name is the question's, the model's and the table's.
QUESTIONS: dict[str, Question] = {name: importlib.import_module(f"ml.{name}.question").QUESTION for name in registry.MODELS}

TABLES = {
    **{question.name: question.columns for question in QUESTIONS.values()},
    **{table: columns for question in QUESTIONS.values() for table, (columns, _) in question.more.items()},
    "model_evaluations": "model VARCHAR, candidate VARCHAR, cut_off DATE, metric VARCHAR, value DOUBLE, lower DOUBLE, upper DOUBLE, n BIGINT, is_published BOOLEAN, verdict VARCHAR",
    **diagnostics.TABLES,
    "model_drift": "model VARCHAR, part VARCHAR, as_of DATE, kind VARCHAR, subject VARCHAR, label VARCHAR, value DOUBLE, threshold DOUBLE, is_drifted BOOLEAN, against DATE, n BIGINT",
    "model_cards": "model VARCHAR, model_id VARCHAR, trained_on DATE, question VARCHAR, verdict VARCHAR, is_published BOOLEAN, card VARCHAR",
}
# Tables that keep growing: what was said, and which model took whose place.
KEPT = {"model_comparisons": challenge.TABLE, "score_history": ("model VARCHAR, entity_id VARCHAR, model_id VARCHAR, as_of DATE, score DOUBLE, lower DOUBLE, upper DOUBLE, reasons VARCHAR[], is_fallback BOOLEAN, run_id VARCHAR, "
           "scored_at TIMESTAMP")}


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
    for table, columns in KEPT.items():
        con.execute(f"CREATE TABLE IF NOT EXISTS scores.{table} ({columns})")


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
    if model is None or force or _is_due(home, question, manifest, calendar):
        model, manifest, decision = renew(home, question, frames, model, manifest)
        append(con, "scores.model_comparisons", pl.DataFrame([{**row, "model": _label(question, row["kind"])} for row in decision.comparisons]).drop("kind", strict=False).with_columns(
            compared_on=pl.lit(calendar.scoring_date), is_promoted=pl.lit(decision.promoted), reason=pl.lit(decision.reason))) if decision.comparisons else None
        report.trained.append(name)
        if not decision.promoted:
            report.notes.append(f"{name}: {decision.reason}")
    scores = question.score(frames, model)
    report.rows[name] = scores.height
    report.verdicts[name] = registry.spoken({kind: part.verdict for kind, part in question.parts(model).items()})
    report.notes += [f"{name}: {text}" for part in question.parts(model).values() for text in part.warnings]
    _write(con, question, scores, manifest, calendar.scoring_date)
    for table, (_, fill) in question.more.items():
        append(con, f"scores.{table}", fill(model).with_columns(pl.lit(manifest["model_id"]).alias("model_id"), pl.lit(calendar.scoring_date).alias("as_of")))
    append(con, "scores.model_evaluations", evaluation_frame(question, model))
    for table, frame in diagnostic_frames(question, model).items():
        append(con, f"scores.{table}", frame)
    con.execute("INSERT INTO scores.model_cards VALUES (?, ?, CAST(? AS DATE), ?, ?, ?, ?)", [
        name, manifest["model_id"], manifest["trained_on"], question.says, report.verdicts[name],
        any(not part.is_fallback for part in question.parts(model).values()), json.dumps(manifest, default=str)])  # fmt: skip
    moved = _drift(con, question, frames, model, calendar.scoring_date, date.fromisoformat(manifest["trained_on"]))
    append(con, "scores.model_drift", moved)
    report.drift[name] = [drift.sentence(row["model"], row) for row in moved.filter("is_drifted").iter_rows(named=True)]
    _remember(con, question, run_id, instant)


def open_frames(con: Any) -> Frames:
    """The feature frames of a warehouse or snapshot."""
    return Frames(con)


def train(question: Question, frames: Frames) -> Any:
    """The trained model of a question, kept nowhere."""
    return question.train(frames)


def renew(home: Home, question: Question, frames: Frames, champion: Any, manifest: dict[str, Any]) -> tuple[Any, dict[str, Any], challenge.Decision]:
    """Train a challenger, keep it, and let it score unless the champion is better or it could learn nothing: (model that scores, its manifest, why)."""
    calendar = question.calendar(frames)
    challenger = train(question, frames)
    before = question.parts(champion) if champion is not None else {}
    decision = challenge.decide(before, date.fromisoformat(manifest["trained_on"]) if manifest else None, question.parts(challenger))
    fresh = keep(home, question, challenger, calendar, frames.fingerprint, decision.promoted)
    for row in decision.comparisons:
        row |= {"champion_id": manifest["model_id"], "challenger_id": fresh["model_id"]}
    return (challenger, fresh, decision) if decision.promoted else (champion, manifest, decision)


def champion(home: Home, question: Question, frames: Frames) -> tuple[Any, dict[str, Any]]:
    """The model that scores now with its manifest; (None, {}) when there is none, or none of today's method and features."""
    return _current(home, question, question.calendar(frames))


def train_again(home: Home, question: Question, frames: Frames) -> tuple[Any, dict[str, Any], challenge.Decision]:
    """`renew` against the champion there is."""
    return renew(home, question, frames, *_current(home, question, question.calendar(frames)))


def keep(home: Home, question: Question, model: Any, calendar: features.Calendar, data: str = "", is_promoted: bool = True) -> dict[str, Any]:
    """Keep a trained model with its card, as champion unless told otherwise; returns the manifest. `data` is the fingerprint of what it learned from."""
    parts = question.parts(model)
    described = {
        "question": question.says, "inputs": list(question.inputs), "horizon_days": calendar.horizon_days, "window": question.window(calendar), "cut_offs": [str(c) for c in calendar.cut_offs],
        "first_date": str(calendar.first_date), "inputs_fingerprint": _fingerprint(question, calendar.horizon_days), "data_fingerprint": data, "scikit_learn": importlib.metadata.version("scikit-learn"),
        "parts": {kind or question.name: {
            "candidate": part.candidate, "is_fallback": part.is_fallback, "verdict": part.verdict, "training_rows": part.training_rows,
            "importance": part.importance, "warnings": part.warnings,
        } for kind, part in parts.items()},
    }  # fmt: skip
    model_id = registry.save(home, question.name, model.state(), described, calendar.scoring_date, is_promoted)
    return registry.read_manifest(home, question.name, model_id)


def _fingerprint(question: Question, horizon_days: int) -> str:
    return hashlib.sha256(json.dumps([METHOD, sorted(question.inputs), horizon_days]).encode()).hexdigest()[:16]


def can_score(model: str, manifest: dict[str, Any]) -> bool:
    """Whether a kept model was learned by today's method and features; another one is trained in place of one that was not."""
    return manifest.get("inputs_fingerprint") == _fingerprint(QUESTIONS[model], manifest["horizon_days"])


def _current(home: Home, question: Question, calendar: features.Calendar) -> tuple[Any, dict[str, Any]]:
    model_id = registry.champion(home, question.name)
    if model_id is None:
        return None, {}
    state, manifest = registry.load(home, question.name, model_id)
    return (question.restore(state), manifest) if manifest.get("inputs_fingerprint") == _fingerprint(question, calendar.horizon_days) else (None, {})


def _is_due(home: Home, question: Question, manifest: dict[str, Any], calendar: features.Calendar) -> bool:
    # the newest training counts, promoted or not: neither a refused challenger nor a rollback is trained over the next day
    trained = [m["trained_on"] for m in registry.kept(home) if m["model"] == question.name and m["inputs_fingerprint"] == manifest["inputs_fingerprint"]]
    ages = [(calendar.scoring_date - date.fromisoformat(day)).days for day in (manifest["trained_on"], max(trained, default=manifest["trained_on"]))]
    # a model of the future of these data (an earlier as-of date is being rebuilt) must not score them
    return ages[0] < 0 or not 0 <= ages[1] < RETRAIN_DAYS


def _write(con: Any, question: Question, scores: pl.DataFrame, manifest: dict[str, Any], as_of: date) -> None:
    table = question.name
    frame = scores.with_columns(pl.lit(manifest["model_id"]).alias("model_id"), pl.lit(as_of).alias("as_of"))
    columns = [c.split()[0] for c in TABLES[table].split(", ")]
    append(con, f"scores.{table}", frame.select(columns))


def evaluation_frame(question: Question, model: Any) -> pl.DataFrame:
    """How every candidate did at every cut-off, with the columns of `scores.model_evaluations`."""
    rows = []
    for kind, part in question.parts(model).items():
        label = _label(question, kind)
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


# What the numbers of a backtest are.
UNITS = {
    "probability": "chances and shares run from 0 to 1; calibration_gap is predicted less observed; biases are predicted over actual, less 1", "value": "shares run from 0 to 1; biases and errors are parts of the actual total: 0.1 is ten per cent; measures that end in _365d are of the value of a year, the others of that of one churn window",
    "days": "concordance and chances run from 0 to 1", "effect": "measures per 1000 are extra orders within the response window: effects from 1,000 customers contacted; Qini and gains from 1,000 customers of whom the share is contacted",
}
BACKTEST = {"part": pl.String, "candidate": pl.String, "cut_off": pl.Date, "dimension": pl.String, "subgroup": pl.String, "metric": pl.String, "value": pl.Float64, "lower": pl.Float64, "upper": pl.Float64,
            "n": pl.Int64, "reason": pl.String}


def backtest_frame(question: Question, model: Any) -> pl.DataFrame:
    """Everything the judging said, one measure a row: of all rows at each cut-off and candidate, and of the chosen candidate by subgroup, predicted chance and tenth of scores.

    `dimension` is "all rows", a column by which the latest cut-off is divided, "predicted chance" (reliability: `mean_predicted` beside
    `observed_rate`), "tenth of scores" (1 = best) or "share contacted" (the Qini curve). Intervals are 95 %.
    """
    rows = []
    for kind, part in question.parts(model).items():
        common = {"part": _label(question, kind), "candidate": part.candidate}
        rows += [{**common, **row, "dimension": "all rows", "subgroup": "all"} for row in part.evaluations]
        rows += [{**common, **row} for row in part.diagnostics.get("model_subgroups", [])]
        for row in part.diagnostics.get("model_reliability", []):
            at = {**common, "cut_off": row["cut_off"], "dimension": "predicted chance", "subgroup": str(row["bin"]), "n": row["n"]}
            rows += [{**at, "metric": "mean_predicted", "value": row["mean_predicted"]}, {**at, "metric": "observed_rate", "value": row["observed_rate"], "lower": row["lower"], "upper": row["upper"]}]
        for row in part.diagnostics.get("model_lift", []):
            at = {**common, "cut_off": row["cut_off"], "dimension": "tenth of scores", "subgroup": str(row["bin"]), "n": row["n"]}
            rows += [{**at, "metric": metric, "value": row[column], "lower": row[f"{short}_lower"], "upper": row[f"{short}_upper"]}
                     for metric, column, short in (("lift", "lift", "lift"), ("cumulative_gain", "cumulative_gain", "gain"), ("bias", "bias", "bias"))]
        for share, gain, lower, upper, _ in getattr(part, "curve", []):
            rows.append({**common, "cut_off": part.evaluations[0]["cut_off"], "dimension": "share contacted", "subgroup": f"{share:.2f}", "metric": "gain_per_1000", "value": 1000 * gain, "lower": 1000 * lower, "upper": 1000 * upper, "n": part.training_rows})
    rows = [{**row, "cut_off": date.fromisoformat(str(row["cut_off"]))} for row in rows]
    return pl.DataFrame(rows, schema=BACKTEST).with_columns(pl.col("value", "lower", "upper").fill_nan(None))


def backtest_tables(question: Question, model: Any, found: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """`backtest_frame` as tables to read, with titles: the chosen candidate beside the naive rule at every cut-off, then the chosen one divided up at the latest."""
    tables = []
    for kind, part in question.parts(model).items():
        mine = found.filter(pl.col("part") == _label(question, kind))
        if mine.is_empty():
            continue
        name, latest = _label(question, kind).replace("_", " "), mine["cut_off"].max()
        wide = mine.filter((pl.col("dimension") == "all rows") & pl.col("candidate").is_in([part.candidate, "naive_rule"]))
        beside = " beside the naive rule" if "naive_rule" in wide["candidate"] else ""
        tables.append((f"{name}: {part.candidate.replace('_', ' ')}{beside}", wide.select("cut_off", "metric", "candidate", "value", "lower", "upper", "n").sort("cut_off", "metric", "candidate")))
        for dimension in mine["dimension"].unique(maintain_order=True).to_list():
            rows = mine.filter((pl.col("dimension") == dimension) & (pl.col("cut_off") == latest))
            if dimension != "all rows" and rows.height:
                # what is withheld is withheld of every measure: said once a group
                told = rows.select("subgroup", "metric", "value", "lower", "upper", "n", "reason").with_columns(pl.when(pl.col("reason").is_null()).then("metric").otherwise(pl.lit("all measures")).alias("metric"))
                told = told.unique(maintain_order=True)
                tables.append((f"{name} by {dimension}, cut-off {latest}", told if told["reason"].null_count() < told.height else told.drop("reason")))
    return tables


def explain(question: Question, frames: Frames, model: Any, entity_id: str) -> pl.DataFrame:
    """Signed contributions to one score, strongest first, ending with their sum: part, feature, label, value, contribution. No rows for somebody not asked about.

    The scale is the model's own: log-odds of a chance, or the logarithm of an amount; `base` is what remains without any feature. Raises UsageError
    where everybody has the same score (the curve of all, the average effect), with the reason.
    """
    as_of, rows = question.calendar(frames).scoring_date, []
    for kind, there in (question.rows(frames, as_of) if question.rows else {}).items():
        part, one = question.parts(model)[kind], there.filter(pl.col(question.entity) == entity_id)
        if not one.height:
            continue
        explained = part.contributions(one, as_of)
        if explained is None:
            raise UsageError(f"{entity_id!r} has no score of its own by {_label(question, kind).replace('_', ' ')}: {part.fallback_reason or part.verdict}",
                             remedy=f"See `rapport model show {question.name}`.")
        base, found = explained
        told = sorted(((name, float(values[0])) for name, values in found.items()), key=lambda item: -abs(item[1]))
        rows.append((_label(question, kind), "base", "base", None, base))
        rows += [(_label(question, kind), name, diagnostics.words(name), _text(one[name][0]) if name in one.columns else None, value) for name, value in told]
        rows.append((_label(question, kind), "sum", "sum", None, base + sum(value for _, value in told)))
    schema = {"part": pl.String, "feature": pl.String, "label": pl.String, "value": pl.String, "contribution": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _text(value: Any) -> str | None:
    return None if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def diagnostic_frames(question: Question, model: Any) -> dict[str, pl.DataFrame]:
    """What is shown of every part besides its measures, by table of `ml.diagnostics`."""
    kept = {kind: part.diagnostics for kind, part in question.parts(model).items()}
    return {table: pl.concat([diagnostics.frame(table, found.get(table, []), _label(question, kind)) for kind, found in kept.items()]) for table in diagnostics.TABLES}


def _label(question: Question, kind: str) -> str:
    return f"{question.name}_{kind}" if kind else question.name


def _remember(con: Any, question: Question, run_id: str, instant: datetime) -> None:
    """Append today's scores to the history; a repeated run of the same day replaces its own rows."""
    if not con.execute(f"SELECT EXISTS (FROM scores.{question.name})").fetchone()[0]:      # as in `models.frames`: the next question's rows would be lost
        return
    con.execute("DELETE FROM scores.score_history WHERE model = ? AND as_of IN (SELECT DISTINCT as_of FROM scores." + question.name + ")", [question.name])
    con.execute(
        f"INSERT INTO scores.score_history SELECT ?, {question.entity}, model_id, as_of, score, lower, upper, reasons, is_fallback, ?, ? FROM scores.{question.name}",
        [question.name, run_id, instant],
    )


def _drift(con: Any, question: Question, frames: Frames, model: Any, as_of: date, trained_on: date) -> pl.DataFrame:
    """What moved, with the columns of `scores.model_drift`: features since training, scores since the scoring before, outcomes since they were foreseen."""
    name, found = question.name, []
    before = con.execute("SELECT max(as_of) FROM scores.score_history WHERE model = ? AND as_of < ?", [name, as_of]).fetchone()[0]
    if before is not None:
        old = con.execute("SELECT score FROM scores.score_history WHERE model = ? AND as_of = ? AND NOT is_fallback", [name, before]).pl()["score"].drop_nulls().to_numpy()
        new = con.execute(f"SELECT score FROM scores.{name} WHERE NOT is_fallback").pl()["score"].drop_nulls().to_numpy()
        index = drift.stability_index(old, new)
        if index is not None:
            found.append({"model": name, "kind": "score", "subject": "score", "value": index, "threshold": drift.DRIFTED, "is_drifted": index >= drift.DRIFTED, "against": before, "n": len(new)})
    if question.rows is not None:
        today = question.rows(frames, as_of)
        for kind, part in question.parts(model).items():
            rows = drift.of_features(part.baseline, today[kind]) if kind in today else []
            found += [{**row, "model": _label(question, kind), "n": today[kind].height} for row in rows]
        found += _outcome_drift(con, question, frames, model, trained_on)
    schema = {"model": pl.String, "kind": pl.String, "subject": pl.String, "value": pl.Float64, "threshold": pl.Float64, "is_drifted": pl.Boolean, "against": pl.Date, "n": pl.Int64}
    labels = [diagnostics.words(row["subject"]) for row in found]
    return pl.DataFrame(found, schema=schema).with_columns(pl.lit(name).alias("part"), pl.lit(as_of).alias("as_of"), pl.Series("label", labels, dtype=pl.String))


def _outcome_drift(con: Any, question: Question, frames: Frames, model: Any, trained_on: date) -> list[dict[str, Any]]:
    """Scores of the latest date whose outcome is known now, beside that outcome; or what was observed since the training."""
    if question.observed is not None:
        both = question.observed(frames, model, trained_on)
        row = drift.of_outcomes(question.parts(model)[""].measured_as, both["score"].to_numpy(), both["label"].to_numpy())
        return [] if row is None else [{**row, "model": question.name, "against": trained_on, "n": both.height}]
    kinds = {part.measured_as for part in question.parts(model).values()}
    scored = {day for (day,) in con.execute("SELECT DISTINCT as_of FROM scores.score_history WHERE model = ? AND NOT is_fallback", [question.name]).fetchall()}
    known = [day for day in question.outcome_dates(frames) if day in scored]
    if not known or len(kinds) != 1:
        return []
    day = max(known)
    said = con.execute("SELECT entity_id, score FROM scores.score_history WHERE model = ? AND as_of = ? AND NOT is_fallback AND score IS NOT NULL", [question.name, day]).pl()
    happened = pl.concat([rows.select(pl.col(question.entity).alias("entity_id"), pl.col("label").cast(pl.Float64)) for rows in question.rows(frames, day).values()]).drop_nulls()
    both = said.join(happened, on="entity_id")
    row = drift.of_outcomes(kinds.pop(), both["score"].to_numpy(), both["label"].to_numpy())
    return [] if row is None else [{**row, "model": question.name, "against": day, "n": both.height}]
