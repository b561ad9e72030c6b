"""Worked examples and rules of the retention engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import duckdb
import pytest

from models.engines import retention

SEPTEMBER, OCTOBER, NOVEMBER = date(2026, 9, 1), date(2026, 10, 1), date(2026, 11, 1)
ORDERS = retention.Activity(table="orders", occurred_on=None, amount="amount", only=(), tie_columns=("order_id",))


@pytest.fixture(scope="module")
def connection():
    opened = duckdb.connect()
    opened.execute("SET TimeZone='UTC'; SET threads=1")
    yield opened
    opened.close()


@pytest.fixture
def con(connection):
    connection.execute(
        "CREATE OR REPLACE TABLE orders(order_id VARCHAR, customer_id VARCHAR, ordered_at TIMESTAMP, "
        "amount DECIMAL(18,4), channel VARCHAR)"
    )
    connection.execute("CREATE OR REPLACE TABLE events(customer_id VARCHAR, name VARCHAR, occurred_at TIMESTAMP)")
    connection.execute("CREATE OR REPLACE TABLE gaps(source VARCHAR, starts_at TIMESTAMP, ends_at TIMESTAMP)")
    return connection


def order(con, customer, at, amount=10, channel=None, order_id="1"):
    con.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", [order_id, customer, at, amount, channel])


def spec(**changes) -> retention.RetentionSpec:
    choices = {"time_zone": "Europe/Berlin", "watermark": datetime(2026, 11, 22, 12), "start": ORDERS, **changes}
    return retention.RetentionSpec(**choices)


def cells(con, chosen, column=None):
    """(cohort period, N) -> value."""
    column = column or chosen.value_column
    return {(r["cohort_period"], r["period_number"]): r[column] for r in retention.run(con, chosen).to_dicts()}


@pytest.fixture
def autumn(con):
    """First orders: 10 in September, 20 in October, 5 in November; 6 of September's come again in October, 3 of them
    and 4 of October's in November, which is still running."""
    for cohort, month, size in (("s", "09", 10), ("o", "10", 20), ("n", "11", 5)):
        for number in range(size):
            order(con, f"{cohort}{number}", f"2026-{month}-10")
    for cohort, month, size in (("s", "10", 6), ("s", "11", 3), ("o", "11", 4)):
        for number in range(size):
            order(con, f"{cohort}{number}", f"2026-{month}-15", amount=5)
    return con


def test_the_worked_autumn_comes_out_exactly(autumn):
    found = cells(autumn, spec())
    assert found == {
        (SEPTEMBER, 0): 1.0,
        (SEPTEMBER, 1): 0.6,
        (SEPTEMBER, 2): None,
        (OCTOBER, 0): 1.0,
        (OCTOBER, 1): None,
        (NOVEMBER, 0): None,
    }
    assert cells(autumn, spec(), "cohort_size")[NOVEMBER, 0] == 5
    mean = {r["period_number"]: r for r in retention.run_mean(autumn, spec()).to_dicts()}
    assert (mean[1]["rate"], mean[1]["n"], mean[1]["cohort_count"]) == (0.6, 10, 1)
    assert (mean[2]["rate"], mean[2]["n"], mean[2]["reason"]) == (None, 0, "no complete cell")


def test_incomplete_cells_are_marked_when_shown_and_still_left_out_of_the_mean(autumn):
    shown = spec(show_incomplete=True)
    assert cells(autumn, shown)[SEPTEMBER, 2] == pytest.approx(0.3)
    assert cells(autumn, shown)[OCTOBER, 1] == pytest.approx(0.2)
    assert cells(autumn, shown, "is_complete")[OCTOBER, 1] is False
    assert retention.run_mean(autumn, shown).equals(retention.run_mean(autumn, spec()))


