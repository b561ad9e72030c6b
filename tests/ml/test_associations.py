"""What is bought together: against brute force and a peer package, and silent on shuffled goods."""

from __future__ import annotations

import random
from datetime import datetime

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from oracles import rules_oracle
from scipy import stats

from ml.associations import baskets, recommend, rules

END = datetime(2026, 1, 1)


@pytest.fixture(scope="module")
def con():
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA marts")
    db.execute("CREATE TABLE marts.fct_orders (order_id VARCHAR, customer_id VARCHAR, ordered_at TIMESTAMP, is_counted BOOLEAN, is_fully_refunded BOOLEAN)")
    db.execute("CREATE TABLE marts.fct_order_lines (order_id VARCHAR, product_id VARCHAR, category VARCHAR, quantity DECIMAL(18,4))")
    return db


def deliver(con, found: list[set[str]], customers: list[str] | None = None, at: list[datetime] | None = None) -> None:
    """Fill the marts with one order a basket."""
    con.execute("DELETE FROM marts.fct_orders")
    con.execute("DELETE FROM marts.fct_order_lines")
    n = len(found)
    if not n:
        return
    con.execute("INSERT INTO marts.fct_orders SELECT unnest($i), unnest($c), unnest($t), true, false",
                {"i": [f"o{k}" for k in range(n)], "c": customers or [f"c{k % 7}" for k in range(n)], "t": at or [datetime(2025, 6, 1)] * n})
    lines = [(f"o{k}", item) for k, basket in enumerate(found) for item in sorted(basket)]
    if lines:
        con.execute("INSERT INTO marts.fct_order_lines SELECT unnest($i), unnest($p), NULL, 1", {"i": [i for i, _ in lines], "p": [p for _, p in lines]})


@settings(max_examples=150, deadline=None, print_blob=True)
@given(some.integers(0, 2**32))
def test_counts_and_measures_are_those_of_brute_force(con, seed):
    rng = random.Random(seed)
    goods = "abcdefg"[: rng.randint(1, 7)]
    found = [set(rng.sample(goods, rng.randint(0, min(5, len(goods))))) for _ in range(rng.choice([0, 3, 20, 60]))]
    found = [b for b in found if b]
    deliver(con, found)
    fewest, together = rng.randint(1, 4), rng.randint(1, 3)
    counts = baskets.count(con, "order", "product", END, fewest, together)
    wanted = rules_oracle.pairs(found, fewest, together)
    every = rules.found(counts, rate=1.0)
    assert {(r["antecedent"], r["consequent"]) for r in every.iter_rows(named=True)} == set(wanted)
    for row in every.iter_rows(named=True):
        truth = wanted[row["antecedent"], row["consequent"]]
        for name in ("antecedent_count", "consequent_count", "together_count", "basket_count"):
            assert row[name] == truth[name]
        for name in ("support", "confidence", "lift", "leverage", "conviction"):
            assert row[name] == (None if truth[name] is None else pytest.approx(float(truth[name]), abs=1e-12)), name
        assert row["expected_count"] == pytest.approx(float(rules_oracle.expected(found, row["antecedent"], row["consequent"], fewest)))
        if row["fisher_p_value"] is not None:
            assert row["p_value"] >= row["fisher_p_value"]
            assert row["fisher_p_value"] == (pytest.approx(float(truth["fisher"]), rel=1e-9) if truth["lift"] > 1 else 1)


