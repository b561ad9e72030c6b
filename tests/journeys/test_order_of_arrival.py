"""The order in which files arrive, how they are cut into batches and whether a batch comes twice decide nothing: the same facts give the
same warehouse, row for row, from canonical files through `import` and `run`; and what comes later restates what it touches, and no more."""

from __future__ import annotations

import json
import random
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest
from conftest import Cli, write_csv
from fixtures import company_of_sources
from fixtures.published import contents, tables_of

from data_contracts.environment import Home
from models import warehouse

# the run, its batches and its clock are no facts of the company; `card` is a model's record of its training, with run and time in it
OF_THE_RUN = {"run_id", "snapshot_id", "created_at_run", "scored_at", "trained_at", "evaluated_at", "card"}


@pytest.fixture(scope="module")
def in_pieces(tmp_path_factory) -> Cli:
    """The same rows shuffled, cut into three batches of each source that come in another order, one of them twice."""
    place = tmp_path_factory.mktemp("in_pieces")
    cli, chance = company_of_sources.new_home(place), random.Random(20261122)
    for source in company_of_sources.SOURCES:
        parts: list[dict[str, list[dict[str, Any]]]] = [{}, {}, {}]
        for entity, rows in company_of_sources.rows_of(source).items():
            for row in chance.sample(rows, len(rows)):
                chance.choice(parts).setdefault(entity, []).append(row)
        deliveries = [(f"{source}-{n}", parts[n]) for n in (2, 0, 1)]
        deliveries.append((f"{source}-again", {entity: chance.sample(rows, len(rows)) for entity, rows in parts[0].items()}))
        for name, part in deliveries:
            for entity, rows in part.items():
                write_csv(place / name, entity, rows)
            if part:
                cli.run("import", str(place / name), "--source", source)
    cli.build("--as-of", company_of_sources.AS_OF)
    return cli


def tables(cli: Cli) -> list[str]:
    return [*tables_of(Home(cli.home), ("marts", "metrics", "features", "scores", "segments")), "ops.published_numbers", "ops.quarantine_summary"]


def published_numbers(cli: Cli) -> dict[tuple, float]:
    """Value by metric, variant, grain, period, dimension and its value."""
    with warehouse.reading(Home(cli.home)) as opened:
        rows = opened.con.execute("SELECT metric, variant, grain, period, dimension, dimension_value, value FROM ops.published_numbers").fetchall()
        return {row[:6]: row[6] for row in rows}


def test_shuffled_cut_and_repeated_files_give_the_same_warehouse_row_for_row(company_home, in_pieces):
    assert tables(company_home) == tables(in_pieces)
    one, other = (contents(Home(cli.home), tables(cli), OF_THE_RUN) for cli in (company_home, in_pieces))
    different = {table: sorted(set(map(str, rows)) ^ set(map(str, other[table])))[:4] for table, rows in one.items() if rows != other[table]}
    assert different == {}
    assert sum(map(len, one.values())) > 2_000


def test_history_as_of_an_instant_is_the_versions_that_held_then(company_home):
    """Each `as_of` macro against the history filtered in plain Python, at random instants and at every border."""
    chance = random.Random(8)
    with warehouse.reading(Home(company_home.home)) as opened:
        for entity in ("customers", "companies", "deals", "subscriptions"):
            history = opened.con.execute(f"SELECT valid_from, valid_to, * FROM marts.{entity}_history").fetchall()
            borders = sorted({t for row in history for t in row[:2] if t is not None})
            instants = [*borders, *(b - timedelta(microseconds=1) for b in borders), *(datetime(2026, 1, 1) + timedelta(minutes=chance.randrange(500_000)) for _ in range(20))]
            assert history and borders, entity
            for instant in instants:
                held = sorted(str(row[2:]) for row in history if row[0] <= instant and (row[1] is None or row[1] > instant))
                asked = warehouse.run_query(opened, f"SELECT * FROM marts.{entity}_as_of(TIMESTAMP '{instant}')").fetchall()
                assert sorted(map(str, asked)) == held, (entity, instant)


def test_an_analyst_asks_for_the_past_on_the_command_line(company_home, tmp_path):
    rows = company_home.rows("history", "deal", "crm:D4")
    assert [(r["version"], r["valid_from"], r["valid_to"], r["owner_id"], r["changed"]) for r in rows] == [
        (1, "2026-01-20T00:00:00", "2026-05-01T00:00:00", "crm:u1", None), (2, "2026-05-01T00:00:00", None, "crm:u2", "owner_id: crm:u1 → crm:u2")]
    assert [r["version"] for r in company_home.rows("history", "deals", "crm:D4", "--as-of", "2026-05-01T01:30:00+02:00")] == [1]
    company_home.run("history", "deal", "crm:D4", "--as-of", "2026-05-01", "--format", "csv", "--output", str(tmp_path / "d4.csv"))
    assert "crm:u2" in (tmp_path / "d4.csv").read_text(encoding="utf-8") and "crm:u1 →" in (tmp_path / "d4.csv").read_text(encoding="utf-8")
    assert company_home.rows("history", "deal", "crm:D7", "--as-of", "2026-03-01") == [], "deleted on that day"
    unknown, nonsense = (company_home.run("history", *words, ok=False) for words in (("deal", "crm:NONE"), ("order", "crm:O1")))
    assert unknown.returncode == nonsense.returncode == 2 and "deal_id" in unknown.stderr and "customer, company, deal" in nonsense.stderr
    refused = company_home.run("query", "CREATE MACRO marts.deals_as_of(t) AS TABLE SELECT 1", ok=False)
    assert refused.returncode == 2 and "reading" in refused.stderr


