"""The logs a funnel runs on: events, touchpoints, leads with orders, and deal stages alike."""

from __future__ import annotations

from datetime import timedelta

import duckdb
import pytest

from data_contracts.errors import UsageError
from models.engines import funnel
from models.engines.funnel import Breakdown, FunnelSpec
from models.engines.funnel_logs import LOGS, events_log, log_named, table_log
from models.engines.funnel_steps import StepError, parse_steps

MONTH = timedelta(days=30)


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("""
        SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA marts;
        CREATE TABLE marts.dim_customers AS SELECT col0 AS customer_id, col1 AS country_code, NULL AS customer_type, NULL AS industry,
            NULL AS region, NULL AS city, NULL AS language, NULL AS lifecycle_stage, NULL AS acquisition_channel,
            NULL AS acquisition_campaign_id, NULL AS owner_id, NULL AS segment FROM (VALUES ('a', 'DE'), ('b', 'FR'));
        CREATE TABLE marts.fct_events AS SELECT col0 AS customer_id, col1 AS name, col2::TIMESTAMP AS occurred_at, NULL::BIGINT AS sequence,
            col1 || col2 AS event_id, col3 AS properties
        FROM (VALUES ('a', 'visit', '2026-03-01', '{"path": "/pricing"}'), ('a', 'sign up', '2026-03-02', NULL),
            ('b', 'visit', '2026-03-01', '{"path": "/"}'), ('b', 'sign up', '2026-03-03', '{}'), (NULL, 'visit', '2026-03-01', NULL));
        CREATE TABLE marts.fct_touchpoints AS SELECT col0 AS customer_id, col1 AS channel, col2::TIMESTAMP AS occurred_at,
            NULL::BIGINT AS sequence, col1 || col2 AS touchpoint_id, 'cpc' AS medium, NULL AS source_name, NULL AS campaign_id
        FROM (VALUES ('a', 'search', '2026-03-01'), ('a', 'email', '2026-03-02'), ('b', 'email', '2026-03-03'), ('b', 'search', '2026-03-04'));
        CREATE TABLE marts.fct_leads AS SELECT col0 AS lead_id, col1 AS customer_id, '2026-03-01'::TIMESTAMP AS created_at,
            col2::TIMESTAMP AS converted_at, col3::TIMESTAMP AS disqualified_at, 'web' AS channel, NULL AS campaign_id,
            NULL AS owner_id, 'DE' AS country_code
        FROM (VALUES ('1', 'a', '2026-03-01', NULL), ('2', NULL, NULL, '2026-03-09'), ('3', 'b', '2026-03-05', NULL));
        CREATE TABLE marts.fct_orders AS SELECT col0 AS order_id, col1 AS customer_id, col2::TIMESTAMP AS ordered_at, col3 AS is_first_order,
            col4 AS is_counted, 'shop' AS channel, 'DE' AS country_code
        FROM (VALUES ('1', 'a', '2026-03-01', TRUE, TRUE), ('2', 'a', '2026-03-06', FALSE, TRUE), ('3', 'b', '2026-03-07', FALSE, FALSE));
        CREATE TABLE marts.fct_deals AS SELECT 'd' AS deal_id, 'web' AS channel, NULL AS campaign_id, NULL AS owner_id, 'a' AS customer_id;
        CREATE TABLE marts.fct_deal_stage_visits AS SELECT 'd' AS deal_id, 'sales' AS pipeline, col0 AS stage, col1 AS visit_number,
            '2026-03-01'::TIMESTAMP AS entered_at FROM (VALUES ('New', 1), ('Won', 2));
    """)
    yield connection
    connection.close()


def counts(con, log, steps, **choices):
    return funnel.run(con, FunnelSpec(log, parse_steps(steps, log.attributes), MONTH, **choices))


@pytest.mark.parametrize(
    ("log", "steps", "expected"),
    [
        ("events", "visit; sign up", [2, 2]),
        ("touchpoints", "search; email", [2, 1]),
        ("leads", "lead_created; lead_converted; first_order; order; order", [3, 2, 1, 1, 1]),
        ("leads", "lead_created; lead_disqualified", [3, 1]),
        ("deals", "New; Won", [1, 1]),
    ],
)
def test_each_log_of_the_warehouse_takes_the_same_questions(con, log, steps, expected):
    assert counts(con, log_named(log), steps)["entries"].to_list() == expected


def test_steps_filter_on_properties_and_breakdowns_use_the_customer(con):
    log = events_log(("path",))
    assert counts(con, log, "visit[path=/pricing]; sign up")["entries"].to_list() == [1, 1]
    split = counts(con, log, "visit; sign up", breakdown=Breakdown("country_code"))
    assert split.filter(split["step"] == 2).select("breakdown", "entries").rows() == [("DE", 1), ("FR", 1)]
    assert counts(con, log, "visit[country_code=FR]; sign up")["entries"].to_list() == [1, 1]


def test_an_unknown_log_attribute_property_or_table_is_refused():
    with pytest.raises(UsageError, match="Use one of: " + ", ".join(LOGS)):
        log_named("orders")
    with pytest.raises(StepError, match="no attribute 'path'"):
        parse_steps("visit[path=/]", log_named("events").attributes)
    with pytest.raises(UsageError):
        events_log(("x') OR 1=1",))
    with pytest.raises(UsageError):
        table_log("log; DROP TABLE log")
