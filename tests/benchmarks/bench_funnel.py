"""The funnel engine against the best hand-written DuckDB SQL for the same answer, in one process.

    python tests/benchmarks/bench_funnel.py --scale 0.1     # 100,000 people, 5,000,000 events; 1.0 is ten times that

Prints CPU and wall seconds of both, their ratio, and peak memory; exits with 1 when the answers differ or the ratio is above
3. The hand-written query is a chain of ASOF joins on the same order of occurrences (instant, sequence, id), without
maturing entries, time to convert or rates.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from datetime import timedelta

import duckdb

from models.engines import funnel
from models.engines.funnel import FunnelSpec
from models.engines.funnel_logs import table_log
from models.engines.funnel_steps import parse_steps

LIMIT = 3.0
BY_HAND = """
WITH a AS (
    SELECT entity_id, min({'at': occurred_at, 'sequence': sequence, 'id': event_id}) AS k1 FROM events WHERE name = 'visit' GROUP BY entity_id
),
b AS (
    SELECT a.entity_id, a.k1, CASE WHEN n.k.at < a.k1.at + INTERVAL 30 DAY THEN n.k END AS k2 FROM a ASOF LEFT JOIN
        (SELECT entity_id, {'at': occurred_at, 'sequence': sequence, 'id': event_id} AS k FROM events WHERE name = 'trial') AS n
        ON a.entity_id = n.entity_id AND a.k1 < n.k
),
c AS (
    SELECT b.k1, b.k2, CASE WHEN b.k2 IS NOT NULL AND n.k.at < b.k1.at + INTERVAL 30 DAY THEN n.k END AS k3
    FROM b ASOF LEFT JOIN
        (SELECT entity_id, {'at': occurred_at, 'sequence': sequence, 'id': event_id} AS k FROM events WHERE name = 'order') AS n
        ON b.entity_id = n.entity_id AND b.k2 < n.k
)
SELECT count(*), count(k2), count(k3) FROM c
"""


def measured(action):
    wall, cpu = time.perf_counter(), time.process_time()
    answer = action()
    return answer, time.process_time() - cpu, time.perf_counter() - wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.05, help="1.0 is 1,000,000 people and 50,000,000 events")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--all-modes", action="store_true", help="also time every order and re-entry mode")
    asked = parser.parse_args()
    people, events = max(1, int(1_000_000 * asked.scale)), int(50_000_000 * asked.scale)
    con = duckdb.connect()
    con.execute(f"SET TimeZone = 'UTC'; SET threads = {asked.threads}; SET memory_limit = '6GB'")
    con.execute(
        "CREATE TABLE events AS SELECT 'p_' || (hash(i) % $people)::VARCHAR AS entity_id, "
        "['visit', 'view', 'trial', 'order', 'help', 'mail'][(1 + hash(i * 7) % 6)::INT] AS name, "
        "TIMESTAMP '2026-01-01' + to_seconds((hash(i * 13) % 31536000)::BIGINT) AS occurred_at, NULL::BIGINT AS sequence, "
        "i::VARCHAR AS event_id FROM range($events) AS r(i)",
        {"people": people, "events": events},
    )

    def ask(**choices):
        spec = FunnelSpec(table_log("events"), parse_steps("visit; trial; order"), timedelta(days=30), **choices)
        return tuple(funnel.run(con, spec)["entries"].to_list())

    con.execute("SELECT count(*) FROM events WHERE name = 'visit'").fetchone()
    best, engine = [], []
    for _ in range(2):  # the first pass warms caches for both
        hand, *hand_time = measured(lambda: con.execute(BY_HAND).fetchone())
        ours, *our_time = measured(ask)
        best.append(hand_time)
        engine.append(our_time)
    (hand_cpu, hand_wall), (cpu, wall) = min(best), min(engine)
    ratio = cpu / hand_cpu
    print(f"{people:,} people, {events:,} events: {ours}")
    print(f"by hand {hand_cpu:.2f} CPU s ({hand_wall:.2f} wall), engine {cpu:.2f} CPU s ({wall:.2f} wall), ratio {ratio:.2f}")
    if asked.all_modes:
        for order in ("sequential", "strict", "any_order"):
            for reentry in ("first_entry", "best_entry", "totals"):
                answer, cpu, wall = measured(lambda o=order, r=reentry: ask(order=o, reentry=r))
                print(f"  {order:10} {reentry:11} {cpu:7.2f} CPU s ({wall:.2f} wall) {answer}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.2f} GiB")
    if ours != tuple(hand):
        print(f"answers differ: by hand {hand}")
        return 1
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
