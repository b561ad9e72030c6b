"""Basket rules in plain Python, from their definitions: shares no code or SQL with `ml.associations`."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb


def pairs(baskets: list[set[str]], fewest_baskets: int, fewest_together: int) -> dict[tuple[str, str], dict]:
    """(antecedent, consequent) → measures of every pair of frequent items seen often enough."""
    n = len(baskets)
    single = {item: sum(item in b for b in baskets) for item in set().union(*baskets)} if baskets else {}
    frequent = {item for item, count in single.items() if count >= fewest_baskets}
    found = {}
    for a, b in combinations(sorted(frequent), 2):
        together = sum(a in basket and b in basket for basket in baskets)
        if together < fewest_together:
            continue
        tail = Fraction(sum(comb(single[a], k) * comb(n - single[a], single[b] - k) for k in range(together, min(single[a], single[b]) + 1)), comb(n, single[b]))
        for first, second in ((a, b), (b, a)):
            confidence, share = Fraction(together, single[first]), Fraction(single[second], n)
            found[first, second] = {"antecedent_count": single[first], "consequent_count": single[second], "together_count": together, "basket_count": n, "support": Fraction(together, n), "confidence": confidence,
                                    "lift": confidence / share, "leverage": Fraction(together, n) - Fraction(single[first], n) * share, "conviction": (1 - share) / (1 - confidence) if confidence < 1 else None, "fisher": tail}
    return found


def expected(baskets: list[set[str]], a: str, b: str, fewest_baskets: int) -> Fraction:
    """Baskets that hold both when goods fall at random into the places of their class of size: the class's goods per item times the pairs of places."""
    single = {item: sum(item in basket for basket in baskets) for item in set().union(*baskets)}
    kept = [{item for item in basket if single[item] >= fewest_baskets} for basket in baskets]
    total = Fraction(0)
    for size in {len(k) for k in kept if len(k) > 1}:      # sizes up to 5 are classes of their own
        of = [k for k in kept if len(k) == size]
        total += Fraction(sum(a in k for k in of) * sum(b in k for k in of) * len(of) * size * (size - 1), (len(of) * size) ** 2)
    return total
