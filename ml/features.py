"""Feature frames: what is read from the `features` schema, and what each column is called in plain words.

Belongs here: reading frames through the caller's connection, the matrix a model sees, names for people. Does not belong here:
how a feature is computed (`models/layers/features`), which rows a model learns from (each model's `definition.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

# Name in plain words of each feature that may be a reason, and how its value is written.
PLAIN_WORDS: dict[str, tuple[str, str]] = {
    "no_purchase_log_odds": ("buying rhythm: chance of no order by past pace", "share"),
    "days_since_last_order": ("days since the last order", "whole"),
    "days_since_first_order": ("days since the first order", "whole"),
    "active_span_days": ("days from the first to the last order", "whole"),
    "mean_gap_days": ("average days between orders", "whole"),
    "longest_gap_days": ("longest pause between orders in days", "whole"),
    "overdue_ratio": ("pause so far against the usual pause", "times"),
    "purchase_day_count": ("days with an order so far", "whole"),
    "order_count": ("orders so far", "whole"),
    "purchase_days_30d_count": ("days with an order in the last 30 days", "whole"),
    "purchase_days_90d_count": ("days with an order in the last 90 days", "whole"),
    "purchase_days_365d_count": ("days with an order in the last 365 days", "whole"),
    "value_30d_amount": ("spent in the last 30 days", "money"),
    "value_90d_amount": ("spent in the last 90 days", "money"),
    "value_365d_amount": ("spent in the last 365 days", "money"),
    "net_value_amount": ("spent so far, after refunds", "money"),
    "mean_purchase_amount": ("average value of an order", "money"),
    "mean_value_amount": ("expected value of an order", "money"),
    "last_purchase_amount": ("value of the last order", "money"),
    "discount_share": ("discount on past orders", "share"),
    "refund_count": ("refunds", "whole"),
    "refund_share": ("share of the spending refunded", "share"),
    "category_count": ("product categories in the last 365 days", "whole"),
    "product_count": ("products in the last 365 days", "whole"),
    "tickets_365d_count": ("support tickets in the last 365 days", "whole"),
    "tickets_90d_count": ("support tickets in the last 90 days", "whole"),
    "open_ticket_count": ("support tickets still open", "whole"),
    "days_since_last_ticket": ("days since the last support ticket", "whole"),
    "answers_365d_count": ("survey answers in the last 365 days", "whole"),
    "mean_csat_score": ("satisfaction score", "number"),
    "mean_nps_score": ("recommendation score", "number"),
    "interactions_365d_count": ("contacts with the team in the last 365 days", "whole"),
    "interactions_90d_count": ("contacts with the team in the last 90 days", "whole"),
    "touches_90d_count": ("marketing touches in the last 90 days", "whole"),
    "days_since_last_touch": ("days since the last marketing touch", "whole"),
    "campaigns_365d_count": ("campaigns received in the last 365 days", "whole"),
    "campaign_response_rate": ("share of campaigns answered", "share"),
    "is_unsubscribed": ("unsubscribed from campaigns", "flag"),
    "active_subscription_count": ("running subscriptions", "whole"),
    "ended_subscription_count": ("subscriptions ended before", "whole"),
    "subscription_tenure_days": ("days since the first subscription began", "whole"),
    "has_cancel_request": ("cancellation requested", "flag"),
    "is_in_trial": ("in trial", "flag"),
    "mrr_amount": ("monthly recurring amount", "money"),
    "subscription_plan": ("plan", "text"),
    "subscription_interval": ("billing interval", "text"),
    "season_sine": ("time of year", "none"),
    "season_cosine": ("time of year", "none"),
    "period_days": ("month ahead that is looked at", "none"),
    "channel": ("channel", "text"),
    "country_code": ("country", "text"),
    "age_days": ("days since the lead came in", "whole"),
    "has_campaign": ("came from a campaign", "flag"),
    "employee_count": ("employees of the organisation", "whole"),
    "touch_count": ("marketing touches", "whole"),
    "touches_14d_count": ("marketing touches in the last 14 days", "whole"),
    "touch_channel_count": ("channels that touched", "whole"),
    "interaction_count": ("contacts with the team", "whole"),
    "interactions_14d_count": ("contacts with the team in the last 14 days", "whole"),
    "days_since_last_interaction": ("days since the last contact with the team", "whole"),
    "campaign_count": ("campaigns received", "whole"),
    "campaign_response_count": ("campaigns answered", "whole"),
    "events_30d_count": ("uses of the product or site in the last 30 days", "whole"),
    "earlier_order_count": ("orders before", "whole"),
    "earlier_lead_count": ("leads before", "whole"),
    "stage": ("stage", "text"),
    "pipeline": ("pipeline", "text"),
    "stage_position": ("place of the stage in its pipeline", "whole"),
    "stage_win_rate": ("past deals won from this stage", "share"),
    "deal_age_days": ("days since the deal was created", "whole"),
    "days_in_stage": ("days in the present stage", "whole"),
    "stage_move_count": ("moves between stages", "whole"),
    "backward_move_count": ("moves back to an earlier stage", "whole"),
    "deal_amount": ("amount of the deal", "money"),
    "amount_raise_count": ("times the amount was raised", "whole"),
    "amount_cut_count": ("times the amount was cut", "whole"),
    "expected_in_days": ("days until the expected close", "whole"),
    "close_push_count": ("times the expected close was put off", "whole"),
    "owner_change_count": ("changes of owner", "whole"),
    "owner_win_rate": ("owner's deals of the last 365 days won", "share"),
    "owner_closed_365d_count": ("owner's deals closed in the last 365 days", "whole"),
    "channel_win_rate": ("deals of the channel of the last 365 days won", "share"),
    "earlier_won_count": ("deals won with this customer before", "whole"),
    "earlier_lost_count": ("deals lost with this customer before", "whole"),
    "activity_count": ("contacts about the deal", "whole"),
    "activities_14d_count": ("contacts about the deal in the last 14 days", "whole"),
    "days_since_last_activity": ("days since the last contact about the deal", "whole"),
}
# Levels of a text feature with fewer rows than this share the level "other". Valid: 10 to 200.
FEWEST_ROWS_PER_LEVEL = 30
MOST_LEVELS = 12
# At 60 columns and 13 dates about a gigabyte. Valid: 20,000 to a million.
MOST_PAST_CUSTOMERS = 100_000
# Amounts and counts span orders of magnitude: a linear model sees their logarithm.
_LOG_ENDINGS = ("_amount", "_count", "_days")


@dataclass(frozen=True)
class Calendar:
    """The as-of dates of one subject. `cut_offs` are oldest first and complete; `step_days` their distance."""

    scoring_date: date
    first_date: date
    horizon_days: int
    step_days: int
    cut_offs: tuple[date, ...]
    year_cut_offs: tuple[date, ...]


def read_calendar(con: Any, subject: str) -> Calendar | None:
    """The as-of dates of "customer" or "lead"; None while there is no history at all."""
    rows = con.execute(
        "SELECT as_of_date, first_date, horizon_days, is_scoring, is_step, is_complete, is_year_complete FROM features.ftr_as_of_dates WHERE subject = ? ORDER BY 1", [subject]
    ).fetchall()
    scoring = [r for r in rows if r[3]]
    if not scoring:
        return None
    day, first, horizon = scoring[0][:3]
    steps = [r[0] for r in rows if r[4]]
    step = (steps[-1] - steps[-2]).days if len(steps) > 1 else horizon
    return Calendar(day, first, horizon, step, tuple(r[0] for r in rows if r[4] and r[5]), tuple(r[0] for r in rows if r[6]))


def read_customers(con: Any) -> pl.DataFrame:
    """Behaviour of customers with the outcomes where known, by as-of date and customer; past dates as in `behaviour_with`."""
    return behaviour_with(con, "outcomes.horizon_purchase_days, outcomes.horizon_value_amount, outcomes.year_purchase_days, outcomes.year_value_amount, outcomes.subscribes_at_end",
                          "features.ftr_customers__outcomes AS outcomes")


def behaviour_with(con: Any, columns: str, outcomes: str) -> pl.DataFrame:
    """Behaviour of customers beside `columns` of the table `outcomes` where it has the customer and date, by as-of date and customer.

    Every customer at the scoring date. Of past dates, which are only learned from and judged by, a fixed sample of about MOST_PAST_CUSTOMERS
    customers, each with all dates: a million customers at a dozen dates are more than memory should hold, and teach nothing further.
    """
    return con.execute(
        f"SELECT behaviour.*, {columns} FROM features.ftr_customers__behaviour AS behaviour LEFT JOIN {outcomes} USING (customer_id, as_of_date) "
        "WHERE behaviour.as_of_date = (SELECT max(as_of_date) FROM features.ftr_as_of_dates WHERE subject = 'customer' AND is_scoring) "
        "OR md5_number_lower(behaviour.customer_id) % 1000000 < 1e6 * $most / (SELECT count(DISTINCT customer_id) FROM features.ftr_customers__behaviour) "
        "ORDER BY as_of_date, customer_id", {"most": MOST_PAST_CUSTOMERS}
    ).pl()


def read_leads(con: Any) -> pl.DataFrame:
    """Open leads with the outcome where known, by as-of date and lead."""
    return con.execute(
        "SELECT leads.*, outcomes.is_reached FROM features.ftr_leads__conversion AS leads "
        "LEFT JOIN features.ftr_leads__outcomes AS outcomes USING (lead_id, as_of_date) ORDER BY as_of_date, lead_id"
    ).pl()


def read_purchases(con: Any) -> pl.DataFrame:
    """Customers who bought per day, and those of them who did so for the first time."""
    return con.execute("SELECT purchase_date, customer_count, first_time_count FROM features.ftr_purchases__day ORDER BY 1").pl()


@dataclass
class FeatureSpace:
    """How a feature frame becomes a matrix: learned on training rows alone.

    Columns of the matrix: the numeric features, then one 0/1 column per kept level of each text feature. `source` says
    which feature each column belongs to.
    """

    numeric: list[str]
    levels: dict[str, list[str]]
    median: list[float]
    mean: list[float]
    scale: list[float]

    @classmethod
    def learn(cls, frame: pl.DataFrame, numeric: tuple[str, ...], categorical: tuple[str, ...]) -> FeatureSpace:
        """Medians, scales and levels of `frame`; numeric features that never vary are left out."""
        values = frame.select(pl.col(n).cast(pl.Float64) for n in numeric)
        kept = [n for n in numeric if (values[n].drop_nulls().n_unique() > 1)]
        levels = {}
        for name in categorical:
            counts = frame[name].drop_nulls().value_counts(sort=True).filter(pl.col("count") >= FEWEST_ROWS_PER_LEVEL)
            found = sorted(counts[name].head(MOST_LEVELS).to_list())
            if len(found) > 1:
                levels[name] = found
        space = cls(kept, levels, [], [], [])
        raw = space._curved(values.select(kept).to_numpy().astype(float)) if kept else np.empty((frame.height, 0))
        space.median = [float(m) for m in np.nanmedian(raw, axis=0)] if kept else []
        dense = space._with_levels(np.where(np.isnan(raw), space.median, raw), frame)
        space.mean = [float(m) for m in dense.mean(axis=0)]
        space.scale = [float(s) if s > 1e-9 else 1.0 for s in dense.std(axis=0)]
        return space

    @property
    def source(self) -> list[str]:
        """Feature of each column."""
        return [*self.numeric, *(name for name, found in self.levels.items() for _ in found)]

    def raw(self, frame: pl.DataFrame) -> np.ndarray:
        """Unscaled matrix with nan where unknown, shape [n, columns], for models that take such."""
        values = frame.select(pl.col(n).cast(pl.Float64) for n in self.numeric).to_numpy().astype(float) if self.numeric else np.empty((frame.height, 0))
        return self._with_levels(values, frame)

    def scaled(self, frame: pl.DataFrame) -> np.ndarray:
        """Matrix with unknowns at the training median, logarithms of amounts, centred and scaled, shape [n, columns]."""
        values = self.raw(frame)
        numeric = self._curved(values[:, : len(self.numeric)])
        values[:, : len(self.numeric)] = np.where(np.isnan(numeric), self.median, numeric) if self.numeric else numeric
        # A value far outside of what was seen in training would rule a linear model alone.
        return np.clip((values - self.mean) / self.scale, -5, 5)

    def _curved(self, values: np.ndarray) -> np.ndarray:
        curved = values.copy()
        for column, name in enumerate(self.numeric):
            if name.endswith(_LOG_ENDINGS) or name.startswith("days_") or name == "overdue_ratio":
                curved[:, column] = np.sign(values[:, column]) * np.log1p(np.abs(values[:, column]))
        return curved

    def _with_levels(self, numeric: np.ndarray, frame: pl.DataFrame) -> np.ndarray:
        flags = [(frame[name] == level).fill_null(False).to_numpy().astype(float)[:, None] for name, found in self.levels.items() for level in found]
        return np.hstack([numeric, *flags]) if flags else numeric

    def state(self) -> dict[str, Any]:
        """Plain values from which `FeatureSpace(**state)` gives the same space."""
        return {"numeric": self.numeric, "levels": self.levels, "median": self.median, "mean": self.mean, "scale": self.scale}


def written(name: str, values: pl.Series) -> pl.Series:
    """A feature's value as a reason says it, e.g. `days since the last order: 143`."""
    label, form = PLAIN_WORDS.get(name, (name.replace("_", " "), "number"))
    if form == "none":
        return pl.Series([label] * len(values), dtype=pl.String)
    if form == "text" or values.dtype == pl.String:
        text = values.cast(pl.String)
    elif form == "flag":
        text = pl.select(pl.when(values.cast(pl.Float64) > 0).then(pl.lit("yes")).otherwise(pl.lit("no"))).to_series()
    elif form == "share":
        text = (values.cast(pl.Float64) * 100).round(0).cast(pl.Int64, strict=False).cast(pl.String) + " %"
    elif form == "times":
        text = values.cast(pl.Float64).round(1).cast(pl.String) + " times"
    elif form == "number":
        text = values.cast(pl.Float64).round(1).cast(pl.String)
    else:
        text = values.cast(pl.Float64).round(0).cast(pl.Int64, strict=False).cast(pl.String)
    return label + ": " + text.fill_null("none on record")
