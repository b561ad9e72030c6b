"""Benchmark of the sales history engine against the best SQL written by hand for the same answers.

Run by hand: `python tests/benchmarks/bench_sales.py --scale 1` (1 = 1 M deals with about 5 M periods of history over three years). It
checks that both give the same movement of a year and the same learned probabilities, and prints CPU seconds, their ratio and the peak
resident memory. Bounds at scale 1 on two cores: ratio 3, memory 8 GiB; the exit code tells whether they hold.
"""

from __future__ import annotations

import argparse
import resource
import sys
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from clock import cpu_seconds  # noqa: E402 - beside this file

from models.engines import sales  # noqa: E402 - the path must be set first

RATIO, GIBIBYTES = 3.0, 8.0
FIRST, LAST = date(2024, 12, 31), date(2025, 9, 30)
BEGIN, FINISH = datetime(2025, 1, 1), datetime(2025, 10, 1)      # the days end there, in UTC

# A deal enters stages 1, 2, ... one after another; its last period is won, lost or still open. Amounts change with every fourth stage.
HISTORY = """
CREATE TABLE deals_history AS
WITH deals AS (
  SELECT i, TIMESTAMP '2023-01-01' + to_seconds(hash(i) % 90000000) AS created_at, 1 + hash(i, 'n') % 5 AS stages, hash(i, 'o') % 10 AS outcome FROM range({deals}) AS t(i)
), edges AS (
  SELECT *, k, created_at + to_seconds(CAST(k * (86400 + hash(i, 'w') % 2000000) AS BIGINT)) AS valid_from,
         created_at + to_seconds(CAST((k + 1) * (86400 + hash(i, 'w') % 2000000) AS BIGINT)) AS following
  FROM deals, unnest(range(CAST(stages + 1 AS BIGINT))) AS u(k)
)
SELECT 'd' || i AS deal_id, valid_from, CASE WHEN k < stages THEN following END AS valid_to, ['new business', 'renewal'][1 + i % 2] AS pipeline,
       CASE WHEN k < stages THEN 'stage ' || k WHEN outcome < 3 THEN 'won' WHEN outcome < 7 THEN 'lost' ELSE 'stage ' || k END AS stage, CAST(k AS INTEGER) AS stage_position,
       k < stages OR outcome >= 7 AS is_open, k = stages AND outcome < 3 AS is_won, k = stages AND outcome BETWEEN 3 AND 6 AS is_lost,
       CASE WHEN hash(i, 'a') % 20 > 0 THEN CAST(hash(i, k // 4, 'a') % 5000000 / 100 AS DECIMAL(18,4)) END AS amount_reporting,
       CAST(created_at AS DATE) + CAST(60 + k // 3 * 30 AS INTEGER) AS expected_close_date, created_at
FROM edges
"""
MOVEMENT = """
WITH states AS (
  SELECT deal_id, min(created_at) AS created_at, bool_or(at_first) AS had, bool_or(at_last) AS has,
         bool_or(at_first AND is_open) AS was_open, bool_or(at_last AND is_open) AS is_open, bool_or(at_last AND is_won) AS is_won,
         coalesce(any_value(amount_reporting) FILTER (at_first), 0) AS old, coalesce(any_value(amount_reporting) FILTER (at_last), 0) AS new,
         any_value(expected_close_date) FILTER (at_first) AS old_date, any_value(expected_close_date) FILTER (at_last) AS new_date
  FROM (SELECT *, valid_from < $begin AND coalesce(valid_to >= $begin, TRUE) AS at_first, valid_from < $finish AND coalesce(valid_to >= $finish, TRUE) AS at_last FROM deals_history)
  WHERE at_first OR at_last GROUP BY deal_id
), judged AS (
  SELECT *, NOT was_open AND (is_open OR (has AND NOT had AND created_at >= $begin)) AS comes_in,
         NOT is_open AND (was_open OR (has AND NOT had AND created_at >= $begin)) AS goes_out FROM states
), moved AS (
  SELECT unnest([
    CASE WHEN was_open THEN {'movement': 'start', 'amount': old} END,
    CASE WHEN comes_in THEN {'movement': CASE WHEN NOT had AND created_at >= $begin THEN 'created' ELSE 'reopened' END, 'amount': new} END,
    CASE WHEN was_open AND has AND new <> old THEN {'movement': CASE WHEN new > old THEN 'amount_up' ELSE 'amount_down' END, 'amount': new - old} END,
    CASE WHEN goes_out THEN {'movement': CASE WHEN NOT has THEN 'removed' WHEN is_won THEN 'won' ELSE 'lost' END, 'amount': CASE WHEN has THEN -new ELSE -old END} END,
    CASE WHEN was_open AND is_open AND new_date <> old_date THEN {'movement': CASE WHEN new_date < old_date THEN 'pulled_in' ELSE 'pushed_out' END, 'amount': 0} END,
    CASE WHEN is_open THEN {'movement': 'end', 'amount': new} END], recursive := true)
  FROM judged
)
SELECT movement, count(*) AS deals, CAST(sum(amount) AS DECIMAL(18,4)) AS amount FROM moved WHERE movement IS NOT NULL GROUP BY movement
"""
LEARNED = """
WITH closed AS (SELECT deal_id, is_won FROM deals_history WHERE valid_from < $finish AND coalesce(valid_to >= $finish, TRUE) AND NOT is_open),
visits AS (SELECT DISTINCT h.pipeline, h.stage, h.deal_id, closed.is_won FROM deals_history AS h JOIN closed USING (deal_id) WHERE h.valid_from < $finish AND h.is_open),
known AS (SELECT DISTINCT pipeline, stage FROM deals_history WHERE is_open AND valid_from < $finish),
whole AS (SELECT avg(CAST(is_won AS INTEGER)) AS share FROM closed),
pipelines AS (SELECT pipeline, (count(DISTINCT deal_id) FILTER (is_won) + 10 * any_value(share)) / (count(DISTINCT deal_id) + 10) AS share FROM visits, whole GROUP BY pipeline)
SELECT pipeline, stage, count(deal_id) AS closed_deals, (count(deal_id) FILTER (is_won) + 10 * any_value(share)) / (count(deal_id) + 10) AS probability
FROM known JOIN pipelines USING (pipeline) LEFT JOIN visits USING (pipeline, stage) GROUP BY pipeline, stage
"""


