"""The attribution engine: worked examples, exact conservation, and a brute-force oracle on random journeys."""

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
from models.engines import attribution
from models.engines.attribution import MODELS, AttributionSpec

_path = Path(__file__).parents[2] / "oracles" / "attribution_oracle.py"
_spec = importlib.util.spec_from_file_location("attribution_oracle", _path)
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

NOON = datetime(2026, 10, 20, 12)
CONVERSIONS = {
    "conversion_id": pl.String, "customer_id": pl.String, "converted_at": pl.Datetime("us"),
    "revenue": pl.Decimal(18, 4), "refunded": pl.Decimal(18, 4),
    "lead_created_at": pl.Datetime("us"), "opportunity_created_at": pl.Datetime("us"),
}  # fmt: skip
TOUCHES = {
    "touchpoint_id": pl.String, "customer_id": pl.String, "occurred_at": pl.Datetime("us"),
    "channel": pl.String, "sequence": pl.Int64, "campaign_id": pl.String,
}  # fmt: skip


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
    yield connection
    connection.close()


def conversion(i: int, customer: str, revenue: str = "100", refunded: str = "0", at: datetime = NOON, **more) -> dict:
    return {
        "conversion_id": f"c{i}", "customer_id": customer, "converted_at": at, "revenue": Decimal(revenue),
        "refunded": Decimal(refunded), "lead_created_at": None, "opportunity_created_at": None,
    } | more  # fmt: skip


def touches(customer: str, channels: str, first: datetime = NOON - timedelta(days=10)) -> list[dict]:
    """One touch a day."""
    return [
        {"touchpoint_id": f"{customer}{i:03}", "customer_id": customer, "occurred_at": first + timedelta(days=i),
         "channel": channel, "sequence": None, "campaign_id": None}
        for i, channel in enumerate(channels)
    ]  # fmt: skip


def load(con, conversions: list[dict], touchpoints: list[dict]) -> None:
    for name, rows, schema in (("conversions", conversions, CONVERSIONS), ("touches", touchpoints, TOUCHES)):
        con.register("rows_given", pl.DataFrame(rows, schema=schema))
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM rows_given")
        con.unregister("rows_given")


def asked(**choices) -> AttributionSpec:
    return AttributionSpec(touchpoints="touches", **{"has_creation_times": True, "models": MODELS} | choices)


def by_channel(con, model: str, column: str = "conversions", **choices) -> dict[str, float]:
    got = attribution.run(con, asked(models=(model,), **choices))
    return {channel: float(value) for channel, value in got.select("channel", column).iter_rows() if value}


def test_a_conversion_is_credited_once_and_revenue_follows_the_weights(con):
    load(con, [conversion(1, "x", "100"), conversion(2, "y", "900")], touches("x", "AB") + touches("y", "A"))
    assert by_channel(con, "linear") == {"A": 1.5, "B": 0.5}
    assert by_channel(con, "linear", "revenue") == {"A": 950.0, "B": 50.0}
    assert by_channel(con, "first") == {"A": 2.0}
    assert by_channel(con, "last", "revenue") == {"A": 900.0, "B": 100.0}


def test_u_shaped_gives_40_20_40_and_halves_to_two_touches(con):
    load(con, [conversion(1, "x")], touches("x", "ABCD"))
    assert by_channel(con, "u_shaped") == {"A": 0.4, "B": 0.1, "C": 0.1, "D": 0.4}
    load(con, [conversion(1, "x")], touches("x", "AB"))
    assert by_channel(con, "u_shaped") == {"A": 0.5, "B": 0.5}
    load(con, [conversion(1, "x")], touches("x", "A"))
    assert by_channel(con, "u_shaped") == {"A": 1.0}


def test_w_shaped_anchors_on_first_touch_lead_and_opportunity(con):
    day = NOON - timedelta(days=10)
    created = {"lead_created_at": day + timedelta(days=1, hours=1), "opportunity_created_at": day + timedelta(days=3)}
    load(con, [conversion(1, "x", **created)], touches("x", "ABCDE"))
    assert by_channel(con, "w_shaped") == {"A": 0.3, "B": 0.3, "C": 0.05, "D": 0.3, "E": 0.05}
    load(con, [conversion(1, "x", **created | {"lead_created_at": day})], touches("x", "ABD"))
    assert by_channel(con, "w_shaped") == {"A": 0.6, "B": 0.1, "D": 0.3}
    load(con, [conversion(1, "x")], touches("x", "AB"))
    assert by_channel(con, "w_shaped") == {"A": 0.5, "B": 0.5}


def test_time_decay_halves_a_touch_by_its_half_life_however_old_the_journey(con):
    load(con, [conversion(1, "x")], touches("x", "A" + "......." + "B"))
    got = by_channel(con, "time_decay", half_life_days=8.0)
    assert got["B"] == pytest.approx(2 * got["A"], rel=1e-6)
    load(con, [conversion(1, "x")], touches("x", "AB", NOON - timedelta(days=80)))
    assert by_channel(con, "time_decay", half_life_days=0.001) == {"B": 1.0}


def test_markov_credits_by_removal_effect(con):
    load(con, [conversion(1, "x", "100"), conversion(2, "y", "900")], touches("x", "AB") + touches("y", "A"))
    # Without B half of the journeys out of A are lost, without A all of them: effects 0.5 and 1.
    assert by_channel(con, "markov") == pytest.approx({"A": 4 / 3, "B": 2 / 3}, abs=1e-8)


