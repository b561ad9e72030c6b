"""The funnel engine against its definition: worked examples, edge cases, and a brute-force oracle on random logs."""

from __future__ import annotations

import importlib.util
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from data_contracts.errors import UsageError
from models.engines import funnel
from models.engines.funnel import Breakdown, Exclusion, FunnelSpec
from models.engines.funnel_logs import table_log
from models.engines.funnel_steps import Condition, Step, parse_steps

_path = Path(__file__).parents[2] / "oracles" / "funnel_oracle.py"
_spec = importlib.util.spec_from_file_location("funnel_oracle", _path)
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

SCHEMA = {
    "entity_id": pl.String,
    "name": pl.String,
    "occurred_at": pl.Datetime("us"),
    "sequence": pl.Int64,
    "event_id": pl.String,
    "v": pl.String,
}
DAY = datetime(2026, 3, 1)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
    yield connection
    connection.close()


def load(con, rows: list[dict]) -> None:
    con.register("log_rows", pl.DataFrame(rows, schema=SCHEMA))
    con.execute("CREATE OR REPLACE TEMP TABLE log AS SELECT * FROM log_rows")
    con.unregister("log_rows")


def occurrences(text: str, entity: str = "e", day: datetime = DAY) -> list[dict]:
    """``"A 13:00, B 13:45"`` as rows; without a time, one a minute."""
    rows = []
    for i, part in enumerate(text.split(",")):
        name, _, at = part.strip().partition(" ")
        if at:
            hours, minutes = at.split(":")
            instant = day + timedelta(hours=int(hours), minutes=int(minutes))
        else:
            instant = day + timedelta(minutes=i)
        rows.append(
            {"entity_id": entity, "name": name, "occurred_at": instant, "sequence": i, "event_id": f"{entity}{i:05}", "v": None}
        )
    return rows


def counts(con, rows: list[dict], steps: str, window: timedelta = HOUR, **choices) -> list[int]:
    load(con, rows)
    spec = FunnelSpec(table_log("log", ("v",)), parse_steps(steps), window, **choices)
    return funnel.run(con, spec)["entries"].to_list()


def test_first_entry_does_not_reset_the_window_and_best_entry_finds_the_one_that_converts(con):
    log = occurrences("A 13:00, A 13:30, B 13:45, C 14:15")
    assert counts(con, log, "A; B; C") == [1, 1, 0]
    assert counts(con, log, "A; B; C", reentry="best_entry") == [1, 1, 1]


def test_totals_counts_every_attempt_that_follows_another(con):
    assert counts(con, occurrences("A,A,A,B,C,C,A,B,C"), "A; B; C", reentry="totals") == [2, 2, 2]


def test_same_event_twice_needs_two_occurrences_even_at_one_instant(con):
    log = occurrences("onboarding 10:00, page 10:05, page 10:05, page 10:09")
    assert counts(con, log, "onboarding; page; page") == [1, 1, 1]
    assert counts(con, log[:2], "onboarding; page; page") == [1, 1, 0]
    same_instant = occurrences("onboarding 10:00, page 10:00, page 10:00")
    assert counts(con, same_instant, "onboarding; page; page") == [1, 1, 1]


def test_ties_in_time_are_ordered_by_sequence_then_id_and_a_missing_sequence_comes_last(con):
    log = occurrences("B 10:00, A 10:00")
    assert counts(con, log, "A; B") == [1, 0]
    log[0]["sequence"], log[1]["sequence"] = 2, 1
    assert counts(con, log, "A; B") == [1, 1]
    log[0]["sequence"], log[1]["sequence"] = None, 7
    assert counts(con, log, "A; B") == [1, 1]
    log[0]["sequence"], log[1]["sequence"] = None, None
    assert counts(con, log, "A; B") == [1, 0]
    log[0]["event_id"], log[1]["event_id"] = "z", "a"
    assert counts(con, log, "A; B") == [1, 1]


def test_a_funnel_of_one_step_counts_its_entries(con):
    log = occurrences("A,B,A") + occurrences("B", "f") + occurrences("A", "g")
    assert counts(con, log, "A") == [2]
    assert counts(con, log, "A", reentry="totals") == [3]
    assert counts(con, log, "A", order="any_order", reentry="totals") == [3]


