"""What becomes of rows whose story is not straight: opened again, gone and back, told late, told twice, told of the wrong day. Worked by hand."""

import random
from datetime import datetime
from decimal import Decimal as D

import pytest

from models import ingest, invariants
from models.engines import movements

SELECTED = ["+fct_deals", "+deals_history", "+companies_history", "+fct_deal_stage_visits", "+customers_history", "+dim_customers", "+subscriptions_history", "+fct_subscription_terms", "+fct_exchange_rates"]
STAGES = [{"pipeline": "Sales", "stage": stage, "position": n, "is_won": stage == "Won", "is_lost": stage == "Lost", "_source": source}
          for source in ("crm", "erp") for n, stage in enumerate(("New", "Offer", "Won", "Lost"), 1)]
DEAL = {"pipeline": "Sales", "amount": 10, "currency": "EUR", "contact_id": "A", "created_at": "2026-01-10"}
ERP = {"_source": "erp", "deal_id": "again"}       # a source that logs no change: its versions are compared
SHOP = {**DEAL, "_source": "shop", "deal_id": "again", "pipeline": None, "stage": None, "contact_id": None}      # one without stages: the deal alone says how it stands
TERM = {"currency": "EUR", "interval": "month", "started_at": "2026-03-10"}


def _stage(old: str, new: str, at: str, n: int) -> dict:
    return {"deal_id": "again", "field": "stage", "old_value": old, "new_value": new, "changed_at": at, "sequence": n}


def _contact(name: str, country: str, updated: str, batch: int = 1) -> dict:
    return {"contact_id": name, "email": f"{name}@{name}.example".lower(), "country_code": country, "created_at": "2026-01-01", "updated_at": updated, "_batch": batch}


def _lost(name: str, *versions: tuple[str, str, bool, str | None]) -> list[dict]:
    """Versions of a deal of the source that logs stages: (updated, stage, is_lost, closed)."""
    return [{**DEAL, "deal_id": name, "stage": stage, "is_lost": is_lost, "closed_at": closed, "updated_at": updated, "_batch": n} for n, (updated, stage, is_lost, closed) in enumerate(versions, 1)]


def _late(updated: str, batch: int, amount: int) -> tuple[dict, dict]:
    """A version of a deal and of a subscription of the source that logs nothing."""
    return ({**DEAL, "_source": "erp", "deal_id": "late", "stage": "New", "amount": amount, "updated_at": updated, "_batch": batch},
            {**TERM, "_source": "erp", "subscription_id": "late", "amount": amount, "updated_at": updated, "_batch": batch})


LATE = [_late("2026-04-01", 1, 10), _late("2026-06-01", 1, 30), _late("2026-05-01", 2, 20)]
TIED = [{**DEAL, "_source": "erp", "deal_id": f"tied in {kind}", "stage": "New", "amount": amount, "updated_at": "2026-05-01", "_batch": batch}
        for kind, batches in (("one batch", (1, 1)), ("two batches", (1, 2))) for amount, batch in zip((11, 12), batches, strict=True)]
MARKED = [{"contact_id": "Marked", "email": "m@m.example", "city": city, "created_at": "2026-01-01", "updated_at": updated, "deleted_at": deleted, "_batch": batch}
          for batch, (updated, city, deleted) in enumerate((("2026-01-02", "Ulm", None), ("2026-02-11", "Ulm", "2026-02-10"), ("2026-03-10", "Jena", None)), 1)]
PAIR = [{"contact_id": f"Pair {country}", "email": "pair@pair.example", "country_code": country, "created_at": made, "updated_at": made} for country, made in (("DE", "2026-01-01"), ("FR", "2026-05-01"))]
# gone with the second batch and back with the third
BACK = {"deals": [{**DEAL, "deal_id": "back", "stage": "New", "updated_at": "2026-02-01"}],
        "contacts": [_contact("A", "DE", "2026-01-01"), PAIR[1]],
        "companies": [{"company_id": "Kite", "name": "Kite", "created_at": "2026-01-01", "updated_at": "2026-02-01"}],
        "subscriptions": [{**TERM, "_source": source, "subscription_id": "back", "amount": 60, "updated_at": "2026-05-01"} for source in ("crm", "erp")]}
