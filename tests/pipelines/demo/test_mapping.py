"""The mapping of the demo's CRM delivers every canonical entity, whole, typed, connected and in the right instants."""

from datetime import datetime
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
import yaml

from data_contracts.contract import load_contracts
from pipelines.sources.demo import MAPPING_FILE, TIME_ZONE

_REFERENCES = {
    ("companies", "parent_company_id"): "companies.company_id",
    ("companies", "merged_into_id"): "companies.company_id",
    ("contacts", "company_id"): "companies.company_id",
    ("contacts", "merged_into_id"): "contacts.contact_id",
    ("contacts", "acquisition_campaign_id"): "campaigns.campaign_id",
    ("leads", "contact_id"): "contacts.contact_id",
    ("leads", "converted_contact_id"): "contacts.contact_id",
    ("leads", "converted_deal_id"): "deals.deal_id",
    ("deals", "contact_id"): "contacts.contact_id",
    ("deals", "company_id"): "companies.company_id",
    ("deals", "merged_into_id"): "deals.deal_id",
    ("deals", "owner_id"): "users.user_id",
    ("deal_changes", "deal_id"): "deals.deal_id",
    ("deal_changes", "changed_by"): "users.user_id",
    ("orders", "contact_id"): "contacts.contact_id",
    ("orders", "company_id"): "companies.company_id",
    ("orders", "deal_id"): "deals.deal_id",
    ("order_lines", "order_id"): "orders.order_id",
    ("order_lines", "product_id"): "products.product_id",
    ("refunds", "order_id"): "orders.order_id",
    ("subscriptions", "contact_id"): "contacts.contact_id",
    ("subscription_changes", "subscription_id"): "subscriptions.subscription_id",
    ("campaigns", "parent_campaign_id"): "campaigns.campaign_id",
    ("campaign_members", "campaign_id"): "campaigns.campaign_id",
    ("campaign_members", "contact_id"): "contacts.contact_id",
    ("campaign_members", "lead_id"): "leads.lead_id",
    ("touchpoints", "contact_id"): "contacts.contact_id",
    ("touchpoints", "lead_id"): "leads.lead_id",
    ("touchpoints", "campaign_id"): "campaigns.campaign_id",
    ("events", "contact_id"): "contacts.contact_id",
    ("marketing_spend", "campaign_id"): "campaigns.campaign_id",
    ("activities", "contact_id"): "contacts.contact_id",
    ("activities", "deal_id"): "deals.deal_id",
    ("tickets", "contact_id"): "contacts.contact_id",
    ("survey_responses", "ticket_id"): "tickets.ticket_id",
    ("survey_responses", "order_id"): "orders.order_id",
    ("consents", "contact_id"): "contacts.contact_id",
    ("targets", "owner_id"): "users.user_id",
    ("identity_links", "left_id"): "contacts.contact_id",
    ("identity_links", "right_id"): "contacts.contact_id",
}


def test_the_mapping_covers_every_canonical_entity():
    mapping = yaml.safe_load(MAPPING_FILE.read_text(encoding="utf-8"))
    assert set(mapping["entities"]) == set(load_contracts())


@pytest.mark.parametrize("entity", sorted(load_contracts()))
def test_an_entity_keeps_its_contract(medium, entity):
    contract, frame = load_contracts()[entity], medium.canonical[entity]
    assert set(contract.by_name) <= set(frame.columns), f"missing: {set(contract.by_name) - set(frame.columns)}"
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("delivered", frame.to_arrow())
    typed = ", ".join(f'try_cast("{c.name}" AS {"TIMESTAMPTZ" if c.physical_type == "TIMESTAMP" else c.physical_type}) AS "{c.name}"' for c in contract.columns)
    connection.execute(f"CREATE TABLE typed AS SELECT {typed} FROM delivered")
    for c in contract.columns:
        lost = connection.execute(f'SELECT (SELECT count("{c.name}") FROM delivered) - (SELECT count("{c.name}") FROM typed)').fetchone()[0]
        assert lost == 0, f"{entity}.{c.name}: {lost} values are no {c.physical_type}"
        conditions = [f'"{c.name}" IS NOT NULL'] if c.required else []
        conditions += [f'"{c.name}" IN ({", ".join(repr(v) for v in c.valid_values)})'] if c.valid_values else []
        conditions += [f'"{c.name}" >= {c.minimum}'] if c.minimum is not None else []
        conditions += [f'"{c.name}" <= {c.maximum}'] if c.maximum is not None else []
        conditions += [f"regexp_matches(\"{c.name}\", '{c.pattern}')"] if c.pattern else []
        for condition in conditions:
            assert connection.execute(f"SELECT count(*) FROM typed WHERE NOT ({condition})").fetchone()[0] == 0, f"{entity}: {condition}"
    for rule in contract.rules:
        assert connection.execute(f"SELECT count(*) FROM typed WHERE NOT ({rule.predicate})").fetchone()[0] == 0, f"{entity}: {rule.id}"


@pytest.mark.parametrize("entity", sorted(load_contracts()))
def test_a_key_identifies_one_row(medium, entity):
    key, frame = list(load_contracts()[entity].key), medium.canonical[entity]
    assert frame.height > 0
    assert frame.select(key).is_duplicated().sum() == 0


@pytest.mark.parametrize(("place", "target"), _REFERENCES.items(), ids=lambda value: ".".join(value) if isinstance(value, tuple) else value)
def test_a_reference_resolves_and_is_used(medium, place, target):
    entity, column = place
    other, key = target.split(".")
    used = medium.canonical[entity].select(pl.col(column).alias("id")).drop_nulls()
    known = medium.canonical[other].select(pl.col(key).alias("id"))
    assert used.height > 0, f"{entity}.{column} is never filled"
    assert used.join(known, on="id", how="anti").height == 0