def test_the_window_is_half_open(con):
    assert counts(con, occurrences("A 10:00, B 10:59"), "A; B") == [1, 1]
    assert counts(con, occurrences("A 10:00, B 11:00"), "A; B") == [1, 0]


def test_a_window_of_a_day_is_24_hours_where_the_clock_changes(con):
    # 2026-03-29, Europe/Berlin: the local day has 23 hours.
    log = occurrences("A 0:00, B 23:30", day=datetime(2026, 3, 28, 23))
    spring = dict(time_zone="Europe/Berlin", start=date(2026, 3, 29), end=date(2026, 3, 30))
    assert counts(con, log, "A; B", timedelta(days=1), **spring) == [1, 1]
    autumn = dict(time_zone="Europe/Berlin", start=date(2026, 10, 25), end=date(2026, 10, 26))
    log = occurrences("A 0:00, B 24:30", day=datetime(2026, 10, 24, 22))
    assert counts(con, log, "A; B", timedelta(days=1), **autumn) == [1, 0]


def test_strict_order_allows_nothing_between(con):
    log = occurrences("A,Z,B") + occurrences("A,B", "f") + occurrences("A,A,B", "g")
    assert counts(con, log, "A; B", order="strict") == [3, 1]
    assert counts(con, log, "A; B", order="strict", reentry="best_entry") == [3, 2]
    assert counts(con, log, "A; B") == [3, 3]


def test_any_order_counts_different_steps_from_the_first_of_any(con):
    log = occurrences("C,A,B") + occurrences("B,B", "f") + occurrences("B,A", "g")
    assert counts(con, log, "A; B; C", order="any_order") == [3, 2, 1]


def test_any_order_gives_each_occurrence_to_one_step_only(con):
    rows = occurrences("page,page")
    rows[0]["v"] = "pricing"
    assert counts(con, rows[:1], "page; page[v=pricing]", order="any_order") == [1, 0]
    assert counts(con, rows, "page; page[v=pricing]", order="any_order") == [1, 1]
    assert counts(con, list(reversed(rows)), "page[v=pricing]; page[v=other]", order="any_order") == [1, 0]


def test_a_step_window_limits_the_time_from_the_step_before(con):
    log = occurrences("A 10:00, B 10:20, C 10:50")
    twenty = timedelta(minutes=21)
    assert counts(con, log, "A; B; C", step_windows=(twenty, twenty)) == [1, 1, 0]
    assert counts(con, log, "A; B; C", step_windows=(twenty, None)) == [1, 1, 1]


def test_an_exclusion_ends_the_attempt_only_between_its_steps(con):
    x = parse_steps("X")[0]
    log = occurrences("A,X,B,C")
    assert counts(con, log, "A; B; C", exclusions=(Exclusion(x, 1, 2),)) == [1, 0, 0]
    assert counts(con, log, "A; B; C", exclusions=(Exclusion(x, 2, 3),)) == [1, 1, 1]
    assert counts(con, occurrences("A,B,X,C"), "A; B; C", exclusions=(Exclusion(x, 1, 3),)) == [1, 1, 0]
    assert counts(con, occurrences("A,B,C,X"), "A; B; C", exclusions=(Exclusion(x),)) == [1, 1, 1]
    again = occurrences("A,X,A,B,C")
    assert counts(con, again, "A; B; C", exclusions=(Exclusion(x),), reentry="totals") == [2, 1, 1]
    # in strict order what follows has ended the attempt before the exclusion comes: the next entry is one of its own
    assert counts(con, occurrences("A,Z,A,X"), "A; B", order="strict", exclusions=(Exclusion(x),), reentry="totals") == [2, 0]


def test_first_ever_leaves_out_entities_who_entered_before_the_range(con):
    log = occurrences("A,B", "old", day=DAY - timedelta(days=10)) + occurrences("A,B", "old") + occurrences("A,B", "new")
    for i, row in enumerate(log):
        row["event_id"] = f"{i:03}"
    march = dict(start=date(2026, 3, 1), end=date(2026, 4, 1))
    assert counts(con, log, "A; B", **march) == [2, 2]
    assert counts(con, log, "A; B", entry_kind="first_ever", **march) == [1, 1]


