"""What winning means: which deals are asked about, over which time, what is known of them, what common sense says.

Belongs here: population, label, features used, reading them. Does not belong here: how candidates are fitted (`ml.probability`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from ml.probability import Task

FEATURES = (
    "stage_position", "stage_win_rate", "deal_age_days", "days_in_stage", "stage_move_count", "backward_move_count", "deal_amount", "amount_raise_count", "amount_cut_count",
    "expected_in_days", "close_push_count", "owner_change_count", "owner_win_rate", "owner_closed_365d_count", "channel_win_rate", "earlier_won_count", "earlier_lost_count",
    "earlier_order_count", "activity_count", "activities_14d_count", "days_since_last_activity", "employee_count", "season_sine", "season_cosine",
)  # fmt: skip
TASK = Task("winning of deals", "label", "stage_win_rate", "the win rate of the deal's stage", FEATURES, ("stage", "pipeline", "channel"), entity="deal_id", groups=("stage", "channel"))
SAYS = (
    "Open deals. Won: a deal that closes within the lead window after the as-of day closes as won, as in the win rate; deals still open then are not learned from. Stage, amount, expected close and owner count as they were logged before that day; "
    "where a source logs no changes they are not used, because what it tells today is often set with the outcome."
)


def read_deals(con: Any) -> pl.DataFrame:
    """Open deals with the outcome where known, by as-of date and deal."""
    return con.execute(
        "SELECT states.*, outcomes.is_won FROM features.ftr_deals__state AS states "
        "LEFT JOIN features.ftr_deals__outcomes AS outcomes USING (deal_id, as_of_date) ORDER BY as_of_date, deal_id"
    ).pl()


def population(frame: pl.DataFrame) -> pl.DataFrame:
    """Open deals with the label where the outcome is known. Before any deal closed, a stage is worth as much as any other."""
    return frame.with_columns(pl.col("is_won").cast(pl.Int64).alias("label"), pl.col("stage_win_rate").fill_null(0.5))
