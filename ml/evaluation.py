"""How good a score is, how sure we are of that, and whether it may be published.

Belongs here: measures of ranking, calibration and value, bootstrap intervals, paired differences, the publishing gate.
Does not belong here: which rows are judged (`ml.splits`), fitting or calibrating a model, drawing (`dashboards`).

Every measure takes (outcome [n], score [n]). Equal scores are treated alike (ranks are averaged, bins never separate
them), so no measure depends on the order of rows. A measure that the data do not define is nan, and an `Estimate` then
carries the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import norm

Measure = Callable[[np.ndarray, np.ndarray], float]

# Resamples behind an interval: 300 place the ends of a 95 % interval within a tenth of its width. Valid: 100 to 10,000.
RESAMPLES = 300
# Rows drawn per resample at most. Above, the spread is measured on samples of this size and scaled by sqrt(rows / all):
# exact enough for measures that settle at the rate 1/sqrt(n), and seconds instead of hours for a million rows.
MOST_RESAMPLED_ROWS = 20_000
# Probabilities are kept this far from 0 and 1 in the logarithm.
LOG_LOSS_FLOOR = 1e-15
BINS = 10


# -- ranking


def roc_auc(outcome, score) -> float:
    """Area under the ROC curve: chance that a random positive scores above a random negative, ties half."""
    outcome, score = _binary(outcome, score)
    positives = outcome.sum()
    negatives = len(outcome) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = _ranks(score)[outcome == 1]
    return float((ranks.sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(outcome, score) -> float:
    """Precision averaged over recall, stepwise (no interpolation)."""
    outcome, score = _binary(outcome, score)
    if outcome.sum() == 0:
        return math.nan
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(outcome[order])[last_of_tie]
    chosen = np.flatnonzero(last_of_tie) + 1
    return float(np.sum(np.diff(found, prepend=0) * found / chosen) / outcome.sum())


def normalised_gini(outcome, score) -> float:
    """Concentration of the outcome's value along the score, over the one along the outcome itself; 1 is perfect, 0 chance.

    For outcomes 0/1 it equals 2 AUC - 1.
    """
    outcome, score = _arrays(outcome, score)
    best = _concentration(outcome, outcome)
    return float(_concentration(outcome, score) / best) if best > 0 else math.nan


def spearman(outcome, score) -> float:
    """Rank correlation, ties averaged; nan when either side does not vary."""
    outcome, score = _arrays(outcome, score)
    if len(outcome) < 2 or np.ptp(outcome) == 0 or np.ptp(score) == 0:
        return math.nan
    return float(np.corrcoef(_ranks(outcome), _ranks(score))[0, 1])


def area_under_lift_curve(outcome, score) -> float:
    """Area under the cumulative gain curve (share of outcome reached against share of rows contacted); chance is 0.5.

    The ALIFT of Moro, Cortez & Rita (2014), Decision Support Systems 62.
    """
    outcome, score = _arrays(outcome, score)
    if len(outcome) == 0 or outcome.sum() <= 0:
        return math.nan
    return float(1 - outcome @ (_ranks(-score) - 0.5) / (len(outcome) * outcome.sum()))


def share_at_top(outcome, score, top: float = 0.1) -> float:
    """Share of all value (or of all positives) held by the best-scored `top` (0..1) of rows; ties at the edge pro rata."""
    outcome, score = _arrays(outcome, score)
    if not 0 <= top <= 1:
        raise ValueError(f"top must lie between 0 and 1, got {top}")
    total = outcome.sum()
    if len(outcome) == 0 or total <= 0:
        return math.nan
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    rows = np.concatenate([[0], np.flatnonzero(last_of_tie) + 1])
    reached = np.concatenate([[0.0], np.cumsum(outcome[order])[last_of_tie]])
    return float(np.interp(top * len(outcome), rows, reached) / total)


# -- calibration of probabilities


def brier_score(outcome, probability) -> float:
    """Mean squared error of the probability; lower is better."""
    outcome, probability = _binary(outcome, probability, probabilities=True)
    return float(np.mean((probability - outcome) ** 2)) if len(outcome) else math.nan


def log_loss(outcome, probability) -> float:
    """Mean negative log-likelihood in nats; lower is better."""
    outcome, probability = _binary(outcome, probability, probabilities=True)
    if len(outcome) == 0:
        return math.nan
    probability = np.clip(probability, LOG_LOSS_FLOOR, 1 - LOG_LOSS_FLOOR)
    return float(-np.mean(outcome * np.log(probability) + (1 - outcome) * np.log1p(-probability)))


def expected_calibration_error(outcome, probability, bins: int = BINS) -> float:
    """Mean distance between predicted and observed rate over bins of equal mass, weighted by rows; lower is better."""
    outcome, probability = _binary(outcome, probability, probabilities=True)
    if len(outcome) == 0:
        return math.nan
    of = equal_mass_bins(probability, bins)
    return float(np.sum(np.abs(np.bincount(of, weights=probability - outcome))) / len(outcome))


# -- calibration of values


def total_bias(outcome, score) -> float:
    """Sum of predictions over sum of outcomes, minus 1; 0.1 is ten per cent too much."""
    outcome, score = _arrays(outcome, score)
    return float(score.sum() / outcome.sum() - 1) if outcome.sum() > 0 else math.nan


def decile_error(outcome, score, bins: int = BINS) -> float:
    """Sum over score deciles of |predicted - actual total|, over the actual total; lower is better."""
    outcome, score = _arrays(outcome, score)
    if outcome.sum() <= 0:
        return math.nan
    of = equal_mass_bins(score, bins)
    return float(np.sum(np.abs(np.bincount(of, weights=score - outcome))) / outcome.sum())


def tweedie_deviance(outcome, score, power: float = 1.5) -> float:
    """Mean Tweedie deviance of expected values above 0 (1 < power < 2): proper for means of amounts with many zeros; lower is better."""
    outcome, score = _arrays(outcome, score)
    outcome = np.maximum(outcome, 0.0)
    return float(2 * np.mean(outcome ** (2 - power) / ((1 - power) * (2 - power)) - outcome * score ** (1 - power) / (1 - power) + score ** (2 - power) / (2 - power)))


# -- tables


def equal_mass_bins(score, bins: int = BINS) -> np.ndarray:
    """Bin 0 (lowest scores) to bins - 1 per row, of as equal size as ties allow: equal scores share a bin."""
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    score = np.asarray(score, dtype=float)
    if len(score) == 0:
        return np.empty(0, dtype=np.int64)
    # The middle of a row's tie, as a share of all rows.
    middle = (_ranks(score) - 0.5) / len(score)
    return np.minimum((middle * bins).astype(np.int64), bins - 1)


def reliability_table(outcome, probability, bins: int = BINS, level: float = 0.95) -> pl.DataFrame:
    """Predicted against observed rate per bin of equal mass, lowest first.

    Columns: bin (from 1), n, mean_predicted, observed_rate, lower, upper (Wilson interval of the observed rate).
    """
    outcome, probability = _binary(outcome, probability, probabilities=True)
    bin_of, n, (predicted, observed) = _by_bin(probability, bins, probability, outcome)
    rate = observed / n
    z = norm.ppf(0.5 + level / 2)
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return pl.DataFrame({
        "bin": bin_of + 1,
        "n": n,
        "mean_predicted": predicted / n,
        "observed_rate": rate,
        "lower": centre - half,
        "upper": centre + half,
    })  # fmt: skip


def lift_table(outcome, score, bins: int = BINS) -> pl.DataFrame:
    """Lift and gain per bin of equal mass, best scores first.

    Columns: bin (1 = best), n, lowest_score, outcome_total, outcome_mean, lift, cumulative_rows (share),
    cumulative_gain (share), cumulative_lift. Shares and lifts are null when there is no outcome at all.
    """
    outcome, score = _arrays(outcome, score)
    bin_of, n, (total,) = _by_bin(-score, bins, outcome)
    lowest = np.full(bins, np.inf)
    np.minimum.at(lowest, equal_mass_bins(-score, bins), score)
    rows = np.cumsum(n) / max(len(score), 1)
    everything = outcome.sum()
    whole = everything if everything > 0 else math.nan
    gain = np.cumsum(total) / whole
    table = pl.DataFrame({
        "bin": bin_of + 1,
        "n": n,
        "lowest_score": lowest[bin_of],
        "outcome_total": total,
        "outcome_mean": total / n,
        "lift": (total / n) / (whole / max(len(score), 1)),
        "cumulative_rows": rows,
        "cumulative_gain": gain,
        "cumulative_lift": gain / rows,
    })  # fmt: skip
    return table.with_columns(pl.col("lift", "cumulative_gain", "cumulative_lift").fill_nan(None))


def decile_table(outcome, score, bins: int = BINS) -> pl.DataFrame:
    """Predicted against actual total per bin of equal mass, best scores first.

    Columns: bin (1 = best), n, predicted_total, actual_total, bias (predicted / actual - 1; null where actual is 0).
    """
    outcome, score = _arrays(outcome, score)
    bin_of, n, (predicted, actual) = _by_bin(-score, bins, score, outcome)
    bias = [p / a - 1 if a > 0 else None for p, a in zip(predicted, actual, strict=True)]
    return pl.DataFrame(
        {"bin": bin_of + 1, "n": n, "predicted_total": predicted, "actual_total": actual, "bias": bias},
        schema_overrides={"bias": pl.Float64},
    )


# -- intervals


@dataclass(frozen=True)
class Estimate:
    """A measure with its interval; None with a `reason` when the data do not define it. `n` rows, `level` 0..1."""

    value: float | None
    lower: float | None
    upper: float | None
    n: int
    level: float
    reason: str | None = None

    def __str__(self) -> str:
        if self.value is None:
            return f"not defined ({self.reason})"
        return f"{self.value:.3f} ({self.lower:.3f} to {self.upper:.3f})"


def interval(measure: Measure, outcome, score, **options) -> Estimate:
    """A measure and its bootstrap interval. Options: see `intervals`."""
    return intervals({"measure": measure}, outcome, {"score": score}, **options)["measure", "score"]


def paired_difference(measure: Measure, outcome, first, second, **options) -> Estimate:
    """measure(first) - measure(second) on the same rows, with the bootstrap interval of the difference.

    Both scorers see the same resamples, so what is hard about the rows cancels. Options: see `intervals`.
    """
    found = intervals({"measure": measure}, outcome, {"first": first, "second": second}, **options)
    return found["measure", "first - second"]


def intervals(
    measures: dict[str, Measure],
    outcome,
    scores: dict[str, Sequence[float]],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
    groups=None,
    strata=None,
) -> dict[tuple[str, str], Estimate]:
    """Several measures of several scorers on the same bootstrap resamples.

    Parameters
    ----------
    measures, scores : by name.
    groups : entity of each row, shape [n]; resampled as a whole, because one customer's rows at several cut-offs are not
        independent.
    strata : cut-off (or fold) of each row, shape [n]; the measure is taken within each and averaged by rows, since
        scores of different cut-offs are not on one scale.

    Returns
    -------
    Estimates by (measure, scorer), and by (measure, "<first> - <second>") when there are exactly two scorers.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    outcome = np.asarray(outcome, dtype=float)
    arrays = {name: _arrays(outcome, score)[1] for name, score in scores.items()}
    strata = None if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    names = list(arrays)
    keys = [(measure, name) for measure in measures for name in names]

    def measured(rows) -> dict[tuple[str, str], float]:
        taken = outcome[rows]
        parts = [slice(None)] if strata is None else _parts(strata[rows])
        values = {(m, s): _averaged(measures[m], taken, arrays[s][rows], parts) for m, s in keys}
        if len(names) == 2:
            for m in measures:
                values[m, f"{names[0]} - {names[1]}"] = values[m, names[0]] - values[m, names[1]]
        return values

    whole = measured(slice(None))
    draw, shrink = _resampler(len(outcome), groups, strata if groups is None else None)
    rng = np.random.default_rng(seed)
    replicates = [measured(draw(rng)) for _ in range(resamples)] if len(outcome) else []
    result = {}
    for key, value in whole.items():
        spread = np.array([replicate[key] for replicate in replicates])
        spread = spread[np.isfinite(spread)]
        if not np.isfinite(value) or len(spread) < 2:
            reason = _why_undefined(outcome)
            result[key] = Estimate(None, None, None, len(outcome), level, reason)
            continue
        lower, upper = np.quantile(spread, [0.5 - level / 2, 0.5 + level / 2])
        if shrink < 1:
            lower, upper = (value + shrink * (end - spread.mean()) for end in (lower, upper))
        result[key] = Estimate(float(value), float(lower), float(upper), len(outcome), level)
    return result


