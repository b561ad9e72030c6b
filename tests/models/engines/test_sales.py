"""Sales history: the pipeline as of any day, its movement, probabilities and rates, against examples and replay."""

from __future__ import annotations

import importlib.util
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.errors import UsageError
from models.engines import sales, sales_rates
from models.engines.sales import PipelineSpec
from models.engines.sales_rates import ClosedDealsSpec

_path = Path(__file__).parents[2] / "oracles" / "sales_oracle.py"
_spec = importlib.util.spec_from_file_location("sales_oracle", _path)
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

START = datetime(2026, 1, 1)
PLACES = {"New": 1, "Qualified": 2, "Proposal": 3, "Won": 4, "Lost": 5}
HISTORY = {
    "deal_id": pl.String, "pipeline": pl.String, "stage": pl.String, "stage_position": pl.Int32,
    "amount": pl.Decimal(18, 4), "currency": pl.String, "amount_reporting": pl.Decimal(18, 4), "probability": pl.Float64,
    "expected_close_date": pl.Date, "owner_id": pl.String, "is_won": pl.Boolean, "is_lost": pl.Boolean, "is_open": pl.Boolean,
    "created_at": pl.Datetime("us"), "valid_from": pl.Datetime("us"), "valid_to": pl.Datetime("us"),
}  # fmt: skip
DEALS = {
    "deal_id": pl.String, "pipeline": pl.String, "amount_reporting": pl.Decimal(18, 4), "owner_id": pl.String,
    "is_won": pl.Boolean, "is_lost": pl.Boolean, "closed_at": pl.Datetime("us"), "closed_date": pl.Date, "cycle_days": pl.Float64,
}  # fmt: skip


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("""
        SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA marts;
        CREATE TABLE marts.dim_pipeline_stages AS SELECT 'sales' AS pipeline, col0 AS stage, col1 AS probability, col2::TIMESTAMP AS valid_from
        FROM (VALUES ('New', 0.1, NULL), ('Qualified', 0.2, NULL), ('Qualified', 0.6, '2026-03-01'), ('Proposal', 0.5, '2026-03-01'));
    """)
    yield connection
    connection.close()


def day(n: float) -> datetime:
    return START + timedelta(days=n)


def deal(name: str, created: float, amount: int | None = 100, close: date | None = None, *changes, removed=None) -> dict:
    """``changes`` are (day, field, value)."""
    return {
        "deal_id": name, "created_at": day(created), "removed_at": None if removed is None else day(removed),
        "first": {"stage": "New", "amount": amount, "expected_close_date": close, "owner_id": "ann"},
        "changes": [(day(at), field, value) for at, field, value in changes],
    }  # fmt: skip


def load(con, deals: list[dict]) -> None:
    history, current = [], []
    for d in deals:
        now, begins = dict(d["first"]), d["created_at"]
        instants = sorted({at for at, _, _ in d["changes"]} - {begins})
        closed_at = None
        for at, field, value in d["changes"]:
            if at == begins:
                now[field] = value
        for until in [*instants, None]:
            ends = until if d["removed_at"] is None or (until is not None and until < d["removed_at"]) else d["removed_at"]
            won, lost = now["stage"] == "Won", now["stage"] == "Lost"
            if (won or lost) and closed_at is None:
                closed_at = begins
            if not (won or lost):
                closed_at = None
            amount = None if now["amount"] is None else Decimal(now["amount"])
            if ends is None or ends > begins:
                history.append({
                    "deal_id": d["deal_id"], "pipeline": "sales", "stage": now["stage"], "stage_position": PLACES.get(now["stage"]),
                    "amount": amount, "currency": "EUR", "amount_reporting": amount, "probability": PLACES.get(now["stage"], 0) / 10,
                    "expected_close_date": now["expected_close_date"], "owner_id": now["owner_id"], "is_won": won, "is_lost": lost,
                    "is_open": not won and not lost, "created_at": d["created_at"], "valid_from": begins, "valid_to": ends,
                })  # fmt: skip
            if until is None or ends != until:
                break
            begins = until
            for at, field, value in d["changes"]:
                if at == until:
                    now[field] = value
        if d["removed_at"] is None:
            current.append({
                "deal_id": d["deal_id"], "pipeline": "sales", "amount_reporting": amount, "owner_id": now["owner_id"],
                "is_won": now["stage"] == "Won", "is_lost": now["stage"] == "Lost", "closed_at": closed_at,
                "closed_date": None if closed_at is None else closed_at.date(),
                "cycle_days": None if closed_at is None else (closed_at - d["created_at"]) / timedelta(days=1),
            })  # fmt: skip
    for table, rows, schema in (("deals_history", history, HISTORY), ("fct_deals", current, DEALS)):
        con.register("rows_given", pl.DataFrame(rows, schema=schema))
        con.execute(f"CREATE OR REPLACE TABLE marts.{table} AS SELECT * FROM rows_given")
        con.unregister("rows_given")


