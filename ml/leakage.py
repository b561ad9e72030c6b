"""Whether a feature knows the outcome: too good alone, filled only with it, or written after it.

Belongs here: warnings about features of past rows whose outcome is known. Does not belong here: keeping features from looking ahead in
the first place (`models/layers/features`), measures (`ml.evaluation`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from ml import evaluation

# A single feature this good is more likely a trace of the outcome than a cause of it. Valid: 0.9 to 0.99.
SUSPICIOUS_AUC = 0.95
FEWEST_ROWS = 30
# A column is suspected of being written with the outcome when its being filled differs between the outcomes by this share, and today, when
# no outcome is known, falls short of the past by half of what the outcome had added, beyond chance. Valid: 0.2 to 0.5; 3 to 6.
FILLED_BY_OUTCOME = 0.3
BEYOND_CHANCE = 4.0


def warnings(features: tuple[str, ...], frame: pl.DataFrame, label: np.ndarray, today: pl.DataFrame | None = None) -> list[str]:
    """Sentences about features that tell the outcome too well, or were filled in with or after it.

    Parameters
    ----------
    frame, label : past rows and their outcome 0/1, shape [n]; with `as_of_date`, fillings are compared day by day.
    today : like rows whose outcome nobody knows yet. What is filled in after an outcome is filled in the past rows, which are read now, but
        not in these; an honest feature is as full today as it was on past days.
    """
    if len(label) < FEWEST_ROWS or label.min() == label.max():
        return []
    found = []
    for name in features:
        text = _of_one(name, frame, label)
        if text is None and today is not None and name in today.columns and today.height >= FEWEST_ROWS:
            text = _written_after(name, frame, label, today)
        found += [text] if text else []
    return found


def _of_one(name: str, frame: pl.DataFrame, label: np.ndarray) -> str | None:
    filled = _filled(frame[name])
    if filled.any() and not filled.all():
        auc = evaluation.roc_auc(label, filled.astype(float))
        if max(auc, 1 - auc) > SUSPICIOUS_AUC:
            return f"{name} is filled almost only where the outcome is the same (AUC {max(auc, 1 - auc):.3f}): it may be written after the outcome"
    if frame[name].dtype != pl.String and filled.sum() > FEWEST_ROWS and label[filled].min() != label[filled].max():
        auc = evaluation.roc_auc(label[filled], frame[name].cast(pl.Float64).to_numpy().astype(float)[filled])
        if max(auc, 1 - auc) > SUSPICIOUS_AUC:
            return f"{name} alone tells the outcome with AUC {max(auc, 1 - auc):.3f}: it may know the future"
    return None


def _written_after(name: str, frame: pl.DataFrame, label: np.ndarray, today: pl.DataFrame) -> str | None:
    """Today's filling against the past's, of values that are there at all and of values other than 0 (a counter that starts with the outcome)."""
    for what in (_filled, _not_zero) if frame[name].dtype != pl.String else (_filled,):
        past, now = what(frame[name]), what(today[name])
        with_outcome, without = float(past[label == 1].mean()), float(past[label == 0].mean())
        least, whole, share = min(with_outcome, without), float(past.mean()), float(now.mean())
        if abs(with_outcome - without) < FILLED_BY_OUTCOME or share > least + (whole - least) / 2:
            continue
        error = float(np.sqrt(whole * (1 - whole) * (1 / len(now) + 1 / len(past))))
        if whole - share > BEYOND_CHANCE * error and share < _least_of_days(frame, past):
            kind = "filled" if what is _filled else "above 0"
            return (f"{name} is {kind} for {100 * with_outcome:.0f} % of past rows with the outcome and {100 * without:.0f} % of those without, but for {100 * share:.0f} % of today's rows, "
                    f"whose outcome is not known yet, where {100 * whole:.0f} % would be usual: it may be written after the outcome")  # fmt: skip
    return None


def _least_of_days(frame: pl.DataFrame, filled: np.ndarray) -> float:
    if "as_of_date" not in frame.columns:
        return float(filled.mean())
    days = frame.select("as_of_date", pl.Series("filled", filled)).group_by("as_of_date").agg(pl.col("filled").mean(), pl.len()).filter(pl.col("len") >= FEWEST_ROWS)
    return float(days["filled"].min()) if days.height else float(filled.mean())


def _filled(column: pl.Series) -> np.ndarray:
    if column.dtype == pl.String:
        return (column.is_not_null() & ~column.fill_null("unknown").is_in(["unknown", ""])).to_numpy()
    return np.isfinite(column.cast(pl.Float64).fill_null(np.nan).to_numpy())


def _not_zero(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy() != 0
