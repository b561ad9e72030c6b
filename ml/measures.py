"""Measures of ranking, calibration and value, and the tables behind their plots.

Belongs here: what is computed from (outcome, score). Does not belong here: intervals, comparisons and the publishing gate (`ml.evaluation`).

Every measure takes (outcome [n], score [n]). Equal scores are treated alike (ranks are averaged, bins never separate them), so no measure
depends on the order of rows. A measure that the data do not define is nan.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from scipy.stats import norm

# Probabilities are kept this far from 0 and 1 in the logarithm.
LOG_LOSS_FLOOR = 1e-15
BINS = 10


# -- ranking


def roc_auc(outcome, score) -> float:
    """Area under the ROC curve: chance that a random positive scores above a random negative, ties half."""
    outcome, score = _binary(outcome, score)
    positives = outcome.sum()
    negatives = len(outcome) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = _ranks(score)[outcome == 1]
    return float((ranks.sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(outcome, score) -> float:
    """Precision averaged over recall, stepwise (no interpolation)."""
    outcome, score = _binary(outcome, score)
    if outcome.sum() == 0:
        return math.nan
    order = _ascending(score)[::-1]
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(outcome[order])[last_of_tie]
    chosen = np.flatnonzero(last_of_tie) + 1
    return float(np.sum(np.diff(found, prepend=0) * found / chosen) / outcome.sum())


def normalised_gini(outcome, score) -> float:
    """Concentration of the outcome's value along the score, over the one along the outcome itself; 1 is perfect, 0 chance.

    For outcomes 0/1 it equals 2 AUC - 1.
    """
    outcome, score = _arrays(outcome, score)
    best = _concentration(outcome, outcome)
    return float(_concentration(outcome, score) / best) if best > 0 else math.nan


def spearman(outcome, score) -> float:
    """Rank correlation, ties averaged; nan when either side does not vary."""
    outcome, score = _arrays(outcome, score)
    if len(outcome) < 2 or np.ptp(outcome) == 0 or np.ptp(score) == 0:
        return math.nan
    return float(np.corrcoef(_ranks(outcome), _ranks(score))[0, 1])


def area_under_lift_curve(outcome, score) -> float:
    """Area under the cumulative gain curve (share of outcome reached against share of rows contacted); chance is 0.5.

    The ALIFT of Moro, Cortez & Rita (2014), Decision Support Systems 62.
    """
    outcome, score = _arrays(outcome, score)
    if len(outcome) == 0 or outcome.sum() <= 0:
        return math.nan
    return float(1 - outcome @ (len(score) + 0.5 - _ranks(score)) / (len(outcome) * outcome.sum()))


def share_at_top(outcome, score, top: float = 0.1) -> float:
    """Share of all value (or of all positives) held by the best-scored `top` (0..1) of rows; ties at the edge pro rata."""
    outcome, score = _arrays(outcome, score)
    if not 0 <= top <= 1:
        raise ValueError(f"top must lie between 0 and 1, got {top}")
    total = outcome.sum()
    if len(outcome) == 0 or total <= 0:
        return math.nan
    order = _ascending(score)[::-1]
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    rows = np.concatenate([[0], np.flatnonzero(last_of_tie) + 1])
    reached = np.concatenate([[0.0], np.cumsum(outcome[order])[last_of_tie]])
    return float(np.interp(top * len(outcome), rows, reached) / total)


# -- calibration of probabilities


def brier_score(outcome, probability) -> float:
    """Mean squared error of the probability; lower is better."""
    outcome, probability = _binary(outcome, probability, probabilities=True)
    return float(np.mean((probability - outcome) ** 2)) if len(outcome) else math.nan


def log_loss(outcome, probability) -> float:
    """Mean negative log-likelihood in nats; lower is better."""
    outcome, probability = _binary(outcome, probability, probabilities=True)
    if len(outcome) == 0:
        return math.nan
    probability = np.clip(probability, LOG_LOSS_FLOOR, 1 - LOG_LOSS_FLOOR)
    return float(-np.mean(outcome * np.log(probability) + (1 - outcome) * np.log1p(-probability)))


def expected_calibration_error(outcome, probability, bins: int = BINS) -> float:
    """Mean distance between predicted and observed rate over bins of equal mass, weighted by rows; lower is better."""
    outcome, probability = _binary(outcome, probability, probabilities=True)
    if len(outcome) == 0:
        return math.nan
    of = equal_mass_bins(probability, bins)
    return float(np.sum(np.abs(np.bincount(of, weights=probability - outcome))) / len(outcome))


# -- calibration of values


def total_bias(outcome, score) -> float:
    """Sum of predictions over sum of outcomes, minus 1; 0.1 is ten per cent too much."""
    outcome, score = _arrays(outcome, score)
    return float(score.sum() / outcome.sum() - 1) if outcome.sum() > 0 else math.nan


def decile_error(outcome, score, bins: int = BINS) -> float:
    """Sum over score deciles of |predicted - actual total|, over the actual total; lower is better."""
    outcome, score = _arrays(outcome, score)
    if outcome.sum() <= 0:
        return math.nan
    of = equal_mass_bins(score, bins)
    return float(np.sum(np.abs(np.bincount(of, weights=score - outcome))) / outcome.sum())


def tweedie_deviance(outcome, score, power: float = 1.5) -> float:
    """Mean Tweedie deviance of expected values above 0 (1 < power < 2): proper for means of amounts with many zeros; lower is better."""
    outcome, score = _arrays(outcome, score)
    outcome = np.maximum(outcome, 0.0)
    return float(2 * np.mean(outcome ** (2 - power) / ((1 - power) * (2 - power)) - outcome * score ** (1 - power) / (1 - power) + score ** (2 - power) / (2 - power)))


# -- tables


def equal_mass_bins(score, bins: int = BINS) -> np.ndarray:
    """Bin 0 (lowest scores) to bins - 1 per row, of as equal size as ties allow: equal scores share a bin."""
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    score = np.asarray(score, dtype=float)
    if len(score) == 0:
        return np.empty(0, dtype=np.int64)
    # The middle of a row's tie, as a share of all rows.
    middle = (_ranks(score) - 0.5) / len(score)
    return np.minimum((middle * bins).astype(np.int64), bins - 1)


def reliability_table(outcome, probability, bins: int = BINS, level: float = 0.95) -> pl.DataFrame:
    """Predicted against observed rate per bin of equal mass, lowest first.

    Columns: bin (from 1), n, mean_predicted, observed_rate, lower, upper (Wilson interval of the observed rate).
    """
    outcome, probability = _binary(outcome, probability, probabilities=True)
    bin_of, n, (predicted, observed) = _by_bin(probability, bins, probability, outcome)
    rate = observed / n
    z = norm.ppf(0.5 + level / 2)
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return pl.DataFrame({
        "bin": bin_of + 1,
        "n": n,
        "mean_predicted": predicted / n,
        "observed_rate": rate,
        # exactly 0 and 1 where nothing or everything happened: in floating point the end fell short of the rate
        "lower": np.where(observed == 0, 0.0, centre - half),
        "upper": np.where(observed == n, 1.0, centre + half),
    })  # fmt: skip


def lift_table(outcome, score, bins: int = BINS) -> pl.DataFrame:
    """Lift and gain per bin of equal mass, best scores first.

    Columns: bin (1 = best), n, lowest_score, outcome_total, outcome_mean, lift, cumulative_rows (share),
    cumulative_gain (share), cumulative_lift. Shares and lifts are null when there is no outcome at all.
    """
    outcome, score = _arrays(outcome, score)
    bin_of, n, (total,) = _by_bin(-score, bins, outcome)
    lowest = np.full(bins, np.inf)
    np.minimum.at(lowest, equal_mass_bins(-score, bins), score)
    rows = np.cumsum(n) / max(len(score), 1)
    everything = outcome.sum()
    whole = everything if everything > 0 else math.nan
    gain = np.cumsum(total) / whole
    table = pl.DataFrame({
        "bin": bin_of + 1,
        "n": n,
        "lowest_score": lowest[bin_of],
        "outcome_total": total,
        "outcome_mean": total / n,
        "lift": (total / n) / (whole / max(len(score), 1)),
        "cumulative_rows": rows,
        "cumulative_gain": gain,
        "cumulative_lift": gain / rows,
    })  # fmt: skip
    return table.with_columns(pl.col("lift", "cumulative_gain", "cumulative_lift").fill_nan(None))


def decile_table(outcome, score, bins: int = BINS) -> pl.DataFrame:
    """Predicted against actual total per bin of equal mass, best scores first.

    Columns: bin (1 = best), n, predicted_total, actual_total, bias (predicted / actual - 1; null where actual is 0).
    """
    outcome, score = _arrays(outcome, score)
    bin_of, n, (predicted, actual) = _by_bin(-score, bins, score, outcome)
    bias = [p / a - 1 if a > 0 else None for p, a in zip(predicted, actual, strict=True)]
    return pl.DataFrame(
        {"bin": bin_of + 1, "n": n, "predicted_total": predicted, "actual_total": actual, "bias": bias},
        schema_overrides={"bias": pl.Float64},
    )


# -- helpers


def _arrays(outcome, score) -> tuple[np.ndarray, np.ndarray]:
    outcome, score = np.asarray(outcome, dtype=float), np.asarray(score, dtype=float)
    if outcome.ndim != 1 or outcome.shape != score.shape:
        raise ValueError(f"outcome and score must be of one length, got shapes {outcome.shape} and {score.shape}")
    if not (np.all(np.isfinite(outcome)) and np.all(np.isfinite(score))):
        raise ValueError("outcome and score must be finite; leave rows without an outcome or score out first")
    return outcome, score


def _binary(outcome, score, probabilities: bool = False) -> tuple[np.ndarray, np.ndarray]:
    outcome, score = _arrays(outcome, score)
    if not np.all((outcome == 0) | (outcome == 1)):
        raise ValueError("outcome must be 0 or 1")
    if probabilities and not np.all((score >= 0) & (score <= 1)):
        raise ValueError("probabilities must lie between 0 and 1")
    return outcome, score


def _ascending(values: np.ndarray) -> np.ndarray:
    """Row numbers from the least to the greatest value; equal values in any order. Resamples come sorted, and half of a training was sorting them again."""
    return np.arange(len(values)) if np.all(values[1:] >= values[:-1]) else np.argsort(values)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank (scipy's does the same at ten times the cost for small n)."""
    order = _ascending(values)
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(values) else np.empty(0, np.int64)
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _concentration(value: np.ndarray, score: np.ndarray) -> float:
    n, total = len(value), value.sum()
    if n == 0 or total <= 0:
        return math.nan
    return float(2 * (value @ _ranks(score)) / (n * total) - (n + 1) / n)


def _by_bin(score, bins, *columns):
    """Bins that occur, their sizes, and the column sums in each."""
    of = equal_mass_bins(score, bins)
    size = np.bincount(of, minlength=bins) if len(of) else np.zeros(bins, dtype=np.int64)
    used = np.flatnonzero(size)
    sums = [np.bincount(of, weights=column, minlength=bins)[used] if len(of) else np.empty(0) for column in columns]
    return used, size[used], sums