def test_fishers_test_and_the_control_are_those_of_scipy():
    rng = np.random.default_rng(3)
    n = 5_000
    a, b = rng.integers(20, 900, 400), rng.integers(20, 900, 400)
    k = np.minimum(np.minimum(a, b), rng.poisson(a * b / n * rng.choice([0.8, 1.2, 3], 400)))
    mine, theirs = rules.fisher(k, a, b, n), stats.hypergeom.sf(k - 1, n, a, b)
    above = k * n > a * b
    assert np.allclose(mine[above], theirs[above], rtol=1e-8) and (mine[~above] == 1).all() and above.sum() > 100
    exact = [stats.fisher_exact([[k[i], a[i] - k[i]], [b[i] - k[i], n - a[i] - b[i] + k[i]]], alternative="greater").pvalue for i in np.flatnonzero(above)[:20]]
    assert np.allclose(mine[np.flatnonzero(above)[:20]], exact, rtol=1e-7)
    p = rng.uniform(size=60) ** 6
    assert np.allclose(rules.adjusted(p, 200)[:60], stats.false_discovery_control(np.r_[p, np.ones(140)])[:60])


def test_supports_confidences_and_lifts_are_those_of_mlxtend(con):
    frequent = pytest.importorskip("mlxtend.frequent_patterns", reason="mlxtend is not installed: nothing was compared")
    rng = np.random.default_rng(4)
    matrix = rng.random((600, 25)) < rng.uniform(0.05, 0.4, 25)
    matrix[:, 1] |= matrix[:, 0] & (rng.random(600) < 0.6)
    deliver(con, [{f"p{i:02}" for i in np.flatnonzero(row)} for row in matrix])
    import pandas as pd
    kept = pd.DataFrame(matrix[matrix.any(1)], columns=[f"p{i:02}" for i in range(25)])
    sets = frequent.fpgrowth(kept, min_support=20 / len(kept), use_colnames=True, max_len=2)
    theirs = frequent.association_rules(sets, metric="confidence", min_threshold=0)
    wanted = {(*r.antecedents, *r.consequents): (r.support, r.confidence, r.lift, r.leverage, r.conviction) for r in theirs.itertuples()}
    mine = rules.found(baskets.count(con, "order", "product", END, 20, 20), rate=1.0)
    found = {(r["antecedent"], r["consequent"]): (r["support"], r["confidence"], r["lift"], r["leverage"], r["conviction"]) for r in mine.iter_rows(named=True)}
    assert set(found) == set(wanted) and len(found) > 100
    for pair, values in found.items():
        assert values == pytest.approx(wanted[pair], rel=1e-9)


def shuffled(rng: np.random.Generator, sizes: np.ndarray, popularity: np.ndarray) -> list[set[str]]:
    """Baskets of given sizes whose goods have nothing to do with each other."""
    return [{f"p{i}" for i in rng.choice(len(popularity), s, replace=False, p=popularity)} for s in sizes]


def test_shuffled_goods_give_no_more_discoveries_than_the_control_allows(con):
    """Under shuffling every discovery is false, so that the share of worlds with any is what the control bounds. Fisher's test alone fails it: sizes differ."""
    rng = np.random.default_rng(5)
    popularity = rng.gamma(1, 1, 40) + 0.2
    popularity /= popularity.sum()
    worlds, with_rules, by_fisher = 40, 0, 0
    for _ in range(worlds):
        deliver(con, shuffled(rng, rng.choice([1, 2, 3, 25], 400, p=[0.4, 0.3, 0.2, 0.1]), popularity))
        counts = baskets.count(con, "order", "product", END)
        with_rules += not rules.found(counts).is_empty()
        totals = counts.items["count"].to_numpy()
        p = rules.fisher(counts.pairs["together"].to_numpy(), totals[counts.pairs["left"]], totals[counts.pairs["right"]], counts.basket_count)
        by_fisher += (rules.adjusted(p, rules.tested_pairs(counts)) <= rules.FALSE_DISCOVERY_RATE).any()
    assert stats.binom.sf(with_rules - 1, worlds, rules.FALSE_DISCOVERY_RATE) > 0.001, f"rules in {with_rules} of {worlds} shuffled worlds"
    assert by_fisher > worlds / 2, "the worlds are too easy: a test that ignores sizes must fail here"