def moves(con, t1, t2, **choices) -> dict[str, tuple[int, float]]:
    got = sales.movement(con, PipelineSpec(**choices), t1, t2)
    assert got["movement"].to_list() == list(sales.MOVEMENTS)
    return {m: (n, float(a)) for m, n, a in got.iter_rows() if n}


Q1 = {"close_from": date(2026, 1, 1), "close_to": date(2026, 4, 1)}
FEB, MAY = date(2026, 2, 15), date(2026, 5, 15)


def test_every_deal_is_shown_as_it_was_on_the_day(con):
    load(con, [
        deal("a", 0, 100, FEB, (10, "stage", "Qualified"), (10, "amount", 300), (12, "owner_id", "bob"), (20, "stage", "Won")),
        deal("b", 15),
    ])  # fmt: skip

    def on(n):
        got = sales.pipeline_as_of(con, PipelineSpec(), day(n))
        return got.select("deal_id", "stage", "amount_reporting", "owner_id").rows()

    assert on(0) == []
    assert on(10) == [("a", "New", Decimal(100), "ann")]  # what happens at an instant belongs to the time after it
    assert on(11) == [("a", "Qualified", Decimal(300), "ann")]
    assert on(16) == [("a", "Qualified", Decimal(300), "bob"), ("b", "New", Decimal(100), "ann")]
    assert on(21) == [("b", "New", Decimal(100), "ann")]


def test_as_of_a_day_is_the_end_of_the_local_day(con):
    load(con, [deal("late", 1 - 0.75 / 24)])  # 23:15 UTC on the first is already the second in Berlin
    assert sales.pipeline_as_of(con, PipelineSpec(), date(2026, 1, 1)).height == 1
    assert sales.pipeline_as_of(con, PipelineSpec(time_zone="Europe/Berlin"), date(2026, 1, 1)).height == 0
    assert sales.pipeline_as_of(con, PipelineSpec(time_zone="Europe/Berlin"), date(2026, 1, 2)).height == 1


def test_start_and_movements_give_the_end(con):
    load(con, [
        deal("won", 0, 100, FEB, (20, "amount", 150), (25, "stage", "Won")),
        deal("lost", 0, 80, FEB, (25, "stage", "Lost")),
        deal("grows", 0, 10, FEB, (25, "amount", 25)),
        deal("shrinks", 0, 50, FEB, (25, "amount", 20)),
        deal("new", 22, 70, FEB),
        deal("quick", 22, 40, FEB, (23, "amount", 45), (24, "stage", "Won")),
        deal("out", 0, 30, FEB, (25, "expected_close_date", MAY)),
        deal("in", 0, 60, MAY, (25, "expected_close_date", FEB)),
        deal("back", 0, 5, FEB, (5, "stage", "Lost"), (25, "stage", "Qualified")),
        deal("gone", 0, 7, FEB, removed=25),
    ])  # fmt: skip
    assert moves(con, day(10), day(30), **Q1) == {
        "start": (6, 277.0), "created": (2, 115.0), "reopened": (1, 5.0), "pulled_in": (1, 60.0), "pushed_out": (1, -30.0),
        "amount_up": (2, 65.0), "amount_down": (1, -30.0), "won": (2, -195.0), "lost": (1, -80.0), "removed": (1, -7.0),
        "end": (5, 180.0),
    }  # fmt: skip


def test_without_a_closing_period_moved_dates_are_counted_but_move_no_amount(con):
    load(con, [deal("a", 0, 10, FEB, (5, "expected_close_date", MAY)), deal("b", 0, 20, MAY, (5, "expected_close_date", FEB))])
    assert moves(con, day(1), day(9)) == {"start": (2, 30.0), "pulled_in": (1, 0.0), "pushed_out": (1, 0.0), "end": (2, 30.0)}


