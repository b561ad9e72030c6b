"""Groups of customers: found where they are, refused where they are not, with ids that stay."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from ml.clusters import definition, fit


def cloud(kind: str, n: int, axes: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return rng.normal(size=(n, axes))
    if kind == "long":
        return rng.normal(size=(n, axes)) * [4, *[1] * (axes - 1)]
    return rng.uniform(-2, 2, size=(n, axes))


@pytest.mark.parametrize("kind, axes", [("normal", 2), ("normal", 6), ("long", 3), ("uniform", 2), ("uniform", 4)])
def test_a_cloud_without_groups_is_refused_with_the_reason(kind, axes):
    for seed in (1, 2):
        found = fit.find(cloud(kind, 900, axes, seed))
        assert len(found.centres) == 0 and ("cloud" in found.reason or "comes back" in found.reason), (kind, axes, seed, found)


def three(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    return rng.normal(size=(n, 4)) * 0.6 + np.array([[0, 0, 0, 0], [4, 0, 2, 0], [0, 4, -2, 0]])[truth], truth


def test_three_groups_are_found_as_they_were_made():
    values, truth = three(900, 5)
    found = fit.find(values)
    assert len(found.centres) == 3 and found.reason == ""
    assert adjusted_rand_score(truth, fit.assign(values, found.centres)[0]) > 0.97
    assert min(found.stability) > 0.9 and found.silhouette > found.reference + fit.CLEARER_BY
    again = fit.find(values)
    assert np.array_equal(found.centres, again.centres) and found.tried == again.tried


def test_few_customers_and_customers_all_alike_are_refused():
    assert "are needed" in fit.find(three(100, 1)[0]).reason
    assert "alike" in fit.find(np.zeros((500, 3))).reason
    assert "do not differ" in fit.find(np.empty((500, 0))).reason


def test_groups_keep_their_id_when_a_refit_orders_them_otherwise_and_others_join():
    values, _ = three(900, 5)
    first = fit.find(values).centres
    before = fit.assign(values, first)[0]
    ids, following = fit.kept_ids(before, None, 3, [], 1)
    sizes = {i: (before == place).sum() for place, i in enumerate(ids)}
    assert sorted(ids) == [1, 2, 3] and following == 4 and sizes[1] > sizes[2] > sizes[3]
    more = np.vstack([values, three(300, 6)[0], np.random.default_rng(7).normal(size=(250, 4)) * 0.4 + [4, 4, 0, 6]])
    second = fit.find(more).centres[::-1]
    assert len(second) == 4
    now = fit.assign(more, second)[0]
    renewed, following = fit.kept_ids(now, fit.assign(more, first)[0], 4, ids, following)
    assert sorted(renewed) == [1, 2, 3, 4] and following == 5
    old = {ids[b]: renewed[a] for a, b in zip(now[:900], before, strict=True)}
    assert old == {1: 1, 2: 2, 3: 3}
    assert {renewed[a] for a in now[1200:]} == {4}
    lost, following = fit.kept_ids(np.array([0, 0, 1, 1]), np.array([0, 0, 2, 2]), 2, [7, 9, 8], 10)
    assert (lost, following) == ([7, 8], 10)


def test_scaling_is_not_moved_by_outliers_and_puts_the_unknown_in_the_middle():
    values = np.column_stack([np.arange(101.0), np.r_[np.zeros(90), np.arange(1, 12)]])
    plain = fit.Scaling([False, True]).learn(values)
    values[0, 0] = np.nan
    values[100, 0] = 1e9
    scaled = fit.Scaling([False, True]).learn(values).apply(values)
    assert plain.median[0] == 50 and scaled[0, 0] == 0 and scaled[100, 0] == 4 and np.isfinite(scaled).all()
    assert scaled[75, 0] == pytest.approx(0.67, abs=0.03)


def test_names_tell_groups_apart_in_plain_words():
    axes = list(definition.AXES[:4])
    assert definition.names(axes, [[-1, 2, 1.5, 0.1], [2, -1, 0, 0], [0.1, 0, 0.2, 0.3], [0, 0, 0, 3]]) == [
        "frequent, high value, bought recently", "long silent, few orders", "like the average customer", "discount-driven"]
    assert len(set(definition.names(axes, [[3, 2, 1, -0.6], [3, 2, 1, 0.6], [3, 2, 1, 0.6]]))) == 3
