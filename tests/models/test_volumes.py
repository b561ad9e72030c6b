"""Volume against its own history: a broken day or batch is seen, an ordinary one and a thin history are not."""

from datetime import datetime, timedelta

import duckdb
import pytest

from data_contracts.environment import Workspace
from models import ingest, volumes

WATERMARK = datetime(2026, 11, 22, 23, 30)      # half past midnight in Berlin: the last complete local day is Sunday the 22nd
SUNDAY = datetime(2026, 11, 22, 10)


@pytest.fixture(scope="module")
def prepared():
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    ingest.prepare(con)
    ingest.write_settings(con, Workspace(time_zone="Europe/Berlin"), WATERMARK, WATERMARK)
    yield con
    con.close()


@pytest.fixture
def con(prepared):
    prepared.execute("begin")
    yield prepared
    prepared.execute("rollback")


def land(con, counts: dict[datetime, int], entity: str = "orders", key: str = "order_id", at: str = "ordered_at", source: str = "shop") -> None:
    for day, count in counts.items():
        con.execute(f"INSERT INTO landing.{entity} BY NAME SELECT '{day:%m%d}-' || range AS {key}, TIMESTAMP '{day}' AS {at}, '{source}' AS _source, 1 AS _batch_seq, false AS _is_tombstone, 'h' AS _row_hash FROM range({count})")


def sundays(*counts: int) -> dict[datetime, int]:
    """The last Sunday's count first, then those of the weeks before; weekdays have ten times as many, which must not matter."""
    return {SUNDAY - timedelta(weeks=n): count for n, count in enumerate(counts)} | {SUNDAY - timedelta(weeks=n, days=3): 400 for n in range(len(counts))}


# eight Sundays of 38 to 44, median 41.5; deviations .5 .5 1.5 1.5 2.5 2.5 3.5 3.5, so MAD 2 and 1.4826 x 2 = 2.97; the floor of 6.44 = sqrt(41.5) is wider
PAST = (41, 42, 40, 43, 39, 44, 38, 45)


@pytest.mark.parametrize("now, is_usual", [(41, True), (19, True), (18, False), (64, True), (65, False), (0, False), (400, False)])
def test_a_day_is_held_to_the_same_weekday_of_the_weeks_before(con, now, is_usual):
    land(con, sundays(now, *PAST))
    (found,) = volumes.days(con)
    assert (found.rows, found.median, found.history) == (now, 41.5, 8)
    assert (round(found.low, 2), round(found.high, 2)) == (18.95, 64.05)       # 41.5 -+ 3.5 x 6.44
    assert found.is_usual is is_usual
    assert f"{now} orders on 2026-11-22, a Sunday; usual are 19 to 64 (median 42 of 8)" in found.sentence


def test_one_odd_day_in_the_past_does_not_widen_the_bounds(con):
    land(con, sundays(120, *PAST[:-1], 5000))
    assert [v.is_usual for v in volumes.days(con)] == [False]


def test_an_entity_whose_days_vary_has_wide_bounds(con):
    """Median 100, deviations 50 0 50 0 60 60 40 40 .. : MAD 45, 1.4826 x 45 = 66.7."""
    land(con, sundays(300, 50, 100, 150, 100, 40, 160, 60, 140))
    (found,) = volumes.days(con)
    assert found.is_usual and found.high == pytest.approx(100 + 3.5 * 1.4826 * 45)


def test_below_eight_weeks_of_history_nothing_is_said(con):
    land(con, sundays(0, *PAST[:7]))
    assert volumes.days(con) == []


def test_a_row_sent_again_counts_once_and_a_deleted_one_not_at_all(con):
    land(con, sundays(41, *PAST))
    land(con, {SUNDAY: 41})
    con.execute(f"INSERT INTO landing.orders BY NAME SELECT 'gone' || range AS order_id, TIMESTAMP '{SUNDAY}' AS ordered_at, 'shop' AS _source, true AS _is_tombstone FROM range(500)")
    assert [v.rows for v in volumes.days(con)] == [41]


def batch(con, seq: int, delivered: int, mode: str = "upsert") -> None:
    con.execute("INSERT INTO ops.batches BY NAME SELECT ? AS batch_id, ? AS batch_seq, 'crm' AS source, 'contacts' AS entity, ? AS mode, ? AS delivered", [f"b{seq}", seq, mode, delivered])


@pytest.mark.parametrize("now, is_usual", [(1000, True), (0, False), (5000, False)])
def test_a_batch_is_held_to_the_batches_before_it(con, now, is_usual):
    for seq in range(1, 9):
        batch(con, seq, 990 + seq * 2)
    assert volumes.batches(con) == [], "seven earlier batches are too few"
    batch(con, 9, now)
    (found,) = volumes.batches(con)
    assert found.is_usual is is_usual and found.history == 8 and "contacts in batch b9" in found.sentence
    batch(con, 10, 7, mode="full")
    assert volumes.batches(con) == [], "the newest batch is a full extract, which has no history of its own"
