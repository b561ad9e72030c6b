"""How long BG/NBD and Gamma-Gamma take to fit and score, and the ratio to the peer package `lifetimes`.

Run: ``python tests/benchmarks/bench_purchase_models.py 100000 1000000 --peer-up-to 1000000``
Prints seconds per stage (wall and processor), the peak memory of the process, and for sizes up to ``--peer-up-to`` the peer's time for
the same fit and scores with the largest difference of parameters and scores. Exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from ml.estimators import BetaGeoNBD, GammaGamma

# Seconds to fit and score on 2 cores.
TARGETS = {1_000_000: 5.0, 10_000_000: 60.0}
HORIZON_WEEKS = 52.0


def simulate(customers: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """BG/NBD histories [n, 3] in weeks over two years, by day, and mean values of repeat purchases [n]."""
    rng = np.random.default_rng(seed)
    T = rng.integers(1, 731, customers) / 7
    rate = rng.gamma(0.25, 1 / 4.4, customers)
    chance = rng.beta(0.8, 2.4, customers)
    x, last = np.zeros(customers), np.zeros(customers)
    active, now = np.arange(customers), np.zeros(customers)
    while len(active):
        with np.errstate(divide="ignore"):
            now = now + rng.exponential(size=len(active)) / rate[active]
        day = np.ceil(now * 7) / 7
        bought = day <= T[active]
        active, now, day = active[bought], now[bought], day[bought]
        new_day = day > last[active]
        x[active] += new_day
        last[active] = day
        stays = rng.random(len(active)) >= chance[active]
        active, now = active[stays], now[stays]
    nu = rng.gamma(3.74, 1 / 15.44, customers)
    with np.errstate(invalid="ignore"):
        value = np.where(x > 0, rng.gamma(np.maximum(6.25 * x, 1e-9)) / nu / np.maximum(x, 1), 0.0)
    return np.stack([x, last, T], axis=1), np.maximum(value, 0.01 * (x > 0))


def ours(histories, values):
    """(Wall, processor) seconds by stage, models and scores."""
    seconds, start = {}, (time.perf_counter(), time.process_time())

    def lap(stage):
        nonlocal start
        now = (time.perf_counter(), time.process_time())
        seconds[stage], start = (now[0] - start[0], now[1] - start[1]), now

    buying = BetaGeoNBD().fit(histories)
    lap("fit BG/NBD")
    spending = GammaGamma().fit(np.stack([histories[:, 0], values], axis=1))
    lap("fit Gamma-Gamma")
    purchases = buying.conditional_expected_purchases(HORIZON_WEEKS, *histories.T)
    lap("score purchases")
    alive = buying.probability_alive(*histories.T)
    lap("score P(alive)")
    worth = purchases * spending.conditional_expected_average_value(histories[:, 0], values)
    lap("score value")
    return seconds, (buying, spending), (purchases, alive, worth)


def peer(histories, values):
    """Seconds, parameters and scores of `lifetimes` on the same work."""
    import lifetimes

    start = time.perf_counter()
    x, t_x, T = histories.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buying = lifetimes.BetaGeoFitter().fit(x, t_x, T)
        repeat = x > 0
        spending = lifetimes.GammaGammaFitter().fit(x[repeat], values[repeat])
        fitted = time.perf_counter() - start
        purchases = buying.conditional_expected_number_of_purchases_up_to_time(HORIZON_WEEKS, x, t_x, T)
        alive = buying.conditional_probability_alive(x, t_x, T)
        worth = purchases * np.asarray(spending.conditional_expected_average_profit(x, values))
    total = time.perf_counter() - start
    parameters = np.array([*buying.params_, *spending.params_])
    return fitted, total, parameters, (np.asarray(purchases), np.asarray(alive), np.asarray(worth))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("customers", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--peer-up-to", type=int, default=100_000, help="largest size the peer package is run on")
    options = parser.parse_args(arguments)
    missed = 0
    for customers in options.customers:
        histories, values = simulate(customers)
        print(f"\n{customers:,} customers, {np.count_nonzero(histories[:, 0]):,} with a repeat purchase")
        seconds, (buying, spending), scores = ours(histories, values)
        total, processor = (sum(taken) for taken in zip(*seconds.values(), strict=True))
        fit = seconds["fit BG/NBD"][0] + seconds["fit Gamma-Gamma"][0]
        for stage, (wall, cpu) in seconds.items():
            print(f"  {stage:<18}{wall:8.2f} s  (CPU {cpu:.2f})")
        print(f"  {'total':<18}{total:8.2f} s  (CPU {processor:.2f})", end="")
        target = TARGETS.get(customers)
        if target is not None:
            missed += total > target
            print(f"   target {target:g} s: {'met' if total <= target else 'MISSED'}", end="")
        parameters = np.array([*buying.parameters_.values(), *spending.parameters_.values()])
        print("\n  parameters        " + " ".join(f"{value:.4f}" for value in parameters))
        if customers <= options.peer_up_to:
            peer_fit, peer_total, theirs, their_scores = peer(histories, values)
            print(f"  lifetimes         {peer_total:8.2f} s: ratio {peer_total / total:.1f} (fit alone {peer_fit / fit:.1f})")
            print(f"  largest relative difference of parameters {np.max(np.abs(parameters / theirs - 1)):.1e}", end="")
            for name, mine, other in zip(("purchases", "P(alive)", "value"), scores, their_scores, strict=True):
                print(f", total {name} {mine.sum() / np.nansum(other) - 1:+.1e}", end="")
            print()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"  peak memory so far {peak:7.2f} GiB")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
