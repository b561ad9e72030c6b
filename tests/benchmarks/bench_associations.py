"""Basket rules of Online Retail II (28,818 orders, 3,275 products in 20 or more of them) against mlxtend's FP-growth on equal work.

Equal work is: all pairs of products in at least `TOGETHER` orders with support, confidence and lift in both directions. mlxtend gets its
dense table ready-made (building it is not timed); ours starts from order lines in DuckDB. mlxtend tests no significance: ours with its
two tests and the control is timed beside it. Run `python tests/benchmarks/bench_associations.py`. Wall-clock on a busy machine misleads:
CPU seconds of the process are given.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
FILE = ROOT.parent / "shared" / "data" / "online_retail_ii_to_2011-06-11.parquet"
TOGETHER = 200       # mlxtend's dense table of pairs grows with their number: a lower border takes it minutes
BOUGHT = "FROM read_parquet(?) WHERE quantity > 0 AND unit_price > 0 AND NOT starts_with(invoice, 'A')"


def shop() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("CREATE SCHEMA marts")
    con.execute(f"CREATE TABLE marts.fct_order_lines AS SELECT invoice AS order_id, stock_code AS product_id, CAST(NULL AS VARCHAR) AS category, quantity {BOUGHT}", [str(FILE)])
    con.execute(f"CREATE TABLE marts.fct_orders AS SELECT invoice AS order_id, CAST(any_value(customer_id) AS VARCHAR) AS customer_id, min(invoice_ts) AS ordered_at, true AS is_counted, "
                f"false AS is_fully_refunded {BOUGHT} GROUP BY invoice", [str(FILE)])
    return con


def main() -> None:
    import pandas as pd
    from mlxtend.frequent_patterns import association_rules, fpgrowth

    from ml.associations import baskets, rules
    con, end = shop(), datetime(2100, 1, 1)
    rules.pair_tests(baskets.count(con, "order", "category", end))       # imports are not timed
    begun = time.process_time()
    counts = baskets.count(con, "order", "product", end, TOGETHER, TOGETHER)
    counted = time.process_time() - begun
    mine = rules.found(counts, rate=1.0)
    ours = time.process_time() - begun
    pairs = con.execute(baskets.baskets_sql("order", "product"), {"before": end}).df()
    kept = pairs[pairs["item"].isin(counts.items["item"].to_list())]
    table = pd.crosstab(pairs["basket"], pairs["item"].where(pairs["item"].isin(set(kept["item"])), "·")).astype(bool).drop(columns="·", errors="ignore")
    begun = time.process_time()
    theirs = association_rules(fpgrowth(table, min_support=TOGETHER / counts.basket_count, use_colnames=True, max_len=2), metric="confidence", min_threshold=0)
    peer = time.process_time() - begun
    assert {(r["antecedent"], r["consequent"], r["together_count"]) for r in mine.iter_rows(named=True)} == {
        (*r.antecedents, *r.consequents, round(r.support * len(table))) for r in theirs.itertuples()}
    print(f"pairs in {TOGETHER} or more of {counts.basket_count:,} orders: {mine.height // 2:,}, equal in both")
    print(f"counting and measures with both tests {ours:.1f} CPU s (counting alone {counted:.1f}); mlxtend without a test {peer:.1f} CPU s; ratio {ours / peer:.2f}")
    begun = time.process_time()
    counts = baskets.count(con, "order", "product", end)
    found = rules.found(counts)
    print(f"everything at the shipped borders: {found.height:,} rules out of {rules.tested_pairs(counts):,} pairs tested, {time.process_time() - begun:.1f} CPU s")


if __name__ == "__main__":
    if not FILE.exists():
        print(f"skipped: {FILE} is not here")
    else:
        main()
