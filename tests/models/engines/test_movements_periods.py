"""Calendar periods: numbering, boundaries and local dates."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest

from models.engines import movements_periods as periods


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'; SET threads=1")
    connection.execute(
        "CREATE TABLE days AS SELECT DATE '1969-11-01' + CAST(d AS INTEGER) AS day FROM range(25000) t(d) WHERE d % 7 < 3"
    )
    yield connection
    connection.close()


@pytest.mark.parametrize("week_start", ["monday", "thursday", "sunday"])
@pytest.mark.parametrize("grain", periods.GRAINS)
def test_a_day_lies_between_the_start_of_its_period_and_the_next_one(con, grain, week_start):
    number = periods.period_number_sql(grain, "day", week_start)
    start = periods.period_start_sql(grain, f"{number}", week_start)
    following = periods.period_start_sql(grain, f"{number} + 1", week_start)
    rows = con.execute(f"SELECT day, {start}, {following} FROM days").fetchall()
    assert len(rows) > 10_000
    for day, first, end in rows[::17]:
        assert first <= day < end
        assert periods.next_period_start(day, grain, week_start) == end
    if grain == "week":
        assert {first.weekday() for _, first, _ in rows} == {periods.WEEKDAYS.index(week_start)}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"])
def test_the_date_of_a_quarter_of_an_hour_is_the_date_of_each_instant_in_it(con, zone):
    first = datetime(2011, 12, 20)  # Apia skipped the 30th of December 2011
    instants = [first + timedelta(minutes=53 * step, seconds=step % 60) for step in range(12_000)]
    key = periods.quarter_hour_sql("instant")
    day = periods.local_date_sql(periods.quarter_hour_start_sql(key))
    query = periods.bind(f"SELECT {day} FROM (SELECT unnest($instants) AS instant)", {"instants": instants, "time_zone": zone})
    found = [row[0] for row in con.execute(*query).fetchall()]
    assert found == [instant.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date() for instant in instants]


def test_an_instant_before_1970_keeps_its_own_quarter(con):
    key = periods.quarter_hour_start_sql(periods.quarter_hour_sql("TIMESTAMP '1969-12-31 23:59:59'"))
    assert con.execute(f"SELECT {key}").fetchone() == (datetime(1969, 12, 31, 23, 45),)


def test_a_range_is_cut_into_periods_that_meet_and_stay_inside():
    found = periods.Periods.of_range("month", date(2026, 1, 15), date(2026, 4, 10)).listed
    assert found == (
        (date(2026, 1, 15), date(2026, 2, 1)),
        (date(2026, 2, 1), date(2026, 3, 1)),
        (date(2026, 3, 1), date(2026, 4, 1)),
        (date(2026, 4, 1), date(2026, 4, 10)),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: periods.Periods.of_list([(date(2026, 1, 2), date(2026, 1, 2))]), "end after it starts"),
        (lambda: periods.Periods.of_list([]), "at least one period"),
        (lambda: periods.Periods.of_range("month", date(2026, 2, 1), date(2026, 1, 1)), "end after it starts"),
        (lambda: periods.Periods("decade"), "unknown grain"),
        (lambda: periods.relation("a.b.c.d"), "not a relation name"),
        (lambda: periods.relation('x" ; --'), "not a relation name"),
        (lambda: periods.quoted(""), "not a usable column name"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_column_name_is_quoted_whatever_it_holds():
    assert periods.quoted('a"; DROP TABLE x; --') == '"a""; DROP TABLE x; --"'
