"""Finding groups, and refusing to where there are none.

Belongs here: scaling, the choice of the number of groups, stability, matching ids between refits. Does not belong here: what the
columns mean (`ml.clusters.definition`), tables (`ml.mining`).

Groups are those of k-means on robustly scaled axes. k-means cuts any cloud into parts, so a number of groups has to pass:
each group is found again in refits on halves of the customers (mean Jaccard similarity, Hennig 2007; 0.75 is his mark of a stable
one), the whole division too (adjusted Rand index, Hubert & Arabie 1985), and the groups lie further apart (silhouette, Rousseeuw
1987) than those that the same procedure finds in clouds without groups: one normal distribution of the same covariance, and a uniform
box along its principal axes (the references of the gap statistic, Tibshirani et al. 2001). Of the numbers that pass, the one with the
best silhouette is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

SEED = 20_260_101
NUMBERS = range(2, 9)            # more than eight groups nobody keeps in mind
FEWEST_CUSTOMERS = 200           # halves of fewer say little about groups of a tenth. Valid: from 50.
SMALLEST_SHARE = 0.02            # a group below two in a hundred is a handful of outliers. Valid: above 0, below 0.5.
STABLE_JACCARD = 0.75            # Hennig's mark
STABLE_RAND = 0.7                # below, Steinley (2004) calls the agreement of two divisions less than good
CLEARER_BY = 0.03                # silhouette above the clearest of the clouds without groups; less is within what two samples differ by
REFITS = 20
HOPELESS_AFTER, HOPELESS = 5, 0.6    # a group at 0.6 after five refits would have to come back almost whole in all others: no further ones are made
CLOUDS = 5                       # of each kind
FITTED_ON = 3_000                # customers that groups are learned from, drawn by chance with a fixed seed; all are assigned. Valid: from FEWEST_CUSTOMERS.
MEASURED_ON = 1_500              # silhouettes cost the square of this
SAME_GROUP = 0.3                 # Jaccard similarity from which a group of a refit keeps the id of the former one


@dataclass
class Scaling:
    """Values to robust units: logarithm where asked, less the median, by the interquartile range (by the standard deviation where that is zero), clipped at 4."""

    logarithmic: list[bool]
    median: list[float] = field(default_factory=list)
    width: list[float] = field(default_factory=list)

    def learn(self, values: np.ndarray) -> Scaling:
        """Medians and widths of values of shape [n, axes]; nan is unknown."""
        curved = self._curved(values)
        low, middle, high = np.nanquantile(curved, [0.25, 0.5, 0.75], axis=0)
        spread = np.nanstd(curved, axis=0)
        self.median = middle.tolist()
        self.width = np.where(high - low > 1e-9, (high - low) / 1.349, np.where(spread > 1e-9, spread, 1.0)).tolist()
        return self

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Shape [n, axes]; unknown values lie at the median."""
        scaled = (self._curved(values) - self.median) / self.width
        return np.clip(np.where(np.isnan(scaled), 0.0, scaled), -4, 4)

    def _curved(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.logarithmic, np.sign(values) * np.log1p(np.abs(values)), values)


@dataclass
class Fit:
    """Groups that were found: centres [k, axes] in robust units, each group's Jaccard stability, and what the choice rested on. `reason` is empty when groups stand."""

    centres: np.ndarray
    stability: list[float]
    rand: float | None
    silhouette: float | None
    reference: float | None
    reason: str = ""
    tried: list[dict[str, Any]] = field(default_factory=list)