def test_a_period_is_complete_from_the_moment_it_ends_in_the_reporting_zone(autumn):
    before, after = datetime(2026, 11, 30, 22, 59), datetime(2026, 11, 30, 23)
    assert cells(autumn, spec(watermark=before))[OCTOBER, 1] is None
    assert cells(autumn, spec(watermark=after))[OCTOBER, 1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("start", "end", "complete"),
    [
        ("2026-10-31 22:00", "2026-10-31 23:30", False),  # reaches half an hour into the local November, and October
        ("2026-10-31 23:00", "2026-11-01 05:00", True),  # begins with the local November
        ("2026-09-30 20:00", "2026-09-30 22:00", True),  # ends as the local October begins
        ("2026-09-30 20:00", "2026-09-30 22:01", False),
        ("2026-10-20 00:00", None, False),  # still open
        ("2026-10-10 00:00", "2026-10-10 00:00", False),  # of no length, but inside
    ],
)
def test_an_ingestion_gap_makes_the_periods_it_touches_incomplete(autumn, start, end, complete):
    autumn.execute("INSERT INTO gaps VALUES ('shop', ?, ?)", [start, end])
    assert cells(autumn, spec(gaps="gaps"), "is_complete")[SEPTEMBER, 1] is complete


def test_every_period_a_number_reads_must_be_whole(autumn):
    autumn.execute("INSERT INTO gaps VALUES ('shop', '2026-09-05', '2026-09-06')")
    read_back = {"gaps": "gaps", "show_incomplete": True}
    assert cells(autumn, spec(**read_back), "is_complete")[SEPTEMBER, 1] is True
    for changes in ({"measure": "revenue"}, {"measure": "cumulative_revenue"}, {"base": "from_previous"}):
        assert cells(autumn, spec(**read_back, **changes), "is_complete")[SEPTEMBER, 1] is False


def test_unbounded_counts_whoever_comes_back_then_or_later(con):
    order(con, "a", "2026-07-05")
    order(con, "a", "2026-10-05")
    order(con, "b", "2026-07-06")
    july = date(2026, 7, 1)
    assert [cells(con, spec(bound="unbounded"))[july, n] for n in range(4)] == [1.0, 0.5, 0.5, 0.5]
    assert [cells(con, spec())[july, n] for n in range(4)] == [1.0, 0.0, 0.0, 0.5]


def test_recurring_cohorts_hold_everybody_who_was_there_in_the_period(autumn):
    recurring = spec(cohorts="recurring", show_incomplete=True)
    assert cells(autumn, recurring, "cohort_size")[OCTOBER, 0] == 26
    assert cells(autumn, recurring, "active")[OCTOBER, 1] == 7
    assert cells(autumn, recurring)[OCTOBER, 0] == 1.0


def test_from_previous_divides_by_the_period_before_and_says_when_nobody_was_there(con):
    for customer, month in (("a", 6), ("b", 6), ("a", 7), ("a", 10)):
        order(con, customer, f"2026-{month:02}-05")
    rows = retention.run(con, spec(base="from_previous")).to_dicts()
    assert [r["rate"] for r in rows if r["cohort_period"] == date(2026, 6, 1)][:5] == [1.0, 0.5, 0.0, None, None]
    assert rows[4]["reason"] == "nobody was active in the period before"


def test_revenue_relates_to_period_0_and_accumulates_per_head(con):
    order(con, "a", "2026-08-05", 60)
    order(con, "b", "2026-08-06", 40)
    order(con, "a", "2026-09-06", 25)
    order(con, "a", "2026-09-07", -5)
    order(con, "z", "2026-09-07", 0)
    august = date(2026, 8, 1)
    assert [cells(con, spec(measure="revenue"))[august, n] for n in range(3)] == [1.0, 0.2, 0.0]
    assert [cells(con, spec(measure="cumulative_revenue"))[august, n] for n in range(3)] == [50.0, 60.0, 60.0]
    assert cells(con, spec(measure="revenue"), "reason")[SEPTEMBER, 0] == "there was no revenue in period 0"
    assert cells(con, spec(measure="revenue"), "revenue")[august, 1] == Decimal("20.0000")


