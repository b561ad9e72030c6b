"""What stopping means in time: who is followed, from when, until which event, in which periods.

Belongs here: populations, events, periods, features, reading them, the table of customers and periods at risk. Does not belong here:
hazards and curves (`model.py`), judging (`train.py`).

Everybody is followed from an as-of day on (landmarking), so only those still there on that day count: what happened before the data begin
needs no correction (left truncation). Who had not stopped by the day until which is known is censored there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ml.churn.definition import BEHAVIOUR, CONTRACT, CONTRACTS, ORDERS
from ml.features import behaviour_with
from ml.probability import Task

# Ends of the periods in days; a period begins where the one before ends.
PERIODS = (30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330, 365)
HORIZONS = (30, 60, 90, 180, 365)


@dataclass(frozen=True)
class Reading:
    """One reading of stopping. `event` is the column of days until it happened, null where it has not."""

    kind: str
    event: str
    task: Task
    says: str

    @property
    def groups(self) -> tuple[str, ...]:
        """Columns by which the evaluation is divided: those of the chance of the same event."""
        return (CONTRACTS if self.kind == "contract" else ORDERS).task.groups

    @property
    def watched(self) -> tuple[str, ...]:
        """The features of a customer: without the period, which is laid out beside everybody."""
        return tuple(name for name in (*self.task.numeric, *self.task.categorical) if name not in ("period_days", "pause_days"))

    def population(self, frame: pl.DataFrame, window_days: int) -> pl.DataFrame:
        """The rows that are still customers on their as-of day."""
        contract = pl.col("active_subscription_count") > 0
        return frame.filter(contract if self.kind == "contract" else ~contract & (pl.col("days_since_last_order") <= window_days))


READINGS = (
    Reading("orders", "lapse_days", Task("lapse of buyers", "stops", "period_days", "the curve of all", ("period_days", "pause_days", *BEHAVIOUR)),
            "Buyers without a running subscription who have not lapsed. They lapse on the first day before which a whole churn window passed without an order."),
    Reading("contract", "contract_end_days", Task("end of subscriptions", "stops", "period_days", "the curve of all", ("period_days", *CONTRACT), ("subscription_plan", "subscription_interval")),
            "Customers with a running subscription, until the day on which none runs any more."),
)  # fmt: skip


def read_customers(con: Any) -> pl.DataFrame:
    """Behaviour of customers with the days until they stopped, where they have, by as-of date and customer; past dates as in `behaviour_with`."""
    return behaviour_with(con, "ends.contract_end_days, ends.lapse_days", "features.ftr_customers__ends AS ends")


def seen_days(event: str, known_until: date) -> pl.Expr:
    """Days until stopping, a year at most; null where a year is not known yet."""
    is_known = (pl.lit(known_until) - pl.col("as_of_date")).dt.total_days() >= PERIODS[-1]
    return pl.when(is_known).then(pl.col(event).fill_null(PERIODS[-1]).clip(0, PERIODS[-1]))


def with_periods(frame: pl.DataFrame, periods: tuple[int, ...] = PERIODS) -> pl.DataFrame:
    """Every row once a period, customers in order and periods within them; `period_days` is the period's end, `pause_days` the pause it would have reached then."""
    ends = pl.DataFrame({"period_days": periods}, schema={"period_days": pl.Int64})
    return frame.join(ends, how="cross", maintain_order="left_right").with_columns((pl.col("days_since_last_order") + pl.col("period_days")).alias("pause_days"))


def at_risk(frame: pl.DataFrame, event: str, known_until: date) -> pl.DataFrame:
    """Rows and periods in which the customer could stop and all of which is known by `known_until`, with `stops` 0/1."""
    lengths = dict(zip(PERIODS, np.diff((0, *PERIODS)).tolist(), strict=True))
    begins = pl.col("period_days") - pl.col("period_days").replace_strict(lengths, return_dtype=pl.Int64)
    followed = (pl.lit(known_until) - pl.col("as_of_date")).dt.total_days()
    rows = with_periods(frame.filter(pl.col("as_of_date") < known_until))
    # somebody who stops on the as-of day itself stops in the first period
    stopped = pl.col(event).clip(1, None)
    return rows.filter((pl.col("period_days") <= followed) & (stopped.is_null() | (stopped > begins))).with_columns(
        (stopped.is_not_null() & (stopped <= pl.col("period_days"))).cast(pl.Int64).alias("stops")
    )