def test_a_conversion_belongs_to_the_local_date_of_its_entry(con):
    log = occurrences("A 23:30, B 23:50", day=datetime(2026, 3, 28))  # 00:30 on the 29th in Berlin
    load(con, log)
    spec = FunnelSpec(table_log("log"), parse_steps("A; B"), HOUR, grain="day", time_zone="Europe/Berlin")
    assert funnel.run(con, spec)["period"].to_list() == [date(2026, 3, 29)] * 2


def test_entries_with_an_open_window_mature_apart(con):
    log = occurrences("A 10:00, B 10:10") + occurrences("A 11:30, B 11:40", "f") + occurrences("A 11:00", "g")
    load(con, log)
    spec = FunnelSpec(table_log("log"), parse_steps("A; B"), HOUR, watermark=DAY + timedelta(hours=12))
    got = funnel.run(con, spec)
    assert got["entries"].to_list() == [2, 1]  # the window of 11:00 closes exactly at the watermark
    assert got["maturing"].to_list() == [1, 1]
    assert got["from_start"].to_list() == [1.0, 0.5]


def test_breakdown_reads_the_value_at_first_last_or_a_given_step_and_sums_to_the_whole(con):
    log = occurrences("A,B,C") + occurrences("A", "f")
    log[1]["v"], log[2]["v"], log[3]["v"] = "x", "y", "z"
    load(con, log)

    def at(touch):
        spec = FunnelSpec(table_log("log", ("v",)), parse_steps("A; B; C"), HOUR, breakdown=Breakdown("v", touch))
        got = funnel.run(con, spec).filter(pl.col("step") == 1)
        return dict(zip(got["breakdown"], got["entries"], strict=True))

    assert at("first") == {"x": 1, "z": 1}
    assert at("last") == {"y": 1, "z": 1}
    assert at(2) == {"x": 1, None: 1}


def test_time_to_convert_counts_converted_entries_only(con):
    log = occurrences("A 10:00, B 10:10") + occurrences("A 10:00, B 10:30", "f") + occurrences("A 10:00", "g")
    load(con, log)
    spec = FunnelSpec(table_log("log"), parse_steps("A; B"), HOUR)
    row = funnel.time_to_convert(con, spec).row(0, named=True)
    assert (row["converted"], row["median_seconds"], row["p90_seconds"]) == (2, 1200.0, 1680.0)
    bars = funnel.histogram(con, spec, buckets=6)
    assert bars["converted"].to_list() == [0, 1, 0, 1, 0, 0]
    assert bars["to_seconds"].to_list()[-1] == 3600.0


def test_an_empty_log_gives_every_step_with_zero_and_no_rate(con):
    load(con, [])
    got = funnel.run(con, FunnelSpec(table_log("log"), parse_steps("A; B"), HOUR))
    assert got["entries"].to_list() == [0, 0]
    assert got["from_start"].to_list() == [None, None]


def test_one_entity_with_many_entries_is_followed_to_its_end(con):
    load(con, occurrences(",".join("AAB" * 3_000)))
    spec = FunnelSpec(table_log("log"), parse_steps("A; B"), HOUR, reentry="totals")
    assert funnel.run(con, spec)["entries"].to_list() == [3_000, 3_000]
    spec = FunnelSpec(table_log("log"), parse_steps("A; B"), HOUR, reentry="totals", order="any_order")
    assert funnel.run(con, spec)["entries"].to_list() == [3_000, 3_000]


@pytest.mark.parametrize(
    "choices",
    [
        {"window": timedelta(0)},
        {"steps": ()},
        {"order": "random"},
        {"reentry": "never"},
        {"entry_kind": "some"},
        {"step_windows": (HOUR, HOUR)},
        {"order": "any_order", "step_windows": (HOUR,)},
        {"exclusions": (Exclusion(Step("X"), 2, 2),)},
        {"breakdown": Breakdown("missing")},
        {"breakdown": Breakdown("v", 9)},
        {"steps": (Step("A", (Condition("missing", "1"),)),)},
    ],
)
def test_a_question_without_sense_is_refused(choices):
    given_ = {"log": table_log("log", ("v",)), "steps": parse_steps("A; B"), "window": HOUR} | choices
    with pytest.raises(UsageError):
        FunnelSpec(**given_)


