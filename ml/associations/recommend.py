"""What a customer may want next: the strongest rule from something owned to something not yet owned. Rules, no model of a person.

Belongs here: picking products per customer, and whether the picks beat what sells best anyway. Does not belong here: the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import sqrt
from typing import Any

import polars as pl

from ml.associations.baskets import baskets_sql

PICKS = 3                  # products a customer is given; more than a mail shows nobody reads
RULES_PER_PRODUCT = 5      # a product's weaker rules seldom win against another product's best one, and cost a join each
FEWEST_JUDGED = 100        # customers with a new purchase after the cut-off; an interval over fewer is wider than any difference seen

_OWNED = f"SELECT basket AS customer_id, item AS product_id FROM ({baskets_sql('customer', 'product')})"
_PICK = f"""WITH owned AS ({_OWNED}), offered AS (
    SELECT owned.customer_id, rules.consequent AS product_id, max(rules.confidence) AS confidence,
        arg_max(rules.antecedent, (rules.confidence, rules.antecedent)) AS because_product_id, arg_max(rules.lift, (rules.confidence, rules.antecedent)) AS lift
    FROM owned JOIN _rules AS rules ON rules.antecedent = owned.product_id GROUP BY ALL
), fresh AS (SELECT * FROM offered ANTI JOIN owned USING (customer_id, product_id))
SELECT customer_id, CAST(row_number() OVER (PARTITION BY customer_id ORDER BY confidence DESC, lift DESC, product_id) AS INTEGER) AS place, product_id, because_product_id, confidence, lift
FROM fresh QUALIFY place <= {PICKS} ORDER BY customer_id, place"""
# what sells best: the products most customers bought in the year before, that the customer does not own
_POPULAR = f"""WITH owned AS ({_OWNED}), sold AS (
    SELECT lines.product_id, count(DISTINCT orders.customer_id) AS buyers FROM marts.fct_order_lines AS lines JOIN marts.fct_orders AS orders USING (order_id)
    WHERE orders.is_counted AND NOT orders.is_fully_refunded AND lines.quantity > 0 AND orders.ordered_at < $before AND orders.ordered_at >= CAST($before AS TIMESTAMP) - INTERVAL 365 DAY
        AND lines.product_id IS NOT NULL
    GROUP BY ALL ORDER BY buyers DESC, product_id LIMIT 50
), fresh AS (SELECT people.customer_id, sold.* FROM (SELECT DISTINCT customer_id FROM owned) AS people CROSS JOIN sold ANTI JOIN owned USING (customer_id, product_id))
SELECT customer_id, product_id FROM fresh QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY buyers DESC, product_id) <= {PICKS}"""
_JUDGE = f"""WITH before AS ({_OWNED}), after AS (SELECT * FROM ({_OWNED.replace('$before', '$until')}) ANTI JOIN before USING (customer_id, product_id)),
people AS (SELECT DISTINCT after.customer_id FROM after SEMI JOIN _picked USING (customer_id)),
hits AS (SELECT people.customer_id, people.customer_id IN (SELECT customer_id FROM _picked SEMI JOIN after USING (customer_id, product_id)) AS by_rule,
    people.customer_id IN (SELECT customer_id FROM _popular SEMI JOIN after USING (customer_id, product_id)) AS by_sales FROM people)
SELECT count(*), avg(CAST(by_rule AS INTEGER)), avg(CAST(by_sales AS INTEGER)), stddev_samp(CAST(by_rule AS INTEGER) - CAST(by_sales AS INTEGER)) FROM hits"""


@dataclass(frozen=True)
class Judgement:
    """How picks did after a cut-off. Hit rates are shares of the customers who then bought something new; `lower` and `upper` bound their difference, 95 %."""

    n: int
    hit_rate: float | None
    popular_hit_rate: float | None
    lower: float | None
    upper: float | None

    @property
    def is_better(self) -> bool:
        """Whether rules beat the best sellers beyond the interval."""
        return self.n >= FEWEST_JUDGED and self.lower is not None and self.lower > 0

    @property
    def verdict(self) -> str:
        """The judgement in words."""
        if self.n < FEWEST_JUDGED:
            return f"too little data: {self.n:,} customers bought something new after the cut-off, {FEWEST_JUDGED} are needed"
        told = f"one of {PICKS} picks bought by {self.hit_rate:.1%} of {self.n:,} customers, of the best sellers by {self.popular_hit_rate:.1%} (difference {self.lower * 100:+.1f} to {self.upper * 100:+.1f} points)"
        return f"better than the best sellers: {told}" if self.is_better else f"no better than the best sellers: {told}"


def pick(con: Any, rules: pl.DataFrame, before: datetime) -> pl.DataFrame:
    """customer_id, place (1 to `PICKS`), product_id, because_product_id, confidence, lift of customers with baskets before an instant (naive UTC)."""
    with _registered(con, _rules=rules.group_by("antecedent", maintain_order=True).head(RULES_PER_PRODUCT).select("antecedent", "consequent", "confidence", "lift")):
        return con.execute(_PICK, {"before": before}).pl()


def judge(con: Any, rules: pl.DataFrame, cut_off: datetime, until: datetime) -> Judgement:
    """Compare picks of rules learned before a cut-off, and the best sellers of the year before it, with what was bought up to `until`."""
    with _registered(con, _picked=pick(con, rules, cut_off), _popular=con.execute(_POPULAR, {"before": cut_off}).pl()):
        n, hits, popular, spread = con.execute(_JUDGE, {"before": cut_off, "until": until}).fetchone()
    half = None if spread is None else 1.96 * spread / sqrt(n)
    return Judgement(n, hits, popular, None if half is None else hits - popular - half, None if half is None else hits - popular + half)


class _registered:
    def __init__(self, con: Any, **frames: pl.DataFrame) -> None:
        self._con, self._frames = con, frames

    def __enter__(self) -> None:
        for name, frame in self._frames.items():
            self._con.register(name, frame.to_arrow())

    def __exit__(self, *_: object) -> None:
        for name in self._frames:
            self._con.unregister(name)
