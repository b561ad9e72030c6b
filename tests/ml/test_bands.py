"""Bands by which measures are divided: thirds where there are thirds, else what the numbers are."""

from __future__ import annotations

import polars as pl
import pytest

from ml.diagnostics import banded


@pytest.mark.parametrize("values, expected", [
    ([1, 2, 3, 4, 5, 6, None], {"1: lowest third", "2: middle third", "3: highest third", "unknown"}),
    ([0.0] * 50 + [float(v) for v in range(1, 51)], {"1: under 17", "2: 17 and more"}),   # half spent nothing: these were called the middle third
    ([0.0] * 90 + [8.0] * 10, {"1: under 8", "2: 8 and more"}),
    ([5.0, 5.0], {"1: all alike"}), ([None, None], {"unknown"}),
])  # fmt: skip
def test_bands_of_an_amount_are_named_for_what_they_hold(values, expected):
    assert set(banded(pl.Series("value_365d_amount", values, dtype=pl.Float64))) == expected
