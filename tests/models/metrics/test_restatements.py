"""What is published and later changed is in the log, with old value, new value and cause, and nothing else is. On the hand-made marts of
this folder, whose data reach to the end of 22 November: September and October are complete, November is running."""

from datetime import date, datetime

import duckdb
import polars as pl
import pytest

from models import ingest, metrics, restatement_causes, restatements

SEP, OCT, NOV = date(2026, 9, 1), date(2026, 10, 1), date(2026, 11, 1)
LATER = datetime(2026, 11, 23, 8)


@pytest.fixture(scope="module")
def built(making):
    """A function that makes a warehouse of these marts, changed by statements before its metric layer is built."""
    def build(*statements: str) -> duckdb.DuckDBPyConnection:
        con = duckdb.connect()
        making.create(con)
        for schema in ("landing", "quarantine", "segments"):
            con.execute(f"create schema {schema}")
        ingest.prepare(con)
        con.execute("alter table meta.snapshot add column run_id varchar")
        for statement in statements:
            con.execute(statement)
        making.build_layer(con, engines=True)
        metrics.write_definitions(con)
        return con
    return build


def publish(con: duckdb.DuckDBPyConnection, former: duckdb.DuckDBPyConnection | None = None, number: int = 1) -> pl.DataFrame:
    return restatements.record(con, former, previous_id=f"s{number - 1}" if former else None, snapshot_id=f"s{number}", run_id=f"run-{number}",
                               newest_id=f"s{number - 1}" if former else None, full_refresh=False, at=LATER)