def test_goods_that_go_together_are_found_among_shuffled_ones(con):
    rng = np.random.default_rng(6)
    found = shuffled(rng, rng.choice([1, 2, 3, 25], 600, p=[0.4, 0.3, 0.2, 0.1]), np.full(40, 1 / 40))
    for basket in found[::15]:
        basket |= {"tea", "cup"}
    for basket in found[1::30]:
        basket |= {"tea"}
    deliver(con, found)
    every = rules.found(baskets.count(con, "order", "product", END))
    assert {(r["antecedent"], r["consequent"]) for r in every.iter_rows(named=True)} == {("tea", "cup"), ("cup", "tea")}
    cup = every.row(0, named=True)
    assert cup["antecedent"] == "cup" and cup["confidence"] == 1 and cup["conviction"] is None and cup["confidence_lower"] < 1


def test_cancelled_refunded_given_back_and_later_lines_are_in_no_basket(con):
    deliver(con, [{"a", "b"}] * 6)
    con.execute("UPDATE marts.fct_orders SET is_counted = false WHERE order_id = 'o0'")
    con.execute("UPDATE marts.fct_orders SET is_fully_refunded = true WHERE order_id = 'o1'")
    con.execute("UPDATE marts.fct_orders SET ordered_at = ? WHERE order_id = 'o2'", [END])
    con.execute("UPDATE marts.fct_order_lines SET quantity = -1 WHERE order_id = 'o3' AND product_id = 'b'")
    con.execute("INSERT INTO marts.fct_order_lines VALUES ('o4', 'a', NULL, 2), ('o5', NULL, NULL, 1)")
    counts = baskets.count(con, "order", "product", END, 1, 1)
    assert counts.basket_count == 3 and dict(counts.items.iter_rows()) == {"a": 3, "b": 2} and counts.pairs["together"].to_list() == [2]
    con.execute("UPDATE marts.fct_orders SET customer_id = NULL WHERE order_id = 'o5'")
    assert baskets.count(con, "customer", "product", END, 1, 1).basket_count == 2
    assert baskets.count(con, "order", "category", END).basket_count == 0


def test_work_is_bounded_by_leaving_out_the_rarest_goods_and_says_so(con):
    rng = np.random.default_rng(7)
    deliver(con, shuffled(rng, np.full(50, 12), np.full(30, 1 / 30)))
    whole, less = baskets.count(con, "order", "product", END, 1, 1), baskets.count(con, "order", "product", END, 1, 1, most_pairs=900)
    assert whole.left_out == "" and less.items.height < whole.items.height and "most frequent" in less.left_out
    assert less.items["item"].to_list() == whole.items["item"].to_list()[: less.items.height]


def test_picks_are_not_owned_yet_and_are_judged_by_what_was_bought_later(con):
    cut = datetime(2025, 7, 1)
    found = [{"tea"}] * 200 + [{"pan"}] * 300 + [{"cup"}] * 120 + [{"pot"}] * 30
    customers = [f"c{k}" for k in range(200)] + [f"d{k}" for k in range(300)] + [f"c{k}" for k in range(120)] + [f"d{k}" for k in range(30)]
    deliver(con, found, customers, [datetime(2025, 6, 1)] * 500 + [datetime(2025, 8, 1)] * 150)
    learned = pl.DataFrame({"antecedent": ["tea", "tea"], "consequent": ["cup", "tea"], "confidence": [0.6, 0.9], "lift": [3.0, 1.0]})
    picks = recommend.pick(con, learned, cut)
    assert picks.height == 200 and set(picks["product_id"]) == {"cup"} and set(picks["because_product_id"]) == {"tea"}
    judged = recommend.judge(con, learned, cut, END)
    assert (judged.n, judged.hit_rate, judged.popular_hit_rate, judged.is_better) == (120, 1.0, 0.0, True)
    assert recommend.judge(con, learned.head(0), cut, END).n == 0 and "too little data" in recommend.judge(con, learned.head(0), cut, END).verdict
