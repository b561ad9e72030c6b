"""The `odoo` source on a real PostgreSQL, against a recount of the same tables in plain Python (Odoo demo data, LGPL-3).

The recount reads the CSV files with the csv module and shares nothing with the mapping.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from fixtures.odoo_database import ODOO, load_odoo, read_csv
from fixtures.shared_data import given

from data_contracts.contract import load_contracts
from data_contracts.environment import Home, SourceDeclaration
from data_contracts.errors import SourceError
from pipelines.sources import base
from pipelines.sources.mapping import load_mapping
from pipelines.sources.types.odoo import MAPPING_FILE

pytestmark = pytest.mark.postgres
WRITTEN = datetime(2026, 11, 22, tzinfo=UTC)   # the CRM ran until then


@pytest.fixture(scope="module")
def csvs() -> Callable[[str], list[dict[str, str | None]]]:
    """Rows of one CSV, read once."""
    folder = given(ODOO)
    cache: dict[str, list[dict[str, str | None]]] = {}
    return lambda name: cache.setdefault(name, read_csv(folder / f"{name}.csv"))


@pytest.fixture(scope="module")
def extraction(odoo_url: str, tmp_path_factory: pytest.TempPathFactory) -> base.Extraction:
    root = tmp_path_factory.mktemp("odoo")
    return base.extract(SourceDeclaration("crm", "odoo", {"url": odoo_url}, base=root), Home(root), "b1", set())


@pytest.fixture(scope="module")
def entity(extraction: base.Extraction) -> Callable[[str], list[dict[str, Any]]]:
    """Rows of one delivered entity."""
    paths = {d.entity: d.path for d in extraction.deliveries}
    cache: dict[str, list[dict[str, Any]]] = {}
    return lambda name: cache.setdefault(name, pl.read_parquet(paths[name]).rows(named=True))


def instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


def english(text: str | None) -> str | None:
    return json.loads(text)["en_US"] if text else None


def is_lost(lead: dict[str, str | None]) -> bool:
    return lead["active"] == "f" and Decimal(lead["probability"] or 0) == 0


def by_id(rows: list[dict[str, Any]], key: str = "id") -> dict[str, dict[str, Any]]:
    return {r[key]: r for r in rows}


def test_every_entity_is_delivered_in_full_and_without_a_warning(extraction: base.Extraction) -> None:
    assert extraction.is_live and extraction.warnings == [] and {d.mode for d in extraction.deliveries} == {"full"}
    assert sum(d.rejected for d in extraction.deliveries) == 0
    assert {d.entity for d in extraction.deliveries} == {
        "users", "companies", "contacts", "leads", "pipeline_stages", "deals", "deal_changes", "products", "orders", "order_lines", "refunds", "campaigns", "campaign_members",
        "touchpoints", "activities", "tickets", "survey_responses", "consents", "exchange_rates", "targets"}


def test_keys_are_unique_and_references_lead_somewhere(entity: Callable) -> None:
    delivered = [c for c in load_contracts().values() if c.entity in {"leads", "deals", "orders", "order_lines", "deal_changes", "contacts", "companies", "activities", "tickets", "consents",
                                                                     "survey_responses", "campaign_members", "touchpoints", "refunds", "pipeline_stages", "exchange_rates", "users"}]
    for contract in delivered:
        keys = [tuple(r.get(k) for k in contract.key) for r in entity(contract.entity)]
        assert len(keys) == len(set(keys)) > 0 or not keys, contract.entity
        for column in contract.columns:
            if column.references and contract.entity != "users":
                known = {r[load_contracts()[column.references].key[0]] for r in entity(column.references)}
                missing = {r[column.name] for r in entity(contract.entity) if r.get(column.name)} - known
                assert not missing, f"{contract.entity}.{column.name} points to {sorted(missing)[:3]}"


def test_partners_are_companies_or_people_and_staff_is_marked(csvs: Callable, entity: Callable) -> None:
    partners = csvs("res_partner")
    companies, contacts = by_id(entity("companies"), "company_id"), by_id(entity("contacts"), "contact_id")
    assert set(companies) == {p["id"] for p in partners if p["is_company"] == "t"}
    assert set(contacts) == {p["id"] for p in partners if p["is_company"] != "t"} | {f"mailing-{m['id']}" for m in csvs("mailing_contact")}
    staff = {u["partner_id"] for u in csvs("res_users") if not (u["share"] == "t" and u["active"] == "t")}
    assert {i for i, c in contacts.items() if c["is_test"]} == staff and [i for i, c in companies.items() if c["is_test"]] == ["1"]
    countries = {c["id"]: c["code"] for c in csvs("res_country")}
    for partner in partners:
        if partner["is_company"] != "t":
            contact = contacts[partner["id"]]
            assert contact["company_id"] == (partner["parent_id"] if partner["parent_id"] in companies else None)
            assert contact["email"] == partner["email_normalized"] and contact["country_code"] == countries.get(partner["country_id"])
            assert " ".join(filter(None, [contact["first_name"], contact["last_name"]])) == partner["name"]
            assert (contact["deleted_at"] is None) == (partner["active"] == "t") and contact["created_at"] == instant(partner["create_date"])


def test_a_row_of_crm_lead_is_a_lead_a_deal_or_both(csvs: Callable, entity: Callable) -> None:
    rows = csvs("crm_lead")
    assert len(rows) == 669
    assert {r["lead_id"] for r in entity("leads")} == {r["id"] for r in rows if r["type"] == "lead" or r["date_conversion"]}
    assert {r["deal_id"] for r in entity("deals")} == {r["id"] for r in rows if r["type"] == "opportunity"}


def test_leads_convert_in_place_or_are_disqualified(csvs: Callable, entity: Callable) -> None:
    leads, reasons = by_id(entity("leads"), "lead_id"), {r["id"]: english(r["name"]) for r in csvs("crm_lost_reason")}
    mediums, sources = ({r["id"]: r["name"].lower() for r in csvs(t)} for t in ("utm_medium", "utm_source"))
    for row in csvs("crm_lead"):
        if row["id"] not in leads:
            continue
        lead, converted = leads[row["id"]], row["type"] == "opportunity"
        assert lead["converted_at"] == (instant(row["date_conversion"]) if converted else None) and lead["converted_deal_id"] == (row["id"] if converted else None)
        lost = is_lost(row) and not converted
        assert (lead["disqualified_at"] is not None) == lost and lead["disqualified_reason"] == (reasons.get(row["lost_reason_id"]) if lost else None)
        assert lead["status"] == ("converted" if converted else "disqualified" if lost else "open")
        assert lead["created_at"] == instant(row["create_date"]) and lead["channel"] == (mediums.get(row["medium_id"]) or sources.get(row["source_id"])) and lead["campaign_id"] == row["campaign_id"]
    assert Counter(r["status"] for r in leads.values()) == {"converted": 334, "disqualified": 97, "open": 36}


def test_deals_are_won_by_their_stage_and_lost_by_being_archived(csvs: Callable, entity: Callable) -> None:
    deals, stages = by_id(entity("deals"), "deal_id"), {s["id"]: s for s in csvs("crm_stage")}
    teams, partners = {t["id"]: english(t["name"]) for t in csvs("crm_team")}, by_id(csvs("res_partner"))
    for row in csvs("crm_lead"):
        if row["type"] != "opportunity":
            continue
        deal, stage = deals[row["id"]], stages[row["stage_id"]]
        assert deal["is_lost"] == is_lost(row) and deal["is_won"] == (stage["is_won"] == "t" and not is_lost(row)) and deal["stage"] == english(stage["name"])
        assert deal["pipeline"] == teams[row["team_id"]] and deal["amount"] == Decimal(row["expected_revenue"] or 0) and deal["currency"] == "USD"
        assert deal["created_at"] == (instant(row["date_conversion"]) or instant(row["create_date"])) and deal["probability"] == Decimal(row["probability"]) / 100
        closed = deal["is_won"] or deal["is_lost"]
        assert (deal["closed_at"] is not None) == closed
        if closed:
            assert timedelta(0) <= deal["closed_at"] - instant(row["date_closed"]) <= timedelta(seconds=2) and deal["closed_at"] >= deal["created_at"]
        partner = partners.get(row["partner_id"] or "")
        assert deal["contact_id"] == (partner["id"] if partner and partner["is_company"] != "t" else None)
        company = (partner["id"] if partner["is_company"] == "t" else partner["parent_id"]) if partner else None
        assert deal["company_id"] == company, "the CRM's own company is not the customer"
    won = sum(Decimal(r["expected_revenue"]) for r in csvs("crm_lead") if r["type"] == "opportunity" and stages[r["stage_id"]]["is_won"] == "t" and not is_lost(r))
    assert won == sum(d["amount"] for d in deals.values() if d["is_won"]) == Decimal("1249519.69")
    assert Counter((d["is_won"], d["is_lost"]) for d in deals.values()) == {(True, False): 103, (False, True): 363, (False, False): 70}


@pytest.fixture(scope="module")
def tracked(csvs: Callable) -> list[dict[str, Any]]:
    """Tracked changes of leads and opportunities, with field, record and time."""
    messages, names = by_id(csvs("mail_message")), {f["id"]: f["name"] for f in csvs("ir_model_fields")}
    found = []
    for value in csvs("mail_tracking_value"):
        message = messages[value["mail_message_id"]]
        if message["model"] == "crm.lead":
            found.append(value | {"field": names[value["field_id"]], "res_id": message["res_id"], "at": instant(message["date"]), "subject": message["subject"]})
    return sorted(found, key=lambda v: (v["at"], int(v["id"])))


def test_the_history_of_a_deal_is_its_own_and_an_unbroken_chain(csvs: Callable, entity: Callable, tracked: list[dict[str, Any]]) -> None:
    """A merge hands the loser's messages to the survivor; with them the chain of stages breaks in places."""
    stage_names = {s["id"]: english(s["name"]) for s in csvs("crm_stage")}
    changes, deals = [c for c in entity("deal_changes") if c["field"] == "stage"], by_id(entity("deals"), "deal_id")
    own = [v for v in tracked if v["field"] == "stage_id" and not (v["subject"] or "").startswith("From ")]
    assert len([v for v in tracked if v["field"] == "stage_id"]) == 572 and len(own) == 566
    expected = Counter((v["res_id"], stage_names[v["old_value_integer"]], stage_names[v["new_value_integer"]], int(v["id"])) for v in own if v["res_id"] in deals)
    assert Counter((c["deal_id"], c["old_value"], c["new_value"], c["sequence"]) for c in changes) == expected
    now: dict[str, str] = {}
    for change in sorted(changes, key=lambda c: (c["changed_at"], c["sequence"])):
        assert now.setdefault(change["deal_id"], change["old_value"]) == change["old_value"]
        now[change["deal_id"]] = change["new_value"]
        deal = deals[change["deal_id"]]
        assert deal["created_at"] <= change["changed_at"] and (deal["closed_at"] is None or change["changed_at"] <= deal["closed_at"])
    assert all(deals[d]["stage"] == stage for d, stage in now.items())


