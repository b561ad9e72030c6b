"""Deal-stage funnels and stage durations: the worked example and random deals against brute force."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.errors import UsageError
from models.engines import funnel, funnel_deals
from models.engines.funnel import FunnelSpec
from models.engines.funnel_deals import DealFunnelSpec
from models.engines.funnel_logs import deal_stages_log
from models.engines.funnel_steps import parse_steps

STAGES = ("New", "Qualified", "Proposal", "Won")
START = datetime(2026, 3, 1)


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA marts")
    connection.execute("""
        CREATE TABLE marts.dim_pipeline_stages(pipeline VARCHAR, stage VARCHAR, position INT, is_won BOOLEAN, is_lost BOOLEAN,
            valid_from TIMESTAMP);
        INSERT INTO marts.dim_pipeline_stages VALUES ('sales', 'New', 1, FALSE, FALSE, NULL), ('sales', 'Qualified', 2, FALSE, FALSE, NULL),
            ('sales', 'Proposal', 1, FALSE, FALSE, NULL), ('sales', 'Proposal', 3, FALSE, FALSE, TIMESTAMP '2025-01-01'),
            ('sales', 'Won', 4, TRUE, FALSE, NULL), ('sales', 'Lost', 5, FALSE, TRUE, NULL);
        CREATE TABLE marts.fct_deals(deal_id VARCHAR, pipeline VARCHAR, is_lost BOOLEAN, created_at TIMESTAMP, channel VARCHAR,
            campaign_id VARCHAR, owner_id VARCHAR, customer_id VARCHAR);
        CREATE TABLE marts.fct_deal_stage_visits(deal_id VARCHAR, pipeline VARCHAR, stage VARCHAR, visit_number INT,
            entered_at TIMESTAMP, exited_at TIMESTAMP);
    """)
    yield connection
    connection.close()


def load(con, deals: dict[str, list[str]], step: timedelta = timedelta(days=1)) -> None:
    """Each deal enters its stages one step apart and stays in the last."""
    con.execute("DELETE FROM marts.fct_deals; DELETE FROM marts.fct_deal_stage_visits")
    rows, visits = [], []
    for deal, path in deals.items():
        rows.append((deal, "sales", bool(path) and path[-1] == "Lost", START, None, None, None, None))
        for i, stage in enumerate(path):
            left = START + step * (i + 1) if i + 1 < len(path) else None
            visits.append((deal, "sales", stage, i + 1, START + step * i, left))
    if rows:
        con.executemany("INSERT INTO marts.fct_deals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    if visits:
        con.executemany("INSERT INTO marts.fct_deal_stage_visits VALUES (?, ?, ?, ?, ?, ?)", visits)


F4 = {
    "D1": ["New", "Qualified", "Proposal", "Qualified", "Proposal", "Won"],
    "D2": ["New", "Proposal", "Won"],
    "D3": ["New", "Qualified", "Lost"],
    "D4": ["New"],
}


def columns(con, spec: DealFunnelSpec) -> tuple[list[int], list[int], list[int]]:
    got = funnel_deals.run(con, spec)
    return got["in_order"].to_list(), got["any_stage"].to_list(), got["imputed"].to_list()


def test_three_counts_of_the_worked_example(con):
    load(con, F4)
    expected = ([4, 2, 1, 1], [4, 2, 2, 2], [4, 3, 2, 2])
    assert columns(con, DealFunnelSpec(stages=STAGES)) == expected
    assert columns(con, DealFunnelSpec(pipeline="sales")) == expected


def test_deal_stages_are_a_log_like_any_other(con):
    load(con, F4)
    spec = FunnelSpec(deal_stages_log(), parse_steps("New; Qualified; Proposal; Won"), timedelta(days=30))
    assert funnel.run(con, spec)["entries"].to_list() == [4, 2, 1, 1]


def test_a_deal_that_skips_a_stage_stops_counting_even_when_it_comes_back(con):
    load(con, {"D": ["New", "Proposal", "Qualified", "Proposal", "Won"]})
    assert columns(con, DealFunnelSpec(stages=STAGES)) == ([1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1])


def test_a_range_takes_the_deals_created_in_it(con):
    load(con, F4)
    inside = DealFunnelSpec(stages=STAGES, start=date(2026, 3, 1), end=date(2026, 3, 2))
    assert columns(con, inside)[0] == [4, 2, 1, 1]
    outside = DealFunnelSpec(stages=STAGES, pipeline="sales", start=date(2026, 3, 2))
    assert funnel_deals.run(con, outside).height == 0 or columns(con, outside)[0] == [0, 0, 0, 0]


def test_durations_of_the_first_visit_and_of_all_visits_are_both_offered(con):
    load(con, {"D1": F4["D1"]})
    con.execute(
        "UPDATE marts.fct_deal_stage_visits SET exited_at = exited_at + INTERVAL 9 DAY "
        "WHERE stage = 'Qualified' AND visit_number = 4"
    )
    got = funnel_deals.stage_durations(con, DealFunnelSpec(), date(2026, 6, 1))
    found = {(r["stage"], r["visit_basis"]): r for r in got.iter_rows(named=True)}
    assert (found["Qualified", "first"]["visits"], found["Qualified", "first"]["mean_completed_days"]) == (1, 1.0)
    assert (found["Qualified", "all"]["visits"], found["Qualified", "all"]["mean_completed_days"]) == (2, 5.5)
    assert {stage for stage, _ in found} == {"New", "Qualified", "Proposal"}, "a stage that ends a deal has no duration"
    asked = funnel_deals.stage_durations(con, DealFunnelSpec(stages=("Won",)), date(2026, 6, 1)).row(0, named=True)
    assert (asked["open_visits"], asked["median_days"]) == (1, None)


def test_an_open_visit_counts_as_at_least_its_age_in_the_median(con):
    load(con, {"A": ["New", "Won"], "B": ["New"], "C": ["New", "Won"]})
    con.execute("UPDATE marts.fct_deal_stage_visits SET exited_at = entered_at + INTERVAL 5 DAY WHERE deal_id = 'C' AND stage = 'New'")

    def median(watermark):
        got = funnel_deals.stage_durations(con, DealFunnelSpec(stages=("New",)), watermark)
        return got.filter(got["visit_basis"] == "all")["median_days"].to_list()

    # A left after 1 day, C after 5. B is inside since 3 days (S falls to 2/3, then to 0 at 5) or since 30 (2/3, then 1/3).
    assert median(date(2026, 3, 31)) == [5.0]
    assert median(date(2026, 3, 4)) == [None]  # on day 3 both B and C are inside


def test_a_stage_named_twice_is_refused():
    with pytest.raises(UsageError):
        DealFunnelSpec(stages=("New", "New"))


@settings(max_examples=40, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.sampled_from([*STAGES, "Lost", "Elsewhere"]), max_size=7), max_size=12))
def test_random_deals_agree_with_brute_force(con, paths):
    load(con, {f"D{i}": path for i, path in enumerate(paths)})
    in_order, any_stage, imputed = [0] * 4, [0] * 4, [0] * 4
    for path in paths:
        places = [STAGES.index(s) for s in path if s in STAGES]
        reached = 0
        for place in places:
            if place == reached:
                in_order[place] += 1
                reached += 1
            elif place > reached:
                break
        for place in set(places):
            any_stage[place] += 1
        credited = set(places) if path and path[-1] == "Lost" else set(range(max(places, default=-1) + 1))
        for place in credited:
            imputed[place] += 1
    got = columns(con, DealFunnelSpec(pipeline="sales"))
    assert got == (in_order, any_stage, imputed)
