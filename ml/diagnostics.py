"""What people are shown of a judged model besides its measures: reliability, lift, subgroups, what counts, and how.

Belongs here: rows of these tables from outcomes and scores at past cut-offs. Does not belong here: the measures (`ml.evaluation`), writing
tables (`ml.scoring`), drawing (`dashboards`).

A part of a model (`Published`, `ClvModel`) keeps them as `diagnostics`: plain rows by table name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from ml import evaluation
from ml.features import PLAIN_WORDS

TABLES = {
    "model_reliability": "model VARCHAR, cut_off DATE, bin INTEGER, n BIGINT, mean_predicted DOUBLE, observed_rate DOUBLE, lower DOUBLE, upper DOUBLE",
    "model_lift": "model VARCHAR, cut_off DATE, bin INTEGER, n BIGINT, lowest_score DOUBLE, outcome_total DOUBLE, outcome_mean DOUBLE, lift DOUBLE, cumulative_rows DOUBLE, "
                  "cumulative_gain DOUBLE, cumulative_lift DOUBLE, predicted_total DOUBLE, bias DOUBLE, lift_lower DOUBLE, lift_upper DOUBLE, gain_lower DOUBLE, gain_upper DOUBLE, "
                  "bias_lower DOUBLE, bias_upper DOUBLE",
    "model_subgroups": "model VARCHAR, cut_off DATE, dimension VARCHAR, subgroup VARCHAR, metric VARCHAR, value DOUBLE, lower DOUBLE, upper DOUBLE, n BIGINT, is_small BOOLEAN, reason VARCHAR",
    "model_importance": "model VARCHAR, feature VARCHAR, label VARCHAR, importance DOUBLE, share DOUBLE",
    "model_dependence": "model VARCHAR, feature VARCHAR, label VARCHAR, bin INTEGER, level VARCHAR, typical DOUBLE, mean_contribution DOUBLE, n BIGINT",
}

# Below: withheld. Fewer rows or outcomes of either sort give intervals that hold everything.
FEWEST_IN_SUBGROUP = 30
FEWEST_OUTCOMES_IN_SUBGROUP = 10
# Below: greyed.
SMALL_SUBGROUP = 200
MOST_SUBGROUPS = 6
RESAMPLES = 60
SHOWN_FEATURES = 8
DEPENDENCE_BINS = 8
DEPENDENCE_ROWS = 5_000


def calibration_gap(outcome, score) -> float:
    """Mean prediction minus mean outcome."""
    return float(np.mean(score) - np.mean(outcome)) if len(outcome) else float("nan")


SUBGROUP_MEASURES: dict[str, dict[str, evaluation.Measure]] = {
    "probability": {"calibration_gap": calibration_gap, **{name: evaluation.PROBABILITY_MEASURES[name] for name in (
        "roc_auc", "average_precision", "brier_score", "log_loss", "expected_calibration_error", "share_at_top_10")}},
    "value": {name: evaluation.VALUE_MEASURES[name] for name in ("normalised_gini", "spearman", "total_bias", "decile_error", "share_at_top_10")},
}


def judged(kind: str, cut_offs: list[tuple[Any, np.ndarray, np.ndarray]], latest: pl.DataFrame, groups: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Reliability (probabilities), lift per cut-off, and subgroups at the latest one.

    Parameters
    ----------
    kind : "probability" or "value".
    cut_offs : (cut-off, outcome [n], score [n]), oldest first.
    latest : the rows of the last of them, for `groups`, columns by which they are divided.
    """
    found: dict[str, list[dict[str, Any]]] = {"model_reliability": [], "model_lift": [], "model_subgroups": []}
    for cut_off, truth, score in cut_offs:
        if kind == "probability":
            found["model_reliability"] += [{"cut_off": str(cut_off), **row} for row in evaluation.reliability_table(truth, score).iter_rows(named=True)]
        found["model_lift"] += [{"cut_off": str(cut_off), **row} for row in evaluation.lift_with_intervals(truth, score).iter_rows(named=True)]
    if cut_offs:
        cut_off, truth, score = cut_offs[-1]
        found["model_subgroups"] = [{"cut_off": str(cut_off), **row} for name in groups if name in latest.columns for row in _by_subgroup(kind, latest[name], truth, score)]
    return found


def _by_subgroup(kind: str, column: pl.Series, truth: np.ndarray, score: np.ndarray) -> list[dict[str, Any]]:
    labels = banded(column)
    sizes = labels.value_counts(sort=True)
    if sizes.height < 2:
        return []
    kept = sizes.sort("count", labels.name, descending=[True, False])[labels.name].to_list()[:MOST_SUBGROUPS]
    rows = []
    for label in sorted(kept):
        chosen = (labels == label).to_numpy()
        n, happened = int(chosen.sum()), int(np.count_nonzero(truth[chosen]))
        rarer = min(happened, n - happened) if kind == "probability" else happened
        common = {"dimension": words(column.name), "subgroup": label, "n": n, "is_small": n < SMALL_SUBGROUP}
        if n < FEWEST_IN_SUBGROUP or rarer < FEWEST_OUTCOMES_IN_SUBGROUP:
            reason = f"withheld: {n} rows, {rarer} of the rarer outcome; {FEWEST_IN_SUBGROUP} and {FEWEST_OUTCOMES_IN_SUBGROUP} are needed"
            rows += [{**common, "metric": name, "value": None, "lower": None, "upper": None, "reason": reason} for name in SUBGROUP_MEASURES[kind]]
            continue
        found = evaluation.intervals(SUBGROUP_MEASURES[kind], truth[chosen], {"score": score[chosen]}, resamples=RESAMPLES)
        rows += [{**common, "metric": name, "value": e.value, "lower": e.lower, "upper": e.upper, "reason": e.reason} for (name, _), e in found.items()]
    return rows


