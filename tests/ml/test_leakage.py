"""The guard against features that know the outcome: what is written after it is caught, what merely goes along with it is not."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from ml import leakage

DAYS = [date(2025, 1, 1) + timedelta(days=90 * step) for step in range(5)]
TODAY = DAYS[-1]


def world(seed: int = 0, rows: int = 1_500, rate: float = 0.2) -> tuple[pl.DataFrame, np.ndarray, pl.DataFrame]:
    """Past rows with their outcome, and today's, whose outcome only the future knows.

    `closing_reason` and `credited_amount` are written with the outcome, for four of five rows; `answer_score` is known for those who lean
    to the outcome (missing for a good reason), `late_count` counts something that comes before it.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for day in DAYS:
        happens = rng.random(rows) < rate
        written = happens & (rng.random(rows) < 0.8) & (day != TODAY)
        leans = rng.random(rows) < np.where(happens, 0.75, 0.3)
        parts.append(pl.DataFrame({
            "as_of_date": [day] * rows, "happens": happens.astype(int), "closing_reason": pl.Series(np.where(written, "price", ""), dtype=pl.String).replace("", None),
            "credited_amount": np.where(written, rng.gamma(2, 50, rows), 0.0), "answer_score": pl.Series(np.where(leans, rng.normal(size=rows), np.nan)).fill_nan(None),
            "late_count": np.where(leans, rng.poisson(2, rows) + 1, 0), "age_days": rng.exponential(100, rows),
        }))  # fmt: skip
    frame = pl.concat(parts)
    past = frame.filter(pl.col("as_of_date") < TODAY)
    return past, past["happens"].cast(pl.Float64).to_numpy(), frame.filter(pl.col("as_of_date") == TODAY)


FEATURES = ("closing_reason", "credited_amount", "answer_score", "late_count", "age_days")


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.7])
def test_what_is_written_after_the_outcome_is_caught_and_what_goes_along_with_it_is_not(rate):
    for seed in range(20):
        past, label, today = world(seed, rate=rate)
        found = leakage.warnings(FEATURES, past, label, today)
        assert [text.split()[0] for text in found] == ["closing_reason", "credited_amount"], (seed, found)
        assert all("may be written after the outcome" in text for text in found)


def test_a_base_rate_that_moves_is_not_taken_for_a_late_entry():
    past, label, _ = world(rate=0.3)
    assert leakage.warnings(("answer_score", "late_count", "age_days"), past, label, world(9, rate=0.2)[2]) == []


def test_a_column_filled_for_one_outcome_alone_is_caught_without_rows_of_today():
    past, label, _ = world()
    planted = past.with_columns(pl.when(pl.col("happens") == 1).then(pl.lit("price")).alias("closing_reason"))
    assert "filled almost only where the outcome is the same" in leakage.warnings(("closing_reason",), planted, label)[0]
    assert leakage.warnings(("age_days",), past, np.ones(past.height)) == []
