"""Forecast of purchases and their value: BG/NBD in seasonal time, Gamma-Gamma for the value.

Belongs here: the seasonal clock, fitting on one cut-off, forecasts of counts and values. Does not belong here: the
likelihoods (`ml.estimators`), intervals and judging (`model.py`, `train.py`).

Purchase models assume a constant pace. Here they do not run in days but in *seasonal days*: a day of a month in which people
buy 1.5 times the usual counts 1.5. The index is learned from history before the cut-off alone, against what the plain
model expects of the same customers, so that growth of the customer base is not taken for season.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ml.clv.refinement import Refinement
from ml.estimators import BetaGeoNBD, DegenerateDataError, GammaGamma

# Less than a year shows some months only, and those cannot be told from a trend.
FEWEST_SEASON_DAYS = 365
FEWEST_SEASON_PURCHASES = 360
# Ridge on the logarithm of a month's pace, in months seen: one year of it counts 10 to 1 against no season. On Online Retail II
# (one autumn seen) 0.1 leaves the least bias in the quarters after. Valid: 0.05 (trusts one year) to 2 (needs many).
SEASON_SHRINKAGE = 0.1
MONTH_DAYS = 30.44
# A month's pace beyond these is no season but an event or a gap in the data.
SEASON_RANGE = (0.4, 2.5)


@dataclass
class SeasonalClock:
    """Seasonal days between dates. `index` holds the pace of each calendar month, averaging 1 over a year."""

    index: list[float]

    @classmethod
    def plain(cls) -> SeasonalClock:
        """Days as they are."""
        return cls([1.0] * 12)

    @property
    def is_plain(self) -> bool:
        return all(value == 1.0 for value in self.index)

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Seasonal days in [start, end) for arrays of datetime64[D]."""
        start, end = np.asarray(start, "datetime64[D]"), np.asarray(end, "datetime64[D]")
        if start.size == 0:
            return np.empty(np.broadcast(start, end).shape)
        first = start.min()
        days = np.arange(first, max(end.max(), first) + 1)
        months = days.astype("datetime64[M]").astype(int) % 12
        passed = np.concatenate([[0.0], np.cumsum(np.asarray(self.index)[months])])
        return passed[(end - first).astype(int)] - passed[(start - first).astype(int)]


def learn_season(daily: pl.DataFrame, expected: np.ndarray, first: date, as_of: date) -> SeasonalClock:
    """The index from repeat purchases per day against the expected ones, shape [days from `first` to `as_of`]."""
    days = np.arange(np.datetime64(first, "D"), np.datetime64(as_of, "D"))
    if len(days) < FEWEST_SEASON_DAYS:
        return SeasonalClock.plain()
    position = (daily["purchase_date"].to_numpy().astype("datetime64[D]") - days[0]).astype(int)
    actual = np.bincount(position, weights=(daily["customer_count"] - daily["first_time_count"]).to_numpy(), minlength=len(days))
    of, position = np.unique(days.astype("datetime64[M]").astype(int), return_inverse=True)
    happened, foreseen, seen = (np.bincount(position, weights=w) for w in (actual, expected, np.ones(len(days))))
    if happened.sum() < FEWEST_SEASON_PURCHASES or foreseen.sum() <= 0:
        return SeasonalClock.plain()
    # log(actual / expected) = level + trend + month: the trend takes what the model without season gets wrong over time,
    # such as customers from before the data began; only the months are shrunk.
    months_seen = seen / MONTH_DAYS
    ratio = np.log(np.clip((happened + 1) / (foreseen + 1), 0.1, 10))
    design = np.zeros((len(of), 14))
    design[:, 0], design[:, 1] = 1.0, (of - of.mean()) / 12
    design[np.arange(len(of)), 2 + of % 12] = 1.0
    penalty = np.diag([1e-6, 1e-3, *[SEASON_SHRINKAGE] * 12])
    weighted = design * months_seen[:, None]
    month = np.linalg.solve(design.T @ weighted + penalty, weighted.T @ ratio)[2:]
    pace = np.clip(np.exp(month), *SEASON_RANGE)
    year = np.bincount(np.arange(np.datetime64("2025-01-01"), np.datetime64("2026-01-01")).astype("datetime64[M]").astype(int) % 12)
    return SeasonalClock([float(v) for v in pace * 365 / (pace @ year)])