def test_the_mean_is_weighted_by_cohort_size(con):
    for number in range(10):
        order(con, f"a{number}", "2026-07-05")
    for number in range(5):
        order(con, f"a{number}", "2026-08-05")
    order(con, "b", "2026-08-06")
    order(con, "b", "2026-09-06")
    mean = retention.run_mean(con, spec()).to_dicts()[1]
    assert (mean["rate"], mean["n"], mean["cohort_count"]) == (pytest.approx(6 / 11), 11, 2)


def test_start_and_return_events_may_differ(con):
    for customer, name, at in (
        ("a", "signup", "2026-08-03"),
        ("a", "login", "2026-09-03"),
        ("b", "signup", "2026-08-04"),
        ("b", "signup", "2026-09-04"),
        ("c", "login", "2026-09-05"),
    ):
        con.execute("INSERT INTO events VALUES (?, ?, ?)", [customer, name, at])
    signup = retention.Activity("events", "customer_id", "occurred_at", None, None, (("name", ("signup",)),), ())
    chosen = spec(start=signup, returns=replace(signup, only=(("name", ("login", "visit")),)))
    found = cells(con, chosen)
    assert [found[date(2026, 8, 1), n] for n in range(3)] == [1.0, 0.5, 0.0]
    assert {cohort for cohort, _ in found} == {date(2026, 8, 1)}


def test_days_of_23_and_25_hours_are_one_period_each(con):
    order(con, "a", "2026-03-28 22:30")  # 23:30 on the 28th
    order(con, "a", "2026-03-29 21:30")  # 23:30 on the 29th, 23 hours long
    order(con, "a", "2026-03-29 22:30")  # 00:30 on the 30th
    days = spec(grain="day", watermark=datetime(2026, 3, 31, 12))
    assert [cells(con, days)[date(2026, 3, 28), n] for n in range(3)] == [1.0, 1.0, 1.0]
    order(con, "b", "2026-10-24 22:30")  # 00:30 on the 25th, 25 hours long
    order(con, "b", "2026-10-25 22:30")  # 23:30 on the 25th
    order(con, "b", "2026-10-25 23:30")  # 00:30 on the 26th
    days = spec(grain="day", watermark=datetime(2026, 10, 27, 12))
    assert [cells(con, days)[date(2026, 10, 25), n] for n in range(2)] == [1.0, 1.0]


def test_weeks_are_iso_weeks_unless_the_workspace_says_otherwise(con):
    order(con, "a", "2027-01-01 12:00")
    order(con, "a", "2027-01-03 12:00")
    weeks = spec(grain="week", watermark=datetime(2027, 1, 12))
    assert cells(con, weeks) == {(date(2026, 12, 28), 0): 1.0, (date(2026, 12, 28), 1): 0.0, (date(2026, 12, 28), 2): None}
    assert cells(con, replace(weeks, week_start="sunday"))[date(2026, 12, 27), 1] == 1.0


def test_a_range_that_starts_in_mid_week_does_not_pull_in_earlier_days(con):
    order(con, "early", "2026-09-01 12:00")
    order(con, "late", "2026-09-03 12:00")
    weeks = spec(grain="week", cohorts_from=date(2026, 9, 2), cohorts_to=date(2026, 9, 7), max_periods=0)
    assert cells(con, weeks, "cohort_size") == {(date(2026, 8, 31), 0): 1}


def test_first_time_means_first_ever_even_inside_a_range(con):
    order(con, "a", "2026-07-01")
    order(con, "a", "2026-09-01 12:00")
    assert cells(con, spec(cohorts_from=date(2026, 9, 1))) == {}
    assert cells(con, spec(cohorts_from=date(2026, 9, 1), cohorts="recurring"), "cohort_size")[SEPTEMBER, 0] == 1


