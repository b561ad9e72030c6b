"""Learn hazards, judge curves against the curve of all at later cut-offs. Holds no table of results (`model.py`).

Discrete-time survival: in each period everybody still at risk stops or not, so a yes-or-no model of period and features is a hazard model
(Singer & Willett 1993, Journal of Educational Statistics 18). All who are judged at a cut-off are followed equally long, so up to that
day nobody is censored, and the Brier score needs no weights for censoring.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ml import diagnostics, drift, evaluation, leakage
from ml.challenge import Latest
from ml.churn_timing.definition import HORIZONS, PERIODS, READINGS, Reading, at_risk
from ml.churn_timing.model import Curve, TimingModel, curves
from ml.features import Calendar
from ml.probability import FEWEST_TRAINING_OUTCOMES, Blend, Logistic, Trees

MOST_CUT_OFFS = 3
RESAMPLES = 100
# A curve is judged once half a year of it has been seen, or as much as there is.
JUDGED_DAYS = 180
# Points by which the mean of curves may miss the share that was still there. Valid: 0.02 to 0.1.
TOLERANCE = 0.05
# Customers and periods drawn for a fit; eight fits of this size take ten seconds. Valid: 20,000 to 1,000,000.
MOST_ROWS = 30_000


def train(customers: pl.DataFrame, calendar: Calendar) -> TimingModel:
    """Learn from every as-of date, each followed until the scoring date."""
    return TimingModel({reading.kind: _train(reading, reading.population(customers, calendar.horizon_days), calendar) for reading in READINGS})


def life_table(rows: pl.DataFrame) -> list[float]:
    """Hazard of each period over all customers at risk, from the first period on without a gap: Kaplan-Meier in periods."""
    table = dict(rows.group_by("period_days").agg(pl.col("stops").mean()).iter_rows())
    known = []
    for period in PERIODS:
        if period not in table:
            break
        known.append(float(table[period]))
    return known


def concordance(stopped_in, still) -> float:
    """Chance that of two customers the one who stopped in an earlier period had the lower curve, ties half (Harrell's C over periods).

    `stopped_in` is the number of the period, or a number above all periods for those who stayed; `still` any score of staying, shape [n].
    """
    still = np.asarray(still, dtype=float)
    order = np.argsort(still)
    period_of, sorted_still = np.asarray(stopped_in)[order], still[order]
    # one sort serves all periods: a bootstrap over many cut-offs spent half a minute ranking within each
    begins = np.flatnonzero(np.append(True, np.diff(sorted_still) > 0)) if len(still) else np.empty(0, dtype=int)
    tie_of = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(still))))
    right = pairs = 0.0
    for period in np.unique(period_of)[:-1]:
        later = np.append(0, np.cumsum(period_of > period))
        below, up_to = later[begins], later[np.append(begins[1:], len(still))]
        first = np.bincount(tie_of[period_of == period], minlength=len(begins))
        right += float(first @ (later[-1] - (below + up_to) / 2))
        pairs += float(first.sum() * later[-1])
    return right / pairs if pairs else float("nan")


def _train(reading: Reading, frame: pl.DataFrame, calendar: Calendar) -> Curve:
    rows = at_risk(frame, reading.event, calendar.scoring_date)
    events = int(rows["stops"].sum())
    if events < FEWEST_TRAINING_OUTCOMES:
        reason = f"too little data: {events} customers were seen to stop, {FEWEST_TRAINING_OUTCOMES} are needed to learn when."
        return Curve(hazards=[], is_fallback=True, fallback_reason=reason, verdict=reason, training_rows=rows.height)
    table = life_table(rows)
    judged = [found for cut_off in calendar.cut_offs[-MOST_CUT_OFFS:] if (found := _judge(reading, frame, cut_off, calendar.scoring_date)) is not None]
    if not judged:
        reason = "too little data: at no past cut-off had enough customers been seen to stop."
        return Curve(hazards=table, is_fallback=True, fallback_reason=reason, verdict=reason, training_rows=rows.height)
    long = [number for number, found in enumerate(judged) if found["days"] >= JUDGED_DAYS]
    last = long[-1] if long else len(judged) - 1
    names = [name for name in judged[0]["still"] if name != "naive_rule"]
    candidate = min(names, key=lambda name: np.mean([found["loss"][name].mean() for found in judged[:last] or [judged[last]]]))
    is_told, verdict = _gate(judged[last], candidate)
    model = _fit(reading, rows)[candidate] if is_told else None
    found = Curve(model=model, hazards=table, is_fallback=not is_told, fallback_reason=None if is_told else verdict, evaluations=[row for found in judged for row in found["rows"]],
                 verdict=verdict, candidate=candidate, training_rows=rows.height, window_days=calendar.horizon_days, latest=_latest(judged[-1], calendar.horizon_days), warnings=_warnings(reading, frame, calendar),
                  baseline=drift.watched(frame, reading.watched, calendar.cut_offs[-1], calendar.horizon_days))
    counts = diagnostics.explained(found.of_features, frame) if is_told else {"model_importance": [], "model_dependence": []}
    return replace(found, diagnostics=_shown(reading, judged, candidate, calendar.horizon_days) | counts, importance={row["feature"]: row["importance"] for row in counts["model_importance"]})


def _shown(reading: Reading, judged: list[dict[str, Any]], candidate: str, horizon_days: int) -> dict[str, list[dict[str, Any]]]:
    """Reliability, lift and subgroups of the chance to have stopped by the last period's end within the horizon."""
    told = [_latest(found, horizon_days) for found in judged]
    return diagnostics.judged("probability", [(one.cut_off, one.truth, one.scores[candidate]) for one in told], judged[-1]["there"], reading.groups)


def _latest(found: dict[str, Any], horizon_days: int) -> Latest:
    """Who had stopped by the end of the last period within the horizon, and each candidate's chance of that."""
    at = max((number for number, day in enumerate(found["periods"]) if day <= horizon_days), default=0)
    return Latest(found["cut_off"], found["there"], (~found["stays"][:, at]).astype(float), {name: 1 - still[:, at] for name, still in found["still"].items()})


def _warnings(reading: Reading, frame: pl.DataFrame, calendar: Calendar) -> list[str]:
    past = frame.filter(pl.col("as_of_date").is_in(calendar.cut_offs))
    stopped = (past[reading.event].cast(pl.Float64).fill_null(np.inf) <= calendar.horizon_days).cast(pl.Float64).to_numpy()
    return leakage.warnings(reading.watched, past, stopped, frame.filter(pl.col("as_of_date") == calendar.scoring_date))


def _fit(reading: Reading, rows: pl.DataFrame) -> dict[str, Any]:
    if rows.height > MOST_ROWS:
        rows = rows.sample(MOST_ROWS, seed=0)
    label = rows["stops"].cast(pl.Float64).to_numpy()
    fitted: dict[str, Any] = {kind.name: kind().fit(reading.task, rows, label) for kind in (Logistic, Trees)}
    return {**fitted, "blend": Blend(list(fitted.values()))}


def _judge(reading: Reading, frame: pl.DataFrame, cut_off: date, known_until: date) -> dict[str, Any] | None:
    """Curves of every candidate at a cut-off, learned from what was known then, and what happened until `known_until`."""
    past = at_risk(frame, reading.event, cut_off)
    there = frame.filter(pl.col("as_of_date") == cut_off)
    table = life_table(past) if past.height else []
    days = (known_until - cut_off).days
    periods = tuple(p for p in PERIODS[: len(table)] if p <= days)
    if not periods or past["stops"].sum() < FEWEST_TRAINING_OUTCOMES or there.height < evaluation.FEWEST_OUTCOMES:
        return None
    stopped = there[reading.event].cast(pl.Float64).fill_null(np.inf).to_numpy()
    stays = np.maximum(stopped, 1)[:, None] > np.array(periods)
    if min((~stays[:, -1]).sum(), stays[:, -1].sum()) < evaluation.FEWEST_OUTCOMES:
        return None
    still = {name: curves(model, there, periods) for name, model in _fit(reading, past).items()}
    still["naive_rule"] = np.tile(np.cumprod(1 - np.array(table[: len(periods)])), (there.height, 1))
    loss = {name: ((values - stays) ** 2).mean(axis=1) for name, values in still.items()}
    stopped_in = stays.sum(axis=1).astype(float)
    rows = []
    for name, values in still.items():
        found = {
            "concordance": evaluation.interval(concordance, stopped_in, values.mean(axis=1), resamples=RESAMPLES),
            "integrated_brier_score": evaluation.interval(lambda _, lost: float(lost.mean()), stopped_in, loss[name], resamples=RESAMPLES),
        }
        for day in (d for d in HORIZONS if d in periods):
            at = periods.index(day)
            found[f"miscalibration_{day}d"] = evaluation.interval(lambda true, told: float(told.mean() - true.mean()), stays[:, at].astype(float), values[:, at], resamples=RESAMPLES)
        rows += [{"candidate": name, "cut_off": cut_off, "metric": metric, "value": e.value, "lower": e.lower, "upper": e.upper, "n": there.height} for metric, e in found.items()]
    return {"cut_off": cut_off, "there": there, "days": days, "periods": periods, "stays": stays, "still": still, "loss": loss, "stopped_in": stopped_in, "rows": rows}


def _gate(found: dict[str, Any], candidate: str) -> tuple[bool, str]:
    """Whether the candidate's curves beat the one of all beyond the interval of the difference and hold at every horizon, and why in words."""
    ranking = evaluation.interval(concordance, found["stopped_in"], found["still"][candidate].mean(axis=1), resamples=RESAMPLES)
    gain = evaluation.paired_difference(lambda _, lost: float(lost.mean()), found["stopped_in"], found["loss"]["naive_rule"], found["loss"][candidate], resamples=RESAMPLES)
    compared = f"concordance {ranking}, integrated Brier score {found['loss'][candidate].mean():.3f} against {found['loss']['naive_rule'].mean():.3f} of the curve of all, better by {gain}"
    if ranking.lower is None or ranking.lower <= 0.5:
        return False, f"no signal: {compared}."
    if gain.lower is None or gain.lower <= 0:
        return False, f"not better than the curve of all: {compared}."
    for at, day in enumerate(found["periods"]):
        told, true = found["still"][candidate][:, at].mean(), found["stays"][:, at].mean()
        limit = max(TOLERANCE, min(2 * TOLERANCE, 1.96 * float(np.sqrt(true * (1 - true) / len(found["stays"])))))
        if day in HORIZONS and abs(told - true) > limit:
            return False, f"not calibrated: {100 * told:.0f} % should still have been customers after {day} days, {100 * true:.0f} % were; {100 * limit:.0f} points are allowed. Ranking: {compared}."
    return True, f"better than the curve of all: {compared}."