@dataclass
class PurchaseForecast:
    """A fitted forecast of one cut-off. `level` corrects the total by what past cut-offs showed, `refinement` the shares of customers in it."""

    clock: SeasonalClock
    buying: dict[str, float]
    spending: dict[str, float] | None
    mean_value: float
    level: float = 1.0
    refinement: Refinement | None = None

    @classmethod
    def fit(cls, customers: pl.DataFrame, daily: pl.DataFrame, as_of: date, seasonal: bool = True) -> PurchaseForecast:
        """Learn from customers as known at `as_of`.

        Parameters
        ----------
        customers : first_purchase_date, last_purchase_date, purchase_day_count, mean_purchase_amount; buyers only.
        daily : purchase_date, customer_count, first_time_count; days from `as_of` on are not looked at.

        Raises
        ------
        DegenerateDataError : nobody bought twice, or there is nobody.
        """
        daily = daily.filter(pl.col("purchase_date") < as_of)
        clock = SeasonalClock.plain()
        buying = _fit_buying(_histories(customers, clock, as_of))
        if seasonal and daily.height:
            first = daily["purchase_date"].min()
            clock = learn_season(daily, _expected_repeats(buying, daily, first, as_of), first, as_of)
            if not clock.is_plain:
                buying = _fit_buying(_histories(customers, clock, as_of))
        valued = customers.filter(pl.col("mean_purchase_amount") > 0)
        mean = float(valued["mean_purchase_amount"].mean() or 0.0)
        spending = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = GammaGamma().fit(np.column_stack([valued["purchase_day_count"].to_numpy(), valued["mean_purchase_amount"].to_numpy()]).astype(float))
            spending = {**model.parameters_}
        except DegenerateDataError:
            spending = None
        return cls(clock, dict(buying.parameters_), spending, mean)

    def at(self, customers: pl.DataFrame, as_of: date) -> PurchaseForecast:
        """The same season and spending on the purchases of an earlier date: what this forecast would have said then."""
        return PurchaseForecast(self.clock, dict(_fit_buying(_histories(customers, self.clock, as_of)).parameters_), self.spending, self.mean_value, refinement=self.refinement)

    def predict(self, customers: pl.DataFrame, as_of: date, days: int) -> pl.DataFrame:
        """Forecast over the `days` from `as_of`.

        Columns: p_alive, expected_purchases (purchase days), no_purchase_probability, mean_value, value (reporting
        currency, net of refunds).
        """
        buying = _buying(self.buying)
        x, t_x, T = _histories(customers, self.clock, as_of)
        start = np.datetime64(as_of, "D")
        horizon = float(self.clock.between(np.array([start]), np.array([start + days]))[0])
        purchases = buying.conditional_expected_purchases(horizon, x, t_x, T)
        value = self._mean_value(customers)
        found = pl.DataFrame({
            "p_alive": buying.probability_alive(x, t_x, T),
            "expected_purchases": purchases * self.level,
            "no_purchase_probability": np.clip(buying.conditional_pmf(0, horizon, x, t_x, T), 1e-6, 1 - 1e-6),
            "mean_value": value,
            "value": purchases * value * self.level,
        })  # fmt: skip
        return found if self.refinement is None else found.with_columns(pl.Series("value", self.refinement.apply(customers, found, days)))

    def explained(self, customers: pl.DataFrame, as_of: date, days: int) -> tuple[float, dict[str, np.ndarray]]:
        """Base and contributions, shape [n] each, on the scale of the logarithm of money: they add up to the logarithm of `value`."""
        plain = replace(self, refinement=None, level=1.0).predict(customers, as_of, days)
        parts = {"expected_purchases": _log(plain["expected_purchases"].to_numpy()), "mean_value_amount": _log(plain["mean_value"].to_numpy())}
        base = float(np.log(self.level))
        if self.refinement is not None:
            more_base, more = self.refinement.explained(customers, plain, days)
            base += more_base
            for name, values in more.items():
                parts[name] = parts.get(name, 0.0) + values
        return base, parts

    def draw(self, customers: pl.DataFrame, as_of: date, days: int, draws: int, seed: int = 0) -> np.ndarray:
        """Simulated values over the next `days`, shape [draws, n], from each customer's own posterior."""
        rng = np.random.default_rng(seed)
        x, t_x, T = _histories(customers, self.clock, as_of)
        p = self.buying
        start = np.datetime64(as_of, "D")
        horizon = float(self.clock.between(np.array([start]), np.array([start + days]))[0])
        alive = _buying(p).probability_alive(x, t_x, T)
        value = self._mean_value(customers)
        if self.refinement is not None:
            found = PurchaseForecast(self.clock, self.buying, self.spending, self.mean_value).predict(customers, as_of, days)
            value = value * self.refinement.apply(customers, found, days) / np.maximum(found["value"].to_numpy(), 1e-12)
        result = np.empty((draws, len(x)))
        for number in range(draws):
            rate = rng.gamma(p["r"] + x, 1 / (p["alpha"] + T))
            leaves = rng.beta(p["a"], p["b"] + x)
            wanted = rng.poisson(rate * horizon)
            until = rng.geometric(np.clip(leaves, 1e-9, 1.0))
            bought = np.where(rng.random(len(x)) < alive, np.minimum(wanted, until), 0)
            spread = self.spending["p"] if self.spending else 1.0
            spent = rng.gamma(np.maximum(spread * bought, 1e-12), 1.0) / spread
            result[number] = np.where(bought > 0, spent * value, 0.0) * self.level
        return result

    def _mean_value(self, customers: pl.DataFrame) -> np.ndarray:
        mean = customers["mean_purchase_amount"].cast(pl.Float64).fill_null(0).to_numpy()
        count = customers["purchase_day_count"].cast(pl.Float64).to_numpy()
        if self.spending is None:
            return np.where(mean > 0, mean, self.mean_value)
        model = GammaGamma()
        for name, value in self.spending.items():
            setattr(model, f"{name}_", value)
        model.covariance_ = np.zeros((3, 3))
        return model.conditional_expected_average_value(np.where(mean > 0, count, 0), np.where(mean > 0, mean, 0.0))

    def state(self) -> dict[str, Any]:
        """Plain values from which `from_state` gives the same forecast."""
        return {"index": self.clock.index, "buying": self.buying, "spending": self.spending, "mean_value": self.mean_value, "level": self.level,
                "refinement": self.refinement.state() if self.refinement else None}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> PurchaseForecast:
        """The forecast kept by `state`."""
        return cls(SeasonalClock(list(state["index"])), dict(state["buying"]), dict(state["spending"]) if state["spending"] else None, float(state["mean_value"]), float(state["level"]),
                   Refinement.from_state(state["refinement"]) if state["refinement"] else None)


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(values, np.finfo(float).tiny))


