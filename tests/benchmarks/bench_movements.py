"""Benchmark of the revenue movement engine against the best SQL written by hand for the same rows.

Run by hand: `python tests/benchmarks/bench_movements.py --scale 1` (1 = 1 M customers with 3 M terms over three years, a
fifth of them in a foreign currency; 10 M orders for transactional churn). It checks that both give the same monthly
totals and prints CPU seconds, their ratio and the peak resident memory. Bounds at scale 1 on two cores: ratio 3, memory
8 GiB; the exit code tells whether they hold.
"""

from __future__ import annotations

import argparse
import resource
import sys
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from clock import cpu_seconds  # noqa: E402 - beside this file

from models.engines import movements, movements_churn, movements_summary  # noqa: E402 - the path must be set first

RATIO, GIBIBYTES = 3.0, 8.0
WATERMARK = datetime(2025, 12, 31, 22)

# Every customer keeps one currency, or the hand-written query would have to repeat the engine's work on mixed ones.
TERMS = """
CREATE TABLE terms AS
WITH edges AS (
  SELECT i, k, 'p_' || left(md5(i::VARCHAR), 16) AS customer_id,
         TIMESTAMP '2023-01-01' + to_seconds(hash(i) % 40000000) + to_seconds(k * (hash(i, k) % 8000000 + 1000000)) AS edge
  FROM range({customers}) AS t(i), range(4) AS u(k)
), ordered AS (
  SELECT *, lead(edge) OVER (PARTITION BY i ORDER BY edge, k) AS following, row_number() OVER (PARTITION BY i ORDER BY edge, k) AS place FROM edges
)
SELECT 's_' || i AS subscription_id, customer_id, edge AS valid_from,
       CASE WHEN place = 3 AND hash(i, 'open') % 2 = 0 THEN NULL ELSE following END AS valid_to,
       CAST(CASE WHEN hash(i, place) % 10 = 0 THEN 0 ELSE hash(i, place, 'a') % 30000 / 100 END AS DECIMAL(18,4)) AS mrr_amount,
       CASE WHEN i % 10 = 0 THEN 'USD' WHEN i % 10 = 1 THEN 'GBP' ELSE 'EUR' END AS currency
FROM ordered WHERE place < 4 AND following > edge
"""
RATES = """
CREATE TABLE rates AS
SELECT currency, DATE '2022-12-01' + CAST(d AS INTEGER) AS rate_date, CAST(base + (hash(d, currency) % 1000) / 10000 AS DECIMAL(18,8)) AS rate_to_reporting
FROM (VALUES ('USD', 0.9), ('GBP', 1.15)) AS c(currency, base), range(1130) AS t(d)
"""
BY_HAND = """
WITH deltas AS (
  SELECT customer_id, currency, t, CAST(sum(delta) AS DECIMAL(18,4)) AS delta FROM (
    SELECT customer_id, currency, valid_from AS t, mrr_amount AS delta FROM terms WHERE mrr_amount <> 0 AND valid_from <= $watermark
    UNION ALL
    SELECT customer_id, currency, valid_to, -mrr_amount FROM terms WHERE mrr_amount <> 0 AND valid_to <= $watermark
  ) GROUP BY ALL HAVING sum(delta) <> 0
), walked AS (
  SELECT *, CAST(timezone('Europe/Berlin', t AT TIME ZONE 'UTC') AS DATE) AS day,
         CAST(sum(delta) OVER w AS DECIMAL(18,4)) AS after, row_number() OVER w AS place
  FROM deltas WINDOW w AS (PARTITION BY customer_id ORDER BY t ROWS UNBOUNDED PRECEDING)
), day_rates AS (
  SELECT k.currency, k.day, r.rate_to_reporting::DECIMAL(20,12) AS rate
  FROM (SELECT DISTINCT currency, day FROM walked WHERE currency <> 'EUR') k ASOF JOIN rates r ON r.currency = k.currency AND r.rate_date <= k.day
), valued AS (
  SELECT w.customer_id, w.currency, year(w.day) * 12 + month(w.day) - 1 AS m, t, place, after, after - delta AS before,
         CASE WHEN w.currency = 'EUR' THEN delta ELSE CAST(round(after * rate, 4) AS DECIMAL(18,4)) - CAST(round((after - delta) * rate, 4) AS DECIMAL(18,4)) END AS step
  FROM walked w LEFT JOIN day_rates r ON r.currency = w.currency AND r.day = w.day
), moved AS (
  SELECT customer_id, currency, m, arg_min(before, t) AS opening, arg_max(after, t) AS closing,
         sum(step) FILTER (before = 0 AND place = 1) AS new, sum(step) FILTER (before = 0 AND place > 1) AS reactivation,
         -sum(step) FILTER (after = 0) AS churn, sum(step) FILTER (before > 0 AND after > 0 AND step >= 0) AS expansion,
         -sum(step) FILTER (before > 0 AND after > 0 AND step < 0) AS contraction
  FROM valued GROUP BY ALL
), spans AS (SELECT *, lead(m, 1, 2025 * 12 + 12) OVER (PARTITION BY customer_id ORDER BY m) AS next_m FROM moved),
states AS (
  SELECT customer_id, currency, m, opening, closing, new, reactivation, churn, expansion, contraction FROM spans
  UNION ALL
  SELECT customer_id, currency, unnest(range(m + 1, next_m)), closing, closing, 0, 0, 0, 0, 0 FROM spans WHERE closing <> 0
), month_rates AS (
  SELECT c.currency, b.m, r.rate_to_reporting::DECIMAL(20,12) AS rate
  FROM (VALUES ('USD'), ('GBP')) c(currency) CROSS JOIN (SELECT unnest(range(2022 * 12 + 11, 2025 * 12 + 12)) AS m) b
  ASOF JOIN rates r ON r.currency = c.currency AND r.rate_date <= last_day(make_date(b.m // 12, b.m % 12 + 1, 1))
)
SELECT make_date(s.m // 12, s.m % 12 + 1, 1) AS period_start, s.customer_id, s.currency,
       CASE WHEN s.currency = 'EUR' THEN opening ELSE CAST(round(opening * o.rate, 4) AS DECIMAL(18,4)) END AS opening_mrr,
       CASE WHEN s.currency = 'EUR' THEN closing ELSE CAST(round(closing * c.rate, 4) AS DECIMAL(18,4)) END AS closing_mrr,
       coalesce(new, 0)::DECIMAL(18,4) AS new, coalesce(expansion, 0)::DECIMAL(18,4) AS expansion, coalesce(contraction, 0)::DECIMAL(18,4) AS contraction,
       coalesce(churn, 0)::DECIMAL(18,4) AS churn, coalesce(reactivation, 0)::DECIMAL(18,4) AS reactivation,
       (closing_mrr - opening_mrr - coalesce(new, 0) - coalesce(expansion, 0) - coalesce(reactivation, 0) + coalesce(contraction, 0) + coalesce(churn, 0))::DECIMAL(18,4) AS fx,
       opening > 0 AS is_opening, opening > 0 AND closing = 0 AS is_churned_logo, least(opening_mrr, closing_mrr) AS retained_mrr
FROM states s
LEFT JOIN month_rates o ON o.currency = s.currency AND o.m = s.m - 1
LEFT JOIN month_rates c ON c.currency = s.currency AND c.m = s.m
"""
CHURN_BY_HAND = """
WITH days AS (SELECT DISTINCT customer_id, ordered_date AS d FROM orders),
closes AS (SELECT CAST(unnest(generate_series(DATE '2023-02-01', DATE '2026-01-01', INTERVAL 1 MONTH)) AS DATE) AS c),
seen AS (
  SELECT c, customer_id, max(d) >= c - 90 AS is_back, min(d) < c - 90 AS is_base
  FROM days JOIN closes ON d < c AND d >= c - 180 GROUP BY c, customer_id
)
SELECT c, count(*) FILTER (is_base), count(*) FILTER (is_base AND NOT is_back) FROM seen GROUP BY c ORDER BY c
"""


