"""Chances of yes or no: candidates on features, calibration, selection on rolling origins, the published model.

Belongs here: what churn and conversion share. Does not belong here: populations and labels (each model's `definition.py`),
measures and the gate (`ml.evaluation`), explanations (`ml.explanations`).

Every candidate gives log-odds that are a sum over features (`explained`), and calibration is a line through the log-odds; so
the contributions of a published score add up to it exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ml import diagnostics, drift, evaluation, leakage
from ml.challenge import Latest
from ml.evaluation import Verdict
from ml.features import FeatureSpace
from ml.splits import FEWEST_FOLDS, Fold, HistoryTooShortError, rolling_origins

# Fewer rows of the rarer outcome in training than this and nothing can be learned of it. Valid: 20 to 500.
FEWEST_TRAINING_OUTCOMES = 50
MOST_FOLDS = 4
# Log-odds are kept within these: a chance below 0.1 % or above 99.9 % is never claimed.
LOG_ODDS_RANGE = (-6.9, 6.9)
RESAMPLES = 100
# Sampled rows for training trees: more hardly changes them, and memory stays bounded.
MOST_TRAINING_ROWS = 300_000
FEWEST_THREADED_VALUES = 5_000_000
# Rows scored at once: their columns stay in the processor's cache.
CHUNK_ROWS = 32_768


@dataclass(frozen=True)
class Task:
    """One question with a yes-or-no answer, as its definition states it.

    `naive` is the column by which common sense would rank, `naive_is_text` says that it is a class whose past rate counts.
    `own_score` names a column of log-odds of another model that competes as it is; None where there is none. `groups` are columns
    by which the evaluation is divided.
    """

    name: str
    label: str
    naive: str
    naive_name: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    naive_is_text: bool = False
    own_score: str | None = None
    entity: str = "customer_id"
    fewest_days: int = 90
    groups: tuple[str, ...] = ()


# -- candidates


class Logistic:
    """Penalised logistic regression on scaled features."""

    name = "logistic"

    def __init__(self, space: FeatureSpace | None = None, weights: list[float] | None = None, base: float = 0.0) -> None:
        self.space, self.weights, self.base = space, weights, base

    def fit(self, task: Task, frame: pl.DataFrame, label: np.ndarray) -> Logistic:
        """Learn from rows and their labels 0/1, shape [n]."""
        self.space = FeatureSpace.learn(frame, task.numeric, task.categorical)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=0.1, max_iter=300).fit(self.space.scaled(frame), label)
        self.weights, self.base = [float(w) for w in model.coef_[0]], float(model.intercept_[0])
        return self

    def explained(self, frame: pl.DataFrame) -> tuple[float, dict[str, np.ndarray]]:
        """Base and the contribution of each feature, shape [n]; base plus contributions is the log-odds."""
        parts = self.space.scaled(frame) * np.asarray(self.weights)
        return self.base, _by_feature(parts, self.space.source)

    def log_odds(self, frame: pl.DataFrame) -> np.ndarray:
        """Log-odds, shape [n]."""
        return self.base + self.space.scaled(frame) @ np.asarray(self.weights)

    def state(self) -> dict[str, Any]:
        return {"space": self.space.state(), "weights": self.weights, "base": self.base}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Logistic:
        return cls(FeatureSpace(**state["space"]), list(state["weights"]), float(state["base"]))


class Trees:
    """Gradient-boosted trees; unknown values stay unknown.

    Explained by the path each row takes: at a split, the change of the expected log-odds (leaf values weighted by training
    rows) is the contribution of the split's feature. Saabas (2014), "Interpreting random forests"; exact in sum.
    """

    name = "trees"

    def __init__(self, space: FeatureSpace | None = None, trees: list[dict[str, np.ndarray]] | None = None, base: float = 0.0) -> None:
        self.space, self.trees, self.base = space, trees, base

    def fit(self, task: Task, frame: pl.DataFrame, label: np.ndarray) -> Trees:
        """Learn from rows and their labels 0/1, shape [n]."""
        self.space = FeatureSpace.learn(frame, task.numeric, task.categorical)
        model = HistGradientBoostingClassifier(max_iter=120, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=5.0, random_state=0)
        values = self.space.raw(frame)
        # on small data threads wait for each other longer than they work
        with threadpool_limits(None if values.size > FEWEST_THREADED_VALUES else 1, user_api="openmp"):
            model.fit(values, label)
        self.base = float(np.ravel(model._baseline_prediction)[0])
        self.trees = [_plain_tree(predictors[0].nodes) for predictors in model._predictors]
        return self

    def log_odds(self, frame: pl.DataFrame) -> np.ndarray:
        """Log-odds, shape [n]."""
        values = self.space.raw(frame)
        total = np.full(len(values), self.base)
        for begin in range(0, len(values), CHUNK_ROWS):
            columns, missing = _columns(values[begin : begin + CHUNK_ROWS])
            for tree in self.trees:
                for node, rows in _reached(tree, columns, missing):
                    if tree["leaf"][node]:
                        total[begin : begin + CHUNK_ROWS] += tree["expected"][node] * rows
        return total

    def explained(self, frame: pl.DataFrame) -> tuple[float, dict[str, np.ndarray]]:
        """Base and the contribution of each feature, shape [n]; base plus contributions is the log-odds."""
        values = self.space.raw(frame)
        parts = np.zeros((values.shape[1], len(values)))
        for begin in range(0, len(values), CHUNK_ROWS):
            columns, missing = _columns(values[begin : begin + CHUNK_ROWS])
            part = parts[:, begin : begin + CHUNK_ROWS]
            for tree in self.trees:
                expected, parent = tree["expected"], _parents(tree)
                for node, rows in _reached(tree, columns, missing):
                    if node:
                        before = parent[node]
                        part[tree["feature"][before]] += (expected[node] - expected[before]) * rows
        return self.base + float(sum(tree["expected"][0] for tree in self.trees)), _by_feature(parts.T, self.space.source)

    def state(self) -> dict[str, Any]:
        return {"space": self.space.state(), "trees": self.trees, "base": self.base}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Trees:
        return cls(FeatureSpace(**state["space"]), [{k: np.asarray(v) for k, v in tree.items()} for tree in state["trees"]], float(state["base"]))


class OwnScore:
    """The log-odds of another model, as they are."""

    name = "purchase_model"

    def __init__(self, column: str = "") -> None:
        self.column = column

    def fit(self, task: Task, frame: pl.DataFrame, label: np.ndarray) -> OwnScore:
        """Nothing is learned."""
        self.column = task.own_score or ""
        return self

    def log_odds(self, frame: pl.DataFrame) -> np.ndarray:
        """Log-odds, shape [n]."""
        return frame[self.column].cast(pl.Float64).to_numpy().astype(float)

    def explained(self, frame: pl.DataFrame) -> tuple[float, dict[str, np.ndarray]]:
        """Everything is the contribution of the one column."""
        return 0.0, {self.column: self.log_odds(frame)}

    def state(self) -> dict[str, Any]:
        return {"column": self.column}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> OwnScore:
        return cls(state["column"])


class Blend:
    """Mean log-odds of the other candidates."""

    name = "blend"

    def __init__(self, parts: list[Any] | None = None) -> None:
        self.parts = parts or []

    def log_odds(self, frame: pl.DataFrame) -> np.ndarray:
        """Log-odds, shape [n]."""
        return np.mean([part.log_odds(frame) for part in self.parts], axis=0)

    def explained(self, frame: pl.DataFrame) -> tuple[float, dict[str, np.ndarray]]:
        """The parts' contributions, each at its share."""
        found = [part.explained(frame) for part in self.parts]
        total: dict[str, np.ndarray] = {}
        for _, contributions in found:
            for name, values in contributions.items():
                total[name] = total.get(name, 0.0) + values / len(found)
        return float(np.mean([base for base, _ in found])), total

    def state(self) -> dict[str, Any]:
        return {"parts": [{"kind": part.name, **part.state()} for part in self.parts]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Blend:
        return cls([restore(part) for part in state["parts"]])


class NaiveRule:
    """Common sense: the past rate of the outcome among those alike in one column."""

    name = "naive_rule"

    def __init__(self, column: str = "", rates: dict[str, float] | None = None, steps: tuple[list[float], list[float]] | None = None, overall: float = 0.5) -> None:
        self.column, self.rates, self.steps, self.overall = column, rates, steps, overall

    def fit(self, task: Task, frame: pl.DataFrame, label: np.ndarray) -> NaiveRule:
        """Rates by class (pulled to the overall rate by ten rows), or a monotone curve over a number."""
        self.column, self.overall = task.naive, float(label.mean())
        if task.naive_is_text:
            table = frame.select(pl.col(task.naive).alias("class"), pl.Series("label", label)).group_by("class").agg(pl.col("label").sum(), pl.len())
            self.rates = {str(k): float((s + 10 * self.overall) / (n + 10)) for k, s, n in table.iter_rows() if k is not None}
        else:
            value = frame[task.naive].cast(pl.Float64).to_numpy().astype(float)
            known = np.isfinite(value)
            rising = bool(evaluation.roc_auc(label[known], value[known]) >= 0.5)
            curve = IsotonicRegression(increasing=rising, out_of_bounds="clip").fit(value[known], label[known])
            self.steps = ([float(v) for v in curve.X_thresholds_], [float(v) for v in curve.y_thresholds_])
        return self

    def log_odds(self, frame: pl.DataFrame) -> np.ndarray:
        """Log-odds, shape [n]."""
        if self.rates is not None:
            rate = frame[self.column].cast(pl.String).replace_strict(self.rates, default=self.overall, return_dtype=pl.Float64).to_numpy()
        else:
            value = frame[self.column].cast(pl.Float64).to_numpy().astype(float)
            rate = np.where(np.isfinite(value), np.interp(value, *self.steps), self.overall)
        return logit(np.clip(rate, 0.001, 0.999))

    def explained(self, frame: pl.DataFrame) -> tuple[float, dict[str, np.ndarray]]:
        """Everything beyond the overall rate is the contribution of the one column."""
        base = float(logit(np.clip(self.overall, 0.001, 0.999)))
        return base, {self.column: self.log_odds(frame) - base}

    def state(self) -> dict[str, Any]:
        return {"column": self.column, "rates": self.rates, "steps": list(self.steps) if self.steps else None, "overall": self.overall}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NaiveRule:
        steps = state["steps"]
        return cls(state["column"], state["rates"], (list(steps[0]), list(steps[1])) if steps else None, float(state["overall"]))


KINDS = {kind.name: kind for kind in (NaiveRule, OwnScore, Logistic, Trees, Blend)}


def restore(state: dict[str, Any]) -> Any:
    """The candidate that a state with its `kind` describes."""
    return KINDS[state["kind"]].from_state({k: v for k, v in state.items() if k != "kind"})


def fit_candidates(task: Task, frame: pl.DataFrame, label: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Every candidate learned from the same rows, by name; the blend comes last."""
    if len(label) > MOST_TRAINING_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(label), MOST_TRAINING_ROWS, replace=False))
        frame, label = frame[chosen], label[chosen]
    kinds = [NaiveRule, *([OwnScore] if task.own_score else []), Logistic, Trees]
    fitted = {kind.name: kind().fit(task, frame, label) for kind in kinds}
    fitted["blend"] = Blend([fitted[kind.name] for kind in kinds if kind is not NaiveRule])
    return fitted


# -- calibration


@dataclass(frozen=True)
class Line:
    """Calibrated log-odds are `slope * log-odds + shift`."""

    slope: float = 1.0
    shift: float = 0.0
    name: str = "none"

    def probability(self, log_odds: np.ndarray) -> np.ndarray:
        """Chances 0..1."""
        return expit(np.clip(self.slope * log_odds + self.shift, *LOG_ODDS_RANGE))


def fit_line(log_odds: np.ndarray, label: np.ndarray, kind: str) -> Line:
    """A line of a kind ("none", "shift": only the prior, "sigmoid": both) from rows the model had not seen."""
    if kind == "none" or len(np.unique(label)) < 2:
        return Line()
    if kind == "shift":
        shift = 0.0
        for _ in range(30):
            p = expit(log_odds + shift)
            step = float((label - p).sum() / max((p * (1 - p)).sum(), 1e-9))
            shift += float(np.clip(step, -1, 1))
            if abs(step) < 1e-8:
                break
        return Line(1.0, shift, "shift")
    model = LogisticRegression(C=1e6).fit(log_odds[:, None], label)
    slope = float(model.coef_[0, 0])
    return Line(slope, float(model.intercept_[0]), "sigmoid") if slope > 0 else fit_line(log_odds, label, "shift")


def choose_line(past: list[tuple[np.ndarray, np.ndarray]]) -> Line:
    """The kind of line that would have served best at past cut-offs, each judged by lines of the cut-offs before it.

    `past` holds (log-odds, label) of each past cut-off, oldest first. With one past cut-off nothing can be compared: none.
    """
    if not past:
        return Line()
    scores: dict[str, float] = {}
    for kind in ("none", "shift", "sigmoid"):
        losses = []
        for number in range(1, len(past)):
            earlier = past[:number]
            line = fit_line(np.concatenate([m for m, _ in earlier]), np.concatenate([y for _, y in earlier]), kind)
            margin, label = past[number]
            losses.append(evaluation.log_loss(label, line.probability(margin)))
        scores[kind] = float(np.mean(losses)) if losses else (0.0 if kind == "none" else 1.0)
    best = min(scores, key=scores.get)
    return fit_line(np.concatenate([m for m, _ in past]), np.concatenate([y for _, y in past]), best)


# -- training


@dataclass
class Trained:
    """What training gave: the model to score with, how it was judged, and whether it may be published.

    `evaluations` rows: candidate, cut_off, metric, value, lower, upper, n. `bands` (edges, distance below, distance above)
    say how far observed rates lay from predicted ones among rows scored alike. `champion` is None when there is too little
    data to learn anything; then `verdict.reason` says what is missing.
    """

    task: Task
    verdict: Verdict
    champion: Any = None
    line: Line = field(default_factory=Line)
    naive: Any = None
    candidate: str = "none"
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    bands: dict[str, list[float]] | None = None
    training_rows: int = 0
    cut_offs: tuple[date, ...] = ()
    importance: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    diagnostics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    baseline: dict[str, dict[str, Any]] = field(default_factory=dict)
    usual: dict[str, float] = field(default_factory=dict)
    naive_usual: dict[str, float] = field(default_factory=dict)
    latest: Latest | None = None


def origins(first: date, scoring: date, horizon: int, step: int, fewest_days: int) -> list[Fold]:
    """As many rolling origins as history allows, up to four. Raises HistoryTooShortError below three."""
    for folds in range(MOST_FOLDS, FEWEST_FOLDS, -1):
        try:
            return rolling_origins(first, scoring, horizon_days=horizon, history_days=fewest_days, folds=folds, step_days=_judged_step(horizon, step))
        except HistoryTooShortError:
            continue
    return rolling_origins(first, scoring, horizon_days=horizon, history_days=fewest_days, folds=FEWEST_FOLDS, step_days=_judged_step(horizon, step))


def _judged_step(horizon: int, step: int) -> int:
    # the judged windows must not overlap where the grid allows it
    return step * max(1, round(horizon / step))


def train(task: Task, frame: pl.DataFrame, *, first: date, scoring: date, horizon: int, step: int) -> Trained:
    """Let candidates compete on rolling origins, judge the winner on the latest complete cut-off, and fit it on all of them.

    `frame` holds the rows of every cut-off with the label (null where not known yet).
    """
    known = frame.filter(pl.col(task.label).is_not_null() & (pl.col("as_of_date") < scoring))
    label = known[task.label].cast(pl.Float64).to_numpy().astype(float)
    rarer = int(min(label.sum(), len(label) - label.sum())) if len(label) else 0
    if rarer < FEWEST_TRAINING_OUTCOMES:
        return Trained(task, Verdict(False, f"too little data: {rarer} past cases of the rarer outcome among {len(label)}, {FEWEST_TRAINING_OUTCOMES} are needed."), **_naive(task, known, label))
    try:
        folds = origins(first, scoring, horizon, step, task.fewest_days)
    except HistoryTooShortError as error:
        return Trained(task, Verdict(False, f"too little data: {error}"), **_naive(task, known, label))
    as_of = known["as_of_date"].to_numpy().astype("datetime64[D]")
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    judged: list[tuple[Fold, np.ndarray, dict[str, np.ndarray]]] = []
    there = known.clear()
    for fold in folds:
        # every cut-off whose outcome was known by then, not only those on the judged grid
        learn = as_of <= np.datetime64(fold.cutoff, "D") - np.timedelta64(horizon, "D")
        judge = as_of == np.datetime64(fold.cutoff, "D")
        if min(label[learn].sum(), learn.sum() - label[learn].sum()) < FEWEST_TRAINING_OUTCOMES // 2 or judge.sum() == 0:
            continue
        fitted = fit_candidates(task, known.filter(pl.Series(learn)), label[learn])
        there, truth = known.filter(pl.Series(judge)), label[judge]
        chances = {}
        for name, model in fitted.items():
            margin = model.log_odds(there)
            chances[name] = choose_line(seen.get(name, [])).probability(margin)
            seen.setdefault(name, []).append((margin, truth))
        judged.append((fold, truth, chances))
    if not judged:
        return Trained(task, Verdict(False, "too little data: no past cut-off has enough rows of both outcomes to learn from."), **_naive(task, known, label))
    candidate = _select(judged)
    last, truth, chances = judged[-1]
    verdict = evaluation.gate(truth, chances[candidate], chances["naive_rule"], kind="probability", naive_name=task.naive_name)
    final = fit_candidates(task, known, label)
    champion, line = final[candidate], choose_line(seen[candidate])
    explained = diagnostics.explained(champion.explained, known)
    found = diagnostics.judged("probability", [(fold.cutoff, outcome, found[candidate]) for fold, outcome, found in judged], there, task.groups)
    return Trained(
        task, verdict, champion, line, final["naive_rule"], candidate, _evaluations(judged), _bands(judged, candidate), len(label),
        tuple(sorted({fold.cutoff for fold, _, _ in judged})), {row["feature"]: row["importance"] for row in explained["model_importance"]}, leakage.warnings((*task.numeric, *task.categorical), known, label, frame.filter(pl.col("as_of_date") == scoring)),
        found | explained, drift.watched(frame, (*task.numeric, *task.categorical), known["as_of_date"].max(), horizon),
        _usual(champion, known), _usual(final["naive_rule"], known), Latest(last.cutoff, there, truth, chances),
    )  # fmt: skip


def _naive(task: Task, known: pl.DataFrame, label: np.ndarray) -> dict[str, Any]:
    if len(label) < 2 * evaluation.FEWEST_OUTCOMES or label.min() == label.max():
        return {}
    naive = NaiveRule().fit(task, known, label)
    return {"naive": naive, "training_rows": len(label), "naive_usual": _usual(naive, known)}


def _usual(model: Any, known: pl.DataFrame) -> dict[str, float]:
    """Mean contribution of each feature among rows learned from."""
    sample = known.sample(min(known.height, diagnostics.DEPENDENCE_ROWS), seed=0)
    return {name: float(values.mean()) for name, values in model.explained(sample)[1].items()}


def _select(judged: list[tuple[Fold, np.ndarray, dict[str, np.ndarray]]]) -> str:
    """The candidate with the least log loss at the cut-offs before the latest; at the only one there is, if need be."""
    past = judged[:-1] or judged
    names = [name for name in past[0][2] if name != "naive_rule"]
    loss = {name: np.mean([evaluation.log_loss(truth, chances[name]) for _, truth, chances in past]) for name in names}
    return min(loss, key=loss.get)


def _evaluations(judged: list[tuple[Fold, np.ndarray, dict[str, np.ndarray]]]) -> list[dict[str, Any]]:
    rows = []
    for fold, truth, chances in judged:
        found = evaluation.intervals(evaluation.PROBABILITY_MEASURES, truth, chances, resamples=RESAMPLES)
        rows += [
            {"candidate": name, "cut_off": fold.cutoff, "metric": metric, "value": e.value, "lower": e.lower, "upper": e.upper, "n": e.n}
            for (metric, name), e in found.items()
            if name in chances
        ]
    return rows


def _bands(judged: list[tuple[Fold, np.ndarray, dict[str, np.ndarray]]], candidate: str) -> dict[str, list[float]]:
    """80 % Wilson intervals of the observed rate per class of prediction over all judged cut-offs, as distances."""
    truth = np.concatenate([t for _, t, _ in judged])
    chance = np.concatenate([c[candidate] for _, _, c in judged])
    table = evaluation.reliability_table(truth, chance, bins=8, level=0.8)
    return {
        "at": table["mean_predicted"].to_list(),
        "below": np.maximum(table["mean_predicted"] - table["lower"], 0).to_list(),
        "above": np.maximum(table["upper"] - table["mean_predicted"], 0).to_list(),
    }


def interval(trained_bands: dict[str, list[float]] | None, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of 80 % intervals of the true rate among rows scored alike; nan without past cut-offs."""
    if not trained_bands:
        return np.full(len(chance), np.nan), np.full(len(chance), np.nan)
    below = np.interp(chance, trained_bands["at"], trained_bands["below"])
    above = np.interp(chance, trained_bands["at"], trained_bands["above"])
    return np.clip(chance - below, 0, 1), np.clip(chance + above, 0, 1)


# -- helpers


def _by_feature(parts: np.ndarray, source: list[str]) -> dict[str, np.ndarray]:
    total: dict[str, np.ndarray] = {}
    for column, name in enumerate(source):
        total[name] = total.get(name, 0.0) + parts[:, column]
    return total


def _plain_tree(nodes: np.ndarray) -> dict[str, np.ndarray]:
    """A tree as plain arrays, with the expected leaf value at each node (rows as weights)."""
    left, right, leaf = nodes["left"].astype(int), nodes["right"].astype(int), nodes["is_leaf"].astype(bool)
    expected, count = np.where(leaf, nodes["value"], 0.0), nodes["count"].astype(float)
    for node in np.flatnonzero(~leaf)[::-1]:  # children come after their parent
        a, b = left[node], right[node]
        expected[node] = (expected[a] * count[a] + expected[b] * count[b]) / (count[a] + count[b])
    return {
        "feature": np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32), "threshold": np.where(leaf, 0.0, nodes["num_threshold"]),
        "missing_left": nodes["missing_go_to_left"].astype(bool), "left": left.astype(np.int32), "right": right.astype(np.int32),
        "leaf": leaf, "expected": expected,
    }  # fmt: skip


def _columns(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns = np.ascontiguousarray(values.T)
    return columns, np.isnan(columns)


def _parents(tree: dict[str, np.ndarray]) -> dict[int, int]:
    return {int(child): node for node in np.flatnonzero(~tree["leaf"]).tolist() for child in (tree["left"][node], tree["right"][node])}


def _reached(tree: dict[str, np.ndarray], columns: np.ndarray, missing: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each node with the rows that come by it, as a mask: whole columns compared at once are many times faster than rows followed one by one."""
    waiting = [(0, np.ones(columns.shape[1], dtype=bool))]
    while waiting:
        node, rows = waiting.pop()
        yield node, rows
        if not tree["leaf"][node]:
            feature = tree["feature"][node]
            goes_left = columns[feature] <= tree["threshold"][node]
            if tree["missing_left"][node]:
                goes_left |= missing[feature]
            waiting += [(int(tree["left"][node]), rows & goes_left), (int(tree["right"][node]), rows & ~goes_left)]
