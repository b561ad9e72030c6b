"""How good a score is, how sure we are of that, and whether it may be published.

Belongs here: bootstrap intervals, paired differences, the publishing gate. Does not belong here: the measures themselves (`ml.measures`,
whose names can be used from here), which rows are judged (`ml.splits`), fitting or calibrating a model, drawing (`dashboards`).
A measure that the data do not define carries the reason in its `Estimate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from ml.measures import (
    BINS,  # noqa: F401
    _arrays,
    _binary,
    area_under_lift_curve,
    average_precision,
    brier_score,
    decile_error,
    decile_table,  # noqa: F401
    equal_mass_bins,  # noqa: F401
    expected_calibration_error,
    lift_table,  # noqa: F401
    log_loss,
    normalised_gini,
    reliability_table,  # noqa: F401
    roc_auc,
    share_at_top,
    spearman,
    total_bias,
    tweedie_deviance,  # noqa: F401
)

Measure = Callable[[np.ndarray, np.ndarray], float]

# Resamples behind an interval: 300 place the ends of a 95 % interval within a tenth of its width. Valid: 100 to 10,000.
RESAMPLES = 300
# Rows drawn per resample at most. Above, the spread is measured on samples of this size and scaled by sqrt(rows / all):
# exact enough for measures that settle at the rate 1/sqrt(n), and seconds instead of hours for a million rows.
MOST_RESAMPLED_ROWS = 20_000

# Sums of absolute errors grow when rows are drawn twice: the percentiles of resamples can lie above the measure itself, so their spread is
# put around it.
ABSOLUTE_ERRORS = (expected_calibration_error, decile_error)

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
        return f"{self.value:.3f} ({self.lower:.3f} to {self.upper:.3f}, {100 * self.level:g} % interval)"


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
    within = np.zeros(len(outcome), dtype=np.int64) if strata is None else strata
    names = list(arrays)
    # Rows by stratum and score, and each row's place there: a resample is sorted by its places, once for all measures.
    orders = {name: np.lexsort((array, within)) for name, array in arrays.items()}
    places = {name: np.argsort(order) for name, order in orders.items()}

    def measured(rows: np.ndarray) -> dict[tuple[str, str], float]:
        ends = np.cumsum(np.bincount(within[rows]))
        parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start] or [slice(None)]
        values = {}
        for name in names:
            taken = orders[name][np.sort(places[name][rows])]
            judged = outcome[taken], arrays[name][taken]
            values |= {(m, name): _averaged(measure, *judged, parts) for m, measure in measures.items()}
        if len(names) == 2:
            for m in measures:
                values[m, f"{names[0]} - {names[1]}"] = values[m, names[0]] - values[m, names[1]]
        return values

    whole = measured(np.arange(len(outcome)))
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
        if shrink < 1 or measures[key[0]] in ABSOLUTE_ERRORS:
            lower, upper = (value + shrink * (end - spread.mean()) for end in (lower, upper))
        if measures[key[0]] in ABSOLUTE_ERRORS and " - " not in key[1]:
            lower = max(lower, 0.0)
        result[key] = Estimate(float(value), float(lower), float(upper), len(outcome), level)
    return result


# -- the reports people see

# Share of all outcomes, or of all money, among the best-scored part.
SHARES: dict[str, Measure] = {f"share_at_top_{round(top * 100):02d}": partial(share_at_top, top=top) for top in (0.05, 0.1, 0.2)}
RANKING = {"roc_auc": roc_auc, "average_precision": average_precision, "area_under_lift_curve": area_under_lift_curve}
PROBABILITY_MEASURES: dict[str, Measure] = RANKING | {
    "brier_score": brier_score,
    "log_loss": log_loss,
    "expected_calibration_error": expected_calibration_error,
} | SHARES
VALUE_MEASURES: dict[str, Measure] = {
    "normalised_gini": normalised_gini,
    "spearman": spearman,
    "total_bias": total_bias,
    "decile_error": decile_error,
} | SHARES
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


def lift_with_intervals(outcome, score, *, bins: int = BINS, resamples: int = 100, level: float = 0.95, seed: int = 0) -> pl.DataFrame:
    """`lift_table` with the predicted total and bias of each bin, and bootstrap intervals of lift, cumulative gain and bias.

    Columns beside those of the table: predicted_total, bias, and `lift_`, `gain_`, `bias_` with `lower` and `upper`; null where not defined.
    """
    outcome, score = _arrays(outcome, score)
    table = lift_table(outcome, score, bins).join(decile_table(outcome, score, bins).select("bin", "predicted_total", "bias"), on="bin", how="left", maintain_order="left")
    draw, shrink = _resampler(len(outcome), None, None)
    rng = np.random.default_rng(seed)
    drawn = np.full((resamples, 3, bins), np.nan)
    for number in range(resamples if len(outcome) else 0):
        rows = draw(rng)
        happened, told = outcome[rows], score[rows]
        of = equal_mass_bins(-told, bins)
        size, total, predicted = (np.bincount(of, weights=w, minlength=bins) for w in (None, happened, told))
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn[number] = total / size / happened.mean(), np.cumsum(total) / happened.sum(), predicted / total - 1
    at = table["bin"].to_numpy() - 1
    columns = {}
    for number, (name, column) in enumerate((("lift", "lift"), ("gain", "cumulative_gain"), ("bias", "bias"))):
        value = table[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        spread = np.where(np.isfinite(drawn[:, number]), drawn[:, number], np.nan)[:, at]
        usable = np.isfinite(value) & (np.isfinite(spread).sum(axis=0) >= 2)
        ends = np.full((2, len(at)), np.nan)
        if usable.any():
            ends[:, usable] = np.nanquantile(spread[:, usable], [0.5 - level / 2, 0.5 + level / 2], axis=0)
            if shrink < 1:
                ends[:, usable] = value[usable] + shrink * (ends[:, usable] - np.nanmean(spread[:, usable], axis=0))
        columns |= {f"{name}_lower": ends[0], f"{name}_upper": ends[1]}
    return table.with_columns(**{name: pl.Series(values).fill_nan(None) for name, values in columns.items()})


# -- the gate


@dataclass(frozen=True)
class GateRule:
    """How a kind of score is judged: by which ranking measure, what chance gives, how far calibration may be off, and how far at most where chance alone gives more."""

    measure: str
    ranking: Measure
    chance: float
    calibration: str
    miscalibration: Measure
    tolerance: float
    most: float = math.inf


def absolute_total_bias(outcome, score) -> float:
    """|sum of predictions / sum of outcomes - 1|, so that biases of several cut-offs do not cancel."""
    return abs(total_bias(outcome, score))


# Tolerances: an error of 5 points in a probability, or of 15 % in money, changes whom one would contact or what one
# would spend. Valid: 0.02 to 0.1 and 0.05 to 0.3. Chances have no bound beside what chance gives: of 60 rows a perfectly
# calibrated model shows 0.12 to 0.2, and a bound of 0.1 refused 19 of 20. What chance gives for money is resampled from
# amounts that may be anything, so there a total off by more than twice the tolerance is never published.
GATE_RULES = {
    "probability": GateRule(
        "AUC", roc_auc, 0.5, "expected calibration error", expected_calibration_error, 0.05
    ),
    "value": GateRule("normalised Gini", normalised_gini, 0.0, "total bias", absolute_total_bias, 0.15, 0.3),
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
        gives a calibrated model on as many rows: the `level` quantile of its error over outcomes drawn from the scores
        (the consistency resampling of Bröcker & Smith 2007, Weather and Forecasting 22). Money: up to the rule's `most`.
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
    limit = max(allowed, min(chance_gives, rule.most))

    def verdict(published: bool, reason: str) -> Verdict:
        return Verdict(published, reason, ours, theirs, difference, off)

    if ours.lower <= rule.chance:
        return verdict(
            False,
            f"no signal: the model's {rule.measure} of {ours} cannot be told from {rule.chance:g}, which chance gives.",
        )
    compared = f"{rule.measure} {ours.value:.3f} against {theirs.value:.3f} of {naive_name}, difference {difference}"
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