@pytest.fixture(scope="module")
def restated(in_pieces, tmp_path_factory) -> Cli:
    """The company after late news: an order of March, a refund of October's order, and an order of April that was deleted."""
    place = tmp_path_factory.mktemp("late")
    gone = next(row for row in company_of_sources.rows_of("crm")["orders"] if row["order_id"] == "O7")
    write_csv(place, "orders", [{**gone, "updated_at": "2026-11-22T11:00:00Z", "deleted_at": "2026-11-22T11:00:00Z"},
                                {"order_id": "O20", "contact_id": "C10", "ordered_at": "2026-03-20T10:00:00Z", "status": "paid", "currency": "EUR", "net_amount": "30", "channel": "web"}])
    write_csv(place, "refunds", [{"refund_id": "R8", "order_id": "O3", "refunded_at": "2026-11-20T08:00:00Z", "amount": "10", "currency": "EUR"}])
    in_pieces.run("import", str(place), "--source", "crm")
    in_pieces.build("--as-of", company_of_sources.AS_OF)
    return in_pieces


def test_late_and_deleted_rows_restate_exactly_the_months_they_touch(company_home, restated):
    log = restated.rows("restatement", "list")
    totals = {(r["metric"], r["variant"], r["period"][:7]): (r["old_value"], r["new_value"]) for r in log if r["dimension"] == "total"}
    about = {k: v for k, v in totals.items() if k[0] in ("orders", "net_revenue", "gross_revenue", "refunds")}
    assert {k: v for k, v in about.items() if k[0] == "orders"} == {("orders", "default", "2026-03"): (2, 3), ("orders", "default", "2026-04"): (2, 1)}
    assert {k[2]: v for k, v in about.items() if k[:2] == ("net_revenue", "restated")} == {"2026-03": (110.5, 140.5), "2026-04": (510, 10), "2026-10": (45, 35)}
    # the refund itself falls into November, which is running; in cash it changes no month that is over. 78 were paid back in April
    assert {k[2]: v for k, v in about.items() if k[:2] == ("net_revenue", "cash")} == {"2026-03": (110.5, 140.5), "2026-04": (432, -68)}
    assert not [k for k in about if k[0] == "refunds"]
    by_channel = {(r["period"][:7], r["dimension_value"]): (r["old_value"], r["new_value"]) for r in log if r["dimension"] == "channel" and r["metric"] == "orders"}
    assert by_channel == {("2026-03", "web"): (2, 3), ("2026-04", "(none)"): (2, 1)}
    told = {r["period"][:7]: (r["cause"], r["reason"]) for r in log if (r["metric"], r["variant"], r["dimension"]) == ("net_revenue", "restated", "total")}
    assert all(cause == "late_rows" for cause, _ in told.values())
    assert "orders 1 (crm " in told["2026-03"][1] and "orders 1 (crm " in told["2026-04"][1] and "refunds 1 (crm " in told["2026-10"][1]
    current = warehouse.current_id(Home(restated.home))
    assert {r["new_snapshot_id"] for r in log} == {current} and all(r["previous_snapshot_id"] < current for r in log)
    before, after = published_numbers(company_home), published_numbers(restated)
    logged = {(r["metric"], r["variant"], r["grain"], date.fromisoformat(r["period"]), r["dimension"], r["dimension_value"]) for r in log}
    # where nothing happened there is no row by channel, which is 0
    differing = {key for key in {*before, *after} if before.get(key, 0) != after.get(key, 0) and key[3] < date(2026, 11, 1)}
    assert logged == differing, "what is not in the log is equal to the last digit"
    assert [r for r in restated.rows("restatement", "list", "--metric", "orders", "--from", "2026-04-01") if r["period"] < "2026-04-01"] == []


def test_an_identity_that_breaks_keeps_the_former_snapshot_and_names_the_rows(restated):
    """The book of one customer no longer closes: nothing is published, however the publish is started, and everybody is told."""
    home = Home(restated.home)
    before = warehouse.current_id(home)
    with duckdb.connect(str(home.warehouse)) as con:
        con.execute("UPDATE metrics.mtr_revenue_movements SET expansion = expansion + 1 WHERE period_grain = 'month' AND period_start = '2026-05-01' AND currency = 'EUR'")
        con.execute("INSERT INTO marts.fct_refunds FROM marts.fct_refunds WHERE refund_id = 'crm:R1'")
    done = restated.run("run", "--only", "serving", ok=False)
    assert done.returncode == 3 and "waterfall_closes" in done.stderr and "Traceback" not in done.stderr
    assert warehouse.current_id(home) == before
    told = restated.run("status").stdout
    assert "blocked" in told and "waterfall_closes on metrics.mtr_revenue_movements" in told and "2026-05-01" in told and "still show the snapshot" in told
    assert "no_fan_out on marts, 1 rows: mart marts.fct_refunds" in told
    pages = json.loads(warehouse.read_state(home, "last_run"))
    assert pages["state"] == "blocked" and {f["check"] for f in pages["failures"] if f["severity"] == "error"} >= {"waterfall_closes", "no_fan_out"}
