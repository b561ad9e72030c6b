"""Fixtures of the estimator tests: the CDNOW sample, and companies simulated with known parameters."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from fixtures.shared_data import given

_spec = importlib.util.spec_from_file_location("cdnow_sample", Path(__file__).with_name("cdnow.py"))
_cdnow = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_cdnow)


@pytest.fixture(scope="session")
def cdnow():
    """Histories, mean repeat values and holdout purchases of the CDNOW 1/10 sample."""
    return _cdnow.load(given("data/cdnow_sample.txt"))


def _simulate(rng, rate, drop_out_chance, lifetime, age, horizon, first_can_drop):
    """Play each customer's purchases one by one; returns histories, alive at the end of `age`, later purchases."""
    customers = len(rate)
    x, last, later = np.zeros(customers), np.zeros(customers), np.zeros(customers)
    now, alive = np.zeros(customers), np.ones(customers, dtype=bool)
    end_of_life = lifetime.copy()
    if first_can_drop:
        gone = rng.random(customers) < drop_out_chance
        end_of_life[gone] = 0.0
        alive &= ~gone
    while alive.any():
        now = now + rng.exponential(1 / rate)
        alive &= (now < lifetime) & (now <= age + horizon)
        known = alive & (now <= age)
        x[known] += 1
        last[known] = now[known]
        later[alive & (now > age)] += 1
        gone = alive & (rng.random(customers) < drop_out_chance)
        end_of_life[gone] = now[gone]
        alive &= ~gone
    return np.stack([x, last, age], axis=1), end_of_life > age, later


@pytest.fixture(scope="session")
def simulated():
    """A function (model name, parameters, customers, horizon, seed) -> histories, truly alive at T, later purchases."""

    def simulate(model, parameters, customers=20_000, horizon=52.0, seed=0):
        rng = np.random.default_rng(seed)
        r, alpha, third, fourth = parameters
        rate = rng.gamma(r, 1 / alpha, customers) + 1e-12
        age = rng.integers(20, 105, customers).astype(float)
        never = np.full(customers, np.inf)
        if model == "Pareto/NBD":
            lifetime = rng.exponential(1 / (rng.gamma(third, 1 / fourth, customers) + 1e-12))
            return _simulate(rng, rate, np.zeros(customers), lifetime, age, horizon, False)
        return _simulate(rng, rate, rng.beta(third, fourth, customers), never, age, horizon, model == "MBG/NBD")

    return simulate