def _histories(customers: pl.DataFrame, clock: SeasonalClock, as_of: date) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first = customers["first_purchase_date"].to_numpy().astype("datetime64[D]")
    last = customers["last_purchase_date"].to_numpy().astype("datetime64[D]")
    x = customers["purchase_day_count"].cast(pl.Float64).to_numpy() - 1
    t_x = clock.between(first, last)
    T = clock.between(first, np.full(len(first), np.datetime64(as_of, "D")))
    return x, np.where(x > 0, np.minimum(t_x, T), 0.0), T


def _fit_buying(histories: tuple[np.ndarray, np.ndarray, np.ndarray]) -> BetaGeoNBD:
    X = np.column_stack(histories)
    if not len(X) or not np.any(X[:, 0] > 0):
        raise DegenerateDataError("BG/NBD", "no customer bought a second time.", "Wait for more orders.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return BetaGeoNBD().fit(X)
        except DegenerateDataError:
            return BetaGeoNBD(penalty=0.1).fit(X)


def _buying(parameters: dict[str, float]) -> BetaGeoNBD:
    model = BetaGeoNBD()
    for name, value in parameters.items():
        setattr(model, f"{name}_", value)
    model.covariance_ = np.zeros((4, 4))
    return model


def _expected_repeats(buying: BetaGeoNBD, daily: pl.DataFrame, first: date, as_of: date) -> np.ndarray:
    """Repeat purchases that the model without season expects on each day, of the customers who began before it."""
    days = (as_of - first).days
    per_age = np.diff(buying.expected_purchases(np.arange(days + 1.0)))
    begun = np.bincount((daily["purchase_date"].to_numpy().astype("datetime64[D]") - np.datetime64(first, "D")).astype(int),
                        weights=daily["first_time_count"].to_numpy(), minlength=days)
    return np.concatenate([[0.0], np.convolve(begun, per_age)[: days - 1]])