def test_the_weighted_pipeline_uses_only_what_was_known(con):
    past = [deal(f"w{i}", 0, 10, FEB, (5, "stage", "Qualified"), (9, "stage", "Won")) for i in range(3)]
    past += [deal(f"l{i}", 0, 10, FEB, (9, "stage", "Lost")) for i in range(5)]
    later = [deal(f"x{i}", 0, 10, FEB, (5, "stage", "Qualified"), (50, "stage", "Lost")) for i in range(20)]
    load(con, [*past, *later, deal("open", 8, 1000, FEB, (8.5, "stage", "Qualified"))])
    got = sales.stage_probabilities(con, PipelineSpec(), day(20), prior_deals=0)
    assert {r["stage"]: (r["closed_deals"], r["won_deals"], r["probability"]) for r in got.iter_rows(named=True)} == {
        "New": (8, 3, 0.375), "Qualified": (3, 3, 1.0),
    }  # fmt: skip
    shrunk = sales.weighted_pipeline(con, PipelineSpec(), day(20)).row(0, named=True)
    assert (shrunk["stage"], shrunk["deals"]) == ("Qualified", 21)
    assert shrunk["weighted_amount"] == pytest.approx(1200 * (3 + 10 * 0.375) / 13)
    crm = sales.weighted_pipeline(con, PipelineSpec(), day(20), basis="crm").row(0, named=True)
    assert crm["weighted_amount"] == pytest.approx(1200 * 0.2)  # 0.6 was set later
    nothing = sales.weighted_pipeline(con, PipelineSpec(), day(6)).filter(pl.col("stage") == "Qualified")
    assert nothing["weighted_amount"].to_list() == [None]
    assert nothing["deals_without_probability"].to_list() == [23]


def test_deals_in_a_stage_that_nobody_told_have_the_chance_of_those_that_closed_out_of_one(con):
    told = [deal("told", 0, 10, None, (9, "stage", "Lost"))]
    untold = [deal(f"u{i}", 0, 10, None, (9, "stage", "Won" if i else "Lost")) for i in range(4)] + [deal("open", 8, 1000)]
    load(con, [*told, *({**d, "first": {**d["first"], "stage": None}} for d in untold)])
    row, = sales.weighted_pipeline(con, PipelineSpec(), day(20)).iter_rows(named=True)
    assert (row["stage"], row["deals"], row["deals_without_probability"]) == (None, 1, 0)
    assert row["weighted_amount"] == pytest.approx(1000 * (3 + 10 * 3 / 5) / 14)


def test_win_rate_counts_by_number_and_by_amount_and_the_cycle_is_never_negative(con):
    load(con, [
        deal("a", 0, 100, None, (10, "stage", "Won")), deal("b", 0, 300, None, (20, "stage", "Lost")),
        deal("c", 0, None, None, (20, "stage", "Won")), deal("late", 0, 100, None, (40, "stage", "Won")), deal("open", 0),
    ])  # fmt: skip
    con.execute("UPDATE marts.fct_deals SET cycle_days = NULL WHERE deal_id = 'c'")
    row = sales_rates.win_rate(con, ClosedDealsSpec(date(2026, 1, 1), date(2026, 2, 1))).row(0, named=True)
    assert (row["won"], row["lost"], row["win_rate"], row["win_rate__by_amount"]) == (2, 1, 2 / 3, 0.25)
    assert (row["sales_cycle_days"], row["won_without_cycle"]) == (10.0, 1)
    empty = sales_rates.win_rate(con, ClosedDealsSpec(date(2025, 1, 1), date(2025, 2, 1))).row(0, named=True)
    assert (empty["won"], empty["win_rate"], empty["win_rate__by_amount"], empty["sales_cycle_days"]) == (0, None, None, None)


def test_a_deal_counts_for_its_owner_at_the_event_unless_asked_for_todays(con):
    load(con, [deal("a", 0, 100, None, (10, "stage", "Won"), (15, "owner_id", "bob")), deal("b", 0, 5, None, (9, "stage", "Lost"))])

    def won(basis):
        spec = ClosedDealsSpec(date(2026, 1, 1), date(2026, 2, 1), by="owner_id", owner_basis=basis)
        return dict(sales_rates.win_rate(con, spec).select("owner_id", "won").rows())

    assert won("at_event") == {"ann": 1}
    assert won("current") == {"bob": 1, "ann": 0}


def test_velocity_multiplies_four_numbers_of_one_window(con):
    load(con, [
        deal("w", 0, 600, None, (10, "stage", "Won")), deal("x", 0, 400, None, (30, "stage", "Won")),
        deal("l", 0, 9, None, (5, "stage", "Lost")), deal("l2", 0, 9, None, (5, "stage", "Lost")),
        deal("new", 0), deal("q", 0, 1, None, (3, "stage", "Qualified")),
    ])  # fmt: skip
    row = sales_rates.velocity(con, PipelineSpec(), date(2026, 2, 10), qualified_from_position=2).row(0, named=True)
    assert row == {"open_qualified_deals": 1, "won": 2, "lost": 2, "win_rate": 0.5, "average_won_amount": 500.0, "sales_cycle_days": 20.0, "velocity_per_day": 12.5}
    none = sales_rates.velocity(con, PipelineSpec(), date(2026, 1, 2)).row(0, named=True)
    assert (none["open_qualified_deals"], none["velocity_per_day"]) == (6, None)


