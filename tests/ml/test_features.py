"""Features know nothing of their own day or later, and say the same for training and for scoring."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from fixtures.feature_world import build_features, empty_world, rendered

from ml import features
from ml.churn_timing import definition as churn_timing

WATERMARK = "2026-01-01"


def day(text: str) -> datetime:
    return datetime.fromisoformat(text)


def a_small_company():
    """60 customers with a fact of every kind on each day of two years, so that any look ahead meets a fact."""
    con = empty_world(WATERMARK)
    con.execute("INSERT INTO marts.dim_customers SELECT 'p' || i, 'person', false, NULL, NULL, NULL FROM range(60) AS t(i)")
    con.execute("CREATE TEMP TABLE happened AS SELECT 'p' || (hash(d * 10 + k) % 60) AS who, DATE '2024-01-01' + CAST(d AS INTEGER) AS on_day, k, 5 + hash(d * 7 + k) % 90 AS v "
                "FROM range(730) AS a(d), range(5) AS b(k)")
    con.execute("INSERT INTO marts.fct_orders SELECT who, on_day, on_day, true, v, v, 0, v FROM happened")
    con.execute("INSERT INTO marts.fct_order_lines SELECT who, on_day, 'x', 'c' || v % 4, true FROM happened")
    for k, rows in enumerate((
        "fct_refunds SELECT who, on_day, 1", "fct_tickets SELECT who, on_day, NULL", "fct_survey_responses SELECT who, on_day, 'csat', 4, true",
        "fct_activities SELECT who, on_day, true, NULL", "fct_touchpoints SELECT who, on_day, 'email'", "fct_campaign_members SELECT who, on_day, NULL, NULL, true, strftime(on_day, '%Y-%m'), v % 3 = 0, CASE WHEN v % 3 > 0 THEN on_day END",
        "fct_subscriptions SELECT who, on_day, NULL, NULL, NULL, NULL",
    )):  # fmt: skip
        con.execute(f"INSERT INTO marts.{rows} FROM happened WHERE k = {k % 5}")
    return con


@pytest.fixture(scope="module")
def company():
    con = a_small_company()
    build_features(con)
    return con


def looks_ahead(con) -> int:
    return con.execute("SELECT count(*) FROM features.ftr_customers__behaviour WHERE NOT coalesce(latest_evidence_date < as_of_date, false)").fetchone()[0]


def test_no_feature_row_used_a_fact_of_its_own_day_or_later(company):
    assert looks_ahead(company) == 0


BLOCKS = ["gaps.ordered_date", "lines.ordered_date", "refunds.refunded_date", "tickets.created_date", "answers.responded_date", "activities.occurred_date",
          "touches.occurred_date", "members.delivered_date", "subs.started_date"]  # fmt: skip


@pytest.mark.parametrize("column", BLOCKS)
def test_a_block_shifted_one_day_into_the_future_is_found_out(company, column):
    def shifted(text: str) -> str:
        changed = text.replace(f"{column} < dates.as_of_date", f"{column} <= dates.as_of_date", 1)
        assert changed != text, f"the template no longer compares {column} with the as-of day"
        return changed

    build_features(company, ftr_customers__behaviour=shifted)
    try:
        assert looks_ahead(company) > 0
    finally:
        build_features(company)


def test_features_of_a_past_day_are_the_same_when_later_facts_are_deleted(company):
    cut_off = features.read_calendar(company, "customer").cut_offs[-2]
    before = features.read_customers(company).filter(pl.col("as_of_date") == cut_off).select(pl.exclude("^horizon_.*|year_.*|subscribes_at_end$"))
    world = a_small_company()
    dated = {"fct_orders": "ordered_date", "fct_order_lines": "ordered_date", "fct_refunds": "refunded_date", "fct_tickets": "created_date", "fct_survey_responses": "responded_date",
             "fct_activities": "occurred_date", "fct_touchpoints": "occurred_date", "fct_campaign_members": "delivered_date", "fct_subscriptions": "started_date"}  # fmt: skip
    for table, column in dated.items():
        world.execute(f"DELETE FROM marts.{table} WHERE {column} >= ?", [cut_off])
    build_features(world)
    after = features.read_customers(world).filter(pl.col("as_of_date") == cut_off).select(pl.exclude("^horizon_.*|year_.*|subscribes_at_end$"))
    assert before.equals(after)


def test_what_was_known_of_a_campaigns_members_is_the_same_when_later_facts_are_deleted(company):
    began = company.execute("SELECT DISTINCT as_of_date FROM features.ftr_contacts__assigned WHERE campaign_id IS NOT NULL ORDER BY 1").fetchall()[12][0]
    query = f"SELECT * EXCLUDE (is_complete) FROM features.ftr_contacts__assigned WHERE as_of_date = DATE '{began}' ORDER BY contact_id"
    before = company.execute(query).pl()
    world = a_small_company()
    for table, column in (("fct_orders", "ordered_date"), ("fct_subscriptions", "started_date")):
        world.execute(f"DELETE FROM marts.{table} WHERE {column} >= ?", [began])
    # who is in the campaign is told by the campaign itself; later campaigns are gone
    world.execute("DELETE FROM marts.fct_campaign_members WHERE delivered_date >= ? AND campaign_id <> strftime(CAST(? AS DATE), '%Y-%m')", [began, began])
    build_features(world)
    assert before.height > 10 and before["is_contacted"].n_unique() == 2
    assert before.equals(world.execute(query).pl())


@pytest.mark.parametrize("column", ["days.ordered_date", "members.delivered_date", "subs.started_date"])
def test_a_block_of_what_was_known_of_members_shifted_into_the_future_is_found_out(company, column):
    def shifted(text: str) -> str:
        changed = text.replace(f"{column} < spine.as_of_date", f"{column} <= spine.as_of_date", 1)
        assert changed != text
        return changed

    ahead = "SELECT count(*) FROM features.ftr_contacts__assigned WHERE latest_evidence_date >= as_of_date"
    assert company.execute(ahead).fetchone()[0] == 0
    company.execute(f"CREATE OR REPLACE TEMP TABLE shifted AS {rendered('ftr_contacts__assigned', shifted)}")
    assert company.execute(ahead.replace("features.ftr_contacts__assigned", "shifted")).fetchone()[0] > 0


def test_counts_equal_a_recount_in_plain_python(company):
    orders = company.execute("SELECT customer_id, ordered_date, CAST(net_amount_reporting AS DOUBLE) FROM marts.fct_orders").fetchall()
    rows = features.read_customers(company).sample(40, seed=1).to_dicts()
    for row in rows:
        mine = [(on, v) for who, on, v in orders if who == row["customer_id"] and on < row["as_of_date"]]
        recent = [(on, v) for on, v in mine if on >= row["as_of_date"] - timedelta(days=90)]
        assert row["purchase_day_count"] == len({on for on, _ in mine})
        assert row["purchase_days_90d_count"] == len({on for on, _ in recent})
        assert row["value_90d_amount"] == pytest.approx(sum(v for _, v in recent))
        assert row["days_since_last_order"] == (row["as_of_date"] - max(on for on, _ in mine)).days if mine else row["days_since_last_order"] is None


def test_of_past_dates_a_fixed_sample_of_customers_is_learned_from_and_everybody_is_scored(company, monkeypatch):
    whole = features.read_customers(company)
    last = whole["as_of_date"].max()
    monkeypatch.setattr(features, "MOST_PAST_CUSTOMERS", 20)
    for read in (features.read_customers, churn_timing.read_customers):
        part = read(company)
        past = part.filter(pl.col("as_of_date") < last)
        drawn = past["customer_id"].unique().to_list()
        assert 8 <= len(drawn) <= 32
        assert part.filter(pl.col("as_of_date") == last)["customer_id"].to_list() == whole.filter(pl.col("as_of_date") == last)["customer_id"].to_list()
        assert past.select("as_of_date", "customer_id").equals(whole.filter((pl.col("as_of_date") < last) & pl.col("customer_id").is_in(drawn)).select("as_of_date", "customer_id"))


def test_outcomes_lie_inside_their_window_and_are_null_where_it_is_not_over(company):
    orders = company.execute("SELECT customer_id, ordered_date FROM marts.fct_orders").fetchall()
    end = day(WATERMARK).date()
    for row in features.read_customers(company).sample(40, seed=2).to_dicts():
        closes = row["as_of_date"] + timedelta(days=90)
        if closes > end:
            assert row["horizon_purchase_days"] is None
        else:
            assert row["horizon_purchase_days"] == len({on for who, on in orders if who == row["customer_id"] and row["as_of_date"] <= on < closes})


def test_the_day_of_the_workspace_counts_not_the_utc_day():
    con = empty_world("2026-03-29T22:30:00", time_zone="Europe/Berlin")   # 30 March, 00:30 in Berlin, after the change of clocks
    con.execute("INSERT INTO marts.dim_customers VALUES ('a', 'person', false, NULL, NULL, NULL)")
    con.execute("INSERT INTO marts.fct_orders VALUES ('a', '2025-01-01 12:00', '2025-01-01', true, 5, 5, 0, 5)")
    build_features(con)
    calendar = features.read_calendar(con, "customer")
    assert str(calendar.scoring_date) == "2026-03-30"
    starts = con.execute("SELECT starts_at FROM features.ftr_as_of_dates WHERE subject = 'customer' AND is_scoring").fetchone()[0]
    assert starts == day("2026-03-29T22:00:00")


def test_a_lead_that_was_reached_or_given_up_is_not_open_any_more():
    con = empty_world(WATERMARK)
    for lead, converted, given_up in (("open", None, None), ("won_before", "2025-12-20", None), ("won_today", "2026-01-01", None), ("lost", None, "2025-12-20")):
        con.execute("INSERT INTO marts.fct_leads VALUES (?, NULL, 'web', 'DE', NULL, '2025-12-01', '2025-12-01', ?, NULL, ?)", [lead, converted, given_up])
    con.execute("INSERT INTO marts.fct_leads VALUES ('old', NULL, 'web', 'DE', NULL, '2024-12-01', '2024-12-01', NULL, NULL, NULL)")
    build_features(con)
    today = features.read_leads(con).filter(pl.col("as_of_date") == day(WATERMARK).date())
    assert sorted(today["lead_id"]) == ["open", "won_today"]


def test_a_leads_organisation_is_the_one_it_had_that_day_and_not_the_one_its_conversion_gave_it():
    con = empty_world(WATERMARK)
    con.execute("INSERT INTO marts.dim_customers VALUES ('early', 'person', false, 'firm', NULL, NULL), ('late', 'person', false, 'firm', NULL, NULL), ('firm', 'organisation', false, NULL, 50, NULL)")
    con.execute("INSERT INTO marts.customers_history VALUES ('firm', NULL, 50, '2025-01-01', NULL), ('early', 'firm', NULL, '2025-10-01', NULL), ('late', 'firm', NULL, '2025-12-20', NULL)")
    for lead, converted in (("early", None), ("late", "2025-12-20")):
        con.execute("INSERT INTO marts.fct_leads VALUES (?, ?, 'web', 'DE', NULL, '2025-11-15', '2025-11-15', ?, NULL, NULL)", [lead, lead, converted])
    build_features(con)
    known = dict(features.read_leads(con).filter(pl.col("as_of_date") == day("2025-12-02").date()).select("lead_id", "employee_count").iter_rows())
    assert known == {"early": 50, "late": None}


def test_a_space_reads_unknowns_levels_and_amounts_it_has_not_seen():
    frame = pl.DataFrame({"a_amount": [1.0, 10.0, None, 100.0] * 20, "c": ["x", "y", "x", "y"] * 20})
    space = features.FeatureSpace.learn(frame, ("a_amount",), ("c",))
    found = space.scaled(pl.DataFrame({"a_amount": [None, 1e12], "c": ["never seen", None]}))
    assert np.isfinite(found).all() and np.abs(found).max() <= 5
    assert features.FeatureSpace(**space.state()).scaled(frame).tolist() == space.scaled(frame).tolist()
