"""What customers are grouped by, and the words for it.

Belongs here: the axes, the population, the words of names. Does not belong here: how groups are found (`ml.clusters.fit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

SAYS = "Which groups of customers behave alike? Buyers, by what they did up to the as-of day."


@dataclass(frozen=True)
class Axis:
    """One feature of `features.ftr_customers__behaviour` on which customers differ. `low` and `high` name a group that lies there; empty where the end is nothing to name."""

    feature: str
    label: str
    unit: str            # days, count, currency or share
    low: str
    high: str
    is_logarithmic: bool = True


AXES = (
    Axis("days_since_last_order", "Days since the last order", "days", "bought recently", "long silent"),
    Axis("purchase_day_count", "Days with an order", "count", "few orders", "frequent"),
    Axis("mean_purchase_amount", "Average value of a day with an order", "currency", "low value", "high value"),
    Axis("discount_share", "Discount on past orders", "share", "full price", "discount-driven", False),
    Axis("refund_share", "Share of the spending refunded", "share", "", "refunds often", False),
    Axis("product_count", "Products in the last 365 days", "count", "narrow range", "wide range"),
    Axis("tickets_365d_count", "Support tickets in the last 365 days", "count", "", "needs support"),
    Axis("mrr_amount", "Monthly recurring amount", "currency", "", "subscriber"),
)
# An axis on which fewer customers than this share differ from everybody else's value would only single those out. Valid: 0.01 to 0.5.
FEWEST_DIFFERENT = 0.05


def read(con: Any) -> pl.DataFrame:
    """Buyers as of the scoring date: customer_id, as_of_date and the axes, by customer."""
    columns = ", ".join(f"CAST({a.feature} AS DOUBLE) AS {a.feature}" for a in AXES)
    return con.execute(f"SELECT customer_id, as_of_date, {columns} FROM features.ftr_customers__behaviour JOIN features.ftr_as_of_dates AS dates USING (as_of_date) "
                       "WHERE dates.subject = 'customer' AND dates.is_scoring AND purchase_day_count > 0 ORDER BY customer_id").pl()


def usable(frame: pl.DataFrame) -> list[Axis]:
    """Axes on which enough customers differ; unknown values count as the usual one."""
    kept = []
    for axis in AXES:
        known = frame[axis.feature].drop_nulls()
        if known.len() and (known != known.mode().sort()[0]).sum() >= FEWEST_DIFFERENT * frame.height:
            kept.append(axis)
    return kept


def names(axes: list[Axis], centres: list[list[float]], loud: float = 0.5, most: int = 3) -> list[str]:
    """A name for each centre (in robust units from the average customer): its loudest ends in plain words; more words where two would be called alike."""
    ranked = []
    for centre in centres:
        order = sorted(range(len(axes)), key=lambda i: (-abs(centre[i]), i))
        ranked.append([word for i in order if abs(centre[i]) >= loud and (word := axes[i].high if centre[i] > 0 else axes[i].low)])
    found = []
    for words in ranked:
        length = most
        while length < len(words) and sum(other[:length] == words[:length] for other in ranked) > 1:
            length += 1
        found.append(", ".join(words[:length]) or "like the average customer")
    return [name if found.count(name) == 1 else f"{name} ({found[:n].count(name) + 1})" for n, name in enumerate(found)]