def test_a_forecast_is_set_beside_what_came(con):
    load(con, [
        deal("done", 0, 100, FEB, (33, "stage", "Won")),
        deal("open", 0, 200, FEB, (50, "stage", "Won")),
        deal("slips", 0, 400, FEB, (45, "expected_close_date", MAY)),
        deal("old", 0, 50, FEB, (5, "stage", "Lost")),
    ])  # fmt: skip
    february = (date(2026, 2, 1), date(2026, 3, 1))
    row = sales_rates.forecast_against_actual(con, PipelineSpec(), date(2026, 2, 5), *february, watermark=date(2026, 6, 1), prior_deals=0).row(0, named=True)
    assert float(row["won_by_then"]) == 100.0
    assert row["weighted_open"] == pytest.approx(600 * 0.5)  # one of the two closed by then was won
    assert (float(row["actual"]), row["error"], row["is_complete"]) == (300.0, pytest.approx(100.0), True)
    early = sales_rates.forecast_against_actual(con, PipelineSpec(), date(2026, 2, 5), *february, watermark=date(2026, 2, 10)).row(0, named=True)
    assert (float(early["actual"]), early["is_complete"]) == (100.0, False)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PipelineSpec(close_from=FEB),
        lambda: PipelineSpec(close_from=MAY, close_to=FEB),
        lambda: ClosedDealsSpec(MAY, FEB),
        lambda: ClosedDealsSpec(FEB, MAY, by="name"),
        lambda: ClosedDealsSpec(FEB, MAY, owner_basis="any"),
        lambda: sales.movement_sql(PipelineSpec(), MAY, FEB),
        lambda: sales.weighted_pipeline_sql(PipelineSpec(), FEB, basis="gut"),
    ],
)
def test_a_question_without_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        wrong()


change = st.one_of(
    st.tuples(st.integers(0, 40), st.just("stage"), st.sampled_from(["New", "Qualified", "Proposal", "Won", "Lost"])),
    st.tuples(st.integers(0, 40), st.just("amount"), st.sampled_from([None, 0, 10, 250])),
    st.tuples(st.integers(0, 40), st.just("expected_close_date"), st.sampled_from([None, FEB, MAY])),
)
random_deal = st.tuples(
    st.integers(0, 30), st.sampled_from([None, 5, 100]), st.sampled_from([None, FEB, MAY]),
    st.lists(change, max_size=6), st.one_of(st.none(), st.none(), st.integers(0, 40)),
)  # fmt: skip


@settings(max_examples=60, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(random_deal, max_size=18),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from([None, (date(2026, 1, 1), date(2026, 4, 1))]),
    st.sampled_from([1.0, 10.0]),
)
def test_random_histories_agree_with_replay(con, drawn, one, other, window, prior):
    deals = [
        deal(f"d{i}", created, amount, close, *sorted(((max(at, created), f, v) for at, f, v in changes), key=lambda c: c[0]),
             removed=None if removed is None else max(removed, created) + 0.5)
        for i, (created, amount, close, changes, removed) in enumerate(drawn)
    ]  # fmt: skip
    load(con, deals)
    t1, t2 = day(min(one, other)), day(max(one, other))
    spec = PipelineSpec(close_from=window and window[0], close_to=window and window[1])
    got = {m: [n, int(a)] for m, n, a in sales.movement(con, spec, t1, t2).iter_rows()}
    assert {m: cell for m, cell in got.items() if cell[0]} == oracle.movement(deals, t1, t2, window)
    assert sum(cell[1] for m, cell in got.items() if m != "end") == got["end"][1]
    as_of = sales.pipeline_as_of(con, spec, t2)
    expected = {
        d["deal_id"]: s for d in deals if oracle.is_open(s := oracle.state(d, t2)) and oracle.in_window(s, window)
    }
    assert dict(as_of.select("deal_id", "stage").rows()) == {k: s["stage"] for k, s in expected.items()}
    for stage, found in sales.stage_probabilities(con, PipelineSpec(), t2, prior).select("stage", "probability").rows():
        assert found == pytest.approx(oracle.learned_probability(deals, t2, stage, prior))