# -- the reports people see

RANKING = {"roc_auc": roc_auc, "average_precision": average_precision, "area_under_lift_curve": area_under_lift_curve}
PROBABILITY_MEASURES: dict[str, Measure] = RANKING | {
    "brier_score": brier_score,
    "log_loss": log_loss,
    "expected_calibration_error": expected_calibration_error,
}
VALUE_MEASURES: dict[str, Measure] = {
    "normalised_gini": normalised_gini,
    "spearman": spearman,
    "total_bias": total_bias,
    "decile_error": decile_error,
    "share_at_top_10": share_at_top,
}
MEASURES = {"probability": PROBABILITY_MEASURES, "value": VALUE_MEASURES}


def evaluate(outcome, score, kind: str, by=None, **options) -> pl.DataFrame:
    """All measures of a kind of score ("probability" or "value") with intervals.

    Parameters
    ----------
    by : label of each row (cut-off, subgroup), shape [n]; one block of rows per label. None: one block, label "all".
    options : see `intervals`.

    Returns
    -------
    Columns: label, measure, value, lower, upper, n, reason.
    """
    outcome, score = _arrays(outcome, score)
    labels = np.full(len(outcome), "all") if by is None else np.asarray(by).astype(str)
    rows = []
    for label in np.unique(labels):
        chosen = labels == label
        picked = {name: None if values is None else np.asarray(values)[chosen] for name, values in options.items() if name in ("groups", "strata")}
        found = intervals(_measures(kind), outcome[chosen], {"score": score[chosen]}, **(options | picked))
        for (measure, _), e in found.items():
            rows.append((str(label), measure, e.value, e.lower, e.upper, e.n, e.reason))
    schema = {
        "label": pl.String, "measure": pl.String, "value": pl.Float64, "lower": pl.Float64, "upper": pl.Float64,
        "n": pl.Int64, "reason": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


# -- the gate


@dataclass(frozen=True)
class GateRule:
    """How a kind of score is judged: by which ranking measure, what chance gives, and how far calibration may be off."""

    measure: str
    ranking: Measure
    chance: float
    calibration: str
    miscalibration: Measure
    tolerance: float


def absolute_total_bias(outcome, score) -> float:
    """|sum of predictions / sum of outcomes - 1|, so that biases of several cut-offs do not cancel."""
    return abs(total_bias(outcome, score))


# Tolerances: an error of 5 points in a probability, or of 15 % in money, changes whom one would contact or what one
# would spend. Valid: 0.02 to 0.1 and 0.05 to 0.3.
GATE_RULES = {
    "probability": GateRule(
        "AUC", roc_auc, 0.5, "expected calibration error", expected_calibration_error, 0.05
    ),
    "value": GateRule("normalised Gini", normalised_gini, 0.0, "total bias", absolute_total_bias, 0.15),
}  # fmt: skip
# Fewer outcomes of either sort than this give intervals too wide to decide anything. Valid: 20 to 200.
FEWEST_OUTCOMES = 30


@dataclass(frozen=True)
class Verdict:
    """Whether a model may be published, and why, in plain words; the estimates are None where data were missing."""

    published: bool
    reason: str
    model: Estimate | None = None
    naive: Estimate | None = None
    difference: Estimate | None = None
    miscalibration: float | None = None


def gate(
    outcome,
    model,
    naive,
    *,
    kind: str,
    naive_name: str = "the naive rule",
    tolerance: float | None = None,
    level: float = 0.95,
    seed: int = 0,
    groups=None,
    strata=None,
) -> Verdict:
    """Publish a model only if it beats its naive rule beyond the interval of the difference and is calibrated.

    Parameters
    ----------
    outcome : what happened after the cut-off: 0/1 or a value, shape [n].
    model : the model's probabilities or expected values, shape [n].
    naive : the naive rule's scores for the same rows (any scale: only their order counts), shape [n].
    kind : "probability" or "value"; the rule is `GATE_RULES[kind]`.
    naive_name : how the naive rule is called in the reason, e.g. "recency".
    tolerance : largest calibration error; the rule's by default. A larger error passes when it is no more than chance
        would give a calibrated model on as many rows, up to twice the tolerance.
    groups, strata, level, seed : see `intervals`.
    """
    if kind not in GATE_RULES:
        raise ValueError(f"kind must be one of {', '.join(GATE_RULES)}, got {kind!r}")
    rule = GATE_RULES[kind]
    allowed = rule.tolerance if tolerance is None else tolerance
    outcome, model = _binary(outcome, model, probabilities=True) if kind == "probability" else _arrays(outcome, model)
    happened = int(np.count_nonzero(outcome))
    if min(happened, len(outcome) - happened if kind == "probability" else happened) < FEWEST_OUTCOMES:
        missing = "with the outcome" if happened < FEWEST_OUTCOMES else "without the outcome"
        count = happened if happened < FEWEST_OUTCOMES else len(outcome) - happened
        return Verdict(
            False,
            f"too little data: only {count} of {len(outcome)} rows {missing}, {FEWEST_OUTCOMES} are needed to judge a model.",
        )
    options = {"level": level, "seed": seed, "groups": groups, "strata": strata}
    found = intervals({"rank": rule.ranking}, outcome, {"model": model, "naive": naive}, **options)
    ours, theirs, difference = found["rank", "model"], found["rank", "naive"], found["rank", "model - naive"]
    if ours.value is None or difference.value is None:
        return Verdict(False, f"the {rule.measure} is not defined: {ours.reason or difference.reason}.", ours, theirs, difference)
    parts = [np.arange(len(outcome))] if strata is None else _parts(np.unique(np.asarray(strata), return_inverse=True)[1])
    off = _averaged(rule.miscalibration, outcome, model, parts)
    chance_gives = _chance_miscalibration(rule, kind, outcome, model, parts, level, seed)
    limit = max(allowed, min(chance_gives, 2 * allowed))

    def verdict(published: bool, reason: str) -> Verdict:
        return Verdict(published, reason, ours, theirs, difference, off)

    share = f"{level:.0%} interval"
    if ours.lower <= rule.chance:
        return verdict(
            False,
            f"no signal: the model's {rule.measure} of {ours} ({share}) cannot be told from {rule.chance:g}, which chance gives.",
        )
    compared = f"{rule.measure} {ours.value:.3f} against {theirs.value:.3f} of {naive_name}, difference {difference} ({share})"
    if difference.lower <= 0:
        how = "worse than" if difference.upper < 0 else "not better than"
        return verdict(False, f"{how} {naive_name}: {compared}.")
    if off > limit:
        return verdict(False, f"not calibrated: {rule.calibration} {off:.3f}, at most {limit:.3f} is allowed. Ranking: {compared}.")
    return verdict(True, f"better than {naive_name}: {compared}; {rule.calibration} {off:.3f} of at most {limit:.3f}.")


def _chance_miscalibration(rule: GateRule, kind: str, outcome, model, parts, level: float, seed: int) -> float:
    """Upper end of the calibration error that a perfectly calibrated model would show on these rows."""
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(100):
        if kind == "probability":
            drawn, predicted = (rng.random(len(model)) < model).astype(float), model
        else:
            # Rows resampled after the bias is taken out: what is left is chance.
            ratio = outcome.sum() / model.sum() if model.sum() > 0 else 0.0
            weight = rng.poisson(1.0, len(outcome))
            drawn, predicted = outcome * weight, model * ratio * weight
        errors.append(_averaged(rule.miscalibration, drawn, predicted, parts))
    return float(np.nanquantile(errors, level))


# -- helpers


def _measures(kind: str) -> dict[str, Measure]:
    if kind not in MEASURES:
        raise ValueError(f"kind must be one of {', '.join(MEASURES)}, got {kind!r}")
    return MEASURES[kind]


def _arrays(outcome, score) -> tuple[np.ndarray, np.ndarray]:
    outcome, score = np.asarray(outcome, dtype=float), np.asarray(score, dtype=float)
    if outcome.ndim != 1 or outcome.shape != score.shape:
        raise ValueError(f"outcome and score must be of one length, got shapes {outcome.shape} and {score.shape}")
    if not (np.all(np.isfinite(outcome)) and np.all(np.isfinite(score))):
        raise ValueError("outcome and score must be finite; leave rows without an outcome or score out first")
    return outcome, score


def _binary(outcome, score, probabilities: bool = False) -> tuple[np.ndarray, np.ndarray]:
    outcome, score = _arrays(outcome, score)
    if not np.all((outcome == 0) | (outcome == 1)):
        raise ValueError("outcome must be 0 or 1")
    if probabilities and not np.all((score >= 0) & (score <= 1)):
        raise ValueError("probabilities must lie between 0 and 1")
    return outcome, score


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank (scipy's does the same at ten times the cost for small n)."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(values) else np.empty(0, np.int64)
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _concentration(value: np.ndarray, score: np.ndarray) -> float:
    n, total = len(value), value.sum()
    if n == 0 or total <= 0:
        return math.nan
    return float(2 * (value @ _ranks(score)) / (n * total) - (n + 1) / n)


def _by_bin(score, bins, *columns):
    """Bins that occur, their sizes, and the column sums in each."""
    of = equal_mass_bins(score, bins)
    size = np.bincount(of, minlength=bins) if len(of) else np.zeros(bins, dtype=np.int64)
    used = np.flatnonzero(size)
    sums = [np.bincount(of, weights=column, minlength=bins)[used] if len(of) else np.empty(0) for column in columns]
    return used, size[used], sums


def _parts(strata: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(strata, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(strata[order])) + 1)


def _averaged(measure: Measure, outcome, score, parts) -> float:
    values = [(measure(outcome[part], score[part]), len(outcome[part])) for part in parts]
    values = [(value, rows) for value, rows in values if np.isfinite(value)]
    total = sum(rows for _, rows in values)
    return sum(value * rows for value, rows in values) / total if total else math.nan


def _resampler(rows: int, groups, strata) -> tuple[Callable[[np.random.Generator], np.ndarray], float]:
    """A function that draws row numbers with replacement, and the factor by which its spread exceeds the whole's."""
    if groups is not None:
        labels = np.unique(np.asarray(groups), return_inverse=True)[1]
        if len(labels) != rows:
            raise ValueError(f"groups must have one value per row: {rows} rows, {len(labels)} groups")
        order = np.argsort(labels, kind="stable")
        size = np.bincount(labels)
        first = np.cumsum(size) - size
        drawn = max(1, min(len(size), round(MOST_RESAMPLED_ROWS * len(size) / max(rows, 1))))

        def draw_groups(rng):
            chosen = rng.integers(0, len(size), drawn)
            lengths = size[chosen]
            within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            return order[np.repeat(first[chosen], lengths) + within]

        return draw_groups, math.sqrt(drawn / len(size))
    parts = [np.arange(rows)] if strata is None else _parts(strata)
    kept = min(1.0, MOST_RESAMPLED_ROWS / max(rows, 1))
    sizes = [max(1, round(kept * len(part))) for part in parts]

    def draw_rows(rng):
        return np.concatenate([part[rng.integers(0, len(part), n)] for part, n in zip(parts, sizes, strict=True)])

    return draw_rows, math.sqrt(kept)


def _why_undefined(outcome: np.ndarray) -> str:
    if len(outcome) == 0:
        return "there are no rows"
    if np.ptp(outcome) == 0:
        return f"every outcome is {outcome[0]:g}"
    return "too few rows with an outcome, or the score does not vary"