def restatements_of(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    return con.execute("FROM ops.published_numbers ORDER BY ALL").pl()


def values(rows: pl.DataFrame, metric: str, variant: str = "default", dimension: str = "total") -> dict:
    """(period, dimension value) → (old, new)."""
    found = rows.filter((pl.col("metric") == metric) & (pl.col("variant") == variant) & (pl.col("dimension") == dimension))
    return {(period, value) if value else period: (old, new) for period, value, old, new in found.select("period", "dimension_value", "old_value", "new_value").iter_rows()}


@pytest.fixture(scope="module")
def published(built):
    con = built()
    publish(con)
    return con


def test_the_stored_months_are_what_the_engines_answer(published):
    known = metrics.registry(published)
    offered = {f"{m.id}__{v.name}": known.dimensions_of(known.nodes[v.node]) for m in known.values() for v in m.variants.values()}
    for by in ((), ("channel",)):
        asked = tuple(name for name, dimensions in offered.items() if not by or "channel" in dimensions)
        request = metrics.MetricRequest(asked, by=by, grain="month", start=SEP, end=date(2026, 11, 23))
        live, stored = (metrics.query(published, request, reads_stored=choice).frame for choice in (False, True))
        assert live.equals(stored) and live.height >= 3


def test_a_backdated_order_restates_its_month_and_no_other(built, published):
    """B, who first bought on 20 September, is found to have bought for 50 on 25 September by the web."""
    con = built("insert into marts.fct_orders values ('o9', 'B', null, '2026-09-25 10:00', '2026-09-25', true, true, 'EUR', 55, 50, 50, 0, 'web', 'AT', 2, false)")
    rows = publish(con, published, 2)
    assert values(rows, "orders") == {SEP: (2, 3)}
    assert values(rows, "gross_revenue") == {SEP: (230, 285)}
    assert values(rows, "net_revenue", "restated") == {SEP: (200, 250)} == values(rows, "net_revenue", "cash")
    assert values(rows, "average_order_value", "restated") == {SEP: (100, pytest.approx(250 / 3))}
    assert values(rows, "orders", dimension="channel") == {(SEP, "web"): (1, 2)}
    # of the 200 by the customers of September 60 came back in October; it is of 250 now
    assert values(rows, "retention_rate", "revenue") == {SEP: (0.3, 0.24)}
    assert rows["period"].unique().to_list() == [SEP]
    untouched = [restatements_of(c).filter(pl.col("period") != SEP).write_csv() for c in (published, con)]
    assert untouched[0] == untouched[1] and untouched[0].count("\n") > 300, "the other months are equal to the last digit"


def test_a_late_refund_restates_the_month_of_its_order_and_in_cash_its_own(built, published):
    """Of o4 (3 October, 80 by the web) 20 were paid back on 12 October; the row came now."""
    con = built("insert into marts.fct_refunds values ('r4', 'o4', true, 'C', '2026-10-12', 'EUR', 20, 20, 'late')",
                "update marts.fct_orders set refunded_amount_reporting = 20, net_revenue_reporting = 60 where order_id = 'o4'")
    rows = publish(con, published, 2)
    assert values(rows, "refunds") == {OCT: (55, 75)}
    assert values(rows, "net_revenue", "restated") == {OCT: (135, 115)}     # 60 + 80 + 0, less 5 of a refund that names no order
    assert values(rows, "orders") == {} == values(rows, "gross_revenue")


def test_a_deleted_order_takes_its_value_out_of_its_month(built, published):
    con = built("delete from marts.fct_orders where order_id = 'o2'")
    rows = publish(con, published, 2)
    assert values(rows, "orders") == {SEP: (2, 1)} and values(rows, "net_revenue", "restated") == {SEP: (200, 100)}
    assert values(rows, "orders", dimension="channel") == {(SEP, "shop"): (1, 0)}, "what adds up has come to 0 where its last row went"


def test_a_running_month_grows_without_being_restated(built, published):
    con = built("insert into marts.fct_orders values ('o9', 'B', null, '2026-11-21 10:00', '2026-11-21', true, true, 'EUR', 55, 50, 50, 0, 'web', 'AT', 2, false)")
    rows = publish(con, published, 2)
    assert rows.is_empty() or not rows.filter((pl.col("period") == NOV) | pl.col("metric").is_in(["orders", "net_revenue"])).height


def test_a_month_before_the_first_is_restated_from_nothing(built, published):
    con = built("insert into marts.fct_orders values ('o0', null, null, '2025-03-02 10:00', '2025-03-02', true, true, 'EUR', 55, 50, 50, 0, 'web', 'AT', null, false)")
    rows = publish(con, published, 2)
    assert values(rows, "orders") == {date(2025, 3, 1): (0, 1)} and values(rows, "average_order_value", "restated") == {}


def test_the_log_is_the_difference_of_all_answers(built, published):
    """Every metric asked one by one of both states, compared in plain Python: the log holds the months that differ, and no other."""
    con = built("insert into marts.fct_orders values ('o9', 'B', null, '2026-09-25 10:00', '2026-09-25', true, true, 'EUR', 55, 50, 50, 0, 'web', 'AT', 2, false)",
                "delete from marts.fct_orders where order_id = 'o4'", "update marts.fct_tickets set resolution_hours = 20 where ticket_id = 't2'",
                "insert into marts.fct_survey_responses values ('q0', 'csat', 'A', 'email', '2026-09-03', '2026-09-04', 1, true, false)")
    logged = publish(con, published, 2).filter(pl.col("dimension") == "total")
    expected = set()
    for metric in metrics.registry(con).values():
        for variant in metric.variants:
            if (metric.id, variant) in {("clv", "historic_and_predicted"), ("clv", "predicted"), ("ltv_cac", "default")}:
                continue
            request = metrics.MetricRequest((f"{metric.id}__{variant}",), grain="month", start=date(2026, 7, 1), end=NOV)
            before, after = (metrics.query(c, request) for c in (published, con))
            complete = before.details.filter(pl.col(f"{next(iter(before.columns))}__is_complete"))["period"].to_list()
            for (period, old), (_, new) in zip(before.frame.iter_rows(), after.frame.iter_rows(), strict=True):
                incomplete_cohort = metric.id == "retention_rate" and period == OCT
                if period in complete and not incomplete_cohort and (old is None) != (new is None) or (None not in (old, new) and abs(old - new) > 1e-9 and period in complete):
                    expected.add((metric.id, variant, period))
    assert set(logged.select("metric", "variant", "period").iter_rows()) == expected
    assert {m for m, _, _ in expected} >= {"orders", "csat", "resolution_time", "retention_rate", "net_revenue"}


def land(con: duckdb.DuckDBPyConnection, entity: str, batch: str, seq: int, rows: list[dict]) -> None:
    for n, row in enumerate(rows):
        con.execute(f"INSERT INTO landing.{entity} BY NAME SELECT {', '.join(f'CAST(? AS VARCHAR) AS {k}' for k in row)}, 'shop' AS _source, ? AS _batch_id, ? AS _batch_seq, false AS _is_tombstone, ? AS _row_hash",
                    [*row.values(), batch, seq, f"{batch}{n}"])
    con.execute("INSERT INTO ops.batches BY NAME SELECT ? AS batch_id, ? AS batch_seq, 'shop' AS source, ? AS entity, ? AS accepted, 0 AS deleted", [batch, seq, entity, len(rows)])


@pytest.mark.parametrize("statements, landed, cause, says", [
    ((), [("orders", [{"order_id": "o9", "ordered_at": "2026-09-25 10:00"}])], "late_rows", "orders 1 (shop b2)"),
    ((), [("refunds", [{"refund_id": "r9", "order_id": "o1", "refunded_at": "2026-11-20"}])], "late_rows", "refunds 1 (shop b2)"),      # of an order of September
    ((), [("orders", [{"order_id": "o1", "ordered_at": "2026-11-05 10:00"}])], "late_rows", "orders 1 (shop b2)"),                       # moved out of September
    ((), [("orders", [{"order_id": "o9", "ordered_at": "2026-11-05 10:00"}])], "other_rows", "of 2026-11 (shop b2)"),
    ((), [("tickets", [{"ticket_id": "t9", "created_at": "2026-09-25 10:00"}])], "unexplained", "no new row"),                           # tickets make no revenue
    (("update ops.settings set time_zone = 'Asia/Tokyo'",), [("orders", [{"order_id": "o9", "ordered_at": "2026-09-25 10:00"}])], "setting", "time_zone from Europe/Berlin to Asia/Tokyo; rows of the period: orders 1"),
    (("update ops.settings set as_of = '2026-11-01'",), [], "as_of", "after 2026-11-22"),
])
def test_a_change_is_told_with_what_explains_it(making, statements, landed, cause, says):
    states = []
    for changes in ((), statements):
        con = duckdb.connect()
        making.create(con)
        for schema in ("landing", "quarantine", "segments"):
            con.execute(f"create schema {schema}")
        ingest.prepare(con)
        con.execute("create or replace table meta.snapshot as select 's1' as snapshot_id, 'run-1' as run_id")
        land(con, "orders", "b1", 1, [{"order_id": "o1", "ordered_at": "2026-09-05 10:00"}])
        for statement in changes:
            con.execute(statement)
        metrics.write_definitions(con)
        states.append(con)
    for entity, rows in landed:
        land(states[1], entity, "b2", 2, rows)
    rows = pl.DataFrame({"metric": ["net_revenue"], "variant": ["restated"], "period": [SEP], "has_new_definition": [False]})
    told = restatement_causes.explain(states[1], states[0], rows, full_refresh=False)
    assert told["cause"].to_list() == [cause] and says in told["reason"][0]


def test_a_changed_definition_is_the_cause(built, published):
    con = built()
    con.execute("update meta.metrics set definitions = replace(definitions, 'net_revenue_reporting', 'net_revenue_reporting * 2')")
    rows = publish(con, published, 2)
    assert rows.filter(pl.col("metric") == "net_revenue")["cause"].unique().to_list() == ["definition"]
    assert "orders" not in rows["metric"].to_list()


def test_the_log_grows_and_forgets_what_was_never_published(built, published):
    changed = "update marts.fct_orders set net_amount_reporting = 150, net_revenue_reporting = 150 where order_id = 'o1'"
    second = built(changed)
    assert publish(second, published, 2).height
    assert restatements.listed(second, metric="net_revenue", end=OCT)["period"].unique().to_list() == [SEP]
    assert restatements.listed(second, start=NOV).is_empty() and restatements.listed(second, cause="identity").is_empty()
    restatements.forget(second, "s2")
    assert restatements.listed(second).is_empty()
    publish(second, published, 2)
    height = restatements.listed(second).height
    third = built(changed)           # the warehouse was deleted and built anew: the log comes from the snapshot, and nothing changed
    assert publish(third, second, 3).is_empty()
    assert restatements.listed(third).height == height > 0
    restatements.record(third, published, previous_id="s1", snapshot_id="s4", run_id="r", newest_id="s1", full_refresh=False, at=LATER)
    assert restatements.listed(third)["new_snapshot_id"].unique().to_list() == ["s4"], "s2 stems from a publish that did not come about"
