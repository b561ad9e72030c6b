"""Effects of a treatment assigned at random: doubly robust scores, the average effect, the Qini curve, balance of the groups.

Belongs here: the mathematics on arrays. Does not belong here: fitting outcome models, what a treatment or an outcome is (`ml.uplift`).

Every function takes the known share of treated rows of each row's own experiment, so that experiments with different shares may be
pooled. Intervals resample whole units (a customer's rows in several experiments), because these are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GRID = np.linspace(0.0, 1.0, 21)


def doubly_robust_scores(treated, outcome, share, with_treatment, without) -> np.ndarray:
    """Scores whose mean over any group of rows is an unbiased estimate of the group's average effect, shape [n].

    Augmented inverse propensity weighting: Robins, Rotnitzky & Zhao (1994). `with_treatment` and `without` are predictions of the
    outcome by models that have not seen the row; with a known `share` they only lower the variance.
    """
    treated, outcome, share, one, zero = (np.asarray(v, dtype=float) for v in (treated, outcome, share, with_treatment, without))
    return one - zero + treated * (outcome - one) / share - (1 - treated) * (outcome - zero) / (1 - share)


def standardised_differences(values, treated, share) -> np.ndarray:
    """Difference of the groups' means in pooled standard deviations for each column of `values`, shape [n, k] → [k].

    Rows are weighted by the inverse of their group's share. Above 0.1 counts as imbalance: Austin (2009), Statistics in Medicine 28.
    Unknown values (nan) count with the column's mean; columns that do not vary give 0.
    """
    values = np.asarray(values, dtype=float)
    values = np.where(np.isnan(values), np.nanmean(np.where(np.isnan(values).all(axis=0), 0.0, values), axis=0), values)
    treated, share = np.asarray(treated, dtype=bool), np.asarray(share, dtype=float)
    sides = [(treated, 1 / share[treated]), (~treated, 1 / (1 - share[~treated]))]
    means = [np.average(values[rows], axis=0, weights=weights) for rows, weights in sides]
    spread = np.sqrt(sum(values[rows].var(axis=0) for rows, _ in sides) / 2)
    return np.divide(means[0] - means[1], spread, out=np.zeros(values.shape[1]), where=spread > 1e-12)


@dataclass(frozen=True)
class Effects:
    """Point and interval of each quantity: `average`, `qini`, `at_top` by share, and the curve of gains over GRID (value, lower, upper)."""

    average: tuple[float, float, float]
    qini: tuple[float, float, float]
    at_top: dict[float, tuple[float, float, float]]
    curve: np.ndarray


def effects(scores, priority, unit, *, tops: tuple[float, ...] = (0.1, 0.2, 0.3), resamples: int = 300, level: float = 0.95, seed: int = 0) -> Effects:
    """Average effect, Qini curve, Qini coefficient and effects at the top of a ranking, with cluster-bootstrap intervals.

    Parameters
    ----------
    scores : doubly robust scores, shape [n].
    priority : who would be treated first, greatest first, made without the row's own outcome, shape [n].
    unit : what is resampled as a whole, shape [n].

    Gain at a share q of rows: the sum of effects of the q first, per row of all. The Qini coefficient is the area between the curve of
    gains and the straight line of a random order: Radcliffe (2007); with these scores it is the QINI of Yadlowsky et al. (2021),
    "Evaluating treatment prioritization rules via rank-weighted average treatment effects". Equal priorities are treated alike.
    """
    scores, priority = np.asarray(scores, dtype=float), np.asarray(priority, dtype=float)
    codes = np.unique(np.asarray(unit), return_inverse=True)[1]
    order = np.argsort(-priority, kind="stable")
    ranked, codes = scores[order], codes[order]
    last_of_tie = np.append(np.diff(priority[order]) != 0, True)

    def measured(weight: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        total = weight.sum()
        rows = np.concatenate([[0.0], (np.cumsum(weight) / total)[last_of_tie]])
        gains = np.concatenate([[0.0], (np.cumsum(weight * ranked) / total)[last_of_tie]])
        area = float(np.sum(np.diff(rows) * (gains[1:] + gains[:-1]) / 2) - gains[-1] / 2)
        return float(gains[-1]), area, np.interp(GRID, rows, gains), np.interp(tops, rows, gains) / np.asarray(tops)

    whole = measured(np.ones(len(ranked)))
    rng = np.random.default_rng(seed)
    units = int(codes.max()) + 1 if len(codes) else 0
    drawn = [measured(rng.multinomial(units, np.full(units, 1 / units))[codes].astype(float)) for _ in range(resamples)]
    ends = [0.5 - level / 2, 0.5 + level / 2]

    def with_ends(part: int):
        spread = np.array([found[part] for found in drawn])
        return np.vstack([np.atleast_1d(whole[part])[None, :], np.quantile(spread.reshape(len(drawn), -1), ends, axis=0)])

    average, area, curve, top = (with_ends(part) for part in range(4))
    return Effects(tuple(map(float, average[:, 0])), tuple(map(float, area[:, 0])), {t: tuple(map(float, top[:, i])) for i, t in enumerate(tops)}, curve)
