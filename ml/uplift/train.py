"""Learn, cross-fitted, who is changed by contact, and whether that can be told at all. Holds no table of results (`model.py`)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from ml import diagnostics, drift, leakage
from ml.estimators.uplift import GRID, Effects, doubly_robust_scores, effects
from ml.probability import Logistic
from ml.uplift.definition import FEATURES, FEWEST_MEMBERS, GROUPS, TASK, refusal, with_share
from ml.uplift.model import UpliftModel, difference

FOLDS = 5
RESAMPLES = 300
BANDS = 5
COVERAGE = 0.8


@threadpool_limits.wrap(limits=1)   # threads wait for each other longer than they work on a dozen columns
def train(members: pl.DataFrame, everybody: pl.DataFrame | None = None) -> UpliftModel:
    """Learn from members of both groups; `everybody` are those to be scored, against whom drift is measured later.

    Two penalised logistic regressions, one a group, are fitted on the customers of all folds but one and applied to that one; folds are of
    whole customers. The published ranking must have a Qini coefficient whose interval lies above 0; else the average effect stands for all.
    """
    members = with_share(members)
    reason = refusal(members)
    if reason is not None:
        return UpliftModel(is_fallback=True, fallback_reason=reason, verdict=reason, training_rows=members.height)
    treated, outcome, share = (members[name].cast(pl.Float64).to_numpy() for name in ("is_contacted", "has_ordered", "share"))
    customers = members["customer_id"]
    fold = customers.map_elements(lambda c: zlib.crc32(c.encode()) % FOLDS, return_dtype=pl.Int64).to_numpy()
    one, zero = np.empty(members.height), np.empty(members.height)
    for number in range(FOLDS):
        there = fold == number
        for side, into in ((1, one), (0, zero)):
            into[there] = expit(_fit(members.filter(pl.Series(~there & (treated == side)))).log_odds(members.filter(pl.Series(there))))
    told = doubly_robust_scores(treated, outcome, share, one, zero)
    found = effects(told, one - zero, customers.to_numpy(), resamples=RESAMPLES)
    final = {side: _fit(members.filter(pl.Series(treated == side))) for side in (1, 0)}
    slope, shift = np.polyfit(one - zero, told, 1) if np.ptp(one - zero) > 0 else (0.0, float(told.mean()))
    is_told = found.qini[1] > 0 and slope > 0
    verdict = _words(found, is_told, int(members["window_days"][0]))
    effect = shift + slope * (one - zero)
    counts = diagnostics.explained(lambda rows: (0.0, difference(final[1], final[0], rows)[1]), members) if is_told else {"model_importance": [], "model_dependence": []}
    return UpliftModel(
        contacted=final[1], held_back=final[0], is_fallback=not is_told, fallback_reason=None if is_told else verdict, line=[float(shift), float(slope)], average=list(found.average),
        bands=_bands(effect, told), curve=[[float(g), *(float(v) for v in found.curve[:, i]), float(g * found.average[0])] for i, g in enumerate(GRID)],
        evaluations=_evaluations(found, members), verdict=verdict, candidate="two_models", diagnostics={**counts, "model_subgroups": _subgroups(told, members)},
        importance={row["feature"]: row["importance"] for row in counts["model_importance"]}, training_rows=members.height,
        warnings=leakage.warnings(FEATURES, members, outcome), baseline={} if everybody is None else drift.remember(everybody, FEATURES),
    )  # fmt: skip


def _fit(rows: pl.DataFrame) -> Logistic:
    return Logistic().fit(TASK, rows, rows["has_ordered"].cast(pl.Float64).to_numpy())


def _words(found: Effects, is_told: bool, days: int) -> str:
    value, lower, upper = (1000 * v for v in found.average)
    within = f"within {days} days per 1,000 customers contacted ({lower:.2f} to {upper:.2f}, 95 % interval)"
    average = f"on average contact brings {value:.2f} extra orders {within}"
    if lower <= 0 <= upper:
        average = f"no evidence of an effect of contact: {value:.2f} extra orders {within}"
    qini = "Qini {:.2f} ({:.2f} to {:.2f}, 95 % interval) extra orders per 1,000 customers".format(*(1000 * v for v in found.qini))
    if is_told:
        top, top_lower, top_upper = (1000 * v for v in found.at_top[0.1])
        return f"{average}; it differs between customers: {qini}, and the ten per cent ranked first bring {top:.2f} ({top_lower:.2f} to {top_upper:.2f}, 95 % interval) per 1,000 contacted."
    return f"{average}; no evidence that it differs between customers: {qini}. Only the average is shown."


def _bands(effect: np.ndarray, told: np.ndarray) -> dict[str, list[float]]:
    """80 % intervals of the observed effect among customers with like predictions, as distances from the prediction."""
    order = np.argsort(effect, kind="stable")
    bands: dict[str, list[float]] = {"at": [], "below": [], "above": []}
    for rows in np.array_split(order, BANDS):
        at, mean, half = float(effect[rows].mean()), float(told[rows].mean()), float(norm.ppf(0.5 + COVERAGE / 2) * told[rows].std() / np.sqrt(len(rows)))
        bands["at"].append(at)
        bands["below"].append(max(at - (mean - half), 0.0))
        bands["above"].append(max(mean + half - at, 0.0))
    return bands


def _evaluations(found: Effects, members: pl.DataFrame) -> list[dict[str, Any]]:
    measures = {"average_effect_per_1000": found.average, "qini_per_1000": found.qini, **{f"effect_at_top_{round(100 * top)}_per_1000": ends for top, ends in found.at_top.items()}}
    return [{"candidate": "two_models", "cut_off": members["as_of_date"].max(), "metric": metric, "value": 1000 * float(v), "lower": 1000 * float(lo), "upper": 1000 * float(up), "n": members.height}
            for metric, (v, lo, up) in measures.items()]  # fmt: skip


def _subgroups(told: np.ndarray, members: pl.DataFrame) -> list[dict[str, Any]]:
    """The average effect within groups with its 95 % interval; a customer's rows count as one draw (cluster-robust standard error)."""
    rows = []
    for name in GROUPS:
        labels = diagnostics.banded(members[name])
        for label in labels.unique().sort().to_list():
            chosen = (labels == label).to_numpy()
            there = members.filter(pl.Series(chosen))
            row = {"cut_off": str(members["as_of_date"].max()), "dimension": diagnostics.words(name), "subgroup": label, "metric": "average_effect_per_1000", "n": there.height,
                   "is_small": there.height < FEWEST_MEMBERS}
            orders = min(there.filter(pl.col("is_contacted") == side)["has_ordered"].sum() for side in (0, 1))
            if orders < diagnostics.FEWEST_OUTCOMES_IN_SUBGROUP:
                rows.append({**row, "value": None, "lower": None, "upper": None, "reason": f"withheld: {orders} orders in one of the groups, {diagnostics.FEWEST_OUTCOMES_IN_SUBGROUP} are needed"})
                continue
            mean = float(told[chosen].mean())
            missed = there.select("customer_id", pl.Series("missed", told[chosen] - mean)).group_by("customer_id").agg(pl.col("missed").sum())["missed"].to_numpy()
            half = float(norm.ppf(0.975) * np.sqrt(np.sum(missed**2)) / there.height)
            rows.append({**row, "value": 1000 * mean, "lower": 1000 * (mean - half), "upper": 1000 * (mean + half), "reason": None})
    return rows