DROPPED = [{**TERM, "_source": source, "subscription_id": "dropped", "amount": 70, "updated_at": "2026-05-01"} for source in ("crm", "erp")]      # gone with the second batch
AHEAD = [{**DEAL, "deal_id": "ahead", "stage": "New", "amount": 30, "updated_at": "2999-01-01"}, {**DEAL, "deal_id": "into", "stage": "New", "updated_at": "2999-01-01", "merged_into_id": "ahead"},
         *({**DEAL, "_source": "erp", "deal_id": "ahead", "stage": "New", "amount": amount, "updated_at": updated} for amount, updated in ((20, "2026-02-01"), (30, "2999-01-01")))]
MERGED = [{**DEAL, "deal_id": "loser", "stage": "New", "updated_at": updated, "merged_into_id": into, "owner_id": owner, "_batch": batch}
          for batch, (updated, into, owner) in enumerate((("2026-02-01", None, "u1"), ("2026-03-01", "ahead", "u1"), ("2026-05-01", "ahead", "u2")), 1)]
LEFT = [{**DEAL, "deal_id": "left", "stage": "New", "updated_at": "2026-03-01", "merged_into_id": "never delivered"}]
# won or lost without a word on when: the log tells, the versions tell, nobody tells
UNDATED = [{**DEAL, "deal_id": "undated", "stage": "Won", "updated_at": "2026-04-03"}, {**DEAL, "deal_id": "undated forever", "stage": "Lost", "updated_at": "2026-04-03"},
           *({**DEAL, "_source": "erp", "deal_id": "undated", "stage": stage, "owner_id": owner, "updated_at": updated} for updated, stage, owner in (
               ("2026-01-10", "New", "u1"), ("2026-04-03", "Lost", "u1"), ("2026-06-01", "Lost", "u2")))]
# Seen once, after they closed, in a source that keeps no log: in a stage that ends the pipeline, in one that nobody declared, and lost by their own word in an open one.
CLOSED = [{**DEAL, "_source": "erp", "deal_id": f"closed as {stage}", "stage": stage, "is_won": stage == "Gewonnen" or None, "is_lost": stage == "New" or None, "closed_at": "2026-04-01", "updated_at": "2026-04-03"}
          for stage in ("Won", "Gewonnen", "New")]
