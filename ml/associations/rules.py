"""From counts to rules: how strong a pair is, how surprising, and which pairs survive the control of false discoveries.

Belongs here: the arithmetic on counts. Does not belong here: counting (`ml.associations.baskets`).

A pair has to be surprising twice. Fisher's exact test asks whether it is more frequent than if baskets were alike. They are not:
in a large basket everything meets everything, so that even shuffled goods would look connected. The second test holds the sizes of
the baskets fixed: goods fall at random into the places of their baskets, class of size by class of size (a stratified exact test,
Gart 1970). The number of common baskets is then a sum of independent trials, whose tail the binomial of equal mean bounds from above
(Hoeffding 1956, theorem 4). A pair's p-value is the greater of both. Every pair of frequent items counts as tested, also one never
seen (Benjamini & Hochberg 1995 over all of them); pairs in too few baskets keep the p-value 1, which makes the control stricter.

Limits: pairs only, no rules with several antecedents; Benjamini-Hochberg is proven for independent tests and those that depend
positively, and pairs that share an item do depend, so the tests hold the rate on shuffled baskets rather than by theorem.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import stats
from scipy.special import gammaln

from ml.associations.baskets import BasketCounts

# Share of false discoveries among the rules, expected at most. Valid: above 0, at most MOST_FALSE_DISCOVERY_RATE.
FALSE_DISCOVERY_RATE = 0.05
MOST_FALSE_DISCOVERY_RATE = 0.2

MEASURES = {"antecedent_count": pl.Int64, "consequent_count": pl.Int64, "together_count": pl.Int64, "basket_count": pl.Int64, "support": pl.Float64, "confidence": pl.Float64,
            "confidence_lower": pl.Float64, "confidence_upper": pl.Float64, "lift": pl.Float64, "leverage": pl.Float64, "conviction": pl.Float64, "expected_count": pl.Float64,
            "fisher_p_value": pl.Float64, "p_value": pl.Float64, "q_value": pl.Float64}  # fmt: skip


def tested_pairs(counts: BasketCounts) -> int:
    """Pairs of frequent items, seen together or not."""
    return counts.items.height * (counts.items.height - 1) // 2


def fisher(together: np.ndarray, first: np.ndarray, second: np.ndarray, baskets: int) -> np.ndarray:
    """One-sided p-values: chance of so many common baskets or more when `baskets` are alike; arrays of counts, shape [n].

    The hypergeometric tail, summed term by term for all pairs at once (SciPy's takes a call a pair); 1 where a pair is not above its mean.
    """
    k, a, b = (np.asarray(v, dtype=float) for v in (together, first, second))

    def log_choose(n: np.ndarray | float, m: np.ndarray) -> np.ndarray:
        return gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)

    found, total = np.ones(len(k)), np.ones(len(k))
    above = np.flatnonzero(k * baskets > a * b)
    going, term, x = above, np.ones(len(above)), k[above].copy()
    while len(going):
        # ratio of neighbouring terms; above the mean it is below 1 and falls, so that the sum converges
        term = term * (a[going] - x) * (b[going] - x) / ((x + 1) * (baskets - a[going] - b[going] + x + 1))
        total[going] += term
        on = term > 1e-16 * total[going]
        going, term, x = going[on], term[on], x[on] + 1
    found[above] = np.exp(np.minimum(0, (log_choose(a, k) + log_choose(baskets - a, b - k) - log_choose(float(baskets), b))[above] + np.log(total[above])))
    return found


def given_sizes(together: np.ndarray, expected: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Upper bounds of the p-values given the sizes of the baskets, shape [n]; 1 up to one above the expected number, where the bound does not hold."""
    found = np.ones(len(expected))
    above = np.flatnonzero((together >= expected + 1) & (trials > 0))
    found[above] = stats.binom.sf(together[above] - 1, trials[above], np.clip(expected[above] / trials[above], 0, 1))
    return found


def adjusted(p_values: np.ndarray, tests: int) -> np.ndarray:
    """Benjamini-Hochberg q-values of the smallest p-values out of `tests`, the others being 1; shape [n]."""
    order = np.argsort(p_values, kind="stable")
    raised = p_values[order] * tests / np.arange(1, len(order) + 1)
    found = np.empty(len(order))
    found[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return found


def pair_tests(counts: BasketCounts) -> pl.DataFrame:
    """The counted pairs with left, right, together, expected_count (given sizes), fisher_p_value (null where it was not asked), p_value and q_value."""
    pairs = counts.pairs
    left, right, together = (pairs[n].to_numpy() for n in ("left", "right", "together"))
    totals = counts.items["count"].to_numpy()
    expected, trials = np.zeros(len(left)), np.zeros(len(left))
    for column, weight in enumerate(counts.chance):      # a class at a time: all at once would need pairs x classes numbers
        a, b = counts.by_size[left, column], counts.by_size[right, column]
        expected += weight * a * b
        trials += np.minimum(a, b)
    p = given_sizes(together, expected, trials)
    fisher_p = np.full(len(p), np.nan)
    # where the first test speaks against a pair already, the second cannot make it a rule: its p-value stays out
    open_ = np.flatnonzero(p <= MOST_FALSE_DISCOVERY_RATE)
    fisher_p[open_] = fisher(together[open_], totals[left[open_]], totals[right[open_]], counts.basket_count)
    p[open_] = np.maximum(p[open_], fisher_p[open_])
    return pairs.with_columns(expected_count=expected, fisher_p_value=pl.Series(fisher_p, nan_to_null=True), p_value=p, q_value=adjusted(p, tested_pairs(counts)))


def found(counts: BasketCounts, rate: float = FALSE_DISCOVERY_RATE) -> pl.DataFrame:
    """Rules in both directions with antecedent, consequent and `MEASURES`; the most surely confident first (by the interval's lower end, so that few baskets do not lead), ties by lift and name.

    support, confidence, lift as in Agrawal & Srikant (1994) and Brin et al. (1997); leverage = support - product of the supports
    (Piatetsky-Shapiro 1991); conviction = (1 - consequent's support) / (1 - confidence), null where the confidence is 1. The interval
    of the confidence is Wilson's, 95 %.
    """
    kept = pair_tests(counts).filter(pl.col("q_value") <= rate)
    both = pl.concat([kept, kept.rename({"left": "right", "right": "left"}).select(kept.columns)])
    items, totals = counts.items["item"], counts.items["count"].cast(pl.Int64)
    n, z = counts.basket_count, stats.norm.ppf(0.975)
    a, b, ab = pl.col("antecedent_count"), pl.col("consequent_count"), pl.col("together_count")
    middle, half = (ab + z * z / 2) / (a + z * z), z / (a + z * z) * (ab * (a - ab) / a + z * z / 4).sqrt()
    return (
        both.select(antecedent=items.gather(both["left"]), consequent=items.gather(both["right"]), antecedent_count=totals.gather(both["left"]), consequent_count=totals.gather(both["right"]),
                    together_count=pl.col("together").cast(pl.Int64), basket_count=pl.lit(n, pl.Int64), expected_count="expected_count", fisher_p_value="fisher_p_value", p_value="p_value", q_value="q_value")
        .with_columns(support=ab / n, confidence=ab / a, confidence_lower=middle - half, confidence_upper=middle + half, lift=ab * n / (a * b), leverage=ab / n - (a / n) * (b / n),
                      conviction=pl.when(ab < a).then((1 - b / n) / (1 - ab / a)))
        .select("antecedent", "consequent", *(pl.col(name).cast(kind) for name, kind in MEASURES.items()))
        .sort("confidence_lower", "lift", "antecedent", "consequent", descending=[True, True, False, False])
    )  # fmt: skip
