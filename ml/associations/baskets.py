"""Baskets out of the marts, counted: how often items occur, alone and in pairs, and in baskets of which size.

Belongs here: which lines make a basket, pruning, the counts. Does not belong here: what a count means (`ml.associations.rules`).

A basket holds each item once. It is an order, or everything a customer ever bought. Cancelled and fully refunded orders are no
baskets, and lines that give goods back (quantity zero or below) are in none. Pairs are counted as the product
of the sparse matrix baskets x items with itself, a run of baskets at a time: a seventh of what a self-join in DuckDB takes. Memory is
bounded by pairs of frequent items, never by the number of baskets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

UNITS = ("order", "customer")
LEVELS = ("product", "category")
_UNIT = {"order": "orders.order_id", "customer": "orders.customer_id"}
_LEVEL = {"product": "lines.product_id", "category": "lines.category"}

# An item in fewer baskets is not looked at: with 20, the 95 % interval of a confidence is still up to 40 points wide. Valid: 5 to 1,000.
FEWEST_BASKETS_PER_ITEM = 20
# A pair in fewer common baskets is no rule: with 10, one basket more or less moves its confidence by a tenth. Valid: from 2.
FEWEST_TOGETHER = 10
# The most frequent items that are paired: 4,000 make 8 million pairs, about a quarter of a gigabyte while they are counted. Valid: 2 to 10,000.
MOST_ITEMS = 4_000
# Pairs that baskets are taken apart into, in all; beyond it only the more frequent items are paired. 200 million take about four seconds. Valid: from 1e6.
MOST_PAIRS_COUNTED = 200_000_000
# Lines of baskets that leave the database at a time, about 100 MB of them.
LINES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class BasketCounts:
    """Counts over baskets.

    `items` has item and count, the most frequent first; a pair names items by their place there. `by_size` (items × classes) counts
    each item's baskets of a size class, `chance` (classes) is the class's weight in the number of baskets two items share when
    items fall into places at random. `pairs` has left < right (places) and together, for those seen often enough. `left_out` says in words what was pruned.
    """

    unit: str
    level: str
    basket_count: int
    items: pl.DataFrame
    by_size: np.ndarray
    chance: np.ndarray
    pairs: pl.DataFrame
    left_out: str = ""


def baskets_sql(unit: str, level: str) -> str:
    """SELECT of distinct (basket, item); `$before` is the exclusive end, naive UTC. Raises KeyError for another unit or level."""
    return (f"SELECT DISTINCT {_UNIT[unit]} AS basket, {_LEVEL[level]} AS item FROM marts.fct_order_lines AS lines JOIN marts.fct_orders AS orders USING (order_id) "
            f"WHERE orders.is_counted AND NOT orders.is_fully_refunded AND lines.quantity > 0 AND orders.ordered_at < $before AND {_UNIT[unit]} IS NOT NULL AND {_LEVEL[level]} IS NOT NULL")


def count(con: Any, unit: str, level: str, before: datetime, fewest: int = FEWEST_BASKETS_PER_ITEM, together: int = FEWEST_TOGETHER, most_items: int = MOST_ITEMS, most_pairs: int = MOST_PAIRS_COUNTED) -> BasketCounts:
    """Count the baskets before an instant (naive UTC). Leaves no table behind."""
    try:
        con.execute(f"CREATE OR REPLACE TEMP TABLE _baskets AS {baskets_sql(unit, level)}", {"before": before})
        return _count(con, unit, level, fewest, together, most_items, most_pairs)
    finally:
        for table in ("_baskets", "_placed", "_sized"):
            con.execute(f"DROP TABLE IF EXISTS {table}")


def _count(con: Any, unit: str, level: str, fewest: int, together: int, most_items: int, most_pairs: int) -> BasketCounts:
    (basket_count,) = con.execute("SELECT count(DISTINCT basket) FROM _baskets").fetchone()
    items = con.execute("SELECT item, count(*) AS count FROM _baskets GROUP BY item HAVING count(*) >= ? ORDER BY count DESC, item", [fewest]).pl()
    frequent, items = items.height, items.head(most_items)
    while True:
        _place(con, items)
        (pairs,) = con.execute("SELECT coalesce(sum(size * (size - 1) / 2), 0) FROM _sized").fetchone()
        if pairs <= most_pairs or items.height <= 2:
            break
        items = items.head(max(2, items.height // 2))
    # a basket of one item can hold no pair and says nothing about pairs
    sizes = con.execute("SELECT class, sum(size * (size - 1)) / pow(sum(size), 2) AS chance FROM _sized WHERE size > 1 GROUP BY class ORDER BY class").pl()
    places = con.execute("SELECT place, class, count(*) AS count FROM _placed JOIN _sized USING (basket) WHERE size > 1 GROUP BY place, class").pl()
    by_size = np.zeros((items.height, sizes.height))
    by_size[places["place"].to_numpy(), np.searchsorted(sizes["class"].to_numpy(), places["class"].to_numpy())] = places["count"].to_numpy()
    counted = _pairs(con, items.height, together)
    left_out = f"only the {items.height:,} most frequent of {frequent:,} frequent items were paired, to bound time and memory" if items.height < frequent else ""
    return BasketCounts(unit, level, basket_count, items, by_size, sizes["chance"].to_numpy(), counted, left_out)


def _pairs(con: Any, item_count: int, together: int) -> pl.DataFrame:
    """left < right (places) and together (baskets that hold both), of the pairs in at least `together` baskets."""
    lines, baskets = con.execute("SELECT count(*), coalesce(max(basket), 0) FROM _placed").fetchone()
    step = max(1, baskets * LINES_AT_ONCE // max(1, lines))
    found = np.zeros((item_count, item_count), dtype=np.int32)
    for first in range(1, baskets + 1, step):
        rows = con.execute("SELECT basket, place FROM _placed WHERE basket >= ? AND basket < ?", [first, first + step]).fetchnumpy()
        held = sparse.csr_matrix((np.ones(len(rows["place"]), np.int32), (rows["basket"] - first, rows["place"])), shape=(min(step, baskets + 1 - first), item_count))
        found += (held.T.tocsr() @ held).toarray()
    left, right = np.nonzero(np.triu(found, 1) >= together)
    return pl.DataFrame({"left": left, "right": right, "together": found[left, right]}, schema={"left": pl.Int32, "right": pl.Int32, "together": pl.Int64})


def _place(con: Any, items: pl.DataFrame) -> None:
    con.register("_kept", items.select("item").with_row_index("place").with_columns(pl.col("place").cast(pl.Int32)).to_arrow())
    try:
        # whole numbers instead of texts from here on: the join below is twenty times faster on them
        con.execute("CREATE OR REPLACE TEMP TABLE _placed AS SELECT dense_rank() OVER (ORDER BY basket) AS basket, place FROM _baskets JOIN _kept USING (item)")
    finally:
        con.unregister("_kept")
    # classes of size: each of 2 to 5 alone, then two to a doubling, so that baskets of a class are alike
    con.execute("CREATE OR REPLACE TEMP TABLE _sized AS SELECT basket, count(*) AS size, CAST(CASE WHEN count(*) <= 5 THEN count(*) ELSE floor(2 * log2(count(*))) + 2 END AS INTEGER) AS class "
                "FROM _placed GROUP BY basket")
