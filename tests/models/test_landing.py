"""Full extracts, one after the other, into landing: what is taken, what gets a tombstone, what lives again."""

import random
from datetime import datetime, timedelta

import polars as pl
import pytest

from data_contracts.contract import load_contracts
from models import ingest, warehouse

FIRST = datetime(2026, 11, 1)


@pytest.fixture
def extract(tmp_path):
    """Delivers the whole table of deals or exchange rates; every call is the next batch, a day later."""
    with warehouse.scratch() as con:
        ingest.prepare(con)
        seq = iter(range(1, 100))

        def run(entity: str, *rows: dict[str, str]) -> ingest.LoadReport:
            contract, number = load_contracts()[entity], next(seq)
            names = [*contract.required_columns, *({n for row in rows for n in row} - set(contract.required_columns)), "_file"]
            frame = pl.DataFrame([{"_file": "all.csv", "_row_number": n} | row for n, row in enumerate(rows, 1)], schema={n: pl.String for n in names} | {"_row_number": pl.Int64})
            frame.write_parquet(tmp_path / "all.parquet")
            return ingest.load(con, contract, tmp_path / "all.parquet", ingest.BatchContext("crm", f"b{number}", number, FIRST + timedelta(days=number), "UTC", "EUR"), full=True)
        run.con = con
        yield run


def told(report: ingest.LoadReport) -> tuple[int, int, int]:
    return report.accepted, report.unchanged, report.deleted


OTHER = {"deal_id": "other", "stage": "New", "created_at": "2026-01-01", "updated_at": "2026-01-01"}
DEAL = {"deal_id": "D", "stage": "Won", "created_at": "2026-01-01", "updated_at": "2026-03-01"}


@pytest.mark.parametrize("returned", [DEAL, DEAL | {"updated_at": "2026-05-01"}, DEAL | {"stage": "New", "updated_at": "2026-02-01"}],
                         ids=["as it was", "changed since", "restored from an older copy"])
def test_a_row_that_vanished_and_returned_is_taken_once_and_can_vanish_again(extract, returned):
    assert told(extract("deals", OTHER, DEAL)) == (2, 0, 0)
    assert told(extract("deals", OTHER)) == (0, 1, 1)
    assert told(extract("deals", OTHER)) == (0, 1, 0), "gone already"
    assert told(extract("deals", OTHER, returned)) == (1, 1, 0)
    assert told(extract("deals", OTHER, returned)) == (0, 2, 0), "there already"
    assert told(extract("deals", OTHER)) == (0, 1, 1)
    assert extract("deals", OTHER).previous_rows == 1


def test_an_older_version_that_arrives_late_is_kept_and_does_not_stand_for_the_row(extract):
    assert told(extract("deals", DEAL)) == (1, 0, 0)
    assert told(extract("deals", DEAL | {"stage": "New", "updated_at": "2026-02-01"})) == (1, 0, 0)
    assert told(extract("deals", DEAL)) == (0, 1, 0)
    assert told(extract("deals", OTHER)) == (1, 0, 1)


def test_a_row_of_a_table_without_versions_returns_and_goes(extract):
    rate = {"rate_date": "2026-01-02", "base_currency": "EUR", "quote_currency": "USD", "rate": "1.1"}
    other = rate | {"quote_currency": "JPY"}
    assert [told(extract("exchange_rates", *rows)) for rows in ((rate, other), (other,), (rate, other), (rate, other), (other,))] == [(2, 0, 0), (0, 1, 1), (1, 1, 0), (0, 2, 0), (0, 1, 1)]


def current(extract, entity: str, value: str) -> list:
    """Values of the rows that count, as staging chooses them."""
    contract = load_contracts()[entity]
    order = f"{ingest.VERSION_TIME} DESC NULLS LAST, _batch_seq DESC, _row_hash DESC" if "updated_at" in contract.by_name else "_batch_seq DESC, _row_hash DESC"
    return [row[0] for row in extract.con.execute(f"SELECT {value} FROM landing.{entity} WHERE NOT _is_tombstone QUALIFY row_number() OVER (PARTITION BY {', '.join(contract.key)} ORDER BY {order}) = 1 ORDER BY 1").fetchall()]


def test_of_a_key_delivered_often_the_newest_counts_and_twenty_orders_of_the_rows_give_one_result(extract):
    """Fault 13. Where two rows of a key say they were changed at one time, nothing in the delivery tells the later: their content decides, whatever their order, and they are counted."""
    rows = [DEAL | {"stage": stage, "updated_at": f"2026-03-0{day}"} for day, stage in ((1, "New"), (3, "Offer"), (2, "Won"))]
    rows += [OTHER | {"stage": stage} for stage in ("New", "Offer", "Won")]
    found, chance = set(), random.Random(13)
    for _ in range(20):
        extract.con.execute("DELETE FROM landing.deals; DELETE FROM ops.batches")
        assert extract("deals", *chance.sample(rows, len(rows))).duplicate_keys == 4
        assert current(extract, "deals", "stage || '/' || deal_id")[0] == "Offer/D"
        found.add(extract.con.execute("SELECT sum(hash(deal_id, stage, updated_at, _row_hash))::VARCHAR FROM landing.deals").fetchone()[0] + str(current(extract, "deals", "stage || deal_id")))
        assert ingest.tied_versions(extract.con) == {"deals": 1}
    assert len(found) == 1


