"""Credits over the marts, CAC and payback: worked examples by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import duckdb
import pytest

from data_contracts.errors import UsageError
from models.engines import attribution_costs, attribution_credits
from models.engines.attribution import MODELS
from models.engines.attribution_costs import CostSpec

MARCH = (date(2026, 3, 1), date(2026, 4, 1))


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA marts")
    connection.execute("""
        CREATE TABLE marts.fct_new_customers AS SELECT col0 AS customer_id, col1::TIMESTAMP AS acquired_at,
            col1::DATE AS acquired_date, 'order' AS acquisition_kind, col2::DECIMAL(18,4) AS first_amount_reporting
        FROM (VALUES ('a', '2026-03-05', 100), ('b', '2026-03-10', 900), ('c', '2026-03-20', 50), ('d', '2026-04-02', 70));
        CREATE TABLE marts.fct_orders AS SELECT col0 AS order_id, col1 AS customer_id, NULL::VARCHAR AS deal_id,
            col2::TIMESTAMP AS ordered_at, col3::DECIMAL(18,4) AS net_amount_reporting,
            col4::DECIMAL(18,4) AS refunded_amount_reporting, (col3 - col4)::DECIMAL(18,4) AS net_revenue_reporting,
            col5 AS is_first_order, TRUE AS is_counted
        FROM (VALUES ('1', 'a', '2026-03-05', 100, 10, TRUE), ('2', 'b', '2026-03-10', 900, 0, TRUE),
            ('3', 'c', '2026-03-20', 50, 0, TRUE), ('4', 'd', '2026-04-02', 70, 0, TRUE), ('5', 'a', '2026-04-20', 400, 0, FALSE),
            ('6', NULL, '2026-03-07', 33, 0, FALSE));
        CREATE TABLE marts.fct_touchpoints AS SELECT col0 AS touchpoint_id, col1 AS customer_id,
            col2::TIMESTAMP AS occurred_at, col3 AS channel, NULL::BIGINT AS sequence, NULL::VARCHAR AS campaign_id
        FROM (VALUES ('t1', 'a', '2026-03-01', 'search'), ('t2', 'a', '2026-03-02', 'social'), ('t3', 'b', '2026-03-01', 'search'));
        CREATE TABLE marts.fct_leads AS SELECT col0 AS customer_id, col1::TIMESTAMP AS created_at, col1::DATE AS created_date
        FROM (VALUES ('a', '2026-03-01'), ('b', '2026-02-28'), ('d', '2026-03-25'));
        CREATE TABLE marts.fct_deals AS SELECT 'x' AS deal_id, 'a' AS customer_id, TIMESTAMP '2026-03-01 12:00' AS created_at;
        CREATE TABLE marts.fct_marketing_spend AS SELECT col0::DATE AS spend_date, col1 AS channel, col2 AS cost_kind,
            col3::DECIMAL(18,4) AS amount_reporting
        FROM (VALUES ('2026-03-02', 'search', 'ad', 120), ('2026-03-15', 'social', 'ad', 60), ('2026-03-31', NULL, 'salary', 300),
            ('2026-03-03', 'print', NULL, 20), ('2026-04-01', 'search', 'ad', 999), ('2026-02-27', 'search', 'ad', 7));
    """)
    attribution_credits.build_table(connection, model="u_shaped")
    yield connection
    connection.close()


def test_the_credits_table_conserves_new_customers_and_orders_under_every_model(con):
    rows = con.execute(
        "SELECT conversion_kind, model, sum(conversions), sum(revenue), sum(refunded) "
        "FROM metrics.mtr_attribution_credits GROUP BY ALL"
    ).fetchall()
    expected = {("new_customer", model): (4, 1120, 10) for model in MODELS} | {("order", "u_shaped"): (6, 1553, 10)}
    assert {row[:2]: tuple(map(int, row[2:])) for row in rows} == expected
    assert all(value == int(value) for row in rows for value in row[2:])


def test_the_credits_table_names_the_touch_and_its_local_date(con):
    rows = con.execute(
        "SELECT touchpoint_id, channel, touch_position, weight, conversions, converted_date "
        "FROM metrics.mtr_attribution_credits WHERE model = 'linear' AND conversion_id = 'a' ORDER BY 1"
    ).fetchall()
    half = Decimal("0.5")
    assert rows == [
        ("t1", "search", 1, 0.5, half, date(2026, 3, 5)),
        ("t2", "social", 2, 0.5, half, date(2026, 3, 5)),
    ]


def test_cac_by_channel_sums_to_the_whole_with_a_row_for_what_has_no_channel(con):
    spec = CostSpec(*MARCH)
    rows = {r["channel"]: r for r in attribution_costs.by_channel(con, spec).iter_rows(named=True)}
    assert {k: (float(r["spend"]), float(r["new_customers"]), r["cac"]) for k, r in rows.items()} == {
        "search": (120.0, 1.5, 80.0),
        "social": (60.0, 0.5, 120.0),
        "print": (20.0, 0.0, None),
        "unattributed": (300.0, 1.0, 300.0),
    }
    whole = attribution_costs.run(con, spec).row(0, named=True)
    assert float(whole["spend"]) == sum(float(r["spend"]) for r in rows.values()) == 500.0
    assert whole["new_customers"] == sum(r["new_customers"] for r in rows.values()) == 3
    assert list(rows)[-1] == "unattributed"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variant", ["blended", "paid", "lagged", "cohort"])
def test_every_model_and_variant_sums_to_its_own_total(con, model, variant):
    spec = CostSpec(*MARCH, variant=variant, model=model)
    parts, whole = attribution_costs.by_channel(con, spec), attribution_costs.run(con, spec).row(0, named=True)
    assert sum(parts["new_customers"], Decimal(0)) == whole["new_customers"]
    assert sum(parts["spend"], Decimal(0)) == whole["spend"]


def test_cac_variants_choose_their_own_spend_and_customers(con):
    def cac(**choices):
        return attribution_costs.run(con, CostSpec(*MARCH, **choices)).row(0, named=True)

    assert cac()["cac"] == pytest.approx(500 / 3)
    assert (float(cac(variant="paid")["spend"]), cac(variant="paid")["cac"]) == (200.0, pytest.approx(200 / 3))
    # Leads to first payment: a 4 days, b 10; those before the range's end: median 7 -> spend of 22 February to 24 March.
    assert float(cac(variant="lagged")["spend"]) == 207.0
    # Leads created in March became a (March) and d (April).
    assert (cac(variant="cohort")["new_customers"], cac(variant="cohort")["cac"]) == (2, 250.0)


def test_cac_is_null_without_new_customers(con):
    row = attribution_costs.run(con, CostSpec(date(2026, 2, 1), date(2026, 3, 1))).row(0, named=True)
    assert (float(row["spend"]), row["new_customers"], row["cac"]) == (7.0, 0, None)


def test_payback_is_the_first_month_of_life_that_covers_the_cost(con):
    spec = CostSpec(*MARCH)

    def payback(margin, watermark):
        row = attribution_costs.observed_payback(con, spec, margin, watermark).row(0, named=True)
        return row["payback_months"], row["months_observed"]

    assert payback(0.5, date(2026, 6, 1)) == (1, 2)  # 0.5 x 1040 of the first month covers 500
    assert payback(0.4, date(2026, 6, 1)) == (2, 2)  # 416 after one month, 576 after two
    assert payback(0.4, date(2026, 5, 1)) == (None, 1)
    assert payback(0.1, date(2026, 6, 1)) == (None, 2)


@pytest.mark.parametrize("wrong", [{"variant": "net"}, {"model": "best"}, {"end": date(2026, 3, 1)}])
def test_an_impossible_question_is_refused(wrong):
    with pytest.raises(UsageError):
        CostSpec(**{"start": MARCH[0], "end": MARCH[1]} | wrong)