def banded(column: pl.Series) -> pl.Series:
    """Text as it is, flags as yes and no, days and numbers in bands people speak of; unknown is a band of its own."""
    name = column.name
    if column.dtype == pl.String:
        return column.fill_null("unknown")
    if name.startswith(("is_", "has_")) or column.dtype == pl.Boolean:
        return column.cast(pl.Float64).replace_strict({0.0: "no", 1.0: "yes"}, default="unknown", return_dtype=pl.String).fill_null("unknown").alias(name)
    value = column.cast(pl.Float64)
    if "days" in name and not name.endswith("_count"):
        edges, texts = [90, 365, 730], ["1: under 90 days", "2: 90 to 364 days", "3: 1 to 2 years", "4: 2 years and more"]
    elif name.endswith("_count"):
        edges, texts = [2, 5], ["1: 0 or 1", "2: 2 to 4", "3: 5 and more"]
    else:
        known = value.drop_nulls().drop_nans()
        # where many are equal (nothing spent) there are no thirds: an edge at the lowest value has nobody below it
        above = known.filter(known > known.min()) if known.len() else known
        edges = sorted({float(known.quantile(q)) for q in (1 / 3, 2 / 3)} - {float(known.min())} or {float(above.min())}) if above.len() else []
        texts = (["1: lowest third", "2: middle third", "3: highest third"] if len(edges) == 2 else
                 [f"1: under {edges[0]:,.4g}", f"2: {edges[0]:,.4g} and more"] if edges else ["1: all alike"])  # fmt: skip
    number = np.searchsorted(np.asarray(edges, dtype=float), value.fill_null(np.nan).to_numpy(), side="right")
    text = [texts[i] for i in range(len(texts))]
    known = value.is_not_null() & value.is_not_nan()
    return pl.Series(name, [text[i] if ok else "unknown" for i, ok in zip(number, known, strict=True)], dtype=pl.String)


def words(feature: str) -> str:
    """A feature's name for people."""
    return PLAIN_WORDS.get(feature, (feature.replace("_", " "), ""))[0]


def explained(contributions: Callable[[pl.DataFrame], tuple[Any, dict[str, np.ndarray]]], frame: pl.DataFrame, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Global importance (mean absolute contribution) and, for what counts most, the mean contribution by value of the feature.

    Contributions are on the model's own scale (log-odds, or the logarithm of money), as distances from their mean over the sampled rows.
    """
    sample = frame.sample(min(frame.height, DEPENDENCE_ROWS), seed=seed) if frame.height else frame
    found = {name: values - values.mean() for name, values in contributions(sample)[1].items()} if sample.height else {}
    strength = {name: float(np.abs(values).mean()) for name, values in found.items()}
    total = sum(strength.values())
    ranked = sorted(strength, key=lambda name: (-strength[name], name))
    importance = [{"feature": n, "label": words(n), "importance": strength[n], "share": strength[n] / total if total > 0 else None} for n in ranked]
    dependence = [row for n in ranked[:SHOWN_FEATURES] if n in sample.columns and strength[n] > 0 for row in _dependence(sample[n], found[n])]
    return {"model_importance": importance, "model_dependence": dependence}


def _dependence(column: pl.Series, contribution: np.ndarray) -> list[dict[str, Any]]:
    name = column.name
    if column.dtype == pl.String:
        table = pl.DataFrame({"level": column.fill_null("unknown"), "part": contribution}).group_by("level").agg(pl.col("part").mean(), pl.len()).sort("len", "level", descending=[True, False]).head(DEPENDENCE_BINS)
        rows = [(level, None, part, n) for level, part, n in table.iter_rows()]
    else:
        value = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        known = np.isfinite(value)
        edges = np.unique(np.quantile(value[known], np.arange(1, DEPENDENCE_BINS) / DEPENDENCE_BINS)) if known.any() else np.empty(0)
        of = np.where(known, np.searchsorted(edges, value, side="right"), -1)
        rows = []
        for number in np.unique(of):
            chosen = of == number
            typical = float(np.median(value[chosen])) if number >= 0 else None
            low, high = (f"{end:,.4g}" for end in (value[chosen].min(), value[chosen].max())) if number >= 0 else ("unknown", "unknown")
            rows.append((low if low == high else f"{low} to {high}", typical, float(contribution[chosen].mean()), int(chosen.sum())))
    return [{"feature": name, "label": words(name), "bin": i + 1, "level": level, "typical": typical, "mean_contribution": float(part), "n": int(n)} for i, (level, typical, part, n) in enumerate(rows)]


def frame(table: str, rows: list[dict[str, Any]], model: str) -> pl.DataFrame:
    """Kept rows as a frame with the columns of a table."""
    types = {"VARCHAR": pl.String, "DATE": pl.String, "INTEGER": pl.Int32, "BIGINT": pl.Int64, "DOUBLE": pl.Float64, "BOOLEAN": pl.Boolean}
    schema = {name: types[kind] for name, kind in (part.split() for part in TABLES[table].split(", "))}
    built = pl.DataFrame([{"model": model, **row} for row in rows], schema=schema)
    # a measure that is not defined is null, never not-a-number
    built = built.with_columns(pl.col(pl.Float64).fill_nan(None))
    return built.with_columns(pl.col("cut_off").str.to_date()) if "cut_off" in schema else built
