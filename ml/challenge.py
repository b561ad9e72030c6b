"""Whether a newly trained model may take the place of the one that scores now.

Belongs here: comparing champion and challenger on the same people at the latest cut-off, neither knowing its outcome. Does not belong
here: whether a model is good enough to be published at all (`ml.evaluation.gate`), moving the champion (`ml.registry`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ml import evaluation

TABLE = ("model VARCHAR, compared_on DATE, cut_off DATE, champion_id VARCHAR, challenger_id VARCHAR, metric VARCHAR, champion DOUBLE, challenger DOUBLE, difference DOUBLE, lower DOUBLE, "
         "upper DOUBLE, n BIGINT, is_promoted BOOLEAN, reason VARCHAR")
MEASURES: dict[str, tuple[str, evaluation.Measure, int]] = {
    # measure and the sign with which more is better
    "probability": ("log_loss", evaluation.log_loss, -1),
    "value": ("normalised_gini", evaluation.normalised_gini, 1),
    # of curves the chance to have stopped within the churn window is compared
    "days": ("log_loss", evaluation.log_loss, -1),
}


@dataclass
class Latest:
    """What every candidate, knowing only what was known then, said at the latest complete cut-off."""

    cut_off: date
    rows: pl.DataFrame
    truth: np.ndarray
    scores: dict[str, np.ndarray]


@dataclass
class Decision:
    """Whether the challenger is promoted. `comparisons`: one row per part compared, with the columns of `TABLE` known here."""

    promoted: bool
    reason: str
    comparisons: list[dict[str, Any]] = field(default_factory=list)


def decide(champion: dict[str, Any], trained_on: date | None, challenger: dict[str, Any]) -> Decision:
    """Judge parts of the same question by kind.

    Refused is a challenger that could learn nothing where the champion had learned something (too few rows, one outcome only), and one that
    is worse on the same people beyond the interval of the difference. A champion that had seen the outcome is not compared.
    """
    lost = [kind for kind, part in champion.items() if _has_learned(part) and not _has_learned(challenger.get(kind))]
    if lost:
        said = getattr(challenger.get(lost[0]), "verdict", "there is no such part any more")
        return Decision(False, f"kept the champion: the new training could not learn {', '.join(k or 'anything' for k in lost)}: {said}")
    comparisons, worse = [], []
    for kind, part in champion.items():
        latest: Latest | None = challenger[kind].latest if kind in challenger else None
        if latest is None or not _has_learned(part) or trained_on is None:
            continue
        name, measure, sign = MEASURES[part.measured_as]
        before = part.predicted(latest.rows, latest.cut_off) if trained_on <= latest.cut_off and not part.is_fallback else latest.scores.get(part.candidate)
        if before is None:
            continue
        usable = np.isfinite(before)
        after = latest.scores[challenger[kind].candidate]
        found = evaluation.intervals({name: measure}, latest.truth[usable], {"challenger": after[usable], "champion": before[usable]})
        gain = found[name, "challenger - champion"]
        if gain.value is None:
            continue
        comparisons.append({"kind": kind, "cut_off": latest.cut_off, "metric": name, "champion": found[name, "champion"].value, "challenger": found[name, "challenger"].value,
                            "difference": gain.value, "lower": gain.lower, "upper": gain.upper, "n": gain.n})
        if (gain.lower > 0) if sign < 0 else (gain.upper < 0):
            worse.append(f"{name.replace('_', ' ')} {found[name, 'challenger'].value:.4f} against {found[name, 'champion'].value:.4f} on the same {gain.n:,} people")
    if worse:
        return Decision(False, f"kept the champion: the new model is worse beyond chance: {'; '.join(worse)}", comparisons)
    if comparisons:
        return Decision(True, "promoted: not worse than the champion on the same people", comparisons)
    return Decision(True, "promoted: there are no people of whom both champion and challenger foresaw an outcome that is known by now" if champion else "promoted: there was no champion", [])


def _has_learned(part: Any) -> bool:
    return part is not None and part.candidate != "none"