@pytest.mark.parametrize(
    "entity,column,table,raw", [("activities", "occurred_at", "calls_mails_meetings", "happened_local"), ("tickets", "created_at", "support_cases", "opened_local")]
)
def test_wall_clock_times_become_the_instants_they_mean(medium, entity, column, table, raw):
    local, instants = medium.crm[table].sort("id")[raw], medium.canonical[entity]
    key = "activity_id" if entity == "activities" else "ticket_id"
    mapped = instants.sort(pl.col(key).cast(pl.Int64))[column]
    offsets = set()
    for text, instant in list(zip(local, mapped, strict=True))[::37]:
        meant = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(TIME_ZONE))
        assert datetime.fromisoformat(instant) == meant
        offsets.add(meant.utcoffset())
    assert len(offsets) == 2, "both summer and winter time must occur"


def test_no_wall_clock_time_lies_in_the_hour_shown_twice(medium):
    for table, column in (("calls_mails_meetings", "happened_local"), ("support_cases", "opened_local"), ("support_cases", "solved_local")):
        for text in medium.crm[table].filter(pl.col(column).str.contains("-10-2[5-9] 02:|-10-3[01] 02:"))[column]:
            moment = datetime.fromisoformat(text)
            zone = ZoneInfo(TIME_ZONE)
            assert moment.replace(tzinfo=zone, fold=0).utcoffset() == moment.replace(tzinfo=zone, fold=1).utcoffset(), f"{table}.{column} {text} has two meanings"


def test_an_order_is_the_sum_of_its_lines_less_its_discount(medium):
    wrong = medium.value("""
        with lines as (select order_id, sum(quantity * unit_price - discount_amount) as lines from order_lines group by 1)
        select count(*) from orders left join lines using (order_id)
        where net_amount is distinct from lines - discount_amount or gross_amount is distinct from lines""")
    assert wrong == 0


def test_refunds_never_exceed_their_order_and_follow_it(medium):
    wrong = medium.value("""
        with refunded as (select order_id, sum(amount) as amount, min(refunded_at) as first_at, any_value(currency) as currency from refunds group by 1)
        select count(*) from refunded join orders using (order_id)
        where refunded.amount > net_amount or first_at <= ordered_at or refunded.currency <> orders.currency or status = 'cancelled'""")
    assert wrong == 0


def test_every_money_amount_can_be_converted_on_its_day(medium):
    missing = medium.value("""
        with needed as (
            select currency, left(ordered_at, 10) as day from orders union select currency, left(refunded_at, 10) from refunds
            union select currency, left(created_at, 10) from deals union select currency, spend_date from marketing_spend)
        select count(*) from needed where currency <> 'EUR'
        and not exists (select 1 from exchange_rates where quote_currency = needed.currency and rate_date <= day)""")
    assert missing == 0


def test_rates_are_quoted_on_business_days_only(medium):
    assert medium.value("select count(*) from exchange_rates where isodow(cast(rate_date as date)) > 5") == 0
    assert medium.value("select count(distinct isodow(cast(rate_date as date))) from exchange_rates") == 5


@pytest.mark.parametrize(
    "entity,rule",
    [
        ("leads", "converted_at >= created_at and disqualified_at >= created_at"),
        ("deals", "closed_at >= created_at"),
        ("subscriptions", "ended_at >= started_at and ended_at >= cancel_requested_at and trial_ends_at >= started_at"),
        ("subscription_changes", "changed_at >= (select started_at from subscriptions s where s.subscription_id = subscription_changes.subscription_id)"),
        ("subscription_changes", "changed_at <= (select ended_at from subscriptions s where s.subscription_id = subscription_changes.subscription_id)"),
        ("campaign_members", "delivered_at >= sent_at and first_opened_at >= delivered_at and first_clicked_at >= first_opened_at and responded_at >= first_clicked_at"),
        ("tickets", "first_response_at >= created_at and first_solved_at >= first_response_at and solved_at >= first_solved_at and updated_at >= solved_at"),
        ("survey_responses", "responded_at >= offered_at and (score is null) = (responded_at is null)"),
        ("orders", "updated_at >= ordered_at and deleted_at >= ordered_at"),
        ("contacts", "updated_at >= created_at and deleted_at >= created_at"),
        ("deal_changes", "changed_at >= (select created_at from deals d where d.deal_id = deal_changes.deal_id)"),
    ],
)
def test_times_of_a_row_stand_in_order(medium, entity, rule):
    assert medium.value(f"select count(*) from {entity} where not coalesce({' and '.join(f'coalesce({part}, true)' for part in rule.split(' and '))}, true)") == 0


def test_a_deals_history_ends_where_the_deal_stands(medium):
    wrong = medium.query("""
        with latest as (
            select deal_id, field, last(new_value order by changed_at, sequence) as value, first(old_value order by changed_at, sequence) as opening
            from deal_changes group by all)
        select count(*) filter (field = 'stage' and value <> stage) as stage, count(*) filter (field = 'amount' and try_cast(value as decimal(18, 4)) is distinct from amount) as amount,
               count(*) filter (field = 'owner_id' and value <> owner_id) as owner,
               count(*) filter (field = 'expected_close_date' and value <> expected_close_date) as day, count(*) filter (field = 'stage' and opening is not null) as opening
        from latest join deals using (deal_id)""")
    assert wrong.row(0) == (0, 0, 0, 0, 0)


def test_each_change_starts_from_the_value_before_it(medium):
    broken = medium.value("""
        select count(*) from (select old_value, lag(new_value) over (partition by deal_id, field order by changed_at, sequence) as before from deal_changes)
        where before is not null and before <> old_value""")
    assert broken == 0
