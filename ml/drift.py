"""Whether the world still looks as it did when a model learned: features, scores, and what became of scores given before.

Belongs here: the population stability index, comparing kept distributions with today's, observed against predicted. Does not belong here:
reading or writing tables (`ml.scoring`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

# 0.25 is the usual mark of a major shift, 0.1 that of one worth a look (Siddiqi 2006, Credit Risk Scorecards).
DRIFTED = 0.25
FEWEST_VALUES = 100
# Observed and predicted means further apart than this, and further than chance explains, count as drifted: 5 points of chance, 15 % of money.
OUTCOME_TOLERANCE = {"probability": 0.05, "value": 0.15}
# Shares are kept from 0, where the index is infinite.
FLOOR = 1e-4
BINS = 10
MOST_LEVELS = 12


def stability_index(old: Any, new: Any) -> float | None:
    """Population stability index of two samples over the old one's deciles; None with fewer than 100 values in either."""
    old, new = np.asarray(old, dtype=float), np.asarray(new, dtype=float)
    if len(old) < FEWEST_VALUES or len(new) < FEWEST_VALUES:
        return None
    edges = np.unique(np.quantile(old, np.arange(1, BINS) / BINS))
    return _index(*(np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1) / len(v) for v in (old, new)))


def _index(old: np.ndarray, new: np.ndarray) -> float:
    a, b = old + FLOOR, new + FLOOR
    return float(np.sum((b - a) * np.log(b / a)))


def remember(frame: pl.DataFrame, features: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The distribution of each feature among rows learned from: decile edges or levels with their shares, the unknown last."""
    kept = {}
    for name in features:
        if name not in frame.columns or frame.height < FEWEST_VALUES:
            continue
        column = frame[name]
        if column.dtype == pl.String:
            levels = sorted(column.drop_nulls().value_counts(sort=True)[name].head(MOST_LEVELS).to_list())
            kept[name] = {"levels": levels, "shares": _shares(column, {"levels": levels})}
        else:
            values = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
            edges = [float(e) for e in np.unique(np.quantile(values, np.arange(1, BINS) / BINS))] if len(values) else []
            kept[name] = {"edges": edges, "shares": _shares(column, {"edges": edges})}
    return kept


def _shares(column: pl.Series, bins: dict[str, Any]) -> list[float]:
    if "levels" in bins:
        place = {level: number for number, level in enumerate(bins["levels"])}
        other = len(place)
        of = column.cast(pl.String).replace_strict(place, default=other, return_dtype=pl.Int64).fill_null(other + 1).to_numpy()
        of = np.where(column.is_null().to_numpy(), other + 1, of)
        size = other + 2
    else:
        values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        size = len(bins["edges"]) + 2
        of = np.where(np.isfinite(values), np.searchsorted(np.asarray(bins["edges"], dtype=float), values, side="right"), size - 1)
    return [float(s) for s in np.bincount(of, minlength=size) / max(len(column), 1)]


def of_features(kept: dict[str, dict[str, Any]], today: pl.DataFrame) -> list[dict[str, Any]]:
    """One row per feature: subject, value (the index), threshold, is_drifted. Nothing with fewer than 100 rows today."""
    if today.height < FEWEST_VALUES:
        return []
    rows = []
    for name, bins in kept.items():
        if name in today.columns:
            value = _index(np.asarray(bins["shares"]), np.asarray(_shares(today[name], bins)))
            rows.append({"kind": "feature", "subject": name, "value": value, "threshold": DRIFTED, "is_drifted": value >= DRIFTED})
    return rows


def of_outcomes(kind: str, predicted: np.ndarray, observed: np.ndarray) -> dict[str, Any] | None:
    """Mean observed against mean predicted of scores whose horizon has passed; None with fewer than 100 of them.

    `value` is observed minus predicted (probability), or observed over predicted minus 1 (value).
    """
    predicted, observed = np.asarray(predicted, dtype=float), np.asarray(observed, dtype=float)
    if len(predicted) < FEWEST_VALUES or (kind == "value" and predicted.sum() <= 0):
        return None
    gap = float(observed.mean() - predicted.mean())
    error = float(np.std(observed - predicted, ddof=1)) / math.sqrt(len(predicted))
    scale = 1.0 if kind == "probability" else float(predicted.mean())
    return {"kind": "outcome", "subject": "observed against predicted", "value": gap / scale, "threshold": OUTCOME_TOLERANCE[kind],
            "is_drifted": abs(gap) / scale > OUTCOME_TOLERANCE[kind] and abs(gap) > 2 * error}


def sentence(model: str, row: dict[str, Any]) -> str:
    """What moved, in plain words."""
    if row["kind"] == "outcome":
        return f"{model}: what happened differs from what was predicted by {row['value']:+.3f} (more than {row['threshold']:g})"
    what = f"the scores of {model}" if row["kind"] == "score" else f"{row['subject'].replace('_', ' ')} ({model})"
    return f"the distribution of {what} moved (population stability index {row['value']:.2f}, {row['threshold']:g} is a major shift)"
