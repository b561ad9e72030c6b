"""Drift: like days are compared, what always moves is judged by how far it usually goes, and a real shift is seen."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from ml import drift

HORIZON = 90
DAYS = [date(2026, 1, 1) - timedelta(days=HORIZON * back) for back in range(6, -1, -1)]
FEATURES = ("age_days", "owner_win_rate", "season_sine", "channel")


def deals(seed: int = 0, rows: int = 400, older: float = 1.0, owners_up: float = 0.0) -> pl.DataFrame:
    """Rows of seven days. Every owner's rate wanders by itself; on the last day deals may be `older` and rates of all owners `owners_up`."""
    rng = np.random.default_rng(seed)
    parts = []
    for day in DAYS:
        last = day == DAYS[-1]
        rate = rng.beta(20, 20, 12) + (owners_up if last else 0.0)
        parts.append(pl.DataFrame({"as_of_date": [day] * rows, "age_days": rng.exponential(30 * (older if last else 1), rows), "owner_win_rate": rate[rng.integers(0, 12, rows)],
                                   "season_sine": np.sin(2 * np.pi * day.timetuple().tm_yday / 365), "channel": rng.choice(["web", "mail"], rows)}))
    return pl.concat(parts)


def moved(frame: pl.DataFrame) -> set[str]:
    kept = drift.watched(frame, FEATURES, DAYS[-2], HORIZON)
    return {row["subject"] for row in drift.of_features(kept, frame.filter(pl.col("as_of_date") == DAYS[-1])) if row["is_drifted"]}


def test_values_shared_by_an_owners_rows_and_the_time_of_year_do_not_drift_by_themselves():
    found = [moved(deals(seed)) for seed in range(30)]
    assert sum("owner_win_rate" in names for names in found) <= 2 and not any(names - {"owner_win_rate"} for names in found), found
    plain = drift.of_features(drift.remember(deals().filter(pl.col("as_of_date") == DAYS[-2]), FEATURES), deals().filter(pl.col("as_of_date") == DAYS[-1]))
    assert {row["subject"] for row in plain if row["value"] > drift.DRIFTED} == {"owner_win_rate"}, "without what is usual every day would warn"


def test_a_real_shift_is_seen_and_said_beside_what_was_usual():
    assert all("age_days" in moved(deals(seed, older=3.0)) for seed in range(10))
    assert sum("owner_win_rate" in moved(deals(seed, owners_up=0.6)) for seed in range(10)) >= 7, "twelve values tell less than as many rows"
    frame = deals(1, owners_up=0.6)
    row = next(r for r in drift.of_features(drift.watched(frame, FEATURES, DAYS[-2], HORIZON), frame.filter(pl.col("as_of_date") == DAYS[-1])) if r["subject"] == "owner_win_rate")
    assert row["threshold"] > drift.DRIFTED and "it moved by at most" in drift.sentence("deals", row)


@pytest.mark.parametrize("kind, predicted, observed, drifted", [
    ("days", 200.0, 200.0, False), ("days", 200.0, 150.0, True), ("effect", 0.03, 0.03, False), ("effect", 0.03, -0.02, True), ("probability", 0.3, 0.32, False), ("value", 100.0, 130.0, True),
])
def test_what_happened_is_compared_with_what_was_foreseen_in_the_scores_own_unit(kind, predicted, observed, drifted):
    rng = np.random.default_rng(0)
    seen = observed + rng.normal(0, 0.3 if kind in ("effect", "probability") else 40.0, 20_000)
    row = drift.of_outcomes(kind, np.full(20_000, predicted), seen)
    assert bool(row["is_drifted"]) == drifted, row
    assert row["value"] == pytest.approx(observed / predicted - 1 if kind in drift.RATIOS else observed - predicted, abs=0.01)