def report(name: str, engine: float, by_hand: float, equal: bool, scale: float) -> bool:
    """Print one line; True when a bound is broken."""
    ratio = engine / by_hand
    print(f"{name:28} engine {engine:6.2f} s  by hand {by_hand:6.2f} s  ratio {ratio:4.2f}  same answer: {equal}", flush=True)
    return not equal or (scale >= 1 and ratio > RATIO)


def main(scale: float) -> int:
    with TemporaryDirectory() as folder:
        con = duckdb.connect(str(Path(folder) / "bench.duckdb"), config={"threads": 2, "memory_limit": "6GB"})
        con.execute("SET TimeZone='UTC'; CREATE SCHEMA metrics")
        con.execute("SELECT 1").pl()  # imports, which are no part of an answer
        con.execute(TERMS.format(customers=int(1_000_000 * scale)))
        con.execute(RATES)
        spec = movements.MovementSpec("Europe/Berlin", "EUR", WATERMARK, terms="terms", exchange_rates="rates")
        table = "metrics.mtr_revenue_movements"
        engine, _ = cpu_seconds(lambda: movements.build_table(con, spec, table, ["month"]))
        hand, _ = cpu_seconds(lambda: con.execute("CREATE TABLE by_hand AS " + BY_HAND, {"watermark": WATERMARK}))
        rows = con.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        print(con.execute("SELECT count(*) || ' terms' FROM terms").fetchone()[0], f"-> {rows:,} rows of movements")
        names = "period_start, customer_id, currency, opening_mrr, new, expansion, contraction, churn, reactivation, fx, closing_mrr, retained_mrr, is_churned_logo"
        keys = f"bit_xor(hash({names})), count(*)"
        equal = con.execute(f"SELECT {keys} FROM {table}").fetchone() == con.execute(f"SELECT {keys} FROM by_hand").fetchone()
        failed = report("movements by month", engine, hand, equal, scale)
        failed |= not movements.broken_identities_query(spec).run(con).is_empty()
        seconds, _ = cpu_seconds(lambda: movements_summary.run(con, movements_summary.table_rows_query()))
        print(f"{'summary of the table':28} engine {seconds:6.2f} s")
        con.execute("DROP TABLE by_hand")

        con.execute(f"""CREATE TABLE orders AS
            SELECT 'p_' || left(md5(CAST(floor(sqrt(hash(i) % 1000000) * {int(1_000_000 * scale)} / 1000) AS BIGINT)::VARCHAR), 16) AS customer_id,
                   DATE '2023-01-01' + CAST(hash(i, 't') % 1096 AS INTEGER) AS ordered_date, true AS is_counted
            FROM range({int(10_000_000 * scale)}) AS t(i)""")
        churn = movements_churn.TransactionalChurnSpec("Europe/Berlin", datetime(2026, 1, 1), orders="orders")
        engine, found = cpu_seconds(lambda: movements_churn.run(con, churn))
        hand, wanted = cpu_seconds(lambda: con.execute(CHURN_BY_HAND).fetchall())
        same = found.filter(found["is_complete"]).select("period_end", "base_customers", "churned_customers").rows()
        failed |= report("transactional churn", engine, hand, same == wanted, scale)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak memory {peak:.2f} GiB")
    return int(failed or peak > GIBIBYTES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 1 M customers")
    raise SystemExit(main(parser.parse_args().scale))
