"""Every invariant is seen to fail on a warehouse in which just its identity is broken, and to name the rows."""

import duckdb
import pytest

from models import invariants, metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory, making):
    """A file with the hand-made marts, their metric layer, the engines' tables and a segment."""
    path = tmp_path_factory.mktemp("invariants") / "finished.duckdb"
    with duckdb.connect(str(path)) as con:
        making.create(con)
        making.with_f1(con)
        for mart, key in invariants.mart_keys().items():      # the hand-made marts leave out keys that no metric needs
            if con.execute("select count(*) from information_schema.tables where table_name = ?", [mart]).fetchone()[0]:
                con.execute(f"alter table marts.{mart} add column if not exists {key} varchar")
                con.execute(f"update marts.{mart} set {key} = coalesce({key}, cast(rowid as varchar))" if mart != "dim_dates" else "select 1")
        con.execute("create schema segments")
        con.execute("create table segments.definitions as select 'loyal' as segment, 2::bigint as customers")
        con.execute("create table segments.memberships as select 'loyal' as segment, unnest(['A', 'B']) as customer_id")
        making.build_layer(con)
        invariants.build_engine_tables(con)
        making.build_layer(con, engines=True)
        metrics.write_definitions(con)
    return path


@pytest.fixture
def breaking(finished):
    """The finished warehouse inside a transaction that is taken back."""
    con = duckdb.connect(str(finished))
    con.execute("begin")
    yield con
    con.execute("rollback")
    con.close()


def test_a_sound_warehouse_keeps_all_of_them(breaking):
    assert [(v.name, v.detail) for v in invariants.verify(breaking, invariants.BEFORE_PUBLISHING) if not v.is_met] == []


BROKEN = [
    ("waterfall_closes", "update metrics.mtr_revenue_movements set expansion = expansion + 1 where customer_id = 'A' and period_grain = 'month' and period_start = '2026-10-01'", "2026-10-01"),
    ("attribution_conserves", "delete from metrics.mtr_attribution_credits where model = 'linear' and conversion_id = 'A'", "linear"),
    ("attribution_conserves", "update metrics.mtr_attribution_credits set conversions = conversions * 2.4 where model = 'first'", "first"),
    ("retained_within_opening", "update metrics.mtr_revenue_movements set retained_mrr = opening_mrr + 1 where customer_id = 'B'", "opening"),
    ("funnels_are_monotone", "update metrics.mtr_lead_funnel__entry set reached = 4 where lead_id = 'l1'", "l1"),
    ("funnels_are_monotone", "insert into metrics.mtr_lead_funnel__entry from metrics.mtr_lead_funnel__entry where lead_id = 'l2'", "l2"),
    ("funnels_are_monotone", "update metrics.mtr_lead_funnel__entry set is_converted = true where lead_id = 'l4'", "l4"),
    ("funnels_are_monotone", "update metrics.mtr_lead_funnel__entry set lead_id = 'nobody' where lead_id = 'l4'", "nobody"),
    ("retention_within_cohort", "update metrics.mtr_retention__month set returned = started + 1", "returned"),
    ("retention_within_cohort", "update metrics.mtr_retention_unbounded__month set started = cohort_size + 1", "retention_unbounded"),
    ("breakdowns_add_up", "insert into marts.dim_customers from marts.dim_customers where customer_id = 'A'", "by acquisition_campaign"),
    ("segment_count_is_rows", "delete from segments.memberships where customer_id = 'A'", "loyal"),
    ("segment_count_is_rows", "update segments.memberships set customer_id = 'A'", "loyal"),
    ("segment_count_is_rows", "insert into segments.memberships values ('ghost', 'A')", "ghost"),
    ("no_fan_out", "insert into marts.fct_orders from marts.fct_orders where order_id = 'o1'", "marts.fct_orders"),
    ("no_fan_out", "update marts.fct_tickets set ticket_id = null where ticket_id = 't1'", "marts.fct_tickets"),
]


@pytest.mark.parametrize("name, statement, named", BROKEN)
def test_a_broken_identity_is_found_and_names_the_rows(breaking, name, statement, named):
    breaking.execute(statement)
    (chosen,) = [i for i in invariants.BEFORE_PUBLISHING if i.name == name]
    (verdict,) = invariants.verify(breaking, (chosen,))
    assert not verdict.is_met and verdict.failing_rows > 0 and named in verdict.detail


@pytest.mark.parametrize("counts", ["(1, 1, 1), (2, 2, 2)", "(2, 2, 2), (1, 3, 3)", "(2, 1, 2), (1, 1, 1)"])
def test_stages_that_more_deals_reach_than_the_one_before_are_found(breaking, monkeypatch, counts):
    """The counts of stages come from one engine, which cannot be made to rise by its data; a wrong engine can."""
    text = f"SELECT 'new' AS pipeline, 's' || row_number() OVER () AS stage, row_number() OVER () AS stage_position, * FROM (VALUES {counts}) AS t(in_order, any_stage, imputed)"
    monkeypatch.setattr(invariants.funnel_deals, "counts_sql", lambda spec: (text, {}))
    (chosen,) = [i for i in invariants.BEFORE_PUBLISHING if i.name == "funnels_are_monotone"]
    (verdict,) = invariants.verify(breaking, (chosen,))
    assert verdict.failing_rows == 1 and "deals of new" in verdict.detail


def test_no_invariant_is_without_a_test_that_sees_it_fail():
    assert {name for name, _, _ in BROKEN} == {i.name for i in invariants.BEFORE_PUBLISHING}


def test_every_mart_declares_its_key():
    from models.invariants import MARTS, mart_keys
    marts = {f.stem for f in MARTS.glob("*.sql")}
    assert marts - set(mart_keys()) == {"fct_exchange_rates"}, "its key is currency and first day together, held by a dbt test"
