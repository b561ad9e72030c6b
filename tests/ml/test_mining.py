"""Pattern tables: always there, with the reason where there is nothing, and groups that keep their ids from run to run."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest
from fixtures.feature_world import MARTS

from data_contracts.environment import Home
from data_contracts.errors import UsageError
from ml import mining, registry
from ml.clusters import definition
from models import patterns

DAY = date(2026, 1, 1)


def world(customers: int = 0, seed: int = 1, day: date = DAY) -> duckdb.DuckDBPyConnection:
    """Marts and features of buyers of three kinds; every second order of tea comes with a cup."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET threads = 1")
    for schema in ("ops", "marts", "features"):
        con.execute(f"CREATE SCHEMA {schema}")
    con.execute("CREATE TABLE ops.settings AS SELECT 'UTC' AS time_zone, 'EUR' AS reporting_currency, 90 AS churn_window_days, CAST(? AS TIMESTAMP) AS watermark", [datetime.combine(day, datetime.min.time())])
    con.execute("CREATE TABLE marts.fct_orders (order_id VARCHAR, customer_id VARCHAR, ordered_at TIMESTAMP, is_counted BOOLEAN, is_fully_refunded BOOLEAN)")
    con.execute("CREATE TABLE marts.fct_order_lines (order_id VARCHAR, product_id VARCHAR, category VARCHAR, quantity DECIMAL(18,4))")
    con.execute("CREATE TABLE marts.dim_products AS SELECT 'tea' AS product_id, 'Green tea' AS name")
    con.execute(f"CREATE TABLE marts.dim_customers ({MARTS['dim_customers']}, segment VARCHAR, order_count BIGINT, net_revenue_reporting DECIMAL(18,4))")
    con.execute("CREATE TABLE features.ftr_as_of_dates AS SELECT 'customer' AS subject, CAST(? AS DATE) AS as_of_date, true AS is_scoring", [day])
    con.execute(f"CREATE TABLE features.ftr_customers__behaviour (customer_id VARCHAR, as_of_date DATE, {', '.join(f'{a.feature} DOUBLE' for a in definition.AXES)})")
    if customers:
        rng = np.random.default_rng(seed)
        kind = rng.choice(3, customers, p=[0.5, 0.3, 0.2])
        centres = np.array([(200, 2, 30), (20, 12, 40), (30, 3, 400)])[kind] * np.exp(rng.normal(0, 0.15, (customers, 3)))
        behaviour = pl.DataFrame({"customer_id": [f"c{k}" for k in range(customers)], "as_of_date": [day] * customers, **{a.feature: centres[:, n] if n < 3 else np.zeros(customers) for n, a in enumerate(definition.AXES)}})  # noqa: F841
        con.execute("INSERT INTO features.ftr_customers__behaviour FROM behaviour")
        con.execute("INSERT INTO marts.dim_customers (customer_id, is_deleted, net_revenue_reporting) SELECT customer_id, false, 10 FROM behaviour")
        con.execute("INSERT INTO marts.fct_orders SELECT 'o' || i, 'c' || i, TIMESTAMP '2025-06-01', true, false FROM range(?) AS t(i)", [customers])
        con.execute("INSERT INTO marts.fct_order_lines SELECT 'o' || i, unnest(CASE i % 4 WHEN 0 THEN ['tea', 'cup'] WHEN 1 THEN ['tea', 'pot'] ELSE ['pan'] END), 'kitchen', 1 FROM range(?) AS t(i)", [customers])
    return con


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def test_a_home_without_lines_or_customers_gets_empty_tables_and_reasons(home):
    con = world()
    report = mining.mine_all(con, home)
    assert report.rows == {**dict.fromkeys(mining.TABLES, 0), "pattern_verdicts": 6}
    assert report.verdicts["products bought together by order"] == "nothing to mine: no order line names a product"
    assert "are needed" in report.verdicts["customer clusters"] and "nothing to pick from" in report.verdicts["next products"]
    assert not con.execute("SELECT bool_or(is_published) FROM scores.pattern_verdicts").fetchone()[0]
    assert patterns.rules(con).is_empty() and patterns.clusters(con).is_empty()
    with pytest.raises(UsageError, match="no rule by order starts"):
        patterns.rules(con, "tea")
    with pytest.raises(UsageError, match="no cluster 1"):
        patterns.profiles(con, 1)


def test_patterns_are_written_with_names_and_groups_keep_their_ids(home):
    con = world(400)
    report = mining.mine_all(con, home)
    assert report.rows["product_rules"] > 0 and report.rows["customer_clusters"] == 400
    cup = patterns.rules(con, "cup").row(0, named=True)
    assert (cup["consequent"], cup["consequent_name"], cup["confidence"], cup["place"]) == ("tea", "Green tea", 1.0, 1)
    groups = patterns.clusters(con)
    assert groups["customers"].sum() == 400 and sum(groups["customer_share"]) == pytest.approx(1) and groups["customers"].is_sorted(descending=True)
    assert groups["cluster"].n_unique() == groups.height == 3 and any("frequent" in n for n in groups["cluster"]) and any("high value" in n for n in groups["cluster"])
    assert groups["net_revenue_reporting"].sum() == 4000
    before = dict(con.execute("SELECT customer_id, cluster_id FROM scores.customer_clusters").fetchall())
    members = patterns.cluster_members(con, 1)
    assert members["customer_id"].to_list() and members["distance"].is_sorted() and set(members["customer_id"]) == {c for c, i in before.items() if i == 1}

    first = registry.champion(home, "clusters")
    mining.mine_all(con, home)
    assert registry.champion(home, "clusters") == first and dict(con.execute("SELECT customer_id, cluster_id FROM scores.customer_clusters").fetchall()) == before

    later = world(500, seed=1, day=DAY + timedelta(days=mining.REFIT_DAYS))
    mining.mine_all(later, home)
    assert registry.champion(home, "clusters") != first
    names = {i: n for i, n in later.execute("SELECT DISTINCT cluster_id, cluster FROM scores.customer_clusters").fetchall()}
    was = {i: n for i, n in con.execute("SELECT DISTINCT cluster_id, cluster FROM scores.customer_clusters").fetchall()}
    assert names == was


def test_a_failure_leaves_the_former_tables(home, monkeypatch):
    con = world(60)
    mining.mine_all(con, home)
    before = con.execute("SELECT * FROM scores.pattern_verdicts").fetchall()
    monkeypatch.setattr(definition, "read", lambda con: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mining.mine_all(con, home)
    assert con.execute("SELECT * FROM scores.pattern_verdicts").fetchall() == before