def test_a_breakdown_takes_the_value_of_the_first_row_with_ties_by_id(con):
    order(con, "a", "2026-09-05", channel="web", order_id="2")
    order(con, "a", "2026-09-05", channel="shop", order_id="1")
    order(con, "b", "2026-09-05", channel=None)
    rows = retention.run(con, spec(breakdown=("channel",), max_periods=0)).to_dicts()
    assert [(r["channel"], r["cohort_size"]) for r in rows] == [("shop", 1), (None, 1)]


def test_a_breakdown_by_dimensions_keeps_who_is_missing_there_and_refuses_doubles(autumn):
    autumn.execute("CREATE OR REPLACE TABLE dims AS SELECT 's' || i AS customer_id, 'DE' AS active_country FROM range(4) t(i)")
    chosen = spec(breakdown=("active_country",), dimensions="dims", max_periods=1)
    rows = retention.run(autumn, chosen).to_dicts()
    september = [r for r in rows if r["cohort_period"] == SEPTEMBER]
    assert [(r["active_country"], r["period_number"], r["cohort_size"], r["active"]) for r in september] == [
        ("DE", 0, 4, 4),
        ("DE", 1, 4, 4),
        (None, 0, 6, 6),
        (None, 1, 6, 2),
    ]
    autumn.execute("INSERT INTO dims VALUES ('s1', 'FR')")
    with pytest.raises(ValueError, match="more than one row for customer_id 's1'"):
        retention.run(autumn, chosen)


def test_events_after_the_watermark_and_events_of_nobody_are_left_out(con):
    order(con, "a", "2026-11-23")
    order(con, None, "2026-09-01")
    assert retention.run(con, spec()).is_empty()
    assert retention.run_mean(con, spec()).is_empty()


def test_the_stored_table_holds_the_cells_of_each_grain(autumn):
    retention.build_table(autumn, spec(), "retention_cells")
    stored = autumn.execute("SELECT * EXCLUDE (period_grain) FROM retention_cells WHERE period_grain = 'month'").pl()
    assert stored.sort("cohort_period", "period_number").equals(retention.run(autumn, spec()))
    grains = autumn.execute("SELECT DISTINCT period_grain FROM retention_cells ORDER BY 1").fetchall()
    assert grains == [("month",), ("quarter",), ("week",)]


def test_a_local_date_that_the_table_has_already_gives_the_same_cells(autumn):
    autumn.execute(
        "CREATE OR REPLACE TABLE dated AS SELECT *, "
        "CAST(timezone('Europe/Berlin', ordered_at AT TIME ZONE 'UTC') AS DATE) AS ordered_date FROM orders"
    )
    dated = spec(start=replace(ORDERS, table="dated", occurred_on="ordered_date"))
    assert retention.run(autumn, dated).equals(retention.run(autumn, spec()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grain": "fortnight"}, "unknown grain"),
        ({"bound": "loose"}, "bound is one of"),
        ({"measure": "revenue", "bound": "unbounded"}, "cannot be unbounded"),
        ({"measure": "cumulative_revenue", "base": "from_previous"}, "per head"),
        ({"measure": "revenue", "start": replace(ORDERS, amount=None)}, "needs the amount column"),
        ({"breakdown": ("channel", "channel")}, "named twice"),
        ({"breakdown": ("active",)}, "rename the breakdown column"),
        ({"max_periods": -1}, "must not be negative"),
        ({"week_start": "payday"}, "first day of the week"),
    ],
)
def test_a_wrong_choice_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        spec(**changes)


def test_a_table_named_like_a_part_of_the_statement_is_refused_unless_its_schema_is_named():
    with pytest.raises(ValueError, match="name the schema"):
        retention.cells_query(spec(start=replace(ORDERS, table="returns")))
    assert '"main"."returns"' in retention.cells_query(spec(start=replace(ORDERS, table="main.returns"))).sql