STORY = {
    "pipeline_stages": STAGES,
    "companies": BACK["companies"],
    "contacts": [*BACK["contacts"], PAIR[0], *MARKED, _contact("Late", "DE", "2026-03-01"), _contact("Late", "FR", "2026-06-01"), _contact("Late", "IT", "2026-04-15", 2),
                 _contact("One", "PT", "2026-05-01"), _contact("One", "ES", "2026-05-01"), _contact("Two", "PT", "2026-05-01"), _contact("Two", "ES", "2026-05-01", 2)],
    "deals": [
        {**DEAL, "deal_id": "again", "stage": "Lost", "is_won": False, "is_lost": True, "closed_at": "2026-04-01", "updated_at": "2026-04-01", "_batch": 2},
        {**DEAL, "deal_id": "again", "stage": "Won", "is_won": True, "closed_at": "2026-02-01", "updated_at": "2026-02-01"},
        {**DEAL, **ERP, "stage": "New", "updated_at": "2026-01-10"}, {**DEAL, **ERP, "stage": "Won", "closed_at": "2026-02-01", "updated_at": "2026-02-01"},
        {**DEAL, **ERP, "stage": "New", "updated_at": "2026-03-01", "_batch": 2}, {**DEAL, **ERP, "stage": "Lost", "closed_at": "2026-04-01", "updated_at": "2026-04-01", "_batch": 3},
        {**SHOP, "updated_at": "2026-01-10"}, {**SHOP, "is_won": True, "closed_at": "2026-02-01", "updated_at": "2026-02-01"},
        {**SHOP, "is_won": False, "updated_at": "2026-03-01", "_batch": 2}, {**SHOP, "is_lost": True, "closed_at": "2026-04-01", "updated_at": "2026-04-01", "_batch": 3},
        *_lost("flagged", ("2026-01-11", "New", False, None), ("2026-02-10", "New", True, "2026-02-10"), ("2026-03-10", "New", False, None), ("2026-04-10", "Won", False, "2026-04-10")),
        *_lost("moved", ("2026-01-11", "New", False, None), ("2026-02-10", "New", True, "2026-02-10"), ("2026-03-10", "Offer", True, "2026-02-10"), ("2026-04-10", "Offer", False, None)),
        *(deal for deal, _ in LATE), *TIED, *AHEAD, *MERGED, *UNDATED, *CLOSED, *LEFT, *BACK["deals"]],
    "deal_changes": [_stage("New", "Won", "2026-02-01", 1), _stage("Won", "New", "2026-03-01", 2), _stage("New", "Lost", "2026-04-01", 3),
                     {**_stage("New", "Won", "2026-04-10", 1), "deal_id": "flagged"}, {**_stage("New", "Offer", "2026-03-05", 1), "deal_id": "moved"},
                     {**_stage("New", "Won", "2026-04-01", 1), "deal_id": "undated"},
                     {"deal_id": "ahead", "field": "amount", "old_value": "10", "new_value": "20", "changed_at": "2026-02-01", "sequence": 1}],
    "subscriptions": [
        {**TERM, "subscription_id": "moved", "contact_id": "A", "amount": 100, "ended_at": "2026-08-20"},
        {**TERM, "subscription_id": "never", "contact_id": "Late", "amount": 77, "ended_at": "2026-02-10"},
        *DROPPED, {**TERM, "subscription_id": "instant", "contact_id": "Late", "amount": 50, "plan": "Basic", "ended_at": "2026-03-10"}, *BACK["subscriptions"],
        {**TERM, "_source": "erp", "subscription_id": "tied", "amount": 40, "updated_at": "2026-05-01"}, {**TERM, "_source": "erp", "subscription_id": "tied", "amount": 41, "updated_at": "2026-05-01", "_batch": 2},
        *(subscription for _, subscription in LATE)],
    "subscription_changes": [
        {"subscription_id": "moved", "changed_at": at, "amount": amount, "_batch": batch} for at, amount, batch in (
            ("2026-02-01", 90, 1), ("2026-05-05 08:00", 120, 1), ("2026-05-05 12:00", 80, 1), ("2026-05-05 16:00", 110, 1),
            ("2026-06-15", 130, 1), ("2026-06-15", 140, 2), ("2026-09-01", 500, 1))],
}


def _land(made, rows: dict[str, list[dict]]) -> None:
    made.land(rows)
    made.land(BACK, shift=1, tombstone=True)
    made.land({"subscriptions": DROPPED}, shift=1, tombstone=True)
    made.land(BACK, shift=2)


@pytest.fixture(scope="module")
def told(new_warehouse, company):
    made = new_warehouse({**company, "gaps": []})
    _land(made, STORY)
    made.build(*SELECTED)
    return made


WON_AND_LOST = [(datetime(2026, 1, 10), datetime(2026, 2, 1), False, False, True), (datetime(2026, 2, 1), datetime(2026, 3, 1), True, False, False),
                (datetime(2026, 3, 1), datetime(2026, 4, 1), False, False, True), (datetime(2026, 4, 1), None, False, True, False)]


@pytest.mark.parametrize("source", ["crm", "erp", "shop"])
def test_a_deal_won_then_opened_again_then_lost_is_lost_and_its_history_says_what_was_reported_each_day(told, source):
    deal = f"{source}:again"
    assert told.rows("SELECT is_won, is_lost, is_open, closed_at, cycle_days FROM marts.fct_deals WHERE deal_id = ?", deal) == [(False, True, False, datetime(2026, 4, 1), 81.0)]
    assert told.rows("SELECT valid_from, valid_to, is_won, is_lost, is_open FROM marts.deals_history WHERE deal_id = ? ORDER BY 1", deal) == WON_AND_LOST


@pytest.mark.parametrize("source", ["crm", "erp"])
def test_a_deal_opened_again_visits_its_stage_twice(told, source):
    visits = told.rows("SELECT stage, visit_number, stage_visit_number, entered_at, exited_at FROM marts.fct_deal_stage_visits WHERE deal_id = ? ORDER BY 2", f"{source}:again")
    assert visits == [("New", 1, 1, datetime(2026, 1, 10), datetime(2026, 2, 1)), ("Won", 2, 1, datetime(2026, 2, 1), datetime(2026, 3, 1)),
                      ("New", 3, 2, datetime(2026, 3, 1), datetime(2026, 4, 1)), ("Lost", 4, 1, datetime(2026, 4, 1), datetime(2026, 4, 1))]


