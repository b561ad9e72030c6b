"""What callers of the simulator may rely on: the same rows again, clear refusals, nothing after the end, bounded memory."""

import tracemalloc
from datetime import date, datetime
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from pipelines.sources.demo import TIME_ZONE, simulate, simulate_into, simulator

_PLANNED = {("contracts", "ends_on"), ("contracts", "trial_until"), ("campaigns", "ends_on"), ("consents", "expires_on")}


END = date(2026, 11, 22)


@pytest.fixture
def simulated(tmp_path, read_sqlite):
    """Simulate under a name and return every table, those of the truth under `true <name>`."""

    def run(name: str, **arguments):
        crm, truth = tmp_path / f"{name}.sqlite", tmp_path / f"{name}.truth.sqlite"
        simulate(crm, truth, **{"customers": 120, "end": END, "years": 2} | arguments)
        return read_sqlite(crm) | {f"true {table}": frame for table, frame in read_sqlite(truth).items()}

    return run


def test_the_same_seed_gives_the_same_rows_in_every_table(simulated):
    once, again = simulated("a", seed=3), simulated("b", seed=3)
    assert once.keys() == again.keys()
    for table, frame in once.items():
        assert frame.equals(again[table]), f"{table} differs between two runs with equal arguments"


def test_another_seed_gives_another_company(simulated):
    one, other = simulated("a", seed=3), simulated("b", seed=4)
    assert not one["sales_orders"].equals(other["sales_orders"])


def test_nothing_that_has_happened_lies_at_or_after_the_end(small, last_day):
    end = datetime(last_day.year, last_day.month, last_day.day, tzinfo=ZoneInfo(TIME_ZONE))
    limits = {"_on": end.astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ"), "_local": end.strftime("%Y-%m-%d %H:%M:%S")}
    checked = 0
    for table, frame in small.crm.items():
        for column in frame.columns:
            suffix = next((s for s in limits if column.endswith(s)), None)
            if (suffix is None and (table, column) != ("contracts", "trial_until")) or (table, column) in _PLANNED or column == "born_on":
                continue
            latest = frame[column].drop_nulls().max()
            assert latest is None or latest < limits[suffix], f"{table}.{column} reaches {latest}"
            checked += 1
    assert checked > 30


def test_a_cancelled_contract_may_end_after_the_data_do(medium, last_day):
    assert medium.value(f"select count(*) from subscriptions where ended_at >= '{last_day.isoformat()}T00:00:00Z' and cancel_requested_at < '{last_day.isoformat()}'") > 0


def test_the_span_may_end_on_a_leap_day(simulated):
    tables = simulated("leap", end=date(2024, 2, 29), years=1)
    assert tables["fx_rates"]["day"].max() == "2024-02-28"
    assert tables["people"]["created_on"].min() >= "2023-02-27"


@pytest.mark.parametrize(("arguments", "word"), [({"customers": 10}, "customers"), ({"years": 0}, "years")])
def test_impossible_arguments_are_refused_by_name(simulated, arguments, word):
    with pytest.raises(ValueError, match=word):
        simulated("x", **arguments)


def test_truth_and_crm_must_be_two_files(tmp_path):
    with pytest.raises(ValueError, match="two files"):
        simulate(tmp_path / "one.sqlite", tmp_path / "one.sqlite", customers=100, end=END)


def test_an_interrupted_simulation_leaves_no_file_and_keeps_the_former_one(tmp_path, simulated, read_sqlite):
    former = simulated("x", seed=1)

    def stop(step: str, share: float) -> None:
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "x.sqlite", tmp_path / "x.truth.sqlite", customers=120, seed=2, end=END, years=2, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.sqlite", "x.truth.sqlite"]
    assert read_sqlite(tmp_path / "x.sqlite")["people"].equals(former["people"])


def test_progress_rises_to_one(tmp_path):
    shares = []
    simulate(tmp_path / "a", tmp_path / "b", customers=60, end=END, years=1, progress=lambda step, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0


def test_simulating_into_a_folder_tells_each_step_once(tmp_path):
    said: list[str] = []
    simulate_into(tmp_path / "crm.sqlite", customers=60, seed=1, say=said.append)
    assert len(said) == len(set(said)) > 5
    assert {path.name for path in tmp_path.iterdir()} == {"crm.sqlite", "truth.sqlite"}


def test_memory_depends_on_the_block_and_not_on_the_company(tmp_path, monkeypatch):
    monkeypatch.setattr(simulator, "BLOCK", 150)
    peaks = []
    for customers in (150, 600):
        tracemalloc.start()
        simulate(tmp_path / "m.sqlite", tmp_path / "m.truth.sqlite", customers=customers, end=END, years=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Proportional memory would be four times; staff, targets and the calendar grow a little.
    assert peaks[1] < 2 * peaks[0], f"four blocks took {peaks[1] / peaks[0]:.2f} times the memory of one"


def test_blocks_share_nothing_but_the_company(simulated, monkeypatch):
    monkeypatch.setattr(simulator, "BLOCK", 100)
    tables = simulated("x", customers=250)
    assert tables["people"].height == 250
    owners = tables["people"].join(tables["accounts"], left_on="account_id", right_on="id", how="anti").filter(pl.col("account_id").is_not_null())
    assert owners.is_empty()
    assert tables["true campaigns"]["members"].sum() == tables["campaign_recipients"].height


def test_a_world_may_be_read_through_its_mapping_at_any_size(tmp_path, build_world):
    assert build_world(tmp_path, 50, years=1).canonical["contacts"].height == 50
