"""What churn means: who is asked about, what counts as churned, over which time, and what data are needed.

Belongs here: populations, labels, features used. Does not belong here: how candidates are fitted (`ml.probability`).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ml.probability import Task

BEHAVIOUR = (
    "days_since_last_order", "days_since_first_order", "active_span_days", "mean_gap_days", "longest_gap_days", "overdue_ratio", "purchase_day_count",
    "purchase_days_30d_count", "purchase_days_90d_count", "purchase_days_365d_count", "value_90d_amount", "value_365d_amount", "mean_purchase_amount",
    "last_purchase_amount", "discount_share", "refund_count", "refund_share", "category_count", "product_count", "tickets_365d_count", "tickets_90d_count",
    "open_ticket_count", "answers_365d_count", "mean_csat_score", "mean_nps_score", "interactions_365d_count", "interactions_90d_count", "touches_90d_count",
    "days_since_last_touch", "campaigns_365d_count", "campaign_response_rate", "is_unsubscribed",
)  # fmt: skip
CONTRACT = (
    "subscription_tenure_days", "active_subscription_count", "ended_subscription_count", "has_cancel_request", "is_in_trial", "mrr_amount", "tickets_365d_count",
    "tickets_90d_count", "open_ticket_count", "answers_365d_count", "mean_csat_score", "mean_nps_score", "interactions_365d_count", "interactions_90d_count",
    "touches_90d_count", "campaigns_365d_count", "campaign_response_rate", "is_unsubscribed", "purchase_days_90d_count",
)  # fmt: skip


@dataclass(frozen=True)
class Definition:
    """One reading of churn. `says` is what people are shown."""

    kind: str
    task: Task
    says: str

    def population(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows this reading is about, with the label where the outcome is known."""
        contract = pl.col("active_subscription_count") > 0
        if self.kind == "contract":
            label = 1 - pl.col("subscribes_at_end")
            return frame.filter(contract).with_columns(label.alias("label"))
        # somebody who has not bought for a year has left already: there is nothing to foresee
        label = pl.when(pl.col("horizon_purchase_days").is_not_null()).then((pl.col("horizon_purchase_days") == 0).cast(pl.Int64))
        return frame.filter(~contract & (pl.col("purchase_days_365d_count") > 0)).with_columns(label.alias("label"))


ORDERS = Definition(
    "orders",
    Task("churn of buyers", "label", "days_since_last_order", "recency", (*BEHAVIOUR, "no_purchase_log_odds"), own_score="no_purchase_log_odds",
         groups=("customer_type", "country_code", "acquisition_channel", "days_since_first_order", "purchase_days_365d_count", "value_365d_amount")),
    "Customers who bought in the last 365 days and have no running subscription. Churned: no order within the churn window after the as-of day.",
)
CONTRACTS = Definition(
    "contract",
    Task("churn of subscribers", "label", "subscription_tenure_days", "tenure", CONTRACT, ("subscription_plan", "subscription_interval"),
         groups=("subscription_plan", "subscription_interval", "country_code", "acquisition_channel", "subscription_tenure_days", "mrr_amount")),
    "Customers with a running subscription. Churned: no subscription runs at the end of the churn window after the as-of day.",
)
READINGS = (ORDERS, CONTRACTS)