def test_amounts_owners_and_losses_are_in_the_history(entity: Callable, tracked: list[dict[str, Any]]) -> None:
    deals = by_id(entity("deals"), "deal_id")
    own = [v for v in tracked if v["res_id"] in deals and not v["subject"] and v["at"] >= deals[v["res_id"]]["created_at"].replace(microsecond=0)]
    changes = entity("deal_changes")
    cents = Decimal("0.0001")   # the CRM keeps tracked amounts as floating-point numbers
    amounts = Counter((v["res_id"], Decimal(v["old_value_float"]).quantize(cents), Decimal(v["new_value_float"]).quantize(cents)) for v in own if v["field"] == "expected_revenue")
    assert Counter((c["deal_id"], Decimal(c["old_value"]), Decimal(c["new_value"])) for c in changes if c["field"] == "amount") == amounts and sum(amounts.values()) == 264
    losses = Counter((v["res_id"], v["new_value_integer"] == "0") for v in own if v["field"] == "active")
    assert Counter((c["deal_id"], c["new_value"] == "true") for c in changes if c["field"] == "is_lost") == losses
    last: dict[str, str] = {}
    for change in sorted((c for c in changes if c["field"] == "is_lost"), key=lambda c: (c["changed_at"], c["sequence"])):
        last[change["deal_id"]] = change["new_value"]
    assert all(deals[d]["is_lost"] == (value == "true") for d, value in last.items())


