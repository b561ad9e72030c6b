"""Comparison of two ranges: against scipy as outside oracle, and on a small log."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import pytest
from scipy import stats

from data_contracts.errors import UsageError
from models.engines.funnel import Breakdown, FunnelSpec
from models.engines.funnel_compare import compare, fisher, two_proportions, wilson
from models.engines.funnel_logs import table_log
from models.engines.funnel_steps import parse_steps


@pytest.mark.parametrize("table", [(3, 10, 0, 12), (1, 40, 5, 38), (0, 5, 0, 9), (7, 7, 1, 9), (2, 900, 7, 1000)])
def test_small_counts_are_tested_exactly(table):
    x1, n1, x2, n2 = table
    expected = stats.fisher_exact([[x1, n1 - x1], [x2, n2 - x2]]).pvalue
    assert fisher(*table) == pytest.approx(expected, rel=1e-6)
    assert two_proportions(*table).test == "fisher"


def test_large_counts_use_the_pooled_z_test():
    found = two_proportions(120, 1000, 90, 1100)
    chi2 = stats.chi2_contingency([[120, 880], [90, 1010]], correction=False)
    assert (found.test, found.p_value) == ("z", pytest.approx(chi2.pvalue, rel=1e-9))


def test_intervals_equal_published_ones():
    # Newcombe 1998, table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339.
    found = two_proportions(56, 70, 48, 80)
    assert (round(found.lower, 4), round(found.upper, 4)) == (0.0524, 0.3339)
    reference = stats.binomtest(3, 10).proportion_ci(method="wilson")
    assert wilson(3, 10) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_nothing_is_said_without_entries_on_both_sides():
    assert two_proportions(0, 0, 3, 10).p_value is None


def test_a_range_is_compared_with_the_one_before_it():
    con = duckdb.connect()
    con.execute("""
        CREATE TABLE log AS SELECT 'e' || i AS entity_id, name, TIMESTAMP '2026-03-01' + to_days(i::INT % 20) + off AS occurred_at,
            NULL::BIGINT AS sequence, name || i AS event_id, CASE WHEN i % 20 < 10 THEN 'old' ELSE 'new' END AS v
        FROM range(200) r(i), (VALUES ('A', INTERVAL 0 MINUTE), ('B', INTERVAL 1 MINUTE)) s(name, off)
        WHERE name = 'A' OR i % 20 >= 10 OR i % 4 = 0
    """)
    spec = FunnelSpec(
        table_log("log", ("v",)), parse_steps("A; B"), timedelta(hours=1), start=date(2026, 3, 11), end=date(2026, 3, 21)
    )
    got = compare(con, spec)
    assert got["entries"].to_list() == [100, 100]
    assert got["before_entries"].to_list()[0] == 100
    second = got.row(1, named=True)
    assert second["difference"] == pytest.approx(1 - second["before_from_start"])
    assert second["p_value"] < 1e-6 and second["lower"] > 0
    split = compare(con, FunnelSpec(**{**spec.__dict__, "breakdown": Breakdown("v")}))
    assert split.filter(split["step"] == 1).select("breakdown", "entries", "before_entries").rows() == [
        ("new", 100, 0), ("old", 0, 100),
    ]  # fmt: skip
    with pytest.raises(UsageError):
        compare(con, FunnelSpec(**{**spec.__dict__, "start": None}))
    con.close()
