"""What conversion means: which leads are asked about, what counts as reached, and over which time.

Belongs here: population, label, features used. Does not belong here: how candidates are fitted (`ml.probability`).
"""

from __future__ import annotations

import polars as pl

from ml.probability import Task

FEATURES = (
    "age_days", "has_campaign", "employee_count", "touch_count", "touches_14d_count", "touch_channel_count", "days_since_last_touch", "interaction_count",
    "interactions_14d_count", "days_since_last_interaction", "campaign_count", "campaign_response_count", "events_30d_count", "earlier_order_count",
    "earlier_lead_count", "season_sine", "season_cosine",
)  # fmt: skip
TASK = Task("conversion of leads", "label", "channel", "the rate of the lead's source", FEATURES, ("channel", "country_code"), naive_is_text=True, entity="lead_id",
            groups=("channel", "country_code", "age_days", "has_campaign", "touch_count"))
SAYS = (
    "Open leads that came in within the lead window. Reached: converted, deal won or first order within the lead window after the as-of day. "
    "Status and rating of a lead are not used: only their last value is kept, which is often set with the outcome."
)


def population(frame: pl.DataFrame) -> pl.DataFrame:
    """Open leads with the label where the outcome is known."""
    return frame.with_columns(pl.col("is_reached").cast(pl.Int64).alias("label"))
