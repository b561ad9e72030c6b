"""Scores as attributes of a segment: of customers, and the highest of a customer's open leads and deals."""

from __future__ import annotations

from datetime import datetime

import duckdb
import pytest

from ml import scoring
from models.segments import compiler, grammar

# customers: a has two open leads and a deal, b one of either, c neither, d is only a lead, e is deleted
LEADS = [("l1", "a", 0.10), ("l2", "a", 0.60), ("l3", "b", 0.20), ("l4", "d", 0.90), ("l5", None, 0.95)]
DEALS = [("x1", "a", 0.30), ("x2", "b", 0.50), ("x3", "b", None), ("x4", "e", 0.99)]


@pytest.fixture(scope="module")
def scores():
    con = duckdb.connect()
    for schema in ("ops", "marts", "scores"):
        con.execute(f"CREATE SCHEMA {schema}")
    con.execute("CREATE TABLE ops.settings AS SELECT ? AS watermark, 'UTC' AS time_zone", [datetime(2026, 1, 1)])
    con.execute(f"CREATE TABLE {compiler.UNIVERSE} AS SELECT * FROM (VALUES ('a', false, false), ('b', false, false), ('c', false, false), ('d', false, true), ('e', true, false)) AS t(customer_id, is_deleted, is_lead_only)")
    con.execute("CREATE TABLE marts.fct_leads (lead_id VARCHAR, customer_id VARCHAR)")
    for table, question in scoring.QUESTIONS.items():
        con.execute(f"CREATE TABLE scores.{table} ({question.columns})")
    for lead, customer, score in LEADS:
        con.execute("INSERT INTO marts.fct_leads VALUES (?, ?)", [lead, customer])
        con.execute("INSERT INTO scores.conversion BY NAME SELECT ? AS lead_id, CAST(? AS DOUBLE) AS score", [lead, score])
    for deal, customer, score in DEALS:
        con.execute("INSERT INTO scores.deals BY NAME SELECT ? AS deal_id, ? AS customer_id, CAST(? AS DOUBLE) AS score", [deal, customer, score])
    for table, score in (("churn", 0.7), ("clv", 120.0), ("churn_timing", 200.0), ("uplift", 0.02)):
        con.execute(f"INSERT INTO scores.{table} BY NAME SELECT 'a' AS customer_id, CAST(? AS DOUBLE) AS score", [score])
    return con


@pytest.mark.parametrize("condition, expected", [
    ({"attribute": "lead_conversion_chance", "at_least": 0.5}, {"a"}), ({"attribute": "lead_conversion_chance", "at_least": 0.2}, {"a", "b"}), ({"attribute": "lead_conversion_chance", "is_known": False}, {"c"}),
    ({"attribute": "deal_win_chance", "at_least": 0.4}, {"b"}), ({"attribute": "deal_win_chance", "at_most": 0.4}, {"a"}), ({"attribute": "deal_win_chance", "is_known": False}, {"c"}),
    ({"attribute": "churn_probability", "at_least": 0.7}, {"a"}), ({"attribute": "predicted_value", "above": 100}, {"a"}), ({"attribute": "expected_days_left", "at_most": 200}, {"a"}),
    ({"attribute": "contact_effect", "above": 0.01}, {"a"}), ({"attribute": "contact_effect", "is_known": False}, {"b", "c"}),
])  # fmt: skip
def test_a_segment_by_a_score_holds_those_who_have_it(scores, condition, expected):
    segment = grammar.parse("some", {"label": "Some", "description": "By a score.", "owner": "sales", "all": [condition]})
    sql, values = compiler.compile_segment(segment)
    found = [row[0] for row in scores.execute(sql, values).fetchall()]
    assert sorted(found) == sorted(expected), "each customer once"


def test_both_highest_scores_may_stand_in_one_segment(scores):
    segment = grammar.parse("both", {"label": "Both", "description": "Two scores.", "owner": "sales", "all": [{"attribute": "lead_conversion_chance", "at_least": 0.2}, {"attribute": "deal_win_chance", "at_least": 0.5}]})
    sql, values = compiler.compile_segment(segment)
    assert scores.execute(sql, values).fetchall() == [("b",)]
