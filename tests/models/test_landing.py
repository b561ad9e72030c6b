"""Full extracts, one after the other, into landing: what is taken, what gets a tombstone, what lives again."""

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