def test_a_tie_that_comes_again_changes_nothing_and_one_of_its_rows_alone_settles_it(extract):
    tied = [OTHER | {"stage": stage} for stage in ("New", "Won")]
    assert told(extract("deals", *tied)) == (2, 0, 0)
    (counts,) = current(extract, "deals", "stage")
    for rows in (tied, tied[::-1]):
        assert told(extract("deals", *rows)) == (0, 2, 0)
    assert current(extract, "deals", "stage") == [counts] and ingest.tied_versions(extract.con) == {"deals": 1}
    (other,) = [row for row in tied if row["stage"] != counts]
    assert told(extract("deals", other)) == (1, 0, 0)
    assert current(extract, "deals", "stage") == [other["stage"]] and ingest.tied_versions(extract.con) == {}
    assert told(extract("deals", other)) == (0, 1, 0)
    assert told(extract("deals", DEAL)) == (1, 0, 1)


def test_a_tie_in_a_table_without_times_of_change_does_not_alternate_with_each_extract(extract):
    rate = {"rate_date": "2026-01-02", "base_currency": "EUR", "quote_currency": "USD"}
    tied = [rate | {"rate": value} for value in ("1.1", "1.2", "1.3")]
    assert told(extract("exchange_rates", *tied)) == (3, 0, 0)
    counts = current(extract, "exchange_rates", "rate")
    for rows in (tied, tied[::-1], tied):
        assert told(extract("exchange_rates", *rows)) == (0, 3, 0)
        assert current(extract, "exchange_rates", "rate") == counts and ingest.tied_versions(extract.con) == {"exchange_rates": 1}
    for alone in (tied[0], tied[1], tied[0]):      # without a time the delivery says what is true now
        assert told(extract("exchange_rates", alone)) == (1, 0, 0)
        assert [str(value) for value in current(extract, "exchange_rates", "rate")] == [alone["rate"] + "0" * 7] and ingest.tied_versions(extract.con) == {}
    assert told(extract("exchange_rates", *tied[:2])) == (2, 0, 0)
    assert ingest.tied_versions(extract.con) == {"exchange_rates": 1}
    assert told(extract("exchange_rates", *tied[:2])) == (0, 2, 0)


def reach(extract, now: str = "2026-11-25") -> str:
    return str(ingest.event_watermark(extract.con, "crm", datetime.fromisoformat(now)))


def test_the_last_day_of_a_file_that_knows_days_alone_lies_before_its_watermark(extract):
    extract("deals", OTHER)
    assert reach(extract) == "2026-01-01 00:00:01"
    extract("deals", OTHER, DEAL | {"created_at": "2026-02-01T10:00:00.250Z"}, DEAL | {"deal_id": "ahead", "created_at": "2026-12-24"})
    assert reach(extract) == "2026-02-01 10:00:01" and reach(extract, "2026-12-24") == "2026-12-24 00:00:01", "what lies ahead of the clock says nothing"


def test_the_data_reach_to_the_last_closing_though_no_deal_was_created_since(extract):
    """Of 8,800 opportunities of a real CRM, 113 were closed in the days after the last was created, and were in no number."""
    won = DEAL | {"stage": "Signed", "closed_at": "2026-03-05"}
    extract("deals", OTHER | {"closed_at": "2026-09-30"}, won)
    assert reach(extract) == "2026-01-01 00:00:01", "the closing of an open deal is a plan"
    extract("deals", OTHER | {"closed_at": "2026-09-30"}, won | {"is_lost": "true", "updated_at": "2026-03-06"})
    assert reach(extract) == "2026-03-05 00:00:01"
    extract("pipeline_stages", {"pipeline": "p", "stage": "Signed", "position": "1", "is_won": "true", "is_lost": "false"})
    extract("deals", won | {"deal_id": "E", "pipeline": "p", "closed_at": "2026-04-05"}, won | {"deal_id": "F", "pipeline": "another", "closed_at": "2026-05-05"})
    assert reach(extract) == "2026-04-05 00:00:01", "won by its stage, in its own pipeline"
    extract("leads", {"lead_id": "L", "created_at": "2026-01-01", "converted_at": "2026-06-01"})
    assert reach(extract) == "2026-06-01 00:00:01"