def test_what_the_history_leaves_out_is_counted(extraction: base.Extraction, entity: Callable, tracked: list[dict[str, Any]]) -> None:
    merged = sum(1 for v in tracked if v["subject"])
    assert extraction.ignored["tracked change of a record that was merged into another"] == merged == 56
    deals = {d["deal_id"] for d in entity("deals")}
    before = sum(1 for v in tracked if not v["subject"] and v["res_id"] not in deals)
    assert extraction.ignored["tracked change of a lead, before it became a deal or without becoming one"] >= before


def test_orders_keep_their_own_currency_and_equal_their_lines(csvs: Callable, entity: Callable) -> None:
    currencies, orders = {c["id"]: c["name"] for c in csvs("res_currency")}, by_id(entity("orders"), "order_id")
    assert len(orders) == 98 and {o["currency"] for o in orders.values()} == {"USD", "EUR", "CNY"}
    lines: Counter = Counter()
    for line in entity("order_lines"):
        lines[line["order_id"]] += line["quantity"] * line["unit_price"] - line["discount_amount"]
    partners = by_id(csvs("res_partner"))
    for row in csvs("sale_order"):
        order = orders[row["id"]]
        assert order["net_amount"] == Decimal(row["amount_untaxed"]) == lines[row["id"]] and order["tax_amount"] == Decimal(row["amount_tax"])
        assert order["currency"] == currencies[row["currency_id"]] and order["status"] == row["state"] and order["deal_id"] == row["opportunity_id"]
        assert order["ordered_at"] == instant(row["date_order"]) and order["gross_amount"] - order["discount_amount"] == order["net_amount"]
        is_company = partners[row["partner_id"]]["is_company"] == "t"
        assert (order["company_id"] if is_company else order["contact_id"]) == row["partner_id"] and (order["contact_id"] is None) == is_company
    assert Counter(o["status"] for o in orders.values()) == {"sale": 75, "draft": 22, "sent": 1}
    assert sum(1 for line in csvs("sale_order_line") if not line["display_type"]) == len(entity("order_lines")) == 234


