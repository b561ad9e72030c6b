"""The attribution engine against the best hand-written DuckDB SQL for the same answer, in one process.

    python tests/benchmarks/bench_attribution.py --scale 0.1   # 100,000 people, 1,000,000 orders, 800,000 touches

Prints CPU and wall seconds of both for the linear model, their ratio, the time of all eight models, and peak memory; exits with
1 when the answers differ or the ratio is above 3. The hand-written query conserves to rounding error only.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import duckdb

from models.engines import attribution
from models.engines.attribution import MODELS, AttributionSpec

LIMIT = 3.0
BY_HAND = """
WITH journey AS (
    SELECT c.conversion_id, c.revenue, t.channel, count(*) OVER (PARTITION BY c.conversion_id) AS n
    FROM conversions AS c JOIN touches AS t ON t.customer_id = c.customer_id AND t.occurred_at <= c.converted_at
        AND t.occurred_at >= c.converted_at - INTERVAL 90 DAY
)
SELECT channel, sum(1.0 / n) AS conversions, sum(revenue / n) AS revenue FROM journey GROUP BY channel
UNION ALL
SELECT 'no_touch', count(*), sum(revenue) FROM conversions ANTI JOIN journey USING (conversion_id)
"""


def measured(action):
    wall, cpu = time.perf_counter(), time.process_time()
    answer = action()
    return answer, time.process_time() - cpu, time.perf_counter() - wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.05, help="1.0 is 1,000,000 people, 10,000,000 orders, 8,000,000 touches")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    people = max(1, int(1_000_000 * asked.scale))
    con = duckdb.connect()
    con.execute(f"SET TimeZone = 'UTC'; SET threads = {asked.threads}; SET memory_limit = '6GB'")
    con.execute(
        "CREATE TABLE conversions AS SELECT i::VARCHAR AS conversion_id, 'p_' || (hash(i) % $people)::VARCHAR AS customer_id, "
        "TIMESTAMP '2024-01-01' + to_seconds((hash(i * 13) % 94608000)::BIGINT) AS converted_at, "
        "((hash(i * 3) % 100000) / 100)::DECIMAL(18,4) AS revenue, 0::DECIMAL(18,4) AS refunded FROM range($people * 10) AS r(i)",
        {"people": people},
    )
    con.execute(
        "CREATE TABLE touches AS SELECT i::VARCHAR AS touchpoint_id, 'p_' || (hash(i * 5) % $people)::VARCHAR AS customer_id, "
        "TIMESTAMP '2024-01-01' + to_seconds((hash(i * 17) % 94608000)::BIGINT) AS occurred_at, "
        "'channel ' || (hash(i * 7) % 12) AS channel, NULL::BIGINT AS sequence, NULL::VARCHAR AS campaign_id "
        "FROM range($people * 8) AS r(i)",
        {"people": people},
    )

    def ask(models):
        return attribution.run(con, AttributionSpec(touchpoints="touches", models=models))

    best, engine = [], []
    for _ in range(2):  # the first pass warms caches for both
        hand, *hand_time = measured(lambda: con.execute(BY_HAND).fetchall())
        ours, *our_time = measured(lambda: ask(("linear",)))
        best.append(hand_time)
        engine.append(our_time)
    (hand_cpu, hand_wall), (cpu, wall) = min(best), min(engine)
    ratio = cpu / hand_cpu
    print(f"{people:,} people, {people * 10:,} conversions, {people * 8:,} touches")
    print(f"by hand {hand_cpu:.2f} CPU s ({hand_wall:.2f} wall), engine {cpu:.2f} CPU s ({wall:.2f} wall), ratio {ratio:.2f}")
    for model in MODELS:
        answer, cpu, wall = measured(lambda m=model: ask((m,)))
        print(f"  {model:10} {cpu:6.2f} CPU s ({wall:.2f} wall), conversions {sum(answer['conversions'])}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.2f} GiB")
    expected = {channel: (float(n), float(revenue)) for channel, n, revenue in hand}
    for channel, n, revenue in ours.select("channel", "conversions", "revenue").iter_rows():
        near = abs(float(n) - expected[channel][0]) < 1e-3 and abs(float(revenue) - expected[channel][1]) < 10
        if not near:
            print(f"answers differ for {channel}: {n}, {revenue}, by hand {expected[channel]}")
            return 1
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