def test_markov_sees_journeys_that_never_convert_unless_told_not_to(con):
    load(con, [conversion(1, "x"), conversion(2, "y")], touches("x", "A") + touches("y", "B") + touches("lost", "AB"))
    assert attribution.markov_shares(con, asked())["B"] < 0.5
    assert attribution.markov_shares(con, asked(non_converting_journeys=False)) == pytest.approx({"A": 0.5, "B": 0.5})


def test_shapley_shares_equally_among_the_different_channels_of_a_journey(con):
    load(con, [conversion(1, "x")], touches("x", "AAAB"))
    assert by_channel(con, "shapley") == {"A": 0.5, "B": 0.5}


def test_the_lookback_includes_both_its_ends_and_nothing_after_the_conversion(con):
    edge = [
        {"touchpoint_id": str(i), "customer_id": "x", "occurred_at": at, "channel": channel, "sequence": None, "campaign_id": None}
        for i, (at, channel) in enumerate(
            [
                (NOON - timedelta(days=30, microseconds=1), "too early"),
                (NOON - timedelta(days=30), "first"),
                (NOON, "last"),
                (NOON + timedelta(microseconds=1), "too late"),
            ]
        )
    ]  # fmt: skip
    load(con, [conversion(1, "x")], edge)
    assert by_channel(con, "linear", lookback_days=30) == {"first": 0.5, "last": 0.5}


def test_a_conversion_without_touches_or_without_a_customer_is_no_touch(con):
    load(con, [conversion(1, "x"), conversion(2, None), conversion(3, "z")], touches("x", "A"))
    for model in MODELS:
        assert by_channel(con, model) == {"A": 1.0, "no_touch": 2.0}, model


def test_refunds_take_back_the_same_weights(con):
    load(con, [conversion(1, "x", "100", "40")], touches("x", "ABCD"))
    assert by_channel(con, "u_shaped", "refunded") == {"A": 16.0, "B": 4.0, "C": 4.0, "D": 16.0}
    assert by_channel(con, "u_shaped", "net_revenue") == {"A": 24.0, "B": 6.0, "C": 6.0, "D": 24.0}


def test_without_conversions_there_is_nothing_to_credit(con):
    load(con, [], touches("x", "A"))
    assert attribution.run(con, asked()).height == 0


def test_a_range_of_local_days_bounds_the_conversions(con):
    late = conversion(1, "x", at=datetime(2026, 10, 25, 22, 30))  # 23:30 in Berlin, on the day with 25 hours
    load(con, [late, conversion(2, "y", at=datetime(2026, 10, 25, 23))], [])
    got = by_channel(con, "linear", start=date(2026, 10, 25), end=date(2026, 10, 26), time_zone="Europe/Berlin")
    assert got == {"no_touch": 1.0}


@pytest.mark.parametrize("wrong", [{"models": ("best",)}, {"models": ()}, {"lookback_days": -1}, {"half_life_days": 0}])
def test_an_impossible_choice_is_refused(wrong):
    with pytest.raises(UsageError):
        AttributionSpec(**wrong)


customer = st.sampled_from([f"p{i}" for i in range(14)] + [None])
money = st.integers(-50_000, 1_000_000).map(lambda n: Decimal(n) / 100)
slot = st.integers(0, 60).map(lambda n: NOON + timedelta(hours=6 * n))
maybe_slot = st.one_of(st.none(), slot)
touch = st.tuples(customer, slot, st.sampled_from("ABCD"), st.sampled_from([None, 1, 2]))


@settings(max_examples=90, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(customer, slot, money, money, maybe_slot, maybe_slot), max_size=20),
    st.lists(touch, max_size=60),
    st.sampled_from([0, 1, 5, 90]),
    st.sampled_from([0.5, 7.0]),
)
def test_random_journeys_agree_with_brute_force_and_conserve_exactly(con, sold, touched, lookback, half_life):
    conversions = [
        conversion(i, who, str(revenue), str(refund), at, lead_created_at=lead, opportunity_created_at=opportunity)
        for i, (who, at, revenue, refund, lead, opportunity) in enumerate(sold)
    ]
    touchpoints = [
        {"touchpoint_id": f"{i * 7 % 60:02}", "customer_id": who, "occurred_at": at, "channel": channel, "sequence": sequence, "campaign_id": None}
        for i, (who, at, channel, sequence) in enumerate(touched)
    ]  # fmt: skip
    load(con, conversions, touchpoints)
    got = attribution.run(con, asked(lookback_days=lookback, half_life_days=half_life))
    for model in MODELS:
        mine = got.filter(pl.col("model") == model)
        for column in ("revenue", "refunded"):
            assert sum(mine[column], Decimal(0)) == sum((c[column] for c in conversions), Decimal(0)), (model, column)
        assert sum(mine["conversions"], Decimal(0)) == len(conversions), model
        expected = oracle.attribute(conversions, touchpoints, model, lookback, half_life)
        found = {row[0]: (float(row[1]), float(row[2])) for row in mine.select("channel", "conversions", "net_revenue").iter_rows()}
        for channel in expected.keys() | found.keys():
            assert found.get(channel, (0.0, 0.0))[0] == pytest.approx(expected.get(channel, (0.0, 0.0))[0], abs=1e-7), (model, channel)
            assert found.get(channel, (0.0, 0.0))[1] == pytest.approx(expected.get(channel, (0.0, 0.0))[1], abs=1e-2), (model, channel)
