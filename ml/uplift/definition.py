"""What uplift means: which contacts count as an experiment, what their outcome is, when the answer is refused.

Belongs here: population, treatment, outcome, features, minimum data, reading them. Does not belong here: estimating (`train.py`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ml import features
from ml.estimators.uplift import standardised_differences
from ml.probability import Task

FEATURES = (
    "days_since_last_order", "days_since_first_order", "purchase_day_count", "purchase_days_90d_count", "purchase_days_365d_count", "value_365d_amount",
    "campaigns_365d_count", "campaign_response_rate", "is_unsubscribed", "active_subscription_count",
)  # fmt: skip
# Columns by which the effect is divided.
GROUPS = ("days_since_last_order", "days_since_first_order", "purchase_days_365d_count", "campaigns_365d_count", "value_365d_amount")
TASK = Task("effect of contact", "has_ordered", "days_since_last_order", "recency", FEATURES)
SAYS = (
    "Every customer. Effect: how much being contacted by a campaign raises the chance of an order within the response window, learned only from campaigns that held back a "
    "control group at random. What customers did who were contacted without one proves nothing and is not used."
)
# Fewer members or orders in either group than these and no interval is narrow enough to say anything. Valid: 100 to 5,000; 20 to 500.
FEWEST_MEMBERS = 200
FEWEST_ORDERS = 30
# Customers are taken whole, so that at most this many rows are learned from.
MOST_ROWS = 300_000
# Standardised difference from which the groups count as unlike (Austin 2009), where chance does not explain it.
IMBALANCE = 0.1
BEYOND_CHANCE = 4.0


def read_members(con: Any) -> pl.DataFrame:
    """Members of campaigns with a control group whose window is over, with the outcome; a fixed sample of customers where there are more than MOST_ROWS rows."""
    return con.execute(
        "SELECT contacts.*, outcomes.has_ordered FROM features.ftr_contacts__assigned AS contacts JOIN features.ftr_contacts__outcomes AS outcomes USING (contact_id) "
        f"ORDER BY md5(contacts.customer_id), contacts.contact_id LIMIT {MOST_ROWS}"
    ).pl()


def read_customers(con: Any) -> pl.DataFrame:
    """Every customer as known at the scoring date."""
    return con.execute("SELECT * FROM features.ftr_contacts__assigned WHERE campaign_id IS NULL ORDER BY customer_id").pl()


def read_windows(con: Any) -> tuple[int | None, tuple[date, ...]]:
    """The response window in days, None without a customer; and the first days of the campaigns that are learned from, oldest first."""
    days, began = con.execute(
        "SELECT max(window_days), list(DISTINCT as_of_date ORDER BY as_of_date) FILTER (campaign_id IS NOT NULL AND is_complete) FROM features.ftr_contacts__assigned"
    ).fetchone()
    return days, tuple(began or ())


def over_response_window(customers: features.Calendar | None, windows: tuple[int | None, tuple[date, ...]]) -> features.Calendar | None:
    """The calendar of customers, with the response window as horizon and the first days of campaigns as cut-offs: effects are learned over these."""
    if customers is None:
        return None
    days, began = windows
    return replace(customers, horizon_days=customers.horizon_days if days is None else days, cut_offs=began, year_cut_offs=())


def effects_since(members: pl.DataFrame, since: date) -> pl.DataFrame:
    """Members whose campaign's window was not over on `since`, with `label`, whose mean is the mean effect of contact (Horvitz & Thompson 1952)."""
    late = with_share(members).filter(pl.col("as_of_date") + pl.duration(days=pl.col("window_days")) > since)
    weight = pl.when(pl.col("is_contacted") == 1).then(1 / pl.col("share")).otherwise(-1 / (1 - pl.col("share")))
    return late.with_columns((pl.col("has_ordered") * weight).alias("label"))


def with_share(members: pl.DataFrame) -> pl.DataFrame:
    """Members with `share`, the share of contacted members of their campaign; campaigns left with one group only are left out."""
    counted = members.with_columns(pl.col("is_contacted").mean().over("campaign_id").alias("share"))
    return counted.filter(pl.col("share").is_between(0, 1, closed="none"))


def refusal(members: pl.DataFrame) -> str | None:
    """Why no effect may be told from these members; None when it may. `members` come from `with_share`."""
    if members.height == 0:
        return "refused: no campaign with a recorded control group is complete, and effects of contact cannot be told from those who were contacted alone. Hold back a part of a campaign's members at random."
    sizes = {side: members.filter(pl.col("is_contacted") == side) for side in (0, 1)}
    fewest, orders = min(rows.height for rows in sizes.values()), min(int(rows["has_ordered"].sum()) for rows in sizes.values())
    if fewest < FEWEST_MEMBERS or orders < FEWEST_ORDERS:
        return f"too little data: the smaller group has {fewest} members, the group with fewer orders {orders}; {FEWEST_MEMBERS} and {FEWEST_ORDERS} are needed."
    values = members.select(pl.col(n).cast(pl.Float64) for n in FEATURES).to_numpy().astype(float)
    # being unknown is a property too: groups must be alike in it
    known = ~np.isnan(values)
    treated, share = members["is_contacted"].to_numpy() == 1, members["share"].to_numpy()
    with np.errstate(invalid="ignore"):
        found = np.maximum(np.abs(standardised_differences(values, treated, share)), np.abs(standardised_differences(known.astype(float), treated, share)))
    chance = np.sqrt(1 / treated.sum() + 1 / (~treated).sum())
    unlike = [(n, d) for n, d in zip(FEATURES, found, strict=True) if d > IMBALANCE and d / chance > BEYOND_CHANCE]
    if unlike:
        name, worst = max(unlike, key=lambda item: item[1])
        return (f"refused: the control groups were not held back at random. Before the campaigns they already differed from the contacted in {name} by {worst:.2f} standard deviations "
                f"(at most {IMBALANCE:g} is allowed), so a difference after them says nothing about the effect of contact.")  # fmt: skip
    return None
