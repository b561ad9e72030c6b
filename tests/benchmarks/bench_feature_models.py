"""How long a model on features takes to score, with log-odds, contributions and reasons, and the ratio to the library that trained it.

Run: ``python tests/benchmarks/bench_feature_models.py 100000 1000000``
Prints seconds per stage (wall and processor) and the peak memory. The ratio is to `HistGradientBoostingClassifier.predict_proba` of
scikit-learn on the same rows, which gives chances without contributions. Exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import polars as pl
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier

from ml import probability
from ml.churn.definition import ORDERS
from ml.published import Published

# Seconds to score with reasons on 2 cores.
TARGETS = {1_000_000: 20.0}
TRAINING_ROWS = 50_000


def simulate(rows: int, seed: int) -> pl.DataFrame:
    """Behaviour of customers with the columns of the churn model, an eighth of the values unknown, and a label."""
    rng = np.random.default_rng(seed)
    frame = {name: np.where(rng.random(rows) < 0.125, np.nan, rng.gamma(1.0, 30.0, rows).round(1)) for name in ORDERS.task.numeric}
    odds = 0.02 * np.nan_to_num(frame["days_since_last_order"]) - 0.03 * np.nan_to_num(frame["purchase_day_count"])
    frame["no_purchase_log_odds"] = odds + rng.normal(size=rows)
    return pl.DataFrame(frame).with_columns(pl.all().fill_nan(None), pl.Series("label", (rng.random(rows) < expit(odds)).astype(int)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[100_000])
    options = parser.parse_args(arguments)
    learn = simulate(TRAINING_ROWS, 0)
    label = learn["label"].to_numpy().astype(float)
    fitted = probability.fit_candidates(ORDERS.task, learn, label)
    trees = fitted["trees"]
    peer = HistGradientBoostingClassifier(max_iter=len(trees.trees), learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=5.0, random_state=0).fit(trees.space.raw(learn), label)
    missed = 0
    for rows in options.rows:
        frame = simulate(rows, 1)
        print(f"\n{rows:,} rows, {len(ORDERS.task.numeric)} features, {len(trees.trees)} trees")
        for name in ("trees", "blend"):
            start = time.perf_counter(), time.process_time()
            fitted[name].log_odds(frame)
            print(f"  {name}: chances alone   {time.perf_counter() - start[0]:8.2f} s  (CPU {time.process_time() - start[1]:.2f})")
        start = time.perf_counter(), time.process_time()
        scored = Published(model=fitted["blend"], line=probability.Line(), is_fallback=False, fallback_reason=None, usual=dict.fromkeys(ORDERS.task.numeric, 0.0)).score(frame, "raises the risk", "lowers the risk")
        taken = time.perf_counter() - start[0]
        target = TARGETS.get(rows)
        missed += target is not None and taken > target
        print(f"  blend with reasons     {taken:8.2f} s  (CPU {time.process_time() - start[1]:.2f})" + (f"   target {target:g} s: {'met' if taken <= target else 'MISSED'}" if target else ""))
        start = time.perf_counter(), time.process_time()
        peer.predict_proba(trees.space.raw(frame))
        theirs = time.perf_counter() - start[0]
        print(f"  scikit-learn, chances  {theirs:8.2f} s: ratio {taken / theirs:.1f}; reasons of {scored['reasons'].list.len().gt(0).sum():,} rows")
        print(f"  peak memory so far     {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:8.2f} GiB")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
