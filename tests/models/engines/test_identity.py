"""Behaviour of identity resolution: stable ids, exact unmerge, explicit words on identity, logs without personal data."""

from __future__ import annotations

import logging
import random
from datetime import date, datetime
from hashlib import md5

import duckdb
import pytest

from data_contracts.errors import UsageError
from models.engines import identity, identity_decisions
from models.engines.identity_rules import RuleError, load_rules

COLUMNS = {
    "contacts": """contact_id VARCHAR, company_id VARCHAR, email VARCHAR, phone VARCHAR, first_name VARCHAR, last_name VARCHAR, birth_date DATE, country_code VARCHAR,
                   city VARCHAR, postal_code VARCHAR, lifecycle_stage VARCHAR, owner_id VARCHAR, is_test BOOLEAN, created_at TIMESTAMP, updated_at TIMESTAMP,
                   deleted_at TIMESTAMP, merged_into_id VARCHAR""",
    "companies": "company_id VARCHAR, name VARCHAR, domain VARCHAR, parent_company_id VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP, merged_into_id VARCHAR",
    "leads": """lead_id VARCHAR, contact_id VARCHAR, email VARCHAR, phone VARCHAR, first_name VARCHAR, last_name VARCHAR, channel VARCHAR, created_at TIMESTAMP,
                updated_at TIMESTAMP, converted_contact_id VARCHAR""",
    "orders": "order_id VARCHAR, contact_id VARCHAR, company_id VARCHAR",
    "identity_links": """left_source VARCHAR, left_type VARCHAR, left_id VARCHAR, right_source VARCHAR, right_type VARCHAR, right_id VARCHAR, decision VARCHAR,
                         decided_at TIMESTAMP, decided_by VARCHAR""",
}
AT = datetime(2026, 11, 22)


@pytest.fixture
def con():
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("CREATE SCHEMA landing")
    for table, columns in COLUMNS.items():
        connection.execute(f"""CREATE TABLE landing.{table} (_source VARCHAR, {columns}, _batch_seq BIGINT DEFAULT 1, _row_hash VARCHAR DEFAULT 'h',
                               _custom VARCHAR, _is_tombstone BOOLEAN DEFAULT false)""")
    yield connection
    connection.close()


def add(con, table: str, *rows: dict, source: str = "crm", **common) -> None:
    for row in rows:
        values = {"_source": source, **common, **row}
        con.execute(f"INSERT INTO landing.{table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", list(values.values()))


def link(con, left: str, right: str, decision: str, **more) -> None:
    (left_source, left_id), (right_source, right_id) = left.split(":"), right.split(":")
    add(con, "identity_links", {"left_source": left_source, "left_id": left_id, "right_source": right_source, "right_id": right_id, "decision": decision, **more})


def decide(con, verb: str, left: str, right: str) -> identity.IdentityReport:
    """What the command line does: land the decision, then resolve."""
    (number,) = con.execute("SELECT count(*) + 1 FROM landing.identity_links").fetchone()
    add(con, "identity_links", identity_decisions.decide(con, verb, left, right).row(AT, "sam"), source="identity_decisions", _batch_seq=number)
    return identity.resolve(con, f"decision-{number}", AT)


def customers(con) -> dict[str, str]:
    """Record as `source:id` (companies and leads with their type in front) to customer."""
    return dict(con.execute("""SELECT CASE node_type WHEN 'contact' THEN '' ELSE node_type || '/' END || source || ':' || source_id, customer_id
                               FROM identity.members""").fetchall())


def state(con) -> tuple:
    """Everything that an unmerge must restore, row for row."""
    return tuple(con.execute(f"FROM identity.{table} ORDER BY ALL").fetchall() for table in ("members", "customer_attributes", "aliases", "hierarchy"))


def together(con, *records: str) -> bool:
    found = customers(con)
    return len({found[record] for record in records}) == 1


def person_id(source: str, contact_id: str) -> str:
    return "p_" + md5(f"{source}|contact|{contact_id}".encode()).hexdigest()[:16]