def test_credit_notes_are_refunds_without_tax(csvs: Callable, entity: Callable) -> None:
    notes = {m["id"]: m for m in csvs("account_move") if m["move_type"] == "out_refund" and m["state"] == "posted"}
    refunds = by_id(entity("refunds"), "refund_id")
    assert set(refunds) == set(notes) and len(notes) == 5
    for i, note in notes.items():
        assert refunds[i]["amount"] == Decimal(note["amount_untaxed"]) and refunds[i]["refunded_at"] == instant(note["invoice_date"]) and refunds[i]["company_id"] == note["partner_id"]


def test_done_activities_are_interactions_and_open_ones_are_not(csvs: Callable, entity: Callable) -> None:
    activities = by_id(entity("activities"), "activity_id")
    done = [m for m in csvs("mail_message") if m["mail_activity_type_id"]]
    kinds = {t["id"]: "email" if "Email" in english(t["name"]) else {"phonecall": "call", "meeting": "meeting"}.get(t["category"], "task") for t in csvs("mail_activity_type")}
    assert Counter(activities[f"message-{m['id']}"]["kind"] for m in done) == Counter(kinds[m["mail_activity_type_id"]] for m in done)
    written = [m for m in csvs("mail_message") if m["message_type"] in ("email", "comment", "sms", "email_outgoing") and m["model"] in ("crm.lead", "res.partner", "sale.order") and not m["mail_activity_type_id"]]
    meetings = [e for e in csvs("calendar_event") if instant(e["start"]) <= WRITTEN]
    assert len(activities) == len(done) + len(written) + len(meetings) == 540
    for message in done + written:
        activity = activities[f"message-{message['id']}"]
        assert activity["occurred_at"] == instant(message["date"]) and activity["is_customer_facing"] == (activity["kind"] not in ("task", "note"))
        assert not re.search(r"<\w+", activity["body"] or "")
    assert {a["direction"] for a in activities.values() if a["kind"] == "email"} == {"inbound", "outbound"}


def test_rates_are_units_of_a_currency_per_unit_of_the_companys(csvs: Callable, entity: Callable) -> None:
    delivered = entity("exchange_rates")
    rates = {(r["base_currency"], r["quote_currency"]): r["rate"] for r in delivered}
    assert rates["USD", "EUR"] == Decimal("1.2834") and rates["USD", "CNY"] == Decimal("8.7556")
    assert len(delivered) == len([r for r in csvs("res_currency_rate") if r["currency_id"] != "1"])


def test_ratings_mailings_consents_and_targets(csvs: Callable, entity: Callable) -> None:
    answers = by_id(entity("survey_responses"), "response_id")
    assert {i: a["score"] for i, a in answers.items()} == {r["id"]: Decimal(r["rating"]) for r in csvs("rating_rating") if r["consumed"] == "t"}
    members = by_id(entity("campaign_members"), "member_id")
    for trace in csvs("mailing_trace"):
        member = members[trace["id"]]
        assert member["contact_id"] == trace["res_id"] and member["first_replied_at"] == instant(trace["reply_datetime"]) and member["first_opened_at"] == instant(trace["open_datetime"])
        assert (member["delivered_at"] is not None) == (trace["trace_status"] in ("sent", "open", "reply")) and (member["bounced_at"] is not None) == (trace["trace_status"] == "bounce")
    assert Counter(c["status"] for c in entity("consents")) == {"granted": 7, "withdrawn": 2} == Counter("withdrawn" if s["opt_out"] == "t" else "granted" for s in csvs("mailing_subscription"))
    assert sum(t["value"] for t in entity("targets")) == sum(Decimal(t["invoiced_target"] or 0) for t in csvs("crm_team") if t["active"] == "t") == 290_000