def main(scale: float) -> int:
    with TemporaryDirectory() as folder:
        con = duckdb.connect(str(Path(folder) / "bench.duckdb"), config={"threads": 2, "memory_limit": "4GB"})
        con.execute(HISTORY.format(deals=int(scale * 1_000_000)))
        spec = sales.PipelineSpec(history="deals_history")
        bound = {"begin": BEGIN, "finish": FINISH}
        over = False
        for name, engine, by_hand, keys in (
            ("movement of nine months", lambda: sales.movement(con, spec, FIRST, LAST).filter(pl.col("deals") > 0), lambda: con.execute(MOVEMENT, bound).pl(), ["movement"]),
            ("learned probabilities", lambda: sales.stage_probabilities(con, spec, LAST).select("pipeline", "stage", "closed_deals", "probability"),
             lambda: con.execute(LEARNED, {"finish": FINISH}).pl(), ["pipeline", "stage"])):
            ours, found = min((cpu_seconds(engine) for _ in range(2)), key=lambda go: go[0])
            theirs, wanted = min((cpu_seconds(by_hand) for _ in range(2)), key=lambda go: go[0])
            found, wanted = (frame.sort(keys).with_columns(pl.selectors.numeric().cast(pl.Float64).round(6)) for frame in (found, wanted))
            if not found.equals(wanted):
                print(f"{name}: the answers differ\n{found}\n{wanted}")
                return 1
            over |= ours / theirs > RATIO
            print(f"{name}: engine {ours:.2f} CPU s, by hand {theirs:.2f}, ratio {ours / theirs:.2f}; the same {found.height} rows")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak memory {peak:.2f} GiB")
        return int(over or peak > GIBIBYTES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    raise SystemExit(main(parser.parse_args().scale))
