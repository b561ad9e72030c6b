"""Which rows may be learned from, and which are judged: splits that never look ahead.

Belongs here: rolling origins over time, rolling windows over rows in time order, the refusal when history is too short.
Does not belong here: labels and features (each model's `definition.py`, the features layer), scores of a split
(`ml.evaluation`).

A label observed over ``[cut-off, cut-off + horizon)`` is known only at the end of that window. A model that is judged
at a cut-off may therefore learn only from cut-offs at least one horizon earlier: the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

# Fewer origins than this say nothing about how a result varies over time.
FEWEST_FOLDS = 3


class HistoryTooShortError(ValueError):
    """There is not enough history for the wanted folds.

    Attributes
    ----------
    needed, available : days (or rows, for `rolling_rows`).
    """

    def __init__(self, message: str, needed: int, available: int) -> None:
        self.needed = needed
        self.available = available
        super().__init__(message)

    def __reduce__(self):
        return type(self), (str(self), self.needed, self.available)


@dataclass(frozen=True)
class Fold:
    """One origin: learn at `training_cutoffs`, judge at `cutoff` by what happens in ``[cutoff, label_end)``."""

    number: int
    training_cutoffs: tuple[date, ...]
    cutoff: date
    label_end: date

    def masks(self, as_of) -> tuple[np.ndarray, np.ndarray]:
        """Boolean masks (training rows, judged rows) of rows whose cut-offs are `as_of`, shape [n]."""
        days = np.asarray(as_of, dtype="datetime64[us]")
        training = np.isin(days, np.asarray(self.training_cutoffs, dtype="datetime64[us]"))
        return training, days == np.datetime64(self.cutoff, "us")


def rolling_origins(
    start: date | datetime,
    end: date | datetime,
    *,
    horizon_days: int,
    history_days: int,
    folds: int = FEWEST_FOLDS,
    step_days: int | None = None,
    gap_days: int | None = None,
) -> list[Fold]:
    """Rolling origins, oldest first; the last one's label window ends at or before `end`.

    Parameters
    ----------
    start, end : the history is complete over ``[start, end)``; `end` is the data watermark, not today.
    horizon_days : length of the label window.
    history_days : behaviour that must lie before the earliest training cut-off.
    folds : origins to judge at, at least three.
    step_days : distance between origins; the horizon by default, so that judged windows do not overlap.
    gap_days : distance from a judged cut-off back to its latest training cut-off; the horizon by default, and never less.

    Raises
    ------
    HistoryTooShortError : saying how many days are there and how many are needed.
    ValueError : arguments that make no sense.
    """
    step = horizon_days if step_days is None else step_days
    gap = horizon_days if gap_days is None else gap_days
    if folds < FEWEST_FOLDS:
        raise ValueError(f"folds must be {FEWEST_FOLDS} or more, got {folds}")
    if horizon_days < 1 or step < 1 or history_days < 1:
        raise ValueError("horizon_days, step_days and history_days must be 1 or more")
    if gap < horizon_days:
        raise ValueError(f"gap_days = {gap} is below the horizon of {horizon_days} days: training labels would not be known yet")
    available = (end - start).days
    needed = needed_days(horizon_days, history_days, folds, step, gap)
    if available < needed:
        raise HistoryTooShortError(
            f"history is too short: {max(available, 0)} days from {start:%Y-%m-%d} to {end:%Y-%m-%d}, but {folds} "
            f"cut-offs need {needed} ({history_days} of behaviour before the first, {gap} of gap, "
            f"{(folds - 1) * step} between cut-offs, {horizon_days} of outcome). Wait {needed - available} more days, "
            "load older data, or shorten the horizon.",
            needed,
            available,
        )
    earliest = start + timedelta(days=history_days)
    result = []
    for number in range(folds):
        cutoff = end - timedelta(days=horizon_days + (folds - 1 - number) * step)
        latest = cutoff - timedelta(days=gap)
        count = (latest - earliest).days // step + 1
        training = tuple(latest - timedelta(days=step * back) for back in reversed(range(count)))
        result.append(Fold(number + 1, training, cutoff, cutoff + timedelta(days=horizon_days)))
    return result


def needed_days(horizon_days: int, history_days: int, folds: int, step_days: int, gap_days: int) -> int:
    """Days of history that `rolling_origins` needs with these arguments."""
    return history_days + gap_days + (folds - 1) * step_days + horizon_days


def longest_step(start: date, end: date, *, horizon_days: int, history_days: int, folds: int = FEWEST_FOLDS) -> int:
    """Largest step in days, at most the horizon, for which the folds fit; 0 when not even a step of one day does.

    With a step below the horizon the judged windows overlap: intervals must then come from a bootstrap over customers.
    """
    spare = (end - start).days - history_days - 2 * horizon_days
    return max(0, min(horizon_days, spare // (folds - 1)))


def rolling_rows(rows: int, *, training_rows: int, judged_rows: int, gap_rows: int = 0) -> list[tuple[slice, slice]]:
    """Windows over rows in time order, for data without time stamps: (training slice, judged slice), oldest first.

    The judged slices follow one another without overlap and end with the last row that fills a whole one.

    Raises
    ------
    HistoryTooShortError : fewer than three windows fit.
    """
    if training_rows < 1 or judged_rows < 1 or gap_rows < 0:
        raise ValueError("training_rows and judged_rows must be 1 or more, gap_rows 0 or more")
    needed = training_rows + gap_rows + FEWEST_FOLDS * judged_rows
    if rows < needed:
        raise HistoryTooShortError(
            f"history is too short: {rows} rows, but {FEWEST_FOLDS} windows need {needed} ({training_rows} to learn "
            f"from, {gap_rows} of gap, {judged_rows} to judge in each). Use smaller windows or wait for more data.",
            needed,
            rows,
        )
    windows = []
    for begin in range(training_rows + gap_rows, rows - judged_rows + 1, judged_rows):
        learned_until = begin - gap_rows
        windows.append((slice(learned_until - training_rows, learned_until), slice(begin, begin + judged_rows)))
    return windows