GONE, RETURNED = datetime(2026, 11, 3), datetime(2026, 11, 4)      # as batches two and three were loaded


def test_a_row_that_vanished_from_an_extract_and_returned_is_current_and_its_history_has_the_gap(told):
    assert told.rows("SELECT is_open FROM marts.fct_deals WHERE deal_id = 'crm:back'") == [(True,)]
    assert told.rows("SELECT valid_from, valid_to, is_open FROM marts.deals_history WHERE deal_id = 'crm:back' ORDER BY 1") == [(datetime(2026, 1, 10), GONE, True), (RETURNED, None, True)]
    assert told.rows("SELECT valid_from, valid_to, country_code FROM marts.customers_history WHERE customer_id = ? ORDER BY 1", told.customer("A")) == [(datetime(2026, 1, 1), GONE, "DE"), (RETURNED, None, "DE")]
    assert told.rows("SELECT valid_from, valid_to, name FROM marts.companies_history WHERE company_id = 'crm:Kite' ORDER BY 1") == [(datetime(2026, 1, 1), GONE, "Kite"), (RETURNED, None, "Kite")]
    for source in ("crm", "erp"):      # one logs changes, of the other the versions are compared
        assert told.rows("SELECT valid_from, valid_to, amount FROM marts.subscriptions_history WHERE subscription_id = ? ORDER BY 1", f"{source}:back") == [
            (datetime(2026, 3, 10), GONE, D(60)), (RETURNED, None, D(60))]
        assert told.rows("SELECT valid_from, valid_to, mrr_amount FROM marts.fct_subscription_terms WHERE subscription_id = ?", f"{source}:back") == [(datetime(2026, 3, 10), None, D(60))]


def test_a_row_marked_as_deleted_and_no_longer_has_the_gap_too_and_a_customer_of_two_records_is_the_other_meanwhile(told):
    assert told.rows("SELECT valid_from, valid_to, city FROM marts.customers_history WHERE customer_id = ? ORDER BY 1", told.customer("Marked")) == [
        (datetime(2026, 1, 1), datetime(2026, 2, 10), "Ulm"), (datetime(2026, 3, 10), None, "Jena")]
    pair = told.customer("Pair DE")
    assert told.customer("Pair FR") == pair
    told_of_pair = told.rows("SELECT valid_from, valid_to, country_code FROM marts.customers_history WHERE customer_id = ? ORDER BY 1", pair)
    assert told_of_pair == [(datetime(2026, 1, 1), datetime(2026, 5, 1), "DE"), (datetime(2026, 5, 1), GONE, "FR"), (GONE, RETURNED, "DE"), (RETURNED, None, "FR")]


def test_a_deal_lost_by_its_own_word_was_lost_until_it_was_opened_again_although_its_source_logs_stages(told):
    periods = "SELECT valid_from, valid_to, stage, is_won, is_lost, is_open FROM marts.deals_history WHERE deal_id = ? ORDER BY 1"
    assert told.rows(periods, "crm:flagged") == [
        (datetime(2026, 1, 10), datetime(2026, 2, 10), "New", False, False, True), (datetime(2026, 2, 10), datetime(2026, 3, 10), "New", False, True, False),
        (datetime(2026, 3, 10), datetime(2026, 4, 10), "New", False, False, True), (datetime(2026, 4, 10), None, "Won", True, False, False)]
    assert told.rows(periods, "crm:moved") == [
        (datetime(2026, 1, 10), datetime(2026, 2, 10), "New", False, False, True), (datetime(2026, 2, 10), datetime(2026, 3, 5), "New", False, True, False),
        (datetime(2026, 3, 5), datetime(2026, 4, 10), "Offer", False, True, False), (datetime(2026, 4, 10), None, "Offer", False, False, True)]


