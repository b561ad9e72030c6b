"""The churn model: one trained answer per reading, and its plain state. Holds no fitting (`train.py`) and no tables (`score.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from scipy.special import logit

from ml.clv.purchases import PurchaseForecast
from ml.published import Published


@dataclass
class ChurnModel:
    """Published answers by kind ("orders", "contract")."""

    answers: dict[str, Published]

    def state(self) -> dict[str, Any]:
        """Plain values from which `from_state` gives the same model."""
        return {kind: answer.state() for kind, answer in self.answers.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ChurnModel:
        """The model kept by `state`."""
        return cls({kind: Published.from_state(kept) for kind, kept in state.items()})


def with_rhythm(frame: pl.DataFrame, forecasts: dict[Any, PurchaseForecast], horizon_days: int) -> pl.DataFrame:
    """Add `no_purchase_log_odds`: the purchase model's log-odds of no order in the horizon, as fitted at each row's own date.

    Null where no purchase model could be fitted, or for customers without an order.
    """
    parts = []
    for (as_of,), rows in frame.group_by("as_of_date", maintain_order=True):
        buyers = rows.filter(pl.col("purchase_day_count") > 0)
        forecast = forecasts.get(as_of)
        if forecast is None or not buyers.height:
            parts.append(rows.select("customer_id", "as_of_date", pl.lit(None, dtype=pl.Float64).alias("no_purchase_log_odds")))
            continue
        none = forecast.predict(buyers, as_of, horizon_days)["no_purchase_probability"].to_numpy()
        parts.append(buyers.select("customer_id", "as_of_date").with_columns(pl.Series("no_purchase_log_odds", logit(none))))
    if not parts:
        return frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("no_purchase_log_odds"))
    return frame.join(pl.concat(parts), on=["customer_id", "as_of_date"], how="left", maintain_order="left")
