"""Sales history of a published demo company: answers agree with each other, with the metrics, and with a replay in plain Python."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest

from data_contracts.environment import Home
from models import analysis, analysis_sales, analysis_targets, metrics, scope, warehouse
from models.metrics.calendar import add_months


@pytest.fixture(scope="module")
def con(demo_home):
    with warehouse.reading(Home(demo_home.home)) as opened:
        yield opened.con


@pytest.fixture(scope="module")
def month(con) -> date:
    """First day of the running month."""
    return analysis_sales.newest_day(con).replace(day=1)


def test_the_movement_leads_from_the_pipeline_of_one_day_to_that_of_another(con, month):
    first, last = add_months(month, -6) - timedelta(days=1), add_months(month, -3) - timedelta(days=1)
    moves = {row["movement"]: row["amount"] for row in analysis_sales.movement(con, first, last).to_dicts()}
    assert sum(amount for name, amount in moves.items() if name != "end") == moves["end"]
    for day, name in ((first, "start"), (last, "end")):
        for by in (None, "stage", "owner", "pipeline"):
            assert analysis_sales.pipeline(con, day, by)["amount"].sum() == moves[name]
    parts = [analysis_sales.movement(con, first, last, pipeline=name) for name in con.execute("SELECT DISTINCT pipeline FROM marts.deals_history").pl()["pipeline"]]
    assert {row["movement"]: row["amount"] for row in pl.concat(parts).group_by("movement").agg(pl.col("amount").sum()).to_dicts()} == moves


def test_the_pipeline_at_the_close_of_a_month_is_that_of_the_metrics(con, month):
    """Deals deleted since are in the pipeline of the day and in no metric of today; apart from them both say the same."""
    first, day = add_months(month, -4), add_months(month, -3) - timedelta(days=1)
    told = metrics.query(con, metrics.MetricRequest(("open_deals", "weighted_pipeline", "weighted_pipeline__learned"), start=first, end=add_months(month, -3))).frame.row(0, named=True)
    state = analysis_sales.pipeline(con, day, None).row(0, named=True)
    assert state["deals"] - told["open_deals"] == analysis_sales.removed_since(con, day)
    if state["deals"] == told["open_deals"]:
        assert state["weighted_crm"] == pytest.approx(float(told["weighted_pipeline"]))
        assert state["weighted_learned"] == pytest.approx(float(told["weighted_pipeline__learned"]))


def test_sales_by_owner_add_up_and_agree_with_the_metrics(con, month):
    start, end = add_months(month, -6), month
    whole = analysis_sales.performance(con, start, end, None).row(0, named=True)
    for owner in analysis_sales.OWNERS:
        parts = analysis_sales.performance(con, start, end, "owner", owner=owner)
        for column in ("won", "lost", "won_amount", "open_qualified_deals"):
            assert parts[column].sum() == whole[column]
    told = metrics.query(con, metrics.MetricRequest(("won_deals", "win_rate", "won_amount", "sales_cycle_days", "pipeline_velocity"), start=start, end=end)).frame.row(0, named=True)
    assert (whole["won"], float(whole["won_amount"])) == (told["won_deals"], pytest.approx(float(told["won_amount"])))
    assert analysis_sales.removed_since(con, end - timedelta(days=1)) or whole["velocity_per_day"] == pytest.approx(told["pipeline_velocity"])
    assert (whole["win_rate"], whole["sales_cycle_days"]) == (pytest.approx(told["win_rate"]), pytest.approx(told["sales_cycle_days"]))


def test_a_forecast_is_made_of_the_pipeline_of_its_day(con, month):
    made_on, (start, end) = month - timedelta(days=1), (month, add_months(month, 1))
    rows = {row["basis"]: row for row in analysis_sales.forecast(con, made_on, start, end).to_dicts()}
    due = analysis_sales.pipeline(con, made_on, None, close=(start, end)).row(0, named=True)
    assert rows["crm"]["forecast"] == pytest.approx(due["weighted_crm"]) and rows["learned"]["forecast"] == pytest.approx(due["weighted_learned"])
    assert rows["crm"]["open_deals"] == due["deals"] and not rows["crm"]["is_complete"]
    every = analysis_sales.forecasts(con, 3)
    assert every.height == 8 and every["is_complete"].to_list() == [True] * 6 + [False] * 2


@pytest.mark.parametrize("owner", analysis_sales.OWNERS)
def test_a_persons_target_is_compared_with_what_a_replay_finds(con, month, owner):
    start = add_months(month, -3)
    history = con.execute("SELECT deal_id, owner_id, valid_from FROM marts.deals_history ORDER BY deal_id, valid_from").fetchall()
    owners = defaultdict(list)
    for deal, person, since in history:
        owners[deal].append((since, person))
    actual: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
    for deal, now, closed_at, closed_on, amount in con.execute("SELECT deal_id, owner_id, closed_at, closed_date, amount_reporting FROM marts.fct_deals WHERE is_won AND amount_reporting IS NOT NULL").fetchall():
        before = [person for since, person in owners[deal] if since < closed_at]
        actual[(before[-1] if before and owner == "at_event" else now, closed_on.replace(day=1))] += amount
    found = analysis_targets.attainment(con, metric="won_amount", start=start, owner=owner)
    assert found.height and found["reason"].null_count() == found.height
    for row in found.to_dicts():
        assert row["actual"] == pytest.approx(float(actual[(row["owner_id"], row["period_start"])]))
        assert row["attainment"] == pytest.approx(row["actual"] / row["target"])
    by_period = analysis_targets.attainment(con, metric="won_amount", start=start, owner=owner, by="period")
    assert by_period["actual"].sum() == pytest.approx(found["actual"].sum()) and by_period["target"].sum() == pytest.approx(found["target"].sum())


def test_a_target_of_the_company_is_compared_with_the_metric(con, month):
    found = analysis_targets.attainment(con, metric="new_customers", start=add_months(month, -2), end=month)
    told = metrics.query(con, metrics.MetricRequest(("new_customers",), grain="month", start=add_months(month, -2), end=month)).frame
    assert found["actual"].to_list() == [float(value) for value in told["new_customers"].to_list()]


def test_a_compared_funnel_is_two_funnels(con, month):
    def asked(start: date, end: date) -> pl.DataFrame:
        return analysis.funnel(con, analysis.funnel_spec(con, "lead_created; lead_converted", log="leads", window="30d", start=start, end=end))

    start, end = add_months(month, -6), add_months(month, -3)
    spec = analysis.funnel_spec(con, "lead_created; lead_converted", log="leads", window="30d", start=start, end=end)
    both = analysis.funnel_comparison(con, spec)
    assert both["before_start"].unique().to_list() == [add_months(month, -9)] and both["before_end"].unique().to_list() == [start]
    assert both["entries"].to_list() == asked(start, end)["entries"].to_list()
    assert both["before_entries"].to_list() == asked(add_months(month, -9), start)["entries"].to_list()


def test_funnels_of_the_channels_hold_every_lead_once(con):
    """A filter on the leads' channel: what everybody's leads are, the channels' leads are together."""
    leads = con.execute("SELECT coalesce(channel, '(none)'), count(*) FROM marts.fct_leads GROUP BY ALL").fetchall()
    for channel, count in leads:
        con_of = scope.scoped(con, "leads", f"channel = '{channel}'")
        rows = analysis.funnel(con_of, analysis.funnel_spec(con_of, "lead_created", log="leads", reentry="totals", window="1s"))
        assert rows["entries"][0] + rows["maturing"][0] == count