def test_a_deal_that_does_not_say_when_it_closed_closed_when_its_log_or_its_versions_say_and_else_nobody_is_told_a_day(told):
    assert told.rows("SELECT deal_id, is_won, is_lost, closed_at FROM marts.fct_deals WHERE deal_id LIKE '%:undated%' ORDER BY 1") == [
        ("crm:undated", True, False, datetime(2026, 4, 1)), ("crm:undated forever", False, True, None), ("erp:undated", False, True, datetime(2026, 4, 3))]
    with told.open() as con:
        assert [(row["source"], row["reasons"].split(":")[0]) for row in ingest.quarantine_rows(con, None, None, "deals", 10).rows(named=True)] == [("crm", "closed_at is missing and no version or log tells it")]


def test_a_deal_first_seen_when_it_had_closed_was_open_until_then_in_a_stage_that_nobody_told(told):
    """Of a real CRM's export every closed deal had been won or lost since it was created, so that the pipeline of the past held a quarter less than it did."""
    history = told.rows("SELECT deal_id, valid_from, valid_to, stage, is_open, is_won, is_lost FROM marts.deals_history WHERE deal_id LIKE 'erp:closed as%' ORDER BY 1, 2")
    created, closed = datetime(2026, 1, 10), datetime(2026, 4, 1)
    assert history == [
        ("erp:closed as Gewonnen", created, closed, None, True, False, False), ("erp:closed as Gewonnen", closed, None, "Gewonnen", False, True, False),
        ("erp:closed as New", created, closed, "New", True, False, False), ("erp:closed as New", closed, None, "New", False, False, True),
        ("erp:closed as Won", created, closed, None, True, False, False), ("erp:closed as Won", closed, None, "Won", False, True, False)]


def test_what_a_clock_of_the_future_says_dates_from_its_arrival_in_every_history_of_deals(told):
    arrived = datetime(2026, 11, 2, 0, 5)
    periods = "SELECT valid_from, valid_to, amount FROM marts.deals_history WHERE deal_id = ? ORDER BY 1"
    assert told.rows(periods, "crm:ahead") == [(datetime(2026, 1, 10), datetime(2026, 2, 1), D(10)), (datetime(2026, 2, 1), arrived, D(20)), (arrived, None, D(30))]
    assert told.rows(periods, "erp:ahead") == [(datetime(2026, 1, 10), arrived, D(20)), (arrived, None, D(30))]
    assert told.rows(periods, "crm:into") == [(datetime(2026, 1, 10), arrived, D(10))]


@pytest.mark.parametrize("source", ["crm", "erp"])
def test_a_subscription_that_vanished_for_good_is_in_no_number_and_stays_in_the_history_of_its_days(told, source):
    name = f"{source}:dropped"
    assert told.column("SELECT count(*) FROM marts.fct_subscriptions WHERE subscription_id = ?", name) == told.column("SELECT count(*) FROM marts.fct_subscription_terms WHERE subscription_id = ?", name) == [0]
    assert told.rows("SELECT valid_from, valid_to, amount FROM marts.subscriptions_history WHERE subscription_id = ?", name) == [(datetime(2026, 3, 10), GONE, D(70))]


def test_a_merged_deal_leaves_history_when_it_was_merged_and_not_when_its_row_was_touched_last(told):
    assert told.rows("SELECT valid_from, valid_to FROM marts.deals_history WHERE deal_id = 'crm:loser' ORDER BY 1") == [(datetime(2026, 1, 10), datetime(2026, 3, 1))]


def test_a_deal_merged_into_one_that_nobody_delivered_is_not_lost(told):
    assert told.rows("SELECT amount, is_open FROM marts.fct_deals WHERE deal_id = 'crm:left'") == [(D(10), True)]
    assert told.rows("SELECT valid_from, valid_to FROM marts.deals_history WHERE deal_id = 'crm:left'") == [(datetime(2026, 1, 10), None)]


