"""A real CRM's database, end to end: twelve months of an Odoo 17 in PostgreSQL through the `odoo` source to published marts.

The recount reads the CRM's tables as CSV in plain Python (Odoo demo data, LGPL-3; fictional people).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from fixtures.odoo_database import ODOO, load_odoo, read_csv, running_server
from fixtures.shared_data import given
from typer.testing import CliRunner

from data_contracts.environment import Home
from models import warehouse
from pipelines.cli import app

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1200)]
RATES = {"USD": Decimal(1), "EUR": Decimal("1.2834"), "CNY": Decimal("8.7556")}   # res_currency_rate: units per dollar


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose source is the CRM's database, its password in the environment, run once by the commands of the README."""
    place = tmp_path_factory.mktemp("odoo") / "home"
    runner = CliRunner()
    with running_server() as uri:
        url = load_odoo(uri, given(ODOO), "crm").replace("postgres:@", "postgres:${CRM_PASSWORD}@")

        def rapport(*words: str) -> str:
            done = runner.invoke(app, [*words, "--home", str(place)], catch_exceptions=False, env={"CRM_PASSWORD": "Secr3t-canary"})
            assert done.exit_code == 0, done.output
            assert "Secr3t-canary" not in done.output
            return done.output
        rapport("init", "--currency", "USD")
        rapport("source", "add", "crm", "--type", "odoo", "--option", f"url={url}")
        assert "crm_lead" in rapport("source", "test", "crm")
        assert "published" in rapport("run")
    yield Home(place)


@pytest.fixture(scope="module")
def ask(home: Home) -> Callable[[str], list[tuple]]:
    """Asks the published snapshot."""
    def query(sql: str) -> list[tuple]:
        with warehouse.reading(home) as snapshot:
            return snapshot.con.execute(sql).fetchall()
    return query


def rows(name: str) -> list[dict[str, str | None]]:
    return read_csv(given(ODOO) / f"{name}.csv")


def is_lost(lead: dict[str, str | None]) -> bool:
    return lead["active"] == "f" and Decimal(lead["probability"] or 0) == 0


def test_nothing_of_the_crm_breaks_its_contract(ask: Callable[[str], list[tuple]]) -> None:
    assert ask("SELECT entity, quarantined FROM ops.batches WHERE quarantined > 0") == []


def test_deals_won_lost_and_open_are_those_of_the_crm(ask: Callable[[str], list[tuple]]) -> None:
    deals = [r for r in rows("crm_lead") if r["type"] == "opportunity"]
    won = {r["id"] for r in rows("crm_stage") if r["is_won"] == "t"}
    expected = Counter("lost" if is_lost(d) else "won" if d["stage_id"] in won else "open" for d in deals)
    found = dict(ask("SELECT CASE WHEN is_won THEN 'won' WHEN is_lost THEN 'lost' ELSE 'open' END, count(*) FROM marts.fct_deals GROUP BY 1"))
    assert found == dict(expected) == {"lost": 363, "won": 103, "open": 70}
    amount = sum(Decimal(d["expected_revenue"]) for d in deals if d["stage_id"] in won and not is_lost(d))
    assert ask("SELECT sum(amount_reporting)::DECIMAL(18,2) FROM marts.fct_deals WHERE is_won") == [(amount,)]


def test_leads_and_their_conversions_are_those_of_the_crm(ask: Callable[[str], list[tuple]]) -> None:
    leads = [r for r in rows("crm_lead") if r["type"] == "lead" or r["date_conversion"]]
    converted = [r for r in leads if r["type"] == "opportunity"]
    assert ask("SELECT count(*), count(*) FILTER (is_converted) FROM marts.fct_leads") == [(len(leads), len(converted))] == [(467, 334)]
    span = [(datetime.fromisoformat(r["date_conversion"]) - datetime.fromisoformat(r["create_date"])).total_seconds() for r in converted]
    assert min(span) >= 0 and ask("SELECT count(*) FROM marts.fct_leads WHERE days_to_convert < 0") == [(0,)]


def test_stage_visits_follow_the_tracked_changes(ask: Callable[[str], list[tuple]]) -> None:
    """Each deal visits one stage more than it changed stages; the first stage has no tracked row. Merged records' changes are not its own."""
    deals = {r["id"] for r in rows("crm_lead") if r["type"] == "opportunity"}
    field = {r["id"] for r in rows("ir_model_fields") if r["name"] == "stage_id" and r["model"] == "crm.lead"}
    messages = {r["id"]: r for r in rows("mail_message") if r["model"] == "crm.lead"}
    changes = Counter(m["res_id"] for v in rows("mail_tracking_value") if v["field_id"] in field and (m := messages.get(v["mail_message_id"])) and not m["subject"])
    visits = dict(ask("SELECT replace(deal_id, 'crm:', ''), count(*) FROM marts.fct_deal_stage_visits GROUP BY 1"))
    assert visits == {d: 1 + changes[d] for d in deals}
    assert ask("SELECT count(*) FROM marts.fct_deal_stage_visits WHERE duration_days < 0") == [(0,)]


def test_counted_orders_convert_at_the_crms_rates(ask: Callable[[str], list[tuple]]) -> None:
    currencies = {r["id"]: r["name"] for r in rows("res_currency")}
    revenue: dict[str, Decimal] = defaultdict(Decimal)
    for order in rows("sale_order"):
        if order["state"] in ("sale", "done"):
            revenue[currencies[order["currency_id"]]] += Decimal(order["amount_untaxed"])
    found = dict(ask("SELECT currency, sum(net_amount)::DECIMAL(18,2) FROM marts.fct_orders WHERE is_counted GROUP BY 1"))
    assert found == dict(revenue) and ask("SELECT count(*), count(*) FILTER (is_counted) FROM marts.fct_orders") == [(98, 75)]
    converted = sum(amount / RATES[currency] for currency, amount in revenue.items())
    (reported,) = ask("SELECT sum(net_amount_reporting) FROM marts.fct_orders WHERE is_counted")[0]
    assert abs(reported - converted) < Decimal("0.01") * 75


def test_the_secret_is_nowhere_in_the_home(home: Home) -> None:
    kept = [p for p in Path(home.root).rglob("*") if p.is_file() and b"Secr3t-canary" in p.read_bytes()]
    assert kept == []