def assign(values: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place of the nearest centre, distance to it) of scaled values, shape [n] each."""
    squares = (values**2).sum(1)[:, None] - 2 * values @ centres.T + (centres**2).sum(1)
    nearest = squares.argmin(1)
    return nearest, np.sqrt(np.maximum(squares[np.arange(len(values)), nearest], 0))


def find(values: np.ndarray, seed: int = SEED) -> Fit:
    """Groups in scaled values of shape [n, axes], or the reason why there are none. The same values in the same order give the same answer."""
    none = np.empty((0, values.shape[1]))
    if len(values) < FEWEST_CUSTOMERS:
        return Fit(none, [], None, None, None, f"{len(values):,} customers have ordered, {FEWEST_CUSTOMERS} are needed to tell groups from chance")
    if values.shape[1] == 0:
        return Fit(none, [], None, None, None, "customers do not differ in any behaviour that is recorded")
    rng = np.random.default_rng(seed)
    sample = values if len(values) <= FITTED_ON else values[np.sort(rng.choice(len(values), FITTED_ON, replace=False))]
    if len(np.unique(sample, axis=0)) <= NUMBERS[-1]:
        return Fit(none, [], None, None, None, "nearly all customers behave exactly alike")
    with threadpool_limits(1):      # the fits are small: handing them to threads costs more than it saves
        return _choose(sample, seed, rng)


def _choose(sample: np.ndarray, seed: int, rng: np.random.Generator) -> Fit:
    none = np.empty((0, sample.shape[1]))
    tried = [_try(sample, k, seed) for k in NUMBERS]
    told = [{n: v for n, v in t.items() if n != "centres"} for t in tried]
    standing = sorted((t for t in tried if t["rand"] >= STABLE_RAND and min(t["stability"]) >= STABLE_JACCARD and t["smallest_share"] >= SMALLEST_SHARE), key=lambda t: (-t["silhouette"], t["k"]))
    clouds = _clouds(sample, rng)
    best = None
    for candidate in standing:
        reference = max(_silhouette(c, _means(c, candidate["k"], seed, 2).labels_) for c in clouds)
        best = best or (candidate, reference)
        if candidate["silhouette"] >= reference + CLEARER_BY:
            return Fit(candidate["centres"], candidate["stability"], candidate["rand"], candidate["silhouette"], reference, "", told)
    if best is None:
        steadiest = max(tried, key=lambda t: (min(t["stability"]), t["rand"]))
        return Fit(none, [], steadiest["rand"], steadiest["silhouette"], None, f"no division into {NUMBERS[0]} to {NUMBERS[-1]} groups comes back when half of the customers are looked at "
                   f"(steadiest: {steadiest['k']} groups, weakest Jaccard similarity {min(steadiest['stability']):.2f} of {STABLE_JACCARD}, adjusted Rand index {steadiest['rand']:.2f} of {STABLE_RAND} needed)", told)  # fmt: skip
    return Fit(none, [], best[0]["rand"], best[0]["silhouette"], best[1], f"customers form one cloud: {best[0]['k']} groups lie no further apart (silhouette {best[0]['silhouette']:.2f}) "
               f"than those cut out of a cloud without groups ({best[1]:.2f})", told)  # fmt: skip


def _means(values: np.ndarray, k: int, seed: int, starts: int = 4) -> KMeans:
    return KMeans(k, n_init=starts, random_state=seed, max_iter=50).fit(values)


def _silhouette(values: np.ndarray, labels: np.ndarray) -> float:
    if len(np.unique(labels[:MEASURED_ON])) < 2:
        return -1.0
    return float(silhouette_score(values[:MEASURED_ON], labels[:MEASURED_ON]))


def _try(sample: np.ndarray, k: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, k])
    base = _means(sample, k, seed)
    rand, jaccard = [], []
    for refit in range(REFITS):
        if refit == HOPELESS_AFTER and np.mean(jaccard, axis=0).min() < HOPELESS:
            break
        half = rng.choice(len(sample), len(sample) // 2, replace=False)
        labels = assign(sample, _means(sample[half], k, int(rng.integers(2**31)), 2).cluster_centers_)[0]
        rand.append(adjusted_rand_score(base.labels_, labels))
        jaccard.append(similarity(base.labels_, labels, k, k).max(1))
    shuffled = rng.permutation(len(sample))     # the head of a list by id need not be like the rest
    return {"k": k, "centres": base.cluster_centers_, "rand": float(np.mean(rand)), "stability": np.mean(jaccard, axis=0).tolist(),
            "smallest_share": float(np.bincount(base.labels_, minlength=k).min() / len(sample)), "silhouette": _silhouette(sample[shuffled], base.labels_[shuffled])}  # fmt: skip


def _clouds(sample: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    centred = sample - sample.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    turned = centred @ axes.T
    n, low, high = min(len(sample), MEASURED_ON), turned.min(0), turned.max(0)
    normal = [rng.normal(size=(n, turned.shape[1])) * turned.std(0) for _ in range(CLOUDS)]
    return normal + [rng.uniform(low, high, size=(n, turned.shape[1])) for _ in range(CLOUDS)]


def similarity(first: np.ndarray, second: np.ndarray, firsts: int, seconds: int) -> np.ndarray:
    """Jaccard similarity of every group of one division with every group of another, shape [firsts, seconds]."""
    common = np.bincount(first * seconds + second, minlength=firsts * seconds).reshape(firsts, seconds)
    union = common.sum(1)[:, None] + common.sum(0)[None, :] - common
    return np.divide(common, union, out=np.zeros(common.shape), where=union > 0)


def kept_ids(new: np.ndarray, former: np.ndarray | None, count: int, former_ids: list[int], next_id: int) -> tuple[list[int], int]:
    """(id of each new group, first id never given): a group keeps the id of the former one it shares most customers with.

    `new` and `former` are the places of the same customers under both divisions. Pairs are chosen together (Hungarian method, Kuhn
    1955), so that no id is given twice; without a former group alike enough, a group gets an id that none ever had. Ids of a first
    fit go by size, the largest 1.
    """
    ids: list[int | None] = [None] * count
    if former is not None and former_ids:
        alike = similarity(new, former, count, len(former_ids))
        for place, before in zip(*linear_sum_assignment(-alike), strict=True):
            if alike[place, before] >= SAME_GROUP:
                ids[place] = former_ids[before]
    for place in np.argsort(-np.bincount(new, minlength=count), kind="stable"):
        if ids[place] is None:
            ids[place], next_id = next_id, next_id + 1
    return [int(i) for i in ids], next_id