def test_what_a_source_without_a_log_of_changes_charged_follows_its_versions_and_moves_revenue(told):
    """One that rewrites the row of a subscription when it is upgraded: the months before keep what was paid in them."""
    terms = "SELECT valid_from, valid_to, mrr_amount FROM marts.fct_subscription_terms WHERE subscription_id = ? ORDER BY 1"
    assert told.rows(terms, "erp:late") == [
        (datetime(2026, 3, 10), datetime(2026, 5, 1), D(10)), (datetime(2026, 5, 1), datetime(2026, 6, 1), D(20)), (datetime(2026, 6, 1), None, D(30))]
    assert told.rows(terms, "erp:tied") == [(datetime(2026, 3, 10), None, D(41))]
    assert told.rows("SELECT amount, mrr_amount FROM marts.fct_subscriptions WHERE subscription_id = 'erp:late'") == [(D(30), D(30))]
    with told.open() as con:
        con.execute("CREATE SCHEMA IF NOT EXISTS metrics")
        movements.build_table(con, invariants.movement_spec(con))
    moved = told.rows("""SELECT month(period_start), opening_mrr, "new", expansion, contraction, closing_mrr FROM metrics.mtr_revenue_movements
                         WHERE period_grain = 'month' AND customer_id = 'subscription:erp:late' AND (opening_mrr <> closing_mrr) ORDER BY 1""")
    assert moved == [(3, 0, 10, 0, 0, 10), (5, 10, 0, 10, 0, 20), (6, 20, 0, 10, 0, 30)]


def test_a_subscription_that_ended_as_it_began_is_kept_moves_no_revenue_and_is_told_with_its_reason(told):
    found = told.one("SELECT plan, amount, currency, mrr_amount, mrr_amount_reporting, paid_from_at, is_active, started_at, ended_at FROM marts.fct_subscriptions WHERE subscription_id = 'crm:instant'")
    day = datetime(2026, 3, 10)
    assert found == {"plan": "Basic", "amount": 50, "currency": "EUR", "mrr_amount": 0, "mrr_amount_reporting": 0, "paid_from_at": None, "is_active": False, "started_at": day, "ended_at": day}
    with told.open() as con:
        reasons = {row["raw"].split('"')[3]: row["reasons"] for row in ingest.quarantine_rows(con, None, "crm", "subscriptions", 10).rows(named=True)}
        ingest.summarise_quarantine(con)
        shown = con.execute("SELECT source, field, rows FROM ops.quarantine_summary WHERE entity = 'subscriptions'").fetchall()
    assert reasons["crm:instant"].startswith("ended_at is the instant of its start") and shown == [("crm", "ended_at", len(reasons))]


def test_an_older_version_that_arrives_late_takes_its_place_in_history_and_the_newest_stays_current(told):
    assert told.column("SELECT country_code FROM marts.dim_customers WHERE customer_id = ?", told.customer("Late")) == ["FR"]
    assert told.rows("SELECT valid_from, valid_to, country_code FROM marts.customers_history WHERE customer_id = ? ORDER BY 1", told.customer("Late")) == [
        (datetime(2026, 1, 1), datetime(2026, 4, 15), "DE"), (datetime(2026, 4, 15), datetime(2026, 6, 1), "IT"), (datetime(2026, 6, 1), None, "FR")]
    assert told.column("SELECT amount FROM marts.fct_deals WHERE deal_id = 'erp:late'") == [D(30)]
    assert told.rows("SELECT valid_from, valid_to, amount FROM marts.deals_history WHERE deal_id = 'erp:late' ORDER BY 1") == [
        (datetime(2026, 1, 10), datetime(2026, 5, 1), D(10)), (datetime(2026, 5, 1), datetime(2026, 6, 1), D(20)), (datetime(2026, 6, 1), None, D(30))]
    assert told.rows("SELECT valid_from, valid_to, amount FROM marts.subscriptions_history WHERE subscription_id = 'erp:late' ORDER BY 1") == [
        (datetime(2026, 3, 10), datetime(2026, 5, 1), D(10)), (datetime(2026, 5, 1), datetime(2026, 6, 1), D(20)), (datetime(2026, 6, 1), None, D(30))]