# -- random logs ------------------------------------------------------------------------------------------------------

BASE = datetime(2026, 10, 24, 22)  # local midnight in Berlin, two days of which the second has 25 hours
occurrence = st.tuples(
    st.sampled_from("AAABBCX"),
    st.integers(0, 40),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, "1", "1", "2"]),
)
a_step = st.tuples(st.sampled_from("AABBC"), st.sampled_from([(), (), (("v", "1", False),), (("v", "1", True),)]))


@st.composite
def questions(draw):
    order = draw(st.sampled_from(["sequential", "strict", "any_order"]))
    steps = draw(st.lists(a_step, min_size=1, max_size=4))
    minutes = st.integers(1, 60).map(lambda n: timedelta(minutes=n * 30))
    asked = {
        "window": draw(minutes),
        "order": order,
        "reentry": draw(st.sampled_from(["first_entry", "best_entry", "totals"])),
        "entry_kind": draw(st.sampled_from(["first_matching", "first_ever"])),
        "start": draw(st.sampled_from([None, BASE + timedelta(hours=3)])),
        "end": draw(st.sampled_from([None, BASE + timedelta(hours=15)])),
        "watermark": draw(st.sampled_from([None, BASE + timedelta(hours=18)])),
        "breakdown": draw(st.sampled_from([None, ("v", "first"), ("v", "last"), ("v", len(steps))])),
        "step_windows": [],
        "exclusions": [],
    }
    if order != "any_order" and draw(st.booleans()):
        asked["step_windows"] = [draw(st.one_of(st.none(), minutes)) for _ in steps[1:]]
    if len(steps) > 1 and draw(st.booleans()):
        after = draw(st.integers(1, len(steps) - 1))
        excluded = draw(st.one_of(st.just(("X", ())), a_step))
        asked["exclusions"] = [(excluded, after, draw(st.integers(after + 1, len(steps))))]
    return steps, asked


def as_step(step: tuple) -> Step:
    return Step(step[0], tuple(Condition(*condition) for condition in step[1]))


@settings(max_examples=90, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
@given(questions(), st.lists(st.lists(occurrence, max_size=12), min_size=12, max_size=14))
def test_random_logs_agree_with_brute_force(con, question, logs):
    steps, asked = question
    rows = [
        {"entity_id": f"e{entity}", "name": name, "occurred_at": BASE + timedelta(minutes=30 * slot),
         "sequence": sequence, "event_id": f"{entity}-{i * 7 % 12:02}", "v": value}
        for entity, log in enumerate(logs)
        for i, (name, slot, sequence, value) in enumerate(log)
    ]  # fmt: skip
    event(f"{asked['order']} {asked['reentry']}")
    expected = oracle.funnel(rows, steps, **asked)
    load(con, rows)
    spec = FunnelSpec(
        log=table_log("log", ("v",)),
        steps=tuple(as_step(step) for step in steps),
        **asked
        | {
            "breakdown": Breakdown(*asked["breakdown"]) if asked["breakdown"] else None,
            "step_windows": tuple(asked["step_windows"]),
            "exclusions": tuple(Exclusion(as_step(s), i, j) for s, i, j in asked["exclusions"]),
        },
    )
    found = []
    for row in funnel.entries(con, spec).iter_rows(named=True):
        times = [row[f"step{i}_at"] for i in range(1, row["reached"] + 1)]
        assert all(row[f"step{i}_at"] is None for i in range(row["reached"] + 1, len(steps) + 1))
        found.append(
            (row["entity_id"], row["entry_event_id"], row["entered_at"], times, row["is_maturing"], row.get("breakdown"))
        )
    assert sorted(found, key=str) == sorted(expected, key=str)
    counted = funnel.run(con, spec)
    for _, group in counted.group_by(["breakdown"] if asked["breakdown"] else []) if asked["breakdown"] else [(0, counted)]:
        numbers = group.sort("step")["entries"].to_list()
        assert numbers == sorted(numbers, reverse=True), "a funnel never rises from step to step"
    total = counted.filter(pl.col("step") == len(steps))["entries"].sum()
    assert total == sum(1 for e in expected if len(e[3]) == len(steps) and not e[4])
