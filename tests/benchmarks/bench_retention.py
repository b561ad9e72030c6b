"""Benchmark of the retention engine against the best SQL written by hand for the same cells.

Run by hand: `python tests/benchmarks/bench_retention.py --scale 1` (1 = 1 M customers, 10 M orders). For each variant it
checks that both give the same cells and prints CPU seconds, their ratio and the peak resident memory. Bounds at scale 1
on two cores: ratio 3, memory 8 GiB; the exit code tells whether they hold.
"""

from __future__ import annotations

import argparse
import resource
import sys
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from clock import cpu_seconds  # noqa: E402 - beside this file

from models.engines import retention  # noqa: E402 - the path must be set first

RATIO, GIBIBYTES = 3.0, 8.0
WATERMARK = datetime(2026, 1, 1)

ORDERS = """
CREATE TABLE orders AS
SELECT 'o_' || i AS order_id, 'p_' || left(md5(CAST(floor(sqrt(hash(i) % 1000000) * {customers} / 1000) AS BIGINT)::VARCHAR), 16) AS customer_id,
       TIMESTAMP '2023-01-01' + to_seconds(hash(i, 't') % 94608000) AS ordered_at,
       CAST(timezone('Europe/Berlin', ordered_at AT TIME ZONE 'UTC') AS DATE) AS ordered_date,
       CAST(hash(i, 'a') % 20000 / 100 AS DECIMAL(18,4)) AS amount,
       ['web', 'shop', 'partner'][CAST(1 + hash(i, 'c') % 3 AS INTEGER)] AS channel, true AS is_counted
FROM range({orders}) AS t(i)
"""
VISITS = """
WITH visits AS (
  SELECT customer_id, year({day}) * 12 + month({day}) - 1 AS m, sum(amount) AS amount
  FROM orders WHERE is_counted GROUP BY ALL
), firsts AS (SELECT customer_id, min(m) AS c FROM visits GROUP BY ALL)
"""
BOUNDED = VISITS + """
SELECT make_date(c // 12, c % 12 + 1, 1), m - c, count(*), CAST(sum(amount) AS DECIMAL(18,4))
FROM visits JOIN firsts USING (customer_id) GROUP BY c, m ORDER BY ALL
"""
UNBOUNDED = """
WITH spans AS (
  SELECT min(year(ordered_date) * 12 + month(ordered_date) - 1) AS c, max(year(ordered_date) * 12 + month(ordered_date) - 1) AS l
  FROM orders WHERE is_counted GROUP BY customer_id
), counts AS (SELECT c, l - c AS n, count(*) AS k FROM spans GROUP BY ALL)
SELECT make_date(c // 12, c % 12 + 1, 1), n, CAST(sum(k) OVER (PARTITION BY c ORDER BY n DESC) AS BIGINT) FROM counts ORDER BY ALL
"""
RECURRING = VISITS + """
SELECT make_date(a.m // 12, a.m % 12 + 1, 1), b.m - a.m, count(*), CAST(sum(b.amount) AS DECIMAL(18,4))
FROM visits a JOIN visits b ON b.customer_id = a.customer_id AND b.m >= a.m GROUP BY a.m, b.m ORDER BY ALL
"""
BREAKDOWN = VISITS.replace("firsts AS (SELECT customer_id, min(m) AS c FROM visits GROUP BY ALL)", """firsts AS (
  SELECT customer_id, year(min(ordered_date)) * 12 + month(min(ordered_date)) - 1 AS c, arg_min(channel, (ordered_at, order_id)) AS channel
  FROM orders WHERE is_counted GROUP BY customer_id)""") + """
SELECT make_date(c // 12, c % 12 + 1, 1), channel, m - c, count(*), CAST(sum(amount) AS DECIMAL(18,4))
FROM visits JOIN firsts USING (customer_id) GROUP BY c, m, channel ORDER BY ALL
"""


def main(scale: float) -> int:
    local = "CAST(timezone('Europe/Berlin', ordered_at AT TIME ZONE 'UTC') AS DATE)"
    orders = retention.Activity(table="orders", amount="amount")
    spec = retention.RetentionSpec("Europe/Berlin", WATERMARK, orders, show_incomplete=True)
    cases = [
        ("bounded, revenue", spec, BOUNDED.format(day="ordered_date")),
        ("bounded, from UTC", replace(spec, start=replace(orders, occurred_on=None)), BOUNDED.format(day=local)),
        ("unbounded", replace(spec, bound="unbounded"), UNBOUNDED),
        ("recurring", replace(spec, cohorts="recurring"), RECURRING.format(day="ordered_date")),
        ("by channel", replace(spec, breakdown=("channel",)), BREAKDOWN.format(day="ordered_date")),
    ]
    failed = False
    with TemporaryDirectory() as folder:
        con = duckdb.connect(str(Path(folder) / "bench.duckdb"), config={"threads": 2, "memory_limit": "6GB"})
        con.execute("SET TimeZone='UTC'")
        con.execute("SELECT 1").pl()  # imports, which are no part of an answer
        con.execute(ORDERS.format(customers=int(1_000_000 * scale), orders=int(10_000_000 * scale)))
        print(con.execute("SELECT count(*) || ' orders of ' || count(DISTINCT customer_id) || ' customers' FROM orders").fetchone()[0])
        for name, case, by_hand in cases:
            engine, found = cpu_seconds(partial(retention.run, con, case))
            hand, wanted = cpu_seconds(lambda text=by_hand: con.execute(text).fetchall())
            columns = ["cohort_period", *case.breakdown, "period_number", "active", *(["revenue"] if case.has_revenue else [])]
            same = found.filter(found["active"] > 0).select(columns).rows()
            # The hand-written unbounded query has no row where nobody was seen for the last time.
            equal = set(wanted) <= set(same) if case.bound == "unbounded" else sorted(same) == sorted(wanted)
            ratio = engine / hand
            print(f"{name:20} engine {engine:6.2f} s  by hand {hand:6.2f} s  ratio {ratio:4.2f}  same cells: {equal}", flush=True)
            failed |= not equal or (scale >= 1 and ratio > RATIO)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak memory {peak:.2f} GiB")
    return int(failed or peak > GIBIBYTES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 1 M customers and 10 M orders")
    raise SystemExit(main(parser.parse_args().scale))
