"""Choose, correct and judge the value forecast on past cut-offs. Holds no table of results (`score.py`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from ml import diagnostics, drift, evaluation, leakage
from ml.challenge import Latest
from ml.clv.definition import FEWEST_REPEATERS, GROUPS, NAIVE_NAME, SHORT_DAYS, YEAR_DAYS, judged, population, same_rate_spend
from ml.clv.model import COVERAGE, ClvModel, ValueIntervals
from ml.clv.purchases import PurchaseForecast
from ml.clv.refinement import FEATURES, Refinement
from ml.estimators import DegenerateDataError, SplitConformalInterval
from ml.features import Calendar

RESAMPLES = 100
# A past total this far off says that something else happened than a wrong level. Valid: 1.2 to 2.
LEVEL_RANGE = (0.6, 1.6)
MOST_LEVEL_CUT_OFFS = 4
# A cut-off with less behaviour before it tells newcomers only.
FEWEST_HISTORY_DAYS = 90
# Rows from which the width of intervals is learned.
FEWEST_INTERVAL_ROWS = 100
REFINED = "refined_by_behaviour"
Forecasts = dict[str, dict[date, PurchaseForecast]]


def fit_forecasts(customers: pl.DataFrame, daily: pl.DataFrame, dates: list[date], seasonal: bool) -> dict[date, PurchaseForecast]:
    """The purchase model of each date, learned from what was known then; dates without enough repeat buyers are left out."""
    found = {}
    for as_of in dates:
        rows = population(customers.filter(pl.col("as_of_date") == as_of))
        if rows.filter(pl.col("purchase_day_count") > 1).height < FEWEST_REPEATERS:
            continue
        try:
            found[as_of] = PurchaseForecast.fit(rows, daily, as_of, seasonal)
        except DegenerateDataError:
            continue
    return found


def train(customers: pl.DataFrame, calendar: Calendar, forecasts: Forecasts) -> ClvModel:
    """`forecasts` by candidate ("bg_nbd_gamma_gamma", "seasonal_…") and date, the scoring date among them."""
    names = list(forecasts)
    today = calendar.scoring_date
    buyers = population(customers.filter(pl.col("as_of_date") == today))
    if not any(today in forecasts[name] for name in names):
        repeaters = buyers.filter(pl.col("purchase_day_count") > 1).height
        reason = f"too little data: {repeaters} customers ordered on more than one day, {FEWEST_REPEATERS} are needed to learn their rhythm."
        return ClvModel(forecast=None, is_fallback=True, fallback_reason=reason, verdict=reason, training_rows=buyers.height)
    short = _Past(customers, forecasts, calendar.cut_offs, calendar.horizon_days, "horizon_value_amount", calendar.first_date)
    year = _Past(customers, forecasts, calendar.year_cut_offs, YEAR_DAYS, "year_value_amount", calendar.first_date)
    base = short.best(names)
    forecasts = {**forecasts, REFINED: refined(forecasts[base], customers, calendar, short)}
    names = [*names, REFINED] if forecasts[REFINED] else names
    short.add(REFINED, forecasts[REFINED], base)
    year.add(REFINED, forecasts[REFINED], base)
    candidate = short.better(REFINED, base)
    if candidate == REFINED and short.cut_offs and not short.verdict(REFINED).published:
        candidate = base
    # a year back too little was known to refine anything: there the forecast beneath it is judged
    at_year = candidate if not year.cut_offs or (candidate, year.cut_offs[-1]) in year.predicted else base
    level, year_level = short.level(candidate, today), year.level(candidate, today, default=short.level(candidate, today))
    rows = short.evaluations(names, "") + year.evaluations(names, "_365d")
    judge = year if year.cut_offs else short
    if not judge.cut_offs:
        reason = f"too little data: no cut-off lies {calendar.horizon_days} days before the end of the data with enough customers."
        verdict = evaluation.Verdict(False, reason)
    else:
        verdict = judge.verdict(at_year if judge is year else candidate)
    forecast = replace(forecasts[candidate].get(today) or next(forecasts[n][today] for n in names if today in forecasts[n]), level=level)
    naive_level = short.naive_level(today)
    shown = diagnostics.judged("value", [(c, short.truth[c], short.corrected(candidate, c)) for c in short.cut_offs if (candidate, c) in short.predicted],
                               short.rows[short.cut_offs[-1]][0] if short.cut_offs else buyers.clear(), GROUPS)
    counts = diagnostics.explained(lambda rows: forecast.explained(rows, today, calendar.horizon_days), buyers)
    latest = None
    if short.cut_offs and calendar.horizon_days == SHORT_DAYS and (candidate, short.cut_offs[-1]) in short.predicted:
        last = short.cut_offs[-1]
        latest = Latest(last, short.rows[last][0], short.truth[last], {name: short.corrected(name, last) for name in names if (name, last) in short.predicted})
    return ClvModel(
        forecast=forecast, is_fallback=not verdict.published, fallback_reason=None if verdict.published else verdict.reason, candidate=candidate, verdict=verdict.reason,
        year_level=year_level, naive_level=naive_level, naive_year_level=year.naive_level(today, naive_level), intervals=year.intervals(at_year), evaluations=rows,
        training_rows=buyers.height, diagnostics=shown | counts, importance={row["feature"]: row["importance"] for row in counts["model_importance"]},
        baseline=drift.remember(buyers, FEATURES), latest=latest, warnings=_warnings(short, buyers),
    )  # fmt: skip


def _warnings(past: _Past, buyers: pl.DataFrame) -> list[str]:
    if not past.cut_offs:
        return []
    ordered = np.concatenate([past.truth[c] > 0 for c in past.cut_offs]).astype(float)
    return leakage.warnings(tuple(n for n in FEATURES if n in buyers.columns), pl.concat([past.rows[c][0] for c in past.cut_offs]), ordered, judged(buyers))


def refined(forecasts: dict[date, PurchaseForecast], customers: pl.DataFrame, calendar: Calendar, past: _Past) -> dict[date, PurchaseForecast]:
    """The same forecasts with what behaviour adds, each learned from cut-offs whose outcome was known at its own date; dates before any are left out."""
    found = {}
    for as_of, forecast in forecasts.items():
        known = [c for c in past.cut_offs if c + timedelta(days=past.days) <= as_of and c in forecasts]
        learned = Refinement.fit([(past.rows[c][0], forecasts[c].predict(past.rows[c][0], c, past.days), past.truth[c]) for c in known]) if known else None
        if learned is None:
            continue
        rows = judged(customers.filter(pl.col("as_of_date") == as_of))
        for days in (SHORT_DAYS, calendar.horizon_days, YEAR_DAYS):
            learned.keeps_total(rows, forecast.predict(rows, as_of, days), days)
        found[as_of] = replace(forecast, refinement=learned)
    return found


class _Past:
    """Predictions and outcomes at past cut-offs over one horizon."""

    def __init__(self, customers: pl.DataFrame, forecasts: Forecasts, cut_offs: tuple[date, ...], days: int, outcome: str, first: date) -> None:
        self.days, self.forecasts, self.cut_offs, self.rows, self.truth, self.naive, self.predicted = days, forecasts, [], {}, {}, {}, {}
        self._misses: dict[tuple[str, date], list[float]] = {}
        self._level_of: dict[str, str] = {}
        for cut_off in cut_offs:
            if not all(cut_off in found for found in forecasts.values()) or (cut_off - first).days < FEWEST_HISTORY_DAYS:
                continue
            rows = judged(customers.filter((pl.col("as_of_date") == cut_off) & pl.col(outcome).is_not_null()))
            if rows.height < evaluation.FEWEST_OUTCOMES or float(rows[outcome].sum()) <= 0:
                continue
            self.cut_offs.append(cut_off)
            self.rows[cut_off] = rows, population(customers.filter(pl.col("as_of_date") == cut_off))
            self.truth[cut_off] = rows[outcome].cast(pl.Float64).to_numpy()
            self.naive[cut_off] = same_rate_spend(rows, days)
        for name, found in forecasts.items():
            self.add(name, found)

    def add(self, name: str, found: dict[date, PurchaseForecast], base: str | None = None) -> None:
        """Predict the past cut-offs with one more candidate, where it has a forecast; one that keeps the totals of its `base` has that one's level."""
        self._level_of[name] = base or name
        self.forecasts = {**self.forecasts, name: found}
        for cut_off in self.cut_offs:
            if cut_off in found:
                self.predicted[name, cut_off] = found[cut_off].predict(self.rows[cut_off][0], cut_off, self.days)["value"].to_numpy()

    def level(self, name: str, at: date, default: float = 1.0) -> float:
        """Actual over predicted totals of the cut-offs whose outcome was known at `at`, pulled to 1 as if one more had been exact.

        Earlier cut-offs are forecast again with the season known at `at`, so that a season not known then is not taken for level.
        """
        logs = self.misses(self._level_of[name], at)
        return float(np.exp(np.sum(logs) / (len(logs) + 1))) if logs else default

    def misses(self, name: str, at: date) -> list[float]:
        """Logarithms of actual over predicted totals of the latest cut-offs whose outcome was known at `at`."""
        if (name, at) not in self._misses:
            known = [c for c in self.cut_offs if c + timedelta(days=self.days) <= at][-MOST_LEVEL_CUT_OFFS:]
            forecast = self.forecasts[name].get(at)
            logs = []
            for cut_off in known if forecast else []:
                rows, everybody = self.rows[cut_off]
                total = float(forecast.at(everybody, cut_off).predict(rows, cut_off, self.days)["value"].sum())
                logs.append(float(np.log(np.clip(self.truth[cut_off].sum() / max(total, 1e-9), *LEVEL_RANGE))))
            self._misses[name, at] = logs
        return self._misses[name, at]

    def naive_level(self, at: date, default: float = 1.0) -> float:
        """Actual over naive totals of the latest cut-offs whose outcome was known at `at`."""
        known = [c for c in self.cut_offs if c + timedelta(days=self.days) <= at][-MOST_LEVEL_CUT_OFFS:]
        naive = sum(float(self.naive[c].sum()) for c in known)
        return float(sum(self.truth[c].sum() for c in known)) / naive if naive > 0 else default

    def corrected(self, name: str, cut_off: date) -> np.ndarray:
        """Predictions at the level known at that cut-off."""
        return self.predicted[name, cut_off] * self.level(name, cut_off)

    def best(self, names: list[str]) -> str:
        """The candidate whose totals missed least at the cut-offs known before the latest one; the last named when nothing tells."""
        misses = {name: self.misses(name, self.cut_offs[-1]) for name in reversed(names)} if self.cut_offs else {}
        told = {name: float(np.mean(np.abs(logs))) for name, logs in misses.items() if logs}
        return min(told, key=told.get) if told else names[-1]

    def better(self, name: str, base: str) -> str:
        """`name` where it shares totals out better than `base` at most cut-offs before the latest one; `base` otherwise, and when nothing tells."""
        told = [c for c in self.cut_offs[:-1] if (name, c) in self.predicted]
        if (name, self.cut_offs[-1] if self.cut_offs else None) not in self.predicted or not told:
            return base
        gains = [evaluation.tweedie_deviance(self.truth[c], _levelled(self.predicted[base, c], self.truth[c])) - evaluation.tweedie_deviance(self.truth[c], _levelled(self.predicted[name, c], self.truth[c])) for c in told]
        return name if np.mean(gains) > 0 and np.mean([g > 0 for g in gains]) >= 0.5 else base

    def verdict(self, name: str) -> evaluation.Verdict:
        """The gate at the latest cut-off."""
        last = self.cut_offs[-1]
        return evaluation.gate(self.truth[last], self.corrected(name, last), self.naive[last], kind="value", naive_name=NAIVE_NAME)

    def intervals(self, name: str) -> ValueIntervals | None:
        """Widths from the latest cut-off; None with too few rows."""
        if not self.cut_offs or len(self.truth[self.cut_offs[-1]]) < FEWEST_INTERVAL_ROWS:
            return None
        last = self.cut_offs[-1]
        predicted = self.corrected(name, last)
        fitted = SplitConformalInterval(COVERAGE, floor=None).fit(predicted, self.truth[last])
        at = np.unique(np.quantile(predicted, np.linspace(0, 1, 101)))
        lower, upper = fitted.predict_interval(at)
        return ValueIntervals(at.tolist(), ((upper - lower) / 2).tolist())

    def evaluations(self, names: list[str], suffix: str) -> list[dict[str, Any]]:
        """Measures with intervals of every candidate and the naive rule at every cut-off."""
        rows = []
        for cut_off in self.cut_offs:
            scores = {"naive_rule": self.naive[cut_off] * self.naive_level(cut_off), **{name: self.corrected(name, cut_off) for name in names if (name, cut_off) in self.predicted}}
            found = evaluation.intervals(evaluation.VALUE_MEASURES, self.truth[cut_off], scores, resamples=RESAMPLES)
            rows += [
                {"candidate": name, "cut_off": cut_off, "metric": metric + suffix, "value": e.value, "lower": e.lower, "upper": e.upper, "n": e.n}
                for (metric, name), e in found.items()
                if name in scores
            ]
        return rows


def _levelled(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.maximum(predicted * (truth.sum() / max(predicted.sum(), 1e-9)), 1e-6)
