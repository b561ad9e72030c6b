"""Whether the world still looks as it did when a model learned: features, scores, and what became of scores given before.

Belongs here: the population stability index, comparing kept distributions with today's, observed against predicted. Does not belong here:
reading or writing tables (`ml.scoring`).
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

# 0.25 is the usual mark of a major shift, 0.1 that of one worth a look (Siddiqi 2006, Credit Risk Scorecards).
DRIFTED = 0.25
FEWEST_VALUES = 100
# Observed and predicted means further apart than this, and further than chance explains, count as drifted: 5 points of chance, 15 % of money
# or days, 2 points of an effect of contact (effects are a few points).
OUTCOME_TOLERANCE = {"probability": 0.05, "value": 0.15, "days": 0.15, "effect": 0.02}
RATIOS = ("value", "days")
# Moves before training that say how much a feature moves anyway: those of a year, where the horizon is a quarter. Rows drawn for each.
USUAL_MOVES = 4
# Of five moves alike the last is the largest one time in five; one and a half times the largest is more than chance. Valid: 1.2 to 2.
BEYOND_USUAL = 1.5
USUAL_ROWS = 50_000
# The time of year is the same for everybody on a day and always moves.
_CALENDAR = "season_"
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
        if name not in frame.columns or frame.height < FEWEST_VALUES or name.startswith(_CALENDAR):
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


def watched(frame: pl.DataFrame, features: tuple[str, ...], at: date, distance_days: int) -> dict[str, dict[str, Any]]:
    """`remember` of the rows of the day `at`, each with `usual`: the largest move over about `distance_days` among the four before.

    A value shared by many rows (the win rate of an owner or a channel) jumps from bin to bin with all of them at once: it is judged by how
    far it went before. `frame` holds the rows of many days, whether or not their outcome is known.
    """
    days = sorted(frame["as_of_date"].unique())
    grid = [min(days, key=lambda day: abs((day - goal).days)) for goal in (at - timedelta(days=distance_days * step) for step in range(USUAL_MOVES + 1))] if days else []
    near = [day for step, day in enumerate(grid) if abs((at - day).days - distance_days * step) <= distance_days / 10]
    rows = [there.sample(min(there.height, USUAL_ROWS), seed=0) for there in (frame.filter(pl.col("as_of_date") == day) for day in near)]
    moves: dict[str, list[float]] = {}
    for new, old in zip(rows, rows[1:], strict=False):
        for row in of_features(remember(old, features), new):
            moves.setdefault(row["subject"], []).append(row["value"])
    return {name: {**kept, "usual": max(moves.get(name, [0.0]))} for name, kept in remember(frame.filter(pl.col("as_of_date") == at), features).items()}


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
            allowed = max(DRIFTED, BEYOND_USUAL * bins.get("usual", 0.0))
            rows.append({"kind": "feature", "subject": name, "value": value, "threshold": allowed, "is_drifted": value >= allowed})
    return rows


def of_outcomes(kind: str, predicted: np.ndarray, observed: np.ndarray) -> dict[str, Any] | None:
    """Mean observed against mean predicted of scores whose horizon has passed; None with fewer than 100 of them.

    `value` is observed minus predicted (a probability, an effect), or observed over predicted minus 1 (an amount, days).
    """
    predicted, observed = np.asarray(predicted, dtype=float), np.asarray(observed, dtype=float)
    if len(predicted) < FEWEST_VALUES or (kind in RATIOS and predicted.sum() <= 0):
        return None
    gap = float(observed.mean() - predicted.mean())
    error = float(np.std(observed - predicted, ddof=1)) / math.sqrt(len(predicted))
    scale = float(predicted.mean()) if kind in RATIOS else 1.0
    return {"kind": "outcome", "subject": "observed against predicted", "value": gap / scale, "threshold": OUTCOME_TOLERANCE[kind],
            "is_drifted": abs(gap) / scale > OUTCOME_TOLERANCE[kind] and abs(gap) > 2 * error}


def sentence(model: str, row: dict[str, Any]) -> str:
    """What moved, in plain words."""
    if row["kind"] == "outcome":
        return f"{model}: what happened differs from what was predicted by {row['value']:+.3f} (more than {row['threshold']:g})"
    what = f"the scores of {model}" if row["kind"] == "score" else f"{row['subject'].replace('_', ' ')} ({model})"
    against = f"{row['threshold']:g} is a major shift" if row["threshold"] <= DRIFTED else f"it moved by at most {row['threshold'] / BEYOND_USUAL:.2f} over as long before"
    return f"the distribution of {what} moved (population stability index {row['value']:.2f}, {against})"
