"""RFM against plain Python on random logs, against pandas' quantiles, and its table of cells."""

from __future__ import annotations

import csv
import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from oracles import rfm_oracle

import models
from data_contracts.errors import UsageError
from models.engines import rfm

SEED = Path(models.__file__).parent / "seeds" / "rfm_segments.csv"
CLOSE = datetime(2026, 3, 29, 23, 30)      # 30 March in Berlin, a day after the clocks went forward


@pytest.fixture(scope="module")
def con():
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'; SET threads = 1")
    db.execute("CREATE SCHEMA marts")
    db.execute(f"CREATE TABLE marts.rfm_segments AS FROM read_csv('{SEED}')")
    db.execute("CREATE TABLE marts.fct_orders (order_id VARCHAR, customer_id VARCHAR, ordered_at TIMESTAMP, ordered_date DATE, is_counted BOOLEAN, net_amount_reporting DECIMAL(18,4))")
    db.execute("CREATE TABLE marts.fct_refunds (order_id VARCHAR, refunded_at TIMESTAMP, amount_at_order_rate_reporting DECIMAL(18,4), is_matched BOOLEAN)")
    return db


def fill(con, orders: list[dict], refunds: list[dict], zone: str) -> None:
    con.execute("DELETE FROM marts.fct_orders")
    con.execute("DELETE FROM marts.fct_refunds")
    if orders:
        con.execute("INSERT INTO marts.fct_orders SELECT unnest($i), unnest($c), unnest($t), unnest($d), unnest($n), unnest($a)", {
            "i": [o["order_id"] for o in orders], "c": [o["customer_id"] for o in orders], "t": [o["ordered_at"] for o in orders],
            "d": [rfm_oracle.local_day(o["ordered_at"], zone) for o in orders], "n": [o["is_counted"] for o in orders], "a": [o["amount"] for o in orders]})  # fmt: skip
    if refunds:
        con.execute("INSERT INTO marts.fct_refunds SELECT unnest($i), unnest($t), unnest($a), true", {
            "i": [r["order_id"] for r in refunds], "t": [r["refunded_at"] for r in refunds], "a": [r["amount"] for r in refunds]})


AMOUNTS = [Decimal(v) for v in ("0", "10", "10", "10.0001", "25.5", "99.9999")]


def random_log(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Few customers with ties in everything, orders in the future, not counted, without a customer, refunded in part, whole, later and twice."""
    orders = [{"order_id": f"o{n}", "customer_id": rng.choice([None, *"abcdefg"]), "ordered_at": CLOSE + timedelta(hours=rng.randint(-280, 21)), "is_counted": rng.random() > 0.1, "amount": rng.choice(AMOUNTS)}
              for n in range(rng.choice([0, 1, 4, 16, 30]))]
    refunds = [{"order_id": o["order_id"], "refunded_at": o["ordered_at"] + timedelta(hours=rng.choice([0, 5, 400])), "amount": (o["amount"] * rng.choice([Decimal("0.5"), Decimal(1)])).quantize(Decimal("0.0001"))}
               for o in orders for _ in range(rng.choice([0, 0, 1, 2]))]
    return orders, refunds


@settings(max_examples=1000, deadline=None, print_blob=True)
@given(some.integers(0, 2**32), some.sampled_from([None, None, 1, 5]), some.sampled_from(["UTC", "Europe/Berlin"]))
def test_scores_are_those_of_the_definition(con, seed, window, zone):
    orders, refunds = random_log(random.Random(seed))
    fill(con, orders, refunds, zone)
    query = rfm.scores_query(rfm.RfmSpec(CLOSE, zone, window))
    found = {row[0]: row[1:7] for row in con.execute(*query).fetchall()}
    assert found == rfm_oracle.rfm(orders, refunds, CLOSE, zone, window)


def shop(con, customers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fill(con, [{"order_id": f"{c}-{n}", "customer_id": f"c{c}", "ordered_at": CLOSE - timedelta(days=float(rng.integers(0, 300))), "is_counted": True, "amount": Decimal(int(rng.gamma(2, 3000))) / 100}
               for c in range(customers) for n in range(int(rng.geometric(0.4)))], [], "UTC")


def test_scores_are_those_of_pandas_on_a_thousand_customers(con):
    import pandas as pd
    shop(con, 1000, 3)
    frame = rfm.run(con, "customer", rfm.RfmSpec(CLOSE, "UTC")).to_pandas()
    for value, score, is_best_low in (("recency_days", "recency_score", True), ("order_count", "frequency_score", False), ("net_revenue_reporting", "monetary_score", False)):
        values = frame[value].astype(float)
        borders = [values.quantile(q) for q in (0.2, 0.4, 0.6, 0.8)]
        above = pd.concat([values > b for b in borders], axis=1).sum(axis=1)
        assert (frame[score] == (5 - above if is_best_low else 1 + above)).all()


def test_the_table_has_each_of_the_125_cells_once_and_adds_up(con):
    shop(con, 400, 4)
    spec = rfm.RfmSpec(CLOSE, "UTC")
    cells, segments = rfm.run(con, "cell", spec), rfm.run(con, "segment", spec)
    scores = ["recency_score", "frequency_score", "monetary_score"]
    assert set(cells.select(scores).iter_rows()) == {(r, f, m) for r in range(1, 6) for f in range(1, 6) for m in range(1, 6)} and cells.height == 125
    with open(SEED, encoding="utf-8") as file:
        labels = {tuple(int(row[s]) for s in scores): row["segment"] for row in csv.DictReader(file)}
    assert {row[:3]: row[3] for row in cells.select(*scores, "segment").iter_rows()} == labels
    for frame in (cells, segments):
        assert frame["customers"].sum() == 400
        assert frame["net_revenue_reporting"].sum() == con.execute("SELECT sum(net_amount_reporting) FROM marts.fct_orders").fetchone()[0]
        assert frame["customer_share"].sum() == pytest.approx(1) and frame["revenue_share"].sum() == pytest.approx(1)


def test_nobody_to_score_gives_empty_cells_without_shares(con):
    fill(con, [], [], "UTC")
    cells = rfm.run(con, "cell", rfm.RfmSpec(CLOSE, "UTC"))
    assert cells.height == 125 and cells["customers"].sum() == 0 and cells["customer_share"].null_count() == 125
    assert rfm.run(con, "segment", rfm.RfmSpec(CLOSE, "UTC")).is_empty()


def test_a_day_means_its_end_and_one_beyond_the_data_is_refused():
    watermark = datetime(2026, 3, 29, 12)
    assert rfm.spec_at(None, watermark, "UTC").as_of == watermark == rfm.spec_at(date(2026, 3, 29), watermark, "UTC").as_of
    assert rfm.spec_at(date(2026, 3, 1), watermark, "Europe/Berlin").as_of == datetime(2026, 3, 1, 22, 59, 59, 999999)
    with pytest.raises(UsageError, match="reach up to"):
        rfm.spec_at(date(2026, 3, 30), watermark, "UTC")
    with pytest.raises(UsageError, match="window"):
        rfm.spec_at(None, watermark, "UTC", 0)