def test_an_empty_warehouse_gets_tables_and_no_customers():
    with duckdb.connect() as empty:
        assert identity.resolve(empty, "r1", AT) == identity.IdentityReport(0, 0, 0, 0, 0)
        assert empty.execute("SELECT count(*) FROM identity.customer_attributes").fetchone() == (0,)


def test_the_earliest_record_founds_the_customer_and_gives_it_its_id(con):
    add(con, "contacts", {"contact_id": "2", "email": "ann@lee.org", "created_at": datetime(2020, 1, 1)}, {"contact_id": "1", "email": " Ann@LEE.org", "created_at": datetime(2021, 1, 1)})
    report = identity.resolve(con, "r1", AT)
    assert set(customers(con).values()) == {person_id("crm", "2")}
    assert (report.customers, report.merges) == (1, 1)


def test_a_contact_or_company_that_only_a_fact_names_is_a_customer(con):
    add(con, "orders", {"order_id": "o1", "contact_id": "ghost", "company_id": "shade"})
    identity.resolve(con, "r1", AT)
    assert set(customers(con)) == {"crm:ghost", "company/crm:shade"}
    assert con.execute("SELECT DISTINCT is_known FROM identity.members").fetchall() == [(False,)]


def test_source_merges_follow_chains_and_survive_cycles(con):
    add(con, "contacts", {"contact_id": "a", "merged_into_id": "b"}, {"contact_id": "b", "merged_into_id": "c"}, {"contact_id": "c"},
        {"contact_id": "x", "merged_into_id": "y"}, {"contact_id": "y", "merged_into_id": "z"}, {"contact_id": "z", "merged_into_id": "x"})
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:a", "crm:b", "crm:c") and together(con, "crm:x", "crm:y", "crm:z") and not together(con, "crm:a", "crm:x")


def test_a_record_is_what_its_marts_say_it_is_whatever_its_clock_and_its_absences(con):
    """Three contacts: one once of the year 2999, one gone and back as an older copy, one gone."""
    con.execute("ALTER TABLE landing.contacts ADD COLUMN _loaded_at TIMESTAMP")
    ahead, back, gone = ({"contact_id": name, "email": f"{name}@x.org", "first_name": "Old"} for name in ("ahead", "back", "gone"))
    first, second, third = ({"_batch_seq": n, "_loaded_at": datetime(2026, 6, n), "_row_hash": f"h{n}"} for n in (1, 2, 3))
    add(con, "contacts", {**ahead, "updated_at": datetime(2999, 1, 1)}, {**back, "updated_at": datetime(2026, 5, 2)}, {**gone, "updated_at": datetime(2026, 5, 1)}, **first)
    add(con, "contacts", {**ahead, "first_name": "New", "updated_at": datetime(2026, 6, 2)}, {**back, "_is_tombstone": True, "updated_at": datetime(2026, 5, 2)},
        {**gone, "_is_tombstone": True, "updated_at": datetime(2026, 5, 1)}, **second)
    add(con, "contacts", {**back, "first_name": "Older", "updated_at": datetime(2026, 4, 1)}, **third)
    identity.resolve(con, "r1", AT)
    found = con.execute("SELECT m.source_id, a.first_name, a.deleted_at FROM identity.members AS m JOIN identity.customer_attributes AS a USING (customer_id) ORDER BY 1").fetchall()
    assert found == [("ahead", "New", None), ("back", "Old", None), ("gone", "Old", datetime(2026, 6, 2))]