def test_stages_are_those_of_teams_in_use_in_their_order(csvs: Callable, entity: Callable) -> None:
    stages = {(s["pipeline"], s["stage"]): s for s in entity("pipeline_stages")}
    assert set(stages) == {(t, s) for t in ("Sales", "Pre-Sales") for s in ("New", "Qualified", "Proposition", "Won")}
    assert [stages["Sales", s]["position"] for s in ("New", "Qualified", "Proposition", "Won")] == [1, 2, 3, 4]
    assert {s for (_, s), row in stages.items() if row["is_won"]} == {"Won"} and not any(s["is_lost"] for s in stages.values())
    assert {(d["pipeline"], d["stage"]) for d in entity("deals")} <= set(stages)


# -- other databases ---------------------------------------------------------------------------------------------------

@pytest.fixture
def small(postgres: str, csvs: Callable, tmp_path: Path) -> Callable[..., str]:
    """A database with only some tables and the first rows of the others."""
    count = iter(range(100))

    def make(without: tuple[str, ...] = ()) -> str:
        folder = tmp_path / "csv"
        folder.mkdir(exist_ok=True)
        for name in load_mapping(MAPPING_FILE, "crm").tables:
            source = given(ODOO) / f"{name}.csv"
            if source.exists() and name not in without:
                rows = csvs(name)
                kept = [r for r in rows if r["model"] == "crm.lead"] if name == "ir_model_fields" else rows if name in ("res_currency", "res_country") else rows[:40]
                pl.DataFrame(kept, schema=dict.fromkeys(rows[0] if rows else ["id"], pl.String), orient="row").write_csv(folder / source.name)
        return load_odoo(postgres, folder, f"small_{next(count)}_{tmp_path.name[:20].replace('-', '_').lower()}", without)
    return make


def test_modules_that_are_not_installed_leave_their_entities_empty(small: Callable[..., str], home: Home, declared: Callable[..., SourceDeclaration], csvs: Callable) -> None:
    spec = load_mapping(MAPPING_FILE, "crm").tables
    url = small(without=tuple(t for t, s in spec.items() if s.optional))
    taken = base.extract(declared("odoo", url=url), home, "b1", set())
    counts = {d.entity: d.rows for d in taken.deliveries}
    assert counts["orders"] == counts["tickets"] == counts["campaigns"] == counts["exchange_rates"] == 0 and counts["companies"] > 0 and counts["leads"] > 0
    assert any("sale_order: not in this database" in line for line in base.test(declared("odoo", url=url), home))


def test_a_database_that_is_no_odoo_is_told_plainly(postgres: str, home: Home, declared: Callable[..., SourceDeclaration]) -> None:
    with pytest.raises(SourceError, match="has no table res_company"):
        base.extract(declared("odoo", url=postgres), home, "b1", set())


def test_an_archived_deal_that_is_not_lost_counts_as_deleted_and_a_merged_one_disappears(small: Callable[..., str], home: Home, declared: Callable[..., SourceDeclaration]) -> None:
    url = small()
    before = base.extract(declared("odoo", url=url), home, "b1", set())
    deals = {d["deal_id"]: d for d in pl.read_parquet(next(d.path for d in before.deliveries if d.entity == "deals")).rows(named=True)}
    open_ones = sorted(i for i, d in deals.items() if not d["is_won"] and not d["is_lost"] and d["deleted_at"] is None)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE crm_lead SET active = false, probability = 30 WHERE id = %s", (int(open_ones[0]),))
        connection.execute("DELETE FROM crm_lead WHERE id = %s", (int(open_ones[1]),))
    after = base.extract(declared("odoo", url=url), home, "b2", set())
    delivery = next(d for d in after.deliveries if d.entity == "deals")
    later = {d["deal_id"]: d for d in pl.read_parquet(delivery.path).rows(named=True)}
    assert later[open_ones[0]]["deleted_at"] is not None and not later[open_ones[0]]["is_lost"]
    assert open_ones[1] not in later and delivery.mode == "full"
