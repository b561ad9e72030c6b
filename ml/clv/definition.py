"""What customer lifetime value means here, and what common sense would say.

Belongs here: population, outcome, horizons, the naive rule. Does not belong here: the forecast (`purchases.py`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

YEAR_DAYS = 365
SHORT_DAYS = 90
NAIVE_NAME = "spending at the rate of the last year"
SAYS = (
    "Everybody who has ordered. Value: net revenue, after refunds, of the orders placed within 365 days (and 90) after the as-of day, in the "
    "reporting currency. Subscription fees count only where they are orders."
)
# Judged are customers who could still be customers: buyers of the year before.
FEWEST_REPEATERS = 50
# Columns by which the evaluation is divided.
GROUPS = ("customer_type", "country_code", "acquisition_channel", "days_since_first_order", "purchase_days_365d_count", "value_365d_amount")
# A pace measured over a few days says little; it is taken as if it had lasted this long.
SHORTEST_PACE_DAYS = 30


def population(frame: pl.DataFrame) -> pl.DataFrame:
    """Everybody with an order."""
    return frame.filter(pl.col("purchase_day_count") > 0)


def judged(frame: pl.DataFrame) -> pl.DataFrame:
    """Buyers of the 365 days before the as-of day."""
    return frame.filter(pl.col("purchase_days_365d_count") > 0)


def same_rate_spend(frame: pl.DataFrame, days: int) -> np.ndarray:
    """The naive rule: spending of the last year (or since the first order) goes on at the same rate."""
    lasted = np.clip(frame["days_since_first_order"].cast(pl.Float64).to_numpy(), SHORTEST_PACE_DAYS, YEAR_DAYS)
    return np.maximum(frame["value_365d_amount"].cast(pl.Float64).to_numpy() / lasted * days, 0.0)