def test_a_deleted_record_keeps_its_customer(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org"}, {"contact_id": "2", "email": "ann@lee.org"})
    identity.resolve(con, "r1", AT)
    before = customers(con)
    add(con, "contacts", {"contact_id": "1", "_is_tombstone": True, "_batch_seq": 2}, {"contact_id": "2", "_is_tombstone": True, "_batch_seq": 2})
    identity.resolve(con, "r2", AT)
    assert customers(con) == before
    assert con.execute("SELECT is_deleted, email FROM identity.customer_attributes").fetchall() == [(True, "ann@lee.org")]


@pytest.mark.parametrize("address", ["info@acme.org", "sales@acme.org", "noreply@acme.org"])
def test_a_functional_mailbox_joins_nobody(con, address):
    add(con, "contacts", {"contact_id": "1", "email": address}, {"contact_id": "2", "email": address})
    identity.resolve(con, "r1", AT)
    assert not together(con, "crm:1", "crm:2")


def test_an_address_held_under_many_names_joins_nobody_and_keeps_what_it_joined_before(con):
    add(con, "contacts", *({"contact_id": str(n), "email": "family@home.org", "first_name": f"N{n}"} for n in range(2)))
    identity.resolve(con, "r1", AT)
    before = customers(con)
    add(con, "contacts", *({"contact_id": str(n), "email": "family@home.org", "first_name": f"N{n}"} for n in range(2, 12)))
    identity.resolve(con, "r2", AT)
    after = customers(con)
    assert together(con, "crm:0", "crm:1") and {node: after[node] for node in before} == before
    assert len({after[f"crm:{n}"] for n in range(2, 12)}) == 10


def test_a_switchboard_number_does_not_join_people_of_different_surnames(con):
    add(con, "contacts", {"contact_id": "1", "phone": "0151 234 5678", "last_name": "Lee"}, {"contact_id": "2", "phone": "+49 151/2345678", "last_name": "May"},
        {"contact_id": "3", "phone": "00491512345678", "last_name": "LÉE"}, country_code="DE")
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:1", "crm:3") and not together(con, "crm:1", "crm:2")
    assert con.execute("SELECT reason FROM identity.review_list WHERE right_id = '2'").fetchall() == [("kept apart: last_name",)]


def test_full_width_letters_and_gmail_aliases_are_normalised_as_configured(con):
    add(con, "contacts", {"contact_id": "1", "email": "ａｎｎ@lee.org"}, {"contact_id": "2", "email": "ann@lee.org"},
        {"contact_id": "3", "email": "a.nn+shop@gmail.com"}, {"contact_id": "4", "email": "ann@googlemail.com"})
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:1", "crm:2") and not together(con, "crm:3", "crm:4")
    identity.resolve(con, "r2", AT, load_rules(overrides={"email": {"gmail_aliases": True}}))
    assert together(con, "crm:3", "crm:4")


def test_external_ids_join_within_a_source_and_across_a_declared_id_space(con):
    add(con, "contacts", {"contact_id": "1", "_custom": '{"external_id": "E7"}'}, {"contact_id": "2", "_custom": '{"external_id": "E7"}'})
    add(con, "contacts", {"contact_id": "9", "_custom": '{"external_id": "E7", "crm_id": "1"}'}, source="shop")
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:1", "crm:2") and not together(con, "crm:1", "shop:9")
    spaces = [{"name": "crm", "members": [{"source": "crm", "field": "source_id"}, {"source": "shop", "field": "crm_id"}]}]
    identity.resolve(con, "r2", AT, load_rules(overrides={"id_spaces": spaces}))
    assert together(con, "crm:1", "crm:2", "shop:9")


def test_records_of_a_source_without_duplicates_are_never_joined_by_a_shared_value(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org"}, {"contact_id": "2", "email": "ann@lee.org"})
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org"}, source="shop")
    identity.resolve(con, "r1", AT, load_rules(overrides={"unique_sources": ["crm"]}))
    assert together(con, "crm:1", "shop:1") and not together(con, "crm:1", "crm:2")


def test_different_birth_dates_stop_a_rule_but_not_a_stated_link(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org", "birth_date": date(1980, 1, 1)}, {"contact_id": "2", "email": "ann@lee.org", "birth_date": date(1990, 1, 1)})
    assert identity.resolve(con, "r1", AT).conflicts == 1
    assert not together(con, "crm:1", "crm:2")
    link(con, "crm:1", "crm:2", "same")
    identity.resolve(con, "r2", AT)
    assert together(con, "crm:1", "crm:2")


def test_companies_join_by_domain_but_not_by_a_mail_provider_nor_over_a_parent_relation(con):
    add(con, "companies", {"company_id": "1", "domain": "https://www.acme.org/about"}, {"company_id": "2", "domain": "Acme.org"}, {"company_id": "3", "domain": "gmail.com"},
        {"company_id": "4", "domain": "gmail.com"}, {"company_id": "5", "domain": "group.org"}, {"company_id": "6", "domain": "group.org", "parent_company_id": "5"})
    identity.resolve(con, "r1", AT)
    assert together(con, "company/crm:1", "company/crm:2")
    assert not together(con, "company/crm:3", "company/crm:4") and not together(con, "company/crm:5", "company/crm:6")


def test_leads_resolve_to_their_person_and_a_lead_alone_is_marked(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org", "created_at": datetime(2024, 1, 1)}, {"contact_id": "2", "created_at": datetime(2024, 1, 1)})
    add(con, "leads", {"lead_id": "L1", "email": "ANN@lee.org"}, {"lead_id": "L2", "contact_id": "1", "converted_contact_id": "2"}, {"lead_id": "L3", "email": "new@lee.org"},
        created_at=datetime(2020, 1, 1))
    report = identity.resolve(con, "r1", AT)
    assert together(con, "lead/crm:L1", "crm:1") and together(con, "lead/crm:L2", "crm:2") and not together(con, "crm:1", "crm:2")
    assert customers(con)["crm:1"] == person_id("crm", "1")          # a contact founds before a lead of the same run, though the lead is older
    assert con.execute("SELECT source_id FROM identity.members WHERE is_lead_only").fetchall() == [("L3",)]
    assert report.customers == 2


def test_different_beats_every_rule_through_third_records_and_drops_the_weaker_link(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org"}, {"contact_id": "2", "email": "ann@lee.org", "phone": "+49151234567"}, {"contact_id": "3", "phone": "+49151234567"})
    link(con, "crm:3", "crm:1", "different")
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:1", "crm:2") and not together(con, "crm:1", "crm:3")
    link(con, "crm:1", "crm:3", "same")                               # another link's word does not take it back
    identity.resolve(con, "r2", AT)
    assert not together(con, "crm:1", "crm:3")


def test_a_link_naming_unknown_records_is_counted_as_a_conflict_and_works_when_they_come(con):
    link(con, "crm:1", "shop:2", "same")
    assert identity.resolve(con, "r1", AT).conflicts == 1
    add(con, "contacts", {"contact_id": "1"})
    add(con, "contacts", {"contact_id": "2"}, source="shop")
    assert identity.resolve(con, "r2", AT).conflicts == 0
    assert together(con, "crm:1", "shop:2")


def populate(con) -> None:
    add(con, "companies", {"company_id": "k1", "name": "Acme", "domain": "acme.org"}, {"company_id": "k2", "name": "Bolt", "domain": "bolt.org"})
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org", "company_id": "k1", "first_name": "Ann", "created_at": datetime(2020, 1, 1)},
        {"contact_id": "2", "email": "ann@lee.org", "company_id": "k2", "last_name": "Lee", "created_at": datetime(2021, 1, 1)},
        {"contact_id": "3", "email": "bob@may.org", "company_id": "k2", "first_name": "Bob", "created_at": datetime(2019, 1, 1)},
        {"contact_id": "4", "email": "bob@may.org", "phone": "+4915123456", "created_at": datetime(2018, 1, 1)}, updated_at=datetime(2025, 1, 1))


def test_unmerge_restores_what_a_merge_changed_byte_for_byte(con):
    populate(con)
    identity.resolve(con, "r1", AT)
    before, (ann, bob) = state(con), (customers(con)["crm:1"], customers(con)["crm:3"])
    assert decide(con, "merge", ann, bob).merges == 1
    assert together(con, "crm:1", "crm:2", "crm:3", "crm:4") and state(con) != before
    survivor = customers(con)["crm:1"]
    loser = ({ann, bob} - {survivor}).pop()
    assert survivor == bob                                             # first seen in the same run, created earlier
    assert con.execute("SELECT old_customer_id, customer_id FROM identity.aliases").fetchall() == [(loser, survivor)]
    assert con.execute("SELECT count(*) FROM identity.customer_attributes WHERE customer_id = ?", [loser]).fetchone() == (0,)
    assert decide(con, "unmerge", survivor, loser).splits == 1
    assert state(con) == before


@pytest.mark.parametrize("first, second", [("merge", "unmerge"), ("merge", "undo")])
def test_decisions_on_a_pair_follow_each_other_and_an_undone_one_leaves_no_trace_but_the_log(con, first, second):
    populate(con)
    identity.resolve(con, "r1", AT)
    before = state(con)
    decide(con, first, "crm:contact:3", "crm:contact:1")
    assert together(con, "crm:1", "crm:3")
    decide(con, second, "crm:contact:1", "crm:contact:3")
    assert state(con) == before
    decide(con, "undo", "crm:contact:1", "crm:contact:3")
    assert state(con) == before
    assert con.execute("SELECT kind, decided_by FROM identity.merge_log WHERE rule = 'identity_link'").fetchall()[:1] == [("merge", "sam")]


def test_a_decision_on_companies_leaves_contacts_of_the_same_ids_alone(con):
    add(con, "companies", {"company_id": "1", "name": "Acme"}, {"company_id": "2", "name": "Acme Ltd"})
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org"}, {"contact_id": "2", "email": "bob@may.org"})
    identity.resolve(con, "r1", AT)
    decide(con, "merge", "crm:company:1", "crm:company:2")
    assert together(con, "company/crm:1", "company/crm:2") and not together(con, "crm:1", "crm:2")


@pytest.mark.parametrize("phone", ["0000000", "+49 000 0000", "+1 (999) 999-9999", "1234567", "0123456789", "987654321", "4.91512E+11", "n/a", ""])
def test_a_phone_typed_to_fill_the_field_or_rounded_by_a_spreadsheet_joins_nobody(con, phone):
    add(con, "contacts", *({"contact_id": str(n), "phone": phone} for n in range(2)))
    identity.resolve(con, "r1", AT)
    assert not together(con, "crm:0", "crm:1")


@pytest.mark.parametrize("address", ["", " ", "-", "n/a", "none", "@", "@acme.org", "ann@", "na@na.com", "ann lee@acme.org", "noemail@acme.org"])
def test_an_address_that_is_none_joins_nobody(con, address):
    add(con, "contacts", *({"contact_id": str(n), "email": address} for n in range(2)))
    identity.resolve(con, "r1", AT)
    assert not together(con, "crm:0", "crm:1")


def test_a_couple_that_shares_a_surname_and_a_landline_stays_two_people_and_comes_to_review(con):
    add(con, "contacts", {"contact_id": "1", "first_name": "Ann"}, {"contact_id": "2", "first_name": "Bob"}, {"contact_id": "3", "first_name": "A."},
        phone="+49 30 4455667", last_name="Lee")
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:1", "crm:3") and not together(con, "crm:1", "crm:2")
    assert con.execute("SELECT DISTINCT reason FROM identity.review_list").fetchall() == [("kept apart: first_initial",)]


def test_a_birth_date_that_a_system_writes_for_unknown_parts_nobody(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org", "birth_date": date(1900, 1, 1)}, {"contact_id": "2", "email": "ann@lee.org", "birth_date": date(1980, 2, 3)})
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:1", "crm:2")


def test_the_loser_of_a_merge_keeps_its_facts_with_the_survivor_though_the_survivor_is_deleted_or_was_never_seen(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org", "merged_into_id": "2"}, {"contact_id": "2", "email": "new@lee.org"}, {"contact_id": "3", "merged_into_id": "ghost"},
        {"contact_id": "4", "merged_into_id": "4"})
    add(con, "orders", {"order_id": "o1", "contact_id": "1"}, {"order_id": "o2", "contact_id": "3"})
    add(con, "contacts", {"contact_id": "2", "_is_tombstone": True, "_batch_seq": 2})
    identity.resolve(con, "r1", AT)
    assert together(con, "crm:1", "crm:2") and together(con, "crm:3", "crm:ghost")
    held = dict(con.execute("SELECT m.source_id, a.is_deleted FROM identity.members AS m JOIN identity.customer_attributes AS a USING (customer_id)").fetchall())
    assert held == {"1": True, "2": True, "3": False, "ghost": False, "4": False}


@pytest.mark.parametrize("undo", ["delete", "tombstone", "different", "different the other way round"])
def test_taking_back_a_same_link_restores_what_was_before(con, undo):
    populate(con)
    identity.resolve(con, "r1", AT)
    before = state(con)
    link(con, "crm:1", "crm:3", "same")
    identity.resolve(con, "r2", AT)
    assert together(con, "crm:2", "crm:4")
    if undo == "delete":
        con.execute("DELETE FROM landing.identity_links")
    elif undo == "tombstone":
        link(con, "crm:1", "crm:3", "same", _is_tombstone=True, _batch_seq=2)
    elif undo == "different":
        link(con, "crm:1", "crm:3", "different", _batch_seq=2)
    else:
        link(con, "crm:3", "crm:1", "different", _batch_seq=2)
    identity.resolve(con, "r3", AT)
    assert state(con) == before


def test_unmerging_customers_that_a_later_rule_joined_brings_back_both_groups(con):
    add(con, "contacts", {"contact_id": "1", "phone": "+49151000001"}, {"contact_id": "2", "phone": "+49151000001", "email": "old@lee.org"},
        {"contact_id": "3", "phone": "+49151000002"}, {"contact_id": "4", "phone": "+49151000002", "email": "new@lee.org"})
    identity.resolve(con, "r1", AT)
    before = customers(con)
    add(con, "contacts", {"contact_id": "4", "phone": "+49151000002", "email": "old@lee.org", "_batch_seq": 2})
    identity.resolve(con, "r2", AT)
    assert together(con, "crm:1", "crm:2", "crm:3", "crm:4")
    decide(con, "unmerge", before["crm:1"], before["crm:3"])
    assert customers(con) == before                                    # the stronger but younger e-mail link does not take 4 away from 3


def test_ten_thousand_new_rows_change_no_existing_id(con):
    con.execute("SELECT setseed(0.5)")
    rows = """INSERT INTO landing.contacts BY NAME SELECT 'crm' AS _source, 'c' || i AS contact_id, 'e' || (hash(i) % 700) || '@x.org' AS email,
                     '+4915100' || (hash(i, 1) % 900) AS phone, 'F' || (hash(i, 2) % 3) AS first_name, 'L' || (hash(i, 3) % 3) AS last_name,
                     CASE WHEN hash(i, 4) % 4 = 0 THEN DATE '1980-01-01' + (hash(i, 5) % 3)::INT END AS birth_date, 1 AS _batch_seq, false AS _is_tombstone
              FROM range({}, {}) AS t(i)"""
    con.execute(rows.format(0, 500))
    identity.resolve(con, "r1", AT)
    before = customers(con)
    # new people under new values, and more records of people who are there already
    con.execute(rows.format(500, 10_500).replace("'e' ||", "CASE WHEN i % 2 = 0 THEN 'e' ELSE 'n' || i || '-' END ||").replace("'+4915100' ||", "'+4916600' || i ||"))
    identity.resolve(con, "r2", AT)
    after = customers(con)
    assert len(after) == 10_500
    assert {node: after[node] for node in before} == before


def test_shuffled_and_split_input_of_one_run_gives_the_same_tables_row_for_row():
    rng = random.Random(7)
    rows = [{"contact_id": str(n), "email": f"e{rng.randrange(25)}@x.org", "phone": f"+4915100{rng.randrange(20):02d}", "last_name": rng.choice("ABC"), "first_name": rng.choice("XY"),
             "created_at": datetime(2020, 1, rng.randrange(1, 4)), "updated_at": datetime(2025, 1, rng.randrange(1, 4)),
             "merged_into_id": str(rng.randrange(40)) if rng.random() < 0.1 else None} for n in range(40)]
    outcomes = []
    for split in (False, True):
        with duckdb.connect(config={"threads": 1}) as con:
            con.execute("CREATE SCHEMA landing")
            con.execute(f"CREATE TABLE landing.contacts (_source VARCHAR, {COLUMNS['contacts']}, _batch_seq BIGINT DEFAULT 1, _row_hash VARCHAR DEFAULT 'h', _is_tombstone BOOLEAN DEFAULT false)")
            order = rng.sample(rows, len(rows))
            for part in ([order[:13], order[13:]] if split else [order]):
                add(con, "contacts", *part)
                identity.resolve(con, "r1", AT)
            outcomes.append(state(con)[:2])
    assert outcomes[0] == outcomes[1]


def test_resolving_again_changes_nothing_and_logs_nothing(con):
    populate(con)
    identity.resolve(con, "r1", AT)
    before = state(con), con.execute("FROM identity.merge_log").fetchall()
    report = identity.resolve(con, "r2", AT)
    assert (report.merges, report.splits) == (0, 0)
    assert (state(con), con.execute("FROM identity.merge_log").fetchall()) == before


def test_the_customer_of_the_earlier_run_survives_a_merge(con):
    add(con, "contacts", {"contact_id": "9", "email": "a@x.org", "created_at": datetime(2025, 1, 1)})
    identity.resolve(con, "r1", AT)
    add(con, "contacts", {"contact_id": "1", "email": "a@x.org", "created_at": datetime(2001, 1, 1)})
    identity.resolve(con, "r2", AT)
    assert set(customers(con).values()) == {person_id("crm", "9")}


def test_every_merge_and_unmerge_is_logged_with_rule_and_evidence(con):
    populate(con)
    identity.resolve(con, "r1", AT)
    logged = con.execute("SELECT run_id, kind, rule, left_id, right_id, decided_at FROM identity.merge_log ORDER BY ALL").fetchall()
    assert logged == [("r1", "merge", "email", "1", "2", AT), ("r1", "merge", "email", "4", "3", AT)]
    assert all(evidence.startswith("same e-mail address (value ") and evidence.endswith(", 2 records)")
               for (evidence,) in con.execute("SELECT evidence FROM identity.merge_log").fetchall())
    link(con, "crm:1", "crm:2", "different")
    identity.resolve(con, "r2", AT)
    assert con.execute("SELECT kind, rule, evidence, left_customer_id, right_customer_id FROM identity.merge_log WHERE run_id = 'r2'").fetchall() == [
        ("unmerge", "identity_link", "stated to be different", person_id("crm", "1"), person_id("crm", "2"))]


def test_no_personal_value_stands_in_logs_evidence_or_review(con, caplog):
    caplog.set_level(logging.DEBUG)
    for n in range(3):
        add(con, "contacts", {"contact_id": str(n), "email": "canary-mail@secret.org" if n < 2 else "other@secret.org", "phone": "+49151999888777", "first_name": "Canaryfirst",
                              "last_name": f"Canarylast{n // 2}", "birth_date": date(1966, 6, 6), "postal_code": "98765"})
    identity.resolve(con, "r1", AT)
    decide(con, "unmerge", "crm:contact:0", "crm:contact:1")
    tables = {table: con.execute(f"FROM identity.{table}").fetchall() for table in ("merge_log", "review_list", "aliases", "members", "sightings", "runs", "review_model")}
    assert tables["merge_log"] and tables["review_list"]
    written = (caplog.text + repr(tables)).lower()
    assert "identity resolved" in written
    for canary in ("canary", "secret.org", "999888777", "1966", "98765", md5(b"canary-mail@secret.org").hexdigest()[:8]):
        assert canary not in written


def test_attributes_survive_by_the_rule_of_their_field(con):
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org", "city": "Bonn", "first_name": "Ann", "last_name": "Lee", "postal_code": "53111", "lifecycle_stage": "customer",
                          "owner_id": "u1", "updated_at": datetime(2024, 1, 1)}, source="crm")
    add(con, "contacts", {"contact_id": "1", "email": "ann@lee.org", "city": "Köln", "first_name": "A.", "updated_at": datetime(2025, 1, 1), "birth_date": date(1980, 1, 1)}, source="shop")
    add(con, "contacts", {"contact_id": "2", "email": "ann@lee.org", "city": "Ulm", "birth_date": date(1980, 1, 1), "deleted_at": datetime(2026, 1, 1), "updated_at": datetime(2026, 1, 1)}, source="shop")
    identity.resolve(con, "r1", AT)
    chosen = "SELECT city, first_name, name, lifecycle_stage, owner_id, record_count, source_count, is_deleted FROM identity.customer_attributes"
    assert con.execute(chosen).fetchall() == [("Köln", "Ann", "Ann Lee", "customer", "crm:u1", 3, 2, False)]
    identity.resolve(con, "r2", AT, load_rules(overrides={"survivorship": {"trusted_sources": ["crm"], "fields": {"city": "most_trusted"}}}))
    assert con.execute("SELECT city FROM identity.customer_attributes").fetchall() == [("Bonn",)]


def test_persons_belong_to_the_resolved_organisations_of_their_records(con):
    add(con, "companies", {"company_id": "k1", "merged_into_id": "k2"}, {"company_id": "k2", "name": "Acme", "created_at": datetime(2019, 1, 1)})
    add(con, "contacts", {"contact_id": "1", "company_id": "k1", "email": "ann@lee.org", "created_at": datetime(2020, 1, 1), "updated_at": datetime(2024, 1, 1)},
        {"contact_id": "2", "company_id": "k3", "email": "ann@lee.org", "created_at": datetime(2021, 1, 1), "updated_at": datetime(2023, 1, 1)})
    identity.resolve(con, "r1", AT)
    found, person = customers(con), person_id("crm", "1")
    assert sorted(con.execute("FROM identity.hierarchy").fetchall()) == sorted([
        (person, found["company/crm:k2"], datetime(2020, 1, 1), True), (person, found["company/crm:k3"], datetime(2021, 1, 1), False)])


def test_probable_pairs_are_listed_and_never_merged(con):
    add(con, "contacts", {"contact_id": "1", "first_name": "Katharina", "email": "kat@one.org"}, {"contact_id": "2", "first_name": "Katarina", "email": "kat@two.org"},
        last_name="Müller", birth_date=date(1980, 1, 1), postal_code="53111")
    identity.resolve(con, "r1", AT)
    assert not together(con, "crm:1", "crm:2")
    (probability, fields), = con.execute("SELECT probability, matched_fields FROM identity.review_list").fetchall()
    assert 0.9 < probability <= 1 and set(fields) == {"last_name", "birth_date", "postal_code"}
    assert con.execute("SELECT count(*) FROM identity.review_model").fetchone() == (0,)      # two people teach nothing
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE starts_with(table_name, '__splink')").fetchone() == (0,)
    link(con, "crm:1", "crm:2", "different")
    identity.resolve(con, "r2", AT)
    assert con.execute("SELECT count(*) FROM identity.review_list").fetchone() == (0,)


def test_a_failed_run_leaves_everything_as_it_was_and_a_caller_may_roll_back(con):
    populate(con)
    identity.resolve(con, "r1", AT)
    before = state(con)
    con.execute("BEGIN")
    decide(con, "merge", "crm:contact:1", "crm:contact:3")
    assert together(con, "crm:1", "crm:3")
    con.execute("ROLLBACK")
    assert state(con) == before
    for left, right in [("p_0000000000000000", person_id("crm", "1")), ("crm:contact:1", person_id("crm", "1")), ("crm:company:k1", "crm:contact:1"), ("ann@lee.org", "crm:contact:1")]:
        with pytest.raises(UsageError):
            decide(con, "merge", left, right)
    assert state(con) == before


@pytest.mark.parametrize("wrong", [
    {"rules": [{"id": "email", "kind": "guess", "node_types": ["contact"], "evidence": ""}]},
    {"rules": [{"id": "email", "kind": "key", "key": "shoe_size", "node_types": ["contact"], "evidence": ""}]},
    {"rules": [{"id": "email", "kind": "key", "key": "email", "node_types": ["dog"], "evidence": ""}]},
    {"survivorship": {"default": "loudest"}},
    {"phone": {"default_country": "XX"}},
])
def test_a_rule_that_nobody_knows_is_refused_by_name(wrong):
    with pytest.raises(RuleError, match="identity rules"):
        load_rules(overrides=wrong)
