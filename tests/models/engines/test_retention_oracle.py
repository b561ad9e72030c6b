"""The retention engine against brute force on random logs."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engines import retention
from models.engines.movements_periods import WEEKDAYS
from tests.oracles import retention_oracle as oracle

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
# Days on which one of the zones changes its clocks, and ends of ISO weeks, months and years.
TURNS = [datetime(2025, 3, 9), datetime(2025, 3, 30), datetime(2025, 4, 6), datetime(2025, 10, 5), datetime(2025, 10, 26)]
TURNS += [datetime(2025, 11, 2), datetime(2024, 12, 30), datetime(2025, 1, 1), datetime(2024, 2, 29), datetime(2025, 6, 30)]
SPAN = {"day": 12, "week": 60, "month": 400, "quarter": 700, "year": 730}


def random_instant(rng: random.Random, grain: str) -> datetime:
    if rng.random() < 0.6:
        return rng.choice(TURNS[:2] if grain == "day" else TURNS) + timedelta(minutes=30 * rng.randrange(-50, 50))
    return datetime(2025, 3, 1) + timedelta(minutes=rng.randrange(-60 * 24 * SPAN[grain] // 2, 60 * 24 * SPAN[grain] // 2))


def random_events(rng: random.Random, grain: str, entities: int, prefix: str) -> list[oracle.Event]:
    ties = [random_instant(rng, grain) for _ in range(4)]
    return [
        oracle.Event(
            None if rng.random() < 0.03 else f"{prefix}{entity}",
            rng.choice(ties) if rng.random() < 0.3 else random_instant(rng, grain),
            Decimal(rng.choice(["10", "0", "-4.5", "33.3333"])),
            rng.choice(["web", "shop", None]),
            rng.randrange(2),
        )
        for entity in range(entities)
        for _ in range(rng.choice([0, 1, 1, 3, 8]))
    ]


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'; SET threads=1")
    yield connection
    connection.close()


def load(con, table: str, events: list[tuple[int, oracle.Event]]) -> None:
    con.execute(
        f"CREATE OR REPLACE TABLE {table}"
        "(log INT, who VARCHAR, at_utc TIMESTAMP, amount DECIMAL(18,4), channel VARCHAR, seq INT)"
    )
    if events:
        rows = ((log, e.entity, e.at, e.amount, e.channel, e.sequence) for log, e in events)
        con.execute(
            f"INSERT INTO {table} SELECT unnest($a), unnest($b), unnest($c), unnest($d), unnest($e), unnest($f)",
            dict(zip("abcdef", map(list, zip(*rows, strict=True)), strict=True)),
        )


def activity(table: str) -> retention.Activity:
    return retention.Activity(table, "who", "at_utc", None, "amount", (), ("seq",))


def random_choices(rng: random.Random, grain: str) -> dict:
    """Choices the engine and the oracle take under the same names."""
    measure, base, bound = rng.choice(retention.MEASURES), rng.choice(retention.BASES), rng.choice(retention.BOUNDS)
    if measure != "entities":
        bound = "bounded"
    if measure == "cumulative_revenue":
        base = "from_start"
    cohorts, max_periods = rng.choice(retention.COHORTS), rng.choice([None, None, 0, 3])
    return {"bound": bound, "base": base, "measure": measure, "cohorts": cohorts, "max_periods": max_periods}


def random_gaps(rng: random.Random, grain: str) -> list[tuple[datetime, datetime | None]]:
    gaps = []
    for _ in range(rng.choice([0, 0, 1, 2])):
        start = random_instant(rng, grain)
        gaps.append((start, rng.choice([None, start, start + timedelta(hours=rng.randrange(1, 200))])))
    return gaps


def check(con, seed: int, entities: int, log_count: int, breakdown: tuple[str, ...]) -> None:
    """Random logs through one query, told apart by the column `log`, each against its own brute force."""
    rng = random.Random(seed)
    grain = rng.choice(list(SPAN))
    same = rng.random() < 0.5
    logs = []
    for number in range(log_count):
        starts = random_events(rng, grain, rng.randrange(entities + 1), f"{number}/")
        logs.append((starts, starts if same else random_events(rng, grain, entities, f"{number}/")))
    choices, gaps, zone, week_start = random_choices(rng, grain), random_gaps(rng, grain), rng.choice(ZONES), rng.randrange(7)
    watermark = random_instant(rng, grain) if rng.random() < 0.7 else datetime(2025, 6, 1)
    edges = sorted(random_instant(rng, grain).date() for _ in range(2)) if rng.random() < 0.3 else (None, None)
    for table, side in (("starts", 0), ("returns", 1)):
        load(con, table, [(number, event) for number, log in enumerate(logs) for event in log[side]])
    con.execute("CREATE OR REPLACE TABLE gaps(starts_at TIMESTAMP, ends_at TIMESTAMP)")
    for gap in gaps:
        con.execute("INSERT INTO gaps VALUES (?, ?)", gap)
    spec = retention.RetentionSpec(
        zone,
        watermark,
        activity("main.starts"),
        None if same else activity("main.returns"),
        grain=grain,
        week_start=WEEKDAYS[week_start],
        cohorts_from=edges[0],
        cohorts_to=edges[1],
        breakdown=breakdown,
        gaps="gaps",
        show_incomplete=True,
        **choices,
    )
    what = f"seed={seed} entities={entities} breakdown={breakdown}: {spec} gaps={gaps} {logs}"
    expected, means = {}, {}
    for number, (starts, returns) in enumerate(logs):
        cells = oracle.matrix(
            starts,
            returns,
            zone,
            watermark,
            grain,
            week_start,
            first=edges[0],
            last=edges[1],
            gaps=tuple(gaps),
            by_channel="channel" in breakdown,
            **choices,
        )
        log = number if breakdown else None
        expected |= {(log, *key): cell for key, cell in cells.items()}
        means |= {(log, *key): mean for key, mean in oracle.mean_row(cells).items()}

    rows = retention.cells_query(spec).run(con).to_dicts()
    found = {(r.get("log"), r["cohort_period"], r.get("channel"), r["period_number"]): r for r in rows}
    assert len(found) == len(rows), what
    assert found.keys() == expected.keys(), what
    for key, cell in expected.items():
        row = found[key]
        for name in ("cohort_size", "active", "is_complete"):
            assert row[name] == cell[name], f"{name} of {key} in {what}"
        if spec.has_revenue:
            assert row["revenue"] == cell["revenue"], f"{key} in {what}"
        value = row[spec.value_column]
        assert value == (None if cell["value"] is None else pytest.approx(cell["value"], rel=1e-12)), f"{key} in {what}"
        assert (row["reason"] is None) == (value is not None), f"{key} in {what}"
    rows = retention.mean_query(spec).run(con).to_dicts()
    found = {(r.get("log"), r.get("channel"), r["period_number"]): r for r in rows}
    assert found.keys() == means.keys(), what
    for key, (mean, heads, cohorts) in means.items():
        row = found[key]
        assert (row["n"], row["cohort_count"]) == (heads, cohorts), f"mean {key} in {what}"
        assert row[spec.value_column] == (None if mean is None else pytest.approx(mean, rel=1e-12)), f"{key} in {what}"


# 60 examples of 18 logs: a query is planned in the time that many small logs take to compute.
LOGS_AT_ONCE = 18


@settings(max_examples=60, deadline=None, print_blob=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), entities=st.integers(0, 5), by_channel=st.booleans())
def test_retention_agrees_with_brute_force_on_a_thousand_random_logs(con, seed, entities, by_channel):
    check(con, seed, entities, LOGS_AT_ONCE, ("log", "channel") if by_channel else ("log",))


@settings(max_examples=30, deadline=None, print_blob=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), entities=st.integers(0, 40))
def test_retention_without_a_breakdown_agrees_with_brute_force(con, seed, entities):
    check(con, seed, entities, 1, ())
