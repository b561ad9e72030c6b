"""The same facts give the same warehouse, however they arrive and whatever was merged in between."""

import copy
import random

import pytest

from models import ingest


@pytest.fixture(scope="module")
def rearranged(new_warehouse, company):
    """The company again: rows shuffled, delivered twice, and with two customers merged and parted before the end."""
    made = new_warehouse(company)
    rows = {entity: list(given) for entity, given in copy.deepcopy(company).items() if isinstance(given, list) and entity != "gaps"}
    for given in rows.values():
        random.Random(5).shuffle(given)
    made.land(rows)
    ann = next(r for r in rows["contacts"] if r["contact_id"] == "C1" and r.get("_batch") == 2)
    made.land({"contacts": [{**ann, "merged_into_id": "C10", "_batch": 5}]})
    made.build("+dim_customers")
    return made


def test_a_merge_moves_facts_to_the_survivor(rearranged):
    assert rearranged.customer("C1") == rearranged.customer("C10")
    moved = rearranged.rows("SELECT DISTINCT customer_id, contact_id FROM marts.fct_orders WHERE order_id IN ('crm:O1', 'crm:O2', 'crm:O3')")
    assert moved == [(rearranged.customer("C10"), "crm:C10")]
    assert rearranged.column("SELECT count(*) FROM marts.dim_customers WHERE name IN ('Ann Ash', 'Fay Fox')") == [1]


def test_an_unmerge_shuffled_rows_and_a_second_delivery_give_the_same_marts(rearranged, warehouse, company):
    rows = {entity: list(given) for entity, given in company.items() if isinstance(given, list) and entity != "gaps"}
    rearranged.land(rows, shift=6)
    rearranged.build()
    expected, found = warehouse.fingerprints(), rearranged.fingerprints()
    assert {t: found[t] for t in found if found[t] != expected[t]} == {}
    assert set(found) == set(expected) and sum(count for count, _ in found.values()) > 500


def test_a_row_that_vanishes_leaves_and_comes_back_when_it_is_seen_again(new_warehouse, company):
    made = new_warehouse(company)
    order = {"order_id": "Z", "ordered_at": "2026-05-01", "currency": "EUR", "net_amount": 1}
    made.land({"orders": [order]})
    made.land({"orders": [order]}, shift=1, tombstone=True)
    made.build("stg_canonical__orders")
    assert made.column("SELECT deleted_at IS NOT NULL FROM staging.stg_canonical__orders") == [True]
    made.land({"orders": [order]}, shift=2)
    assert made.column("SELECT deleted_at IS NOT NULL FROM staging.stg_canonical__orders") == [False]


def test_a_version_of_the_future_gives_way_to_the_next_one_that_arrives(new_warehouse, company):
    made = new_warehouse(company)
    made.land({"contacts": [{"contact_id": "F", "first_name": "Never", "created_at": "2026-01-02", "updated_at": "2999-01-01", "_batch": 1},
                            {"contact_id": "F", "first_name": "Now", "created_at": "2026-01-02", "updated_at": "2026-11-05", "_batch": 6}]})
    made.build("+stg_canonical__contacts")
    assert made.column("SELECT first_name FROM staging.stg_canonical__contacts WHERE contact_id = 'crm:F'") == ["Now"]
    with made.open() as con:
        assert ingest.future_versions(con) == {"contacts": 1}


def test_a_deal_opened_again_is_open_though_its_closing_time_was_left(new_warehouse, company):
    made = new_warehouse(company)
    stages = [{"pipeline": "Sales", "stage": s, "position": n, "is_won": s == "Won", "is_lost": False} for n, s in enumerate(("New", "Won"), 1)]
    left_over = {"contact_id": "C1", "pipeline": "Sales", "amount": 5, "currency": "EUR", "created_at": "2026-01-10", "closed_at": "2026-02-01", "updated_at": "2026-03-01"}
    made.land({"contacts": [{"contact_id": "C1", "email": "a@b.example", "created_at": "2026-01-01"}], "pipeline_stages": stages, "deals": [
        {**left_over, "deal_id": "again", "stage": "New"}, {**left_over, "deal_id": "won", "stage": "Won"}, {**left_over, "deal_id": "unsaid", "stage": "Unheard of"}]})
    made.build("+fct_deals", "+deals_history")
    found = made.rows("SELECT deal_id, is_open, is_won, is_lost, closed_at IS NULL FROM marts.fct_deals ORDER BY 1")
    assert found == [("crm:again", True, False, False, True), ("crm:unsaid", False, False, False, False), ("crm:won", False, True, False, False)]
    assert made.rows("SELECT deal_id, is_open FROM marts.deals_history WHERE valid_to IS NULL ORDER BY 1") == [("crm:again", True), ("crm:unsaid", False), ("crm:won", False)]
