"""A small warehouse with hand-worked numbers, in the shape of the marts, and the metric layer's own dbt models built on it."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace

import duckdb
import jinja2
import pytest

from models import metrics
from models.metrics import definitions, relations

ROOT = Path(__file__).resolve().parents[3]
LAYER = ROOT / "models" / "layers" / "metrics"
WATERMARK = datetime(2026, 11, 22, 23, 0)  # midnight in Berlin at the end of the 22nd: 1..22 November are complete

TABLES = {
    "ops.settings": "time_zone varchar, reporting_currency varchar, week_start varchar, fiscal_year_start_month integer, churn_window_days integer, "
    "lead_conversion_window_days integer, response_window_days integer, gross_margin double, attribution_model varchar, "
    "attribution_lookback_days integer, as_of timestamp, watermark timestamp",
    "ops.ingestion_gaps": "source varchar, starts_at timestamp, ends_at timestamp",
    "meta.snapshot": "snapshot_id varchar",
    "marts.dim_dates": "date_day date",
    "marts.dim_customers": "customer_id varchar, customer_type varchar, industry varchar, country_code varchar, lifecycle_stage varchar, "
    "acquisition_channel varchar, acquisition_campaign_id varchar, owner_id varchar, segment varchar, net_revenue_reporting decimal(18,4), "
    "first_paid_date date",
    "marts.dim_pipeline_stages": "pipeline varchar, stage varchar, position integer, probability decimal(18,8), is_won boolean, is_lost boolean, valid_from timestamp",
    "marts.fct_new_customers": "customer_id varchar, acquired_at timestamp, acquired_date date, acquisition_kind varchar, channel varchar, "
    "country_code varchar, segment varchar, first_amount_reporting decimal(18,4)",
    "marts.fct_orders": "order_id varchar, customer_id varchar, deal_id varchar, ordered_at timestamp, ordered_date date, is_counted boolean, "
    "is_valued boolean, currency varchar, gross_amount_reporting decimal(18,4), net_amount_reporting decimal(18,4), "
    "net_revenue_reporting decimal(18,4), refunded_amount_reporting decimal(18,4), channel varchar, country_code varchar, order_number bigint, is_first_order boolean",
    "marts.fct_refunds": "refund_id varchar, order_id varchar, is_matched boolean, customer_id varchar, refunded_date date, currency varchar, "
    "amount_reporting decimal(18,4), amount_at_order_rate_reporting decimal(18,4), reason varchar",
    "marts.fct_leads": "lead_id varchar, customer_id varchar, channel varchar, campaign_id varchar, status varchar, rating varchar, owner_id varchar, "
    "country_code varchar, created_at timestamp, created_date date, converted_at timestamp, converted_date date, converted_deal_id varchar, "
    "is_converted boolean, is_mature boolean, is_converted_in_window boolean",
    "marts.fct_deals": "deal_id varchar, customer_id varchar, lead_id varchar, pipeline varchar, stage varchar, stage_position integer, "
    "currency varchar, amount_reporting decimal(18,4), probability decimal(18,8), channel varchar, campaign_id varchar, owner_id varchar, closing_owner_id varchar, "
    "created_at timestamp, created_date date, closed_at timestamp, closed_date date, is_won boolean, is_lost boolean, is_open boolean, "
    "lost_reason varchar, cycle_days double",
    "marts.deals_history": "deal_id varchar, customer_id varchar, valid_from timestamp, valid_to timestamp, pipeline varchar, stage varchar, "
    "stage_position integer, amount_reporting decimal(18,4), currency varchar, probability decimal(18,8), owner_id varchar, is_open boolean, is_won boolean",
    "marts.fct_deal_stage_visits": "deal_id varchar, pipeline varchar, stage varchar, stage_position integer, visit_number integer, "
    "entered_at timestamp, exited_at timestamp, duration_days double",
    "marts.fct_touchpoints": "touchpoint_id varchar, customer_id varchar, occurred_at timestamp, channel varchar, campaign_id varchar, sequence bigint",
    "marts.fct_subscriptions": "subscription_id varchar, customer_id varchar, cancel_requested_at timestamp",
    "marts.fct_subscription_terms": "subscription_id varchar, customer_id varchar, valid_from timestamp, valid_to timestamp, plan varchar, "
    "mrr_amount decimal(18,4), currency varchar",
    "marts.fct_exchange_rates": "currency varchar, rate_date date, rate_to_reporting decimal(18,8)",
    "marts.fct_campaign_members": "campaign_member_id varchar, campaign_id varchar, campaign_channel varchar, customer_id varchar, variant varchar, "
    "delivered_at timestamp, delivered_date date, first_clicked_at timestamp, is_suspected_bot boolean, response_kind varchar, is_delivered boolean, is_responded boolean, response_days double",
    "marts.fct_marketing_spend": "spend_id varchar, spend_date date, channel varchar, campaign_id varchar, cost_kind varchar, currency varchar, "
    "amount_reporting decimal(18,4)",
    "marts.fct_activities": "activity_id varchar, kind varchar, direction varchar, is_interaction boolean, customer_id varchar, owner_id varchar, "
    "occurred_date date",
    "marts.fct_tickets": "ticket_id varchar, customer_id varchar, channel varchar, category varchar, priority varchar, status varchar, "
    "created_at timestamp, created_date date, first_response_at timestamp, first_solved_at timestamp, solved_at timestamp, reopen_count integer, owner_id varchar, first_response_hours double, "
    "resolution_hours double",
    "marts.fct_survey_responses": "response_id varchar, kind varchar, customer_id varchar, channel varchar, offered_date date, responded_date date, "
    "score decimal(18,4), is_answered boolean, is_satisfied boolean",
}

ROWS = {
    # A and B came by search, C by email; D has no channel. B lives in Austria, the others in Germany.
    "marts.dim_customers": [
        ("A", "person", None, "DE", None, "search", None, "u1", "champions", 260, date(2026, 9, 5)),
        ("B", "person", None, "AT", None, "search", None, "u1", "at risk", 100, date(2026, 9, 20)),
        ("C", "person", None, "DE", None, "email", None, "u2", "new", 80, date(2026, 10, 3)),
        ("D", "organisation", "retail", "DE", None, None, None, None, "no orders", 0, None),
    ],
    "marts.fct_new_customers": [
        ("A", datetime(2026, 9, 5, 10), date(2026, 9, 5), "order", "search", "DE", None, 100),
        ("B", datetime(2026, 9, 20, 10), date(2026, 9, 20), "order", "search", "AT", None, 100),
        ("C", datetime(2026, 10, 3, 10), date(2026, 10, 3), "order", "email", "DE", None, 80),
    ],
    # order, customer, deal, at, date, counted, valued, currency, gross, net, net revenue, refunded, channel, country, number, first
    "marts.fct_orders": [
        ("o1", "A", None, datetime(2026, 9, 5, 10), date(2026, 9, 5), True, True, "EUR", 120, 100, 100, 0, "web", "DE", 1, True),
        ("o2", "B", None, datetime(2026, 9, 20, 10), date(2026, 9, 20), True, True, "EUR", 110, 100, 100, 0, "shop", "AT", 1, True),
        ("o3", "A", None, datetime(2026, 10, 1, 10), date(2026, 10, 1), True, True, "EUR", 100, 100, 60, 40, "web", "DE", 2, False),
        ("o4", "C", None, datetime(2026, 10, 3, 10), date(2026, 10, 3), True, True, "EUR", 90, 80, 80, 0, "web", "DE", 1, True),
        ("o5", "A", None, datetime(2026, 10, 25, 10), date(2026, 10, 25), True, False, "EUR", 50, 50, 0, 50, "web", "DE", 3, False),
        ("o6", None, None, datetime(2026, 11, 2, 10), date(2026, 11, 2), True, True, "EUR", 30, 30, 30, 0, None, "CH", None, False),
        ("o7", "A", None, datetime(2026, 11, 10, 10), date(2026, 11, 10), True, True, "EUR", 100, 100, 100, 0, "shop", None, 4, False),
        ("o8", "A", None, datetime(2026, 11, 11, 10), date(2026, 11, 11), False, False, "EUR", 999, 999, 999, 0, "web", "DE", None, False),
    ],
    # o3 was refunded by 40 in November, o5 wholly in October; r3 names no order
    "marts.fct_refunds": [
        ("r1", "o3", True, "A", date(2026, 11, 3), "EUR", 40, 40, "damaged"),
        ("r2", "o5", True, "A", date(2026, 10, 28), "EUR", 50, 50, "returned"),
        ("r3", None, False, "B", date(2026, 10, 9), "EUR", 5, None, None),
    ],
    "marts.fct_leads": [
        ("l1", "A", "search", None, "converted", "hot", "u1", "DE", datetime(2026, 7, 1, 8), date(2026, 7, 1), datetime(2026, 9, 1, 8), date(2026, 9, 1), "d1", True, True, True),
        ("l2", "C", "email", None, "converted", "warm", "u1", "DE", datetime(2026, 7, 10, 8), date(2026, 7, 10), datetime(2026, 10, 2, 8), date(2026, 10, 2), None, True, True, True),
        ("l3", None, "search", None, "open", "cold", "u2", "DE", datetime(2026, 7, 20, 8), date(2026, 7, 20), None, None, None, False, True, False),
        ("l4", None, None, None, "open", None, "u2", "AT", datetime(2026, 11, 5, 8), date(2026, 11, 5), None, None, None, False, False, False),
    ],
    "marts.dim_pipeline_stages": [
        ("new business", "New", 1, 0.1, False, False, None), ("new business", "Proposal", 2, 0.5, False, False, None),
        ("new business", "Won", 3, 1.0, True, False, None), ("new business", "Lost", 4, 0.0, False, True, None),
    ],
    "marts.fct_deals": [
        ("d1", "A", "l1", "new business", "Won", 3, "EUR", 1000, None, "search", None, "u3", "u1", datetime(2026, 9, 1, 8), date(2026, 9, 1), datetime(2026, 10, 11, 8), date(2026, 10, 11), True, False, False, None, 40.0),
        ("d2", "C", None, "new business", "Lost", 4, "EUR", 3000, None, "email", None, "u1", "u1", datetime(2026, 9, 5, 8), date(2026, 9, 5), datetime(2026, 10, 15, 8), date(2026, 10, 15), False, True, False, "price", 40.0),
        ("d3", "B", None, "new business", "Won", 3, "EUR", 500, None, "email", None, "u2", "u2", datetime(2026, 10, 1, 8), date(2026, 10, 1), datetime(2026, 10, 21, 8), date(2026, 10, 21), True, False, False, None, 20.0),
        ("d4", "D", None, "new business", "Proposal", 2, "EUR", 2000, None, None, None, "u2", "u2", datetime(2026, 10, 10, 8), date(2026, 10, 10), None, None, False, False, True, None, None),
    ],
    "marts.deals_history": [
        ("d1", "A", datetime(2026, 9, 1, 8), datetime(2026, 10, 11, 8), "new business", "New", 1, 1000, "EUR", None, "u1", True, False),
        ("d1", "A", datetime(2026, 10, 11, 8), None, "new business", "Won", 3, 1000, "EUR", None, "u1", False, True),
        ("d2", "C", datetime(2026, 9, 5, 8), datetime(2026, 10, 15, 8), "new business", "Proposal", 2, 3000, "EUR", None, "u1", True, False),
        ("d2", "C", datetime(2026, 10, 15, 8), None, "new business", "Lost", 4, 3000, "EUR", None, "u1", False, False),
        ("d3", "B", datetime(2026, 10, 1, 8), datetime(2026, 10, 21, 8), "new business", "New", 1, 500, "EUR", None, "u2", True, False),
        ("d3", "B", datetime(2026, 10, 21, 8), None, "new business", "Won", 3, 500, "EUR", None, "u2", False, True),
        ("d4", "D", datetime(2026, 10, 10, 8), datetime(2026, 11, 3, 8), "new business", "New", 1, 1800, "EUR", None, "u2", True, False),
        ("d4", "D", datetime(2026, 11, 3, 8), None, "new business", "Proposal", 2, 2000, "EUR", None, "u2", True, False),
    ],
    # the stage New took 40, 20 and 24 days; the last Proposal is still open
    "marts.fct_deal_stage_visits": [
        ("d1", "new business", "New", 1, 1, datetime(2026, 9, 1, 8), datetime(2026, 10, 11, 8), 40.0),
        ("d3", "new business", "New", 1, 1, datetime(2026, 10, 1, 8), datetime(2026, 10, 21, 8), 20.0),
        ("d4", "new business", "New", 1, 1, datetime(2026, 10, 10, 8), datetime(2026, 11, 3, 8), 24.0),
        ("d4", "new business", "Proposal", 2, 1, datetime(2026, 11, 3, 8), None, None),
    ],
    # A met search twice and email once before the first order, B email only, C nothing in the look-back
    "marts.fct_touchpoints": [
        ("p1", "A", datetime(2026, 8, 1), "search", None, 1), ("p2", "A", datetime(2026, 8, 2), "email", None, 2), ("p3", "A", datetime(2026, 8, 3), "search", None, 3),
        ("p4", "B", datetime(2026, 9, 1), "email", None, 1), ("p5", "C", datetime(2025, 1, 1), "search", None, 1),
    ],
    "marts.fct_campaign_members": [
        ("m1", "c1", "email", "A", "a", datetime(2026, 9, 1, 8), date(2026, 9, 1), datetime(2026, 9, 2, 8), False, "click", True, True, 1.0),
        ("m2", "c1", "email", "B", "a", datetime(2026, 9, 1, 8), date(2026, 9, 1), None, False, "reply", True, True, 3.0),
        ("m3", "c1", "email", "C", "b", datetime(2026, 9, 2, 8), date(2026, 9, 2), None, False, None, True, False, None),
        ("m4", "c1", "email", "D", "b", datetime(2026, 9, 2, 8), date(2026, 9, 2), datetime(2026, 9, 2, 8), True, None, True, False, None),
        ("m5", "c1", "email", "D", "b", None, None, None, False, None, False, False, None),
    ],
    "marts.fct_marketing_spend": [
        ("s1", date(2026, 9, 3), "search", None, "ad", "EUR", 200), ("s2", date(2026, 9, 30), "email", None, "tool", "EUR", 100),
        ("s3", date(2026, 10, 1), "search", None, "ad", "EUR", 150), ("s4", date(2026, 11, 1), "search", None, "ad", "EUR", 70),
    ],
    "marts.fct_activities": [
        ("a1", "call", "inbound", True, "A", "u1", date(2026, 9, 10)), ("a2", "email", "inbound", True, "A", "u1", date(2026, 9, 11)),
        ("a3", "email", "inbound", True, "D", "u2", date(2026, 9, 30)), ("a4", "note", None, False, "B", "u2", date(2026, 9, 12)),
        ("a5", "call", "inbound", True, None, "u2", date(2026, 9, 12)),
    ],
    "marts.fct_tickets": [
        ("t1", "A", "email", "bug", "high", "solved", datetime(2026, 10, 1, 14), date(2026, 10, 1), datetime(2026, 10, 1, 16), datetime(2026, 10, 2), datetime(2026, 10, 3), 1, "u1", 2.0, 48.0),
        ("t2", "B", "chat", "bug", "low", "solved", datetime(2026, 10, 2, 14), date(2026, 10, 2), datetime(2026, 10, 5, 8), datetime(2026, 10, 2), datetime(2026, 10, 2), 0, "u1", 4.0, 10.0),
        ("t3", "C", "chat", "how-to", "low", "open", datetime(2026, 10, 5, 8), date(2026, 10, 5), None, None, None, 0, "u2", None, None),
    ],
    "marts.fct_survey_responses": [
        ("q1", "csat", "A", "email", date(2026, 10, 3), date(2026, 10, 4), 5, True, True),
        ("q2", "csat", "B", "email", date(2026, 10, 3), date(2026, 10, 5), 2, True, False),
        ("q3", "csat", "C", "email", date(2026, 10, 6), None, None, False, None),
        ("q4", "nps", "A", "email", date(2026, 10, 6), date(2026, 10, 6), 10, True, None),
        ("q5", "nps", "B", "email", date(2026, 10, 6), date(2026, 10, 6), 9, True, None),
        ("q6", "nps", "C", "email", date(2026, 10, 6), date(2026, 10, 6), 7, True, None),
        ("q7", "nps", "D", "email", date(2026, 10, 6), date(2026, 10, 6), 3, True, None),
        ("q8", "ces", "A", "email", date(2026, 10, 6), date(2026, 10, 6), 6, True, None),
        ("q9", "ces", "B", "email", date(2026, 10, 6), date(2026, 10, 7), 3, True, None),
    ],
    "meta.snapshot": [("20261122T230000Z-test",)],
}

# Fixture F1 in October: opening A 100, B 100, C 100; A becomes 150, B 60, C cancels, D (churned in August) returns at 30, E is new at 80.
F1_TERMS = [
    ("sa", "A", datetime(2026, 1, 1), datetime(2026, 10, 10), "basic", 100, "EUR"), ("sa", "A", datetime(2026, 10, 10), None, "pro", 150, "EUR"),
    ("sb", "B", datetime(2026, 1, 1), datetime(2026, 10, 12), "basic", 100, "EUR"), ("sb", "B", datetime(2026, 10, 12), None, "basic", 60, "EUR"),
    ("sc", "C", datetime(2026, 1, 1), datetime(2026, 10, 20), "basic", 100, "EUR"), ("sd", "D", datetime(2026, 1, 1), datetime(2026, 8, 15), "basic", 50, "EUR"),
    ("sd2", "D", datetime(2026, 10, 5), None, "basic", 30, "EUR"), ("se", "E", datetime(2026, 10, 7), None, "basic", 80, "EUR"),
]


def create(con: duckdb.DuckDBPyConnection, *, watermark: datetime = WATERMARK, time_zone: str = "Europe/Berlin", week_start: str = "monday") -> None:
    """The tables of a snapshot, with the rows above and none for subscriptions."""
    con.execute("set TimeZone = 'UTC'")
    for schema in ("ops", "meta", "marts", "metrics", "scores"):
        con.execute(f"create schema {schema}")
    for name, columns in TABLES.items():
        con.execute(f"create table {name} ({columns})")
    con.execute("insert into ops.settings values (?, 'EUR', ?, 1, 90, 90, 30, 0.5, 'linear', 90, ?, ?)", [time_zone, week_start, watermark, watermark])
    con.execute("insert into marts.dim_dates select unnest(generate_series(date '2025-01-01', date '2027-12-31', interval 1 day))")
    for name, rows in ROWS.items():
        con.executemany(f"insert into {name} values ({', '.join('?' * len(rows[0]))})", rows)


def with_f1(con: duckdb.DuckDBPyConnection) -> None:
    """Add the subscriptions of fixture F1."""
    con.executemany("insert into marts.fct_subscription_terms values (?, ?, ?, ?, ?, ?, ?)", F1_TERMS)
    con.execute("insert into marts.fct_subscriptions select distinct subscription_id, customer_id, cast(null as timestamp) from marts.fct_subscription_terms")


def build_layer(con: duckdb.DuckDBPyConnection, *, engines: bool = False) -> None:
    """Build the metric layer's SQL models as dbt would; with `engines` also the tables that only other tools read."""
    zone = "(select time_zone from ops.settings)"
    names = {
        "ref": lambda name: f"{'metrics' if name.startswith('mtr_') else 'marts'}.{name}",
        "setting": lambda name: f"(select {name} from ops.settings)",
        "seconds_between": lambda since, until: f"(date_diff('microsecond', {since}, {until}) / 1000000.0e0)",
        "quantile": lambda value, fraction: f"quantile_cont({value}, {fraction})",
        "add_days": lambda moment, days: f"({moment} + to_days({days}))",
        "iso_weekday": lambda day: f"isodow({day})",
        "local_timestamp": lambda instant: f"timezone({zone}, {instant} at time zone 'UTC')",
        "local_date": lambda instant: f"cast(timezone({zone}, {instant} at time zone 'UTC') as date)",
    }
    for path in sorted(LAYER.glob("mtr_*.sql")):
        con.execute(f"create or replace table metrics.{path.stem} as {jinja2.Template(path.read_text()).render(**names)}")
    for model in definitions.from_files().models.values():
        if engines and model.engine and model.engine != "attributed_cohorts":  # stored with the attributed customers
            rows = relations.stored(con, model.engine)  # noqa: F841 - DuckDB finds the relation by its name
            con.execute(f"create or replace table {model.relation} as select * from rows")


@pytest.fixture(scope="session")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metrics") / "base.duckdb"
    with duckdb.connect(str(path)) as con:
        create(con)
        build_layer(con)
    return path


@pytest.fixture(scope="session")
def con(base_path: Path):
    """The small warehouse without subscriptions, read-only."""
    connection = duckdb.connect(str(base_path), read_only=True)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def f1():
    """The small warehouse with the subscriptions of F1."""
    connection = duckdb.connect()
    create(connection)
    with_f1(connection)
    build_layer(connection)
    yield connection
    connection.close()


@pytest.fixture
def fresh():
    """A small warehouse of the test's own, which it may change."""
    connection = duckdb.connect()
    create(connection)
    build_layer(connection)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def ask():
    """Ask for one or more metrics: `ask(con, "orders", grain="month")` -> MetricAnswer."""

    def run(connection, *names, **choices):
        return metrics.query(connection, metrics.MetricRequest(names, **choices))

    return run


@pytest.fixture(scope="session")
def making() -> SimpleNamespace:
    """The functions above, for tests that need warehouses of their own in several states."""
    return SimpleNamespace(create=create, with_f1=with_f1, build_layer=build_layer)
