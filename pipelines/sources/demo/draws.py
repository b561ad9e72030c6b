"""Random draws and column helpers that every part of the simulator uses.

Belongs here: sampling and array-to-column conversions without knowledge of the company.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

NOBODY = -1
"""Stands for "no such row" in arrays of ids or positions; written as NULL."""


def at_least(rng: np.random.Generator, candidates: np.ndarray, probability: float, least: int = 2) -> np.ndarray:
    """Choose each candidate with a probability, but `least` of them (or all) in any case, so that small worlds are whole."""
    count = max(min(least, candidates.size), int(rng.binomial(candidates.size, probability)))
    return np.sort(rng.choice(candidates, size=count, replace=False)) if count else candidates[:0]


def quota(rng: np.random.Generator, weights: Sequence[float], count: int) -> np.ndarray:
    """Deal out `count` kinds in the proportions of `weights`, in random order, each kind once before any comes twice.

    With fewer than there are kinds, the most common kinds are dealt.
    """
    share = np.asarray(weights, dtype=float) / np.sum(weights)
    common_first = np.argsort(-share, kind="stable")
    once = common_first[:count]
    rest = count - once.size
    numbers = np.floor(share * rest).astype(int)
    numbers[common_first[0]] += rest - numbers.sum()
    return rng.permutation(np.concatenate([once, np.repeat(np.arange(share.size), numbers)]))


def logistic(value: np.ndarray) -> np.ndarray:
    """Turn log-odds into a probability."""
    return 1.0 / (1.0 + np.exp(-value))


def labels(choices: Sequence[str], positions: np.ndarray) -> pl.Series:
    """Look names up by position; `NOBODY` becomes NULL."""
    positions = np.asarray(positions)
    names = pl.Series([*choices, None], dtype=pl.String)
    return names.gather(pl.Series(np.where(positions < 0, len(choices), positions).astype(np.uint32)))


def ids(values: np.ndarray) -> pl.Series:
    """Make an id column; `NOBODY` becomes NULL."""
    column = pl.Series(np.asarray(values, dtype=np.int64))
    return column.to_frame("i").select(pl.when(pl.col("i") >= 0).then(pl.col("i"))).to_series()


def known(values: np.ndarray, mask: np.ndarray) -> pl.Series:
    """Make a number column that is NULL where the mask is false."""
    frame = pl.DataFrame({"v": values, "m": np.asarray(mask, dtype=bool)})
    return frame.select(pl.when(pl.col("m")).then(pl.col("v"))).to_series()


def flags(mask: np.ndarray) -> pl.Series:
    """Make a 0/1 column."""
    return pl.Series(np.asarray(mask, dtype=bool).astype(np.int64))


def money(cents: np.ndarray) -> pl.Series:
    """Make an amount column with two decimals from integer cents."""
    return pl.Series(np.asarray(cents, dtype=np.int64) / 100)


def positions_in_group(groups: np.ndarray) -> np.ndarray:
    """Number the rows of each run of equal values 0, 1, 2 ...; the groups must be contiguous."""
    groups = np.asarray(groups)
    if groups.size == 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    lengths = np.diff(np.concatenate([starts, [groups.size]]))
    return np.arange(groups.size) - np.repeat(starts, lengths)
