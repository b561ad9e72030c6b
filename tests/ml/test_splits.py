"""Splits never look ahead, cover what they claim, and refuse with the number of missing days."""

from __future__ import annotations

import copy
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.splits import HistoryTooShortError, longest_step, needed_days, rolling_origins, rolling_rows

START = date(2024, 1, 1)


def test_three_quarters_worked_by_hand():
    folds = rolling_origins(START, date(2025, 7, 1), horizon_days=90, history_days=100)
    assert [fold.cutoff for fold in folds] == [date(2024, 10, 4), date(2025, 1, 2), date(2025, 4, 2)]
    assert [fold.label_end for fold in folds] == [date(2025, 1, 2), date(2025, 4, 2), date(2025, 7, 1)]
    assert folds[0].training_cutoffs == (date(2024, 4, 17), date(2024, 7, 6))[-1:]
    assert folds[2].training_cutoffs == (date(2024, 7, 6), date(2024, 10, 4), date(2025, 1, 2))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(3, 8),
    st.integers(1, 400),
    st.integers(0, 200),
    st.integers(-400, 900),
)
def test_no_training_label_reaches_the_judged_cut_off(horizon, history, folds, step, more_gap, slack):
    gap = horizon + more_gap
    end = START + timedelta(days=needed_days(horizon, history, folds, step, gap) + slack)
    arguments = {"horizon_days": horizon, "history_days": history, "folds": folds, "step_days": step, "gap_days": gap}
    if slack < 0:
        with pytest.raises(HistoryTooShortError, match="history is too short") as caught:
            rolling_origins(START, end, **arguments)
        assert caught.value.needed - caught.value.available == -slack
        return
    found = rolling_origins(START, end, **arguments)
    assert len(found) == folds
    assert found[-1].label_end == end
    for earlier, later in zip(found, found[1:], strict=False):
        assert later.cutoff - earlier.cutoff == timedelta(days=step)
    for fold in found:
        assert fold.label_end == fold.cutoff + timedelta(days=horizon)
        assert fold.training_cutoffs
        assert all(cutoff + timedelta(days=horizon) <= fold.cutoff for cutoff in fold.training_cutoffs)
        assert fold.cutoff - max(fold.training_cutoffs) == timedelta(days=gap)
        assert min(fold.training_cutoffs) >= START + timedelta(days=history)
        assert min(fold.training_cutoffs) - timedelta(days=step) < START + timedelta(days=history)


def test_refusal_names_days_there_days_needed_and_the_remedy():
    with pytest.raises(HistoryTooShortError) as caught:
        rolling_origins(START, date(2024, 12, 31), horizon_days=90, history_days=180)
    message = str(caught.value)
    assert "365 days from 2024-01-01 to 2024-12-31" in message
    assert "3 cut-offs need 540" in message
    assert "Wait 175 more days" in message
    again = copy.copy(caught.value)
    assert (str(again), again.needed, again.available) == (message, 540, 365)


def test_masks_pick_rows_by_cut_off_for_dates_and_time_stamps():
    fold = rolling_origins(START, date(2025, 7, 1), horizon_days=90, history_days=100)[-1]
    as_of = np.array([date(2024, 7, 6), date(2025, 1, 2), date(2025, 1, 3), date(2025, 4, 2)])
    training, judged = fold.masks(as_of)
    assert training.tolist() == [True, True, False, False]
    assert judged.tolist() == [False, False, False, True]
    stamped = rolling_origins(datetime(2024, 1, 1), datetime(2025, 7, 1), horizon_days=90, history_days=100)[-1]
    assert stamped.masks(as_of)[1].tolist() == judged.tolist()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1_500), st.integers(1, 200), st.integers(1, 400), st.integers(3, 6))
def test_longest_step_is_the_largest_that_fits(days, horizon, history, folds):
    end = START + timedelta(days=days)
    step = longest_step(START, end, horizon_days=horizon, history_days=history, folds=folds)
    assert 0 <= step <= horizon
    if step:
        assert len(rolling_origins(START, end, horizon_days=horizon, history_days=history, folds=folds, step_days=step)) == folds
    if step < horizon:
        assert needed_days(horizon, history, folds, step + 1, horizon) > days


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3_000), st.integers(1, 500), st.integers(1, 500), st.integers(0, 100))
def test_row_windows_learn_only_from_rows_before_the_gap(rows, training, judged, gap):
    if rows < training + gap + 3 * judged:
        with pytest.raises(HistoryTooShortError, match="3 windows need"):
            rolling_rows(rows, training_rows=training, judged_rows=judged, gap_rows=gap)
        return
    windows = rolling_rows(rows, training_rows=training, judged_rows=judged, gap_rows=gap)
    assert len(windows) >= 3
    seen = np.zeros(rows, dtype=int)
    for learn, judge in windows:
        assert learn.stop - learn.start == training
        assert judge.stop - judge.start == judged
        assert learn.start >= 0
        assert judge.start - learn.stop == gap
        seen[judge] += 1
    assert seen.max() == 1
    assert rows - windows[-1][1].stop < judged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 2}, "folds must be 3"),
        ({"horizon_days": 0}, "must be 1 or more"),
        ({"gap_days": 10}, "would not be known yet"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        rolling_origins(START, date(2026, 1, 1), **({"horizon_days": 90, "history_days": 90} | change))
    with pytest.raises(ValueError, match="training_rows"):
        rolling_rows(10, training_rows=0, judged_rows=1)
