"""Sufficient statistics of purchase histories: frequency, recency and age per customer.

Belongs here: checking and grouping of (x, t_x, T) rows, the deterministic start sample.
Does not belong here: how a history is counted from orders (the features layer does that), any likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

# Customers whose fit starts the full one. 20,000 place r, alpha, a and b within a few per cent of the full fit, so that
# two or three full Newton steps remain. Valid: 1,000 (more full steps) to 100,000 (slower start).
START_SAMPLE = 20_000


@dataclass(frozen=True)
class PurchaseSummaries:
    """Distinct purchase histories with their weights, shapes [m].

    ``frequency`` repeat purchases x, ``recency`` t_x time of the last one since the first purchase, ``age`` T time since
    the first purchase, ``weight`` customers with that history. All times in one unit.
    """

    frequency: np.ndarray
    recency: np.ndarray
    age: np.ndarray
    weight: np.ndarray

    @property
    def customers(self) -> float:
        return float(self.weight.sum())

    def in_units_of(self, unit: float) -> PurchaseSummaries:
        return PurchaseSummaries(self.frequency, self.recency / unit, self.age / unit, self.weight)

    def start_sample(self, size: int = START_SAMPLE) -> PurchaseSummaries | None:
        """A systematic sample of `size` customers, or None when there are not many more than that.

        Systematic along the sorted histories: deterministic, independent of row order, and with less variance than a
        random sample.
        """
        if len(self.weight) < 2 * size:
            return None
        cumulative = np.cumsum(self.weight)
        positions = (np.arange(size) + 0.5) * (cumulative[-1] / size)
        rows, counts = np.unique(np.searchsorted(cumulative, positions), return_counts=True)
        weight = counts * (cumulative[-1] / size)
        return PurchaseSummaries(self.frequency[rows], self.recency[rows], self.age[rows], weight)


def checked_histories(x, t_x, T) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Broadcast and check purchase histories; float arrays of equal shape.

    Raises
    ------
    ValueError : naming the first offending row and what is wrong with it.
    """
    x, t_x, T = np.broadcast_arrays(*(np.asarray(values, dtype=float) for values in (x, t_x, T)))
    # Recency is a difference of two time stamps and age another: allow rounding of the division by the time unit.
    slack = 1e-9 * (1.0 + np.abs(T))
    rules = (
        (np.isfinite(x) & np.isfinite(t_x) & np.isfinite(T), "frequency, recency and T must be finite numbers"),
        ((x >= 0) & (x == np.floor(x)), "frequency must be a whole number of repeat purchases, 0 or more"),
        ((t_x >= 0) & (T >= 0), "recency and T must not be negative"),
        (t_x <= T + slack, "recency (time of the last purchase) must not exceed T (time observed)"),
        ((x > 0) | (t_x == 0), "recency must be 0 when there is no repeat purchase"),
        ((x == 0) | (t_x > 0), "recency must be above 0 when there is a repeat purchase"),
    )
    for holds, rule in rules:
        if not np.all(holds):
            row = int(np.argmin(np.ravel(holds)))
            values = ", ".join(f"{name} = {np.ravel(array)[row]:g}" for name, array in (("frequency", x), ("recency", t_x), ("T", T)))
            raise ValueError(f"row {row}: {rule}; got {values}")
    return x, np.minimum(t_x, T), T


def checked_weights(sample_weight, rows: int) -> np.ndarray:
    """Weights as counts of customers, shape [rows]; 1 each when None."""
    if sample_weight is None:
        return np.ones(rows)
    weight = np.asarray(sample_weight, dtype=float)
    if weight.shape != (rows,):
        raise ValueError(f"sample_weight must have one value per row: {rows} rows, weights of shape {weight.shape}")
    if not np.all(np.isfinite(weight)) or np.any(weight < 0):
        raise ValueError("sample_weight must be finite and not negative")
    return weight


def group_histories(x, t_x, T, weight) -> PurchaseSummaries:
    """Collapse equal histories (all of x = 0 per T among them), drop weight 0, and sort, so row order cannot matter."""
    # Hash grouping in Polars: a sort of ten million rows of three columns costs numpy a multiple of it. Customers without
    # a repeat purchase, mostly more than half, differ in T alone: one key is hashed three times faster than three.
    rows = pl.DataFrame({"x": x, "t_x": t_x, "T": T, "weight": weight}).filter(pl.col("weight") > 0)
    total = pl.col("weight").sum()
    never = rows.filter(pl.col("x") == 0).group_by("T").agg(total).sort("T")
    repeat = rows.filter(pl.col("x") > 0).group_by("x", "t_x", "T").agg(total).sort("x", "t_x", "T")
    none = np.zeros(never.height)
    columns = {"x": none, "t_x": none, "T": never["T"].to_numpy(), "weight": never["weight"].to_numpy()}
    return PurchaseSummaries(*(np.concatenate([columns[name], repeat[name].to_numpy()]) for name in columns))