def test_of_two_versions_of_one_time_the_later_batch_holds_and_history_ends_where_the_row_stands(told):
    assert told.column("SELECT country_code FROM marts.dim_customers WHERE customer_id = ?", told.customer("Two")) == ["ES"]
    assert told.column("SELECT amount FROM marts.fct_deals WHERE deal_id = 'erp:tied in two batches'") == [D(12)]
    for contact in ("One", "Two"):
        assert told.rows("SELECT country_code, valid_to FROM marts.customers_history WHERE customer_id = ?", told.customer(contact)) == told.rows(
            "SELECT country_code, NULL FROM marts.dim_customers WHERE customer_id = ?", told.customer(contact))
    assert told.rows("SELECT h.deal_id, h.valid_from, h.valid_to FROM marts.deals_history AS h JOIN marts.fct_deals AS d USING (deal_id, amount) WHERE starts_with(deal_id, 'erp:tied') ORDER BY 1") == [
        (f"erp:tied in {kind}", datetime(2026, 1, 10), None) for kind in ("one batch", "two batches")]
    assert told.rows("SELECT valid_from, valid_to, amount FROM marts.subscriptions_history WHERE subscription_id = 'erp:tied'") == [(datetime(2026, 3, 10), None, D(41))]


def test_changes_before_the_start_after_the_end_and_several_on_one_day_leave_one_term_at_a_time(told):
    assert told.rows("SELECT valid_from, valid_to, mrr_amount FROM marts.fct_subscription_terms WHERE subscription_id = 'crm:moved' ORDER BY 1") == [
        (datetime(2026, 3, 10), datetime(2026, 5, 5, 8), D(90)), (datetime(2026, 5, 5, 8), datetime(2026, 5, 5, 12), D(120)), (datetime(2026, 5, 5, 12), datetime(2026, 5, 5, 16), D(80)),
        (datetime(2026, 5, 5, 16), datetime(2026, 6, 15), D(110)), (datetime(2026, 6, 15), datetime(2026, 8, 20), D(140))]
    assert told.column("SELECT count(*) FROM marts.fct_subscription_terms WHERE subscription_id = 'crm:never'") == [0]


def test_their_movements_close_and_no_recurring_revenue_is_negative_or_counted_twice(told):
    with told.open() as con:
        spec = invariants.movement_spec(con)
        con.execute("CREATE SCHEMA IF NOT EXISTS metrics")
        movements.build_table(con, spec)
        assert [movements.broken_identities_query(spec, grain=grain).run(con).height for grain in movements.TABLE_GRAINS] == [0, 0, 0, 0]
    months = told.rows("""SELECT month(period_start), opening_mrr, "new", expansion, contraction, churn, closing_mrr FROM metrics.mtr_revenue_movements
                          WHERE period_grain = 'month' AND customer_id = ? AND (opening_mrr <> closing_mrr OR "new" <> 0) ORDER BY 1""", told.customer("A"))
    assert months == [(3, 0, 90, 0, 0, 0, 90), (5, 90, 0, 60, 40, 0, 110), (6, 110, 0, 30, 0, 0, 140), (8, 140, 0, 0, 0, 140, 0)]
    assert told.column("SELECT min(least(opening_mrr, closing_mrr)) FROM metrics.mtr_revenue_movements") == [0]
    assert told.column("SELECT count(*) FROM metrics.mtr_revenue_movements WHERE customer_id = ?", told.customer("Late")) == [0]


def test_their_histories_overlap_nowhere_and_end_where_the_rows_stand(told):
    marts = ("deals_history", "customers_history", "companies_history", "subscriptions_history", "fct_subscription_terms")
    tests = ["deals_history_ends_where_the_deals_stand", "stage_visits_follow_each_other", "every_subscription_is_in_the_facts_or_left_out_for_a_reason", *(f"no_overlap_{mart}*" for mart in marts), *(f"primary_key_{mart}*" for mart in marts)]
    told.resolve()      # closes what looks
    results = told.dbt(told.file, "test", "--select", *tests)
    assert len(results) == 13 and {r.node.name: str(r.status) for r in results if r.status != "pass"} == {}


def test_the_order_of_rows_within_their_batches_decides_nothing(told):
    expected = told.fingerprints()
    shuffled = {entity: random.Random(7).sample(rows, len(rows))[::-1] for entity, rows in STORY.items()}
    shuffled["deals"].sort(key=lambda row: -row["amount"])      # the two tied rows of one batch change places
    with told.open() as con:
        for entity in STORY:
            con.execute(f"DELETE FROM landing.{entity}")
    _land(told, shuffled)
    told.build(*SELECTED)
    assert {table: content for table, content in told.fingerprints().items() if expected[table] != content} == {}
