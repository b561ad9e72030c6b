"""Every metric gives the number that MetricFlow, dbt's own compiler, gives from the same definitions, on random rows."""

from __future__ import annotations

import math
from datetime import date, datetime
from pathlib import Path

import duckdb
import pytest

from models import metrics
from tests.models.metrics import conftest, random_rows
from tests.models.metrics.metricflow_oracle import Oracle

START, END = date(2026, 2, 1), date(2026, 11, 1)
REGISTRY = metrics.registry()
VARIANTS = [(metric.id, variant) for metric in REGISTRY.values() for variant in metric.variants]

# Broken down by a dimension that each of these supports; one of every kind of metric and of join.
BROKEN_DOWN = [
    ("orders", "channel", "order__channel"), ("average_order_value", "segment", "customer__segment"), ("refunds", "channel", "order__channel"),
    ("ordering_customers", "customer_type", "customer__customer_type"), ("win_rate", "owner", "deal__owner"),
    ("sales_cycle_days", "channel", "deal__channel"), ("campaign_response_rate", "campaign", "campaign_member__campaign"),
    ("resolution_time", "category", "ticket__category"), ("csat", "segment", "customer__segment"), ("spend", "kind", "spend__kind"),
    ("active_customers", "segment", "customer__segment"), ("mrr", "currency", "movement__currency"), ("open_pipeline", "owner", "pipeline_deal__owner"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle") / "base.duckdb"
    con = duckdb.connect(str(path))
    conftest.create(con)
    random_rows.fill(con)
    conftest.with_f1(con)
    con.execute("create table scores.clv as select 'p' || i as customer_id, i * 1.5 as predicted_value_365 from range(200) t(i)")
    conftest.build_layer(con, engines=True)
    yield con
    con.close()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory) -> Oracle:
    return Oracle(Path(tmp_path_factory.mktemp("project")))


def same(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is None and theirs is None
    return math.isclose(float(ours), float(theirs), rel_tol=1e-9, abs_tol=1e-9)


def test_dbt_parses_the_layer_and_keeps_every_metric(oracle):
    known = {metric["name"] for metric in oracle.manifest["metrics"]}
    assert {variant.node for metric in REGISTRY.values() for variant in metric.variants.values()} <= known


@pytest.mark.parametrize(("metric", "variant"), VARIANTS, ids=lambda value: str(value))
def test_each_metric_and_variant_equals_metricflow_by_month(database, oracle, metric, variant):
    answer = metrics.query(database, metrics.MetricRequest((metric,), grain="month", start=START, end=END, variant=variant))
    column = next(iter(answer.columns))
    node = REGISTRY[metric].variants[variant].node
    sql = oracle.sql([node], ["metric_time__month"], time_constraint_start=datetime(2026, 2, 1), time_constraint_end=datetime(2026, 10, 31))
    theirs = {period.date() if isinstance(period, datetime) else period: value for period, value in database.execute(sql).fetchall()}
    for period, ours in answer.frame.select("period", column).rows():
        assert same(ours, theirs.get(period)), f"{node} {period}: ours {ours}, MetricFlow {theirs.get(period)}"
    assert any(value is not None for value in answer.frame[column]), "the random rows must reach this metric"


@pytest.mark.parametrize(("metric", "public", "semantic"), BROKEN_DOWN, ids=[f"{name} by {public}" for name, public, _ in BROKEN_DOWN])
def test_breakdowns_equal_metricflow(database, oracle, metric, public, semantic):
    answer = metrics.query(database, metrics.MetricRequest((metric,), by=(public,), grain="month", start=START, end=END))
    node = REGISTRY[metric].variants[REGISTRY[metric].default_variant].node
    sql = oracle.sql([node], ["metric_time__month", semantic], time_constraint_start=datetime(2026, 2, 1), time_constraint_end=datetime(2026, 10, 31))
    ours = {(period, value): number for period, value, number in answer.frame.rows() if value != "(none)" and number is not None}
    theirs = {(period.date(), value): number for period, value, number in database.execute(sql).fetchall() if value is not None and number is not None}
    assert ours and set(ours) == set(theirs)
    assert all(same(ours[key], theirs[key]) for key in ours)


def test_a_filter_equals_metricflow(database, oracle):
    answer = metrics.query(database, metrics.MetricRequest(("average_order_value",), grain="month", start=START, end=END,
                                                           where="channel in ('web', 'shop') and segment = 'champions'"))
    where = "{{ Dimension('order__channel') }} in ('web', 'shop') and {{ Dimension('customer__segment') }} = 'champions'"
    sql = oracle.sql(["average_order_value"], ["metric_time__month"], where_constraints=[where],
                     time_constraint_start=datetime(2026, 2, 1), time_constraint_end=datetime(2026, 10, 31))
    theirs = {period.date(): value for period, value in database.execute(sql).fetchall()}
    assert [same(value, theirs.get(period)) for period, value in answer.frame.rows()] == [True] * 9
