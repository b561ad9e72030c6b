"""Everything that makes real CRM data hard occurs in the simulated one, even in a company of 300 customers."""

import pytest

from pipelines.sources.demo import TEST_EMAIL_DOMAINS

# Each phenomenon: a query that counts it.
_PHENOMENA = {
    "orders without a contact": "select count(*) from orders where contact_id is null and company_id is null",
    "orders of a company without a person": "select count(*) from orders where contact_id is null and company_id is not null",
    "orders of no value": "select count(*) from orders where net_amount = 0",
    "cancelled orders": "select count(*) from orders where status = 'cancelled'",
    "draft orders": "select count(*) from orders where status = 'draft'",
    "deleted orders": "select count(*) from orders where deleted_at is not null",
    "orders recorded weeks late": "select count(*) from orders where cast(updated_at as timestamptz) - cast(ordered_at as timestamptz) > interval 19 days and deleted_at is null",
    "partly refunded orders": "select count(*) from orders join (select order_id, sum(amount) as back from refunds group by 1) using (order_id) where back < net_amount",
    "fully refunded orders": "select count(*) from orders join (select order_id, sum(amount) as back from refunds group by 1) using (order_id) where back = net_amount",
    "orders refunded in two notes": "select count(*) from (select order_id from refunds group by 1 having count(*) = 2)",
    "refunds in a later month": "select count(*) from refunds join orders using (order_id) where left(refunded_at, 7) > left(ordered_at, 7)",
    "orders from a deal": "select count(*) from orders where deal_id is not null",
    "marked test accounts": "select count(*) from contacts where is_test",
    "unmarked test accounts": f"select count(*) from contacts where not is_test and email like '%@{TEST_EMAIL_DOMAINS[0]}'",
    "orders of test accounts": f"select count(*) from orders join contacts using (contact_id) where contacts.is_test or email like '%@{TEST_EMAIL_DOMAINS[0]}'",
    "deleted contacts": "select count(*) from contacts where deleted_at is not null",
    "merged contacts": "select count(*) from contacts where merged_into_id is not null",
    "facts of merged contacts": "select count(*) from (select contact_id from events union all select contact_id from orders union all select contact_id from activities) join contacts using (contact_id) where merged_into_id is not null",
    "merged companies": "select count(*) from companies where merged_into_id is not null",
    "companies with a parent": "select count(*) from companies where parent_company_id is not null",
    "test companies": "select count(*) from companies where is_test",
    "merged deals": "select count(*) from deals where merged_into_id is not null",
    "deleted deals": "select count(*) from deals where deleted_at is not null",
    "deleted leads": "select count(*) from leads where deleted_at is not null",
    "deleted tickets": "select count(*) from tickets where deleted_at is not null",
    "contacts equal but for letter case": "select count(*) from contacts a join contacts b on lower(a.email) = lower(b.email) and a.email <> b.email",
    "contacts equal but for a plus tag": "select count(*) from contacts a join contacts b on regexp_replace(a.email, '[+].*@', '@') = b.email and a.email <> b.email",
    "contacts equal but for phone formatting": """select count(*) from contacts a join contacts b
        on regexp_replace(regexp_replace(a.phone, '^00', ''), '[^0-9]', '', 'g') = regexp_replace(b.phone, '[^0-9]', '', 'g') and a.phone <> b.phone""",
    "different people behind one inbox": "select count(*) from (select email from contacts where email like 'info@%' group by 1 having count(*) > 1)",
    "leads with a contact's address and no link": "select count(*) from leads join contacts on lower(leads.email) = lower(contacts.email) where leads.contact_id is null and converted_contact_id is null",
    "leads of known contacts": "select count(*) from leads where contact_id is not null",
    "reviewed pairs that are the same": "select count(*) from identity_links where decision = 'same'",
    "reviewed pairs that differ": "select count(*) from identity_links where decision = 'different'",
    "converted leads": "select count(*) from leads where converted_contact_id is not null",
    "leads converted into deals": "select count(*) from leads where converted_deal_id is not null",
    "disqualified leads": "select count(*) from leads where disqualified_reason is not null",
    "deals that return to an earlier stage": """select count(*) from (select position - lag(position) over (partition by deal_id order by changed_at, sequence) as step
        from deal_changes join deals using (deal_id) join pipeline_stages p on p.pipeline = deals.pipeline and p.stage = new_value where field = 'stage') where step < 0""",
    "deals that skip a stage": """select count(*) from (select position - lag(position) over (partition by deal_id order by changed_at, sequence) as step, new_value
        from deal_changes join deals using (deal_id) join pipeline_stages p on p.pipeline = deals.pipeline and p.stage = new_value where field = 'stage') where step > 1 and new_value <> 'lost'""",
    "deals revived after being lost": "select count(*) from deal_changes where field = 'stage' and old_value = 'lost'",
    "deals whose amount changed": "select count(*) from deal_changes where field = 'amount'",
    "deals whose close date moved": "select count(*) from deal_changes where field = 'expected_close_date'",
    "deals whose owner changed": "select count(*) from deal_changes where field = 'owner_id'",
    "two changes in one instant": "select count(*) from (select deal_id, changed_at from deal_changes group by all having count(*) > 1)",
    "deals in every stage": "select case when count(distinct stage) = 6 then 1 else 0 end from deals",
    "lost reasons": "select count(*) from deals where is_lost and lost_reason is not null",
    "people who left the staff": "select count(*) from users where not is_active",
    "control group members": "select count(*) from campaign_members where is_control and sent_at is null",
    "bounced messages": "select count(*) from campaign_members where bounced_at is not null",
    "replies": "select count(*) from campaign_members where first_replied_at is not null",
    "filled forms": "select count(*) from campaign_members where responded_at is not null",
    "orders after messages": "select count(*) from campaign_members where converted_at is not null",
    "suspected bots": "select count(*) from campaign_members where is_suspected_bot and first_clicked_at is not null",
    "leads as campaign members": "select count(*) from campaign_members where lead_id is not null",
    "campaigns without effect": "select count(*) from true_campaigns where average_effect = 0 and members > 0",
    "campaigns with effect": "select count(*) from true_campaigns where average_effect > 0",
    "anonymous visits": "select count(*) from touchpoints where contact_id is null and lead_id is null",
    "people without any visit": "select count(*) from contacts c where not exists (select 1 from touchpoints t where t.contact_id = c.contact_id)",
    "events in one instant": "select count(*) from (select anonymous_id, occurred_at from events group by all having count(*) > 2)",
    "spend in a foreign currency": "select count(*) from marketing_spend where currency = 'USD'",
    "costs of no channel": "select count(*) from marketing_spend where channel = 'unattributed' and cost_kind = 'salary'",
    "five currencies": "select case when count(distinct currency) = 5 then 1 else 0 end from orders",
    "internal notes": "select count(*) from activities where kind = 'note' and not is_customer_facing",
    "inbound contacts": "select count(*) from activities where direction = 'inbound'",
    "reopened tickets": "select count(*) from tickets where reopen_count > 0",
    "open tickets": "select count(*) from tickets where solved_at is null",
    "unanswered surveys": "select count(*) from survey_responses where responded_at is null",
    "csat, nps and ces": "select case when count(distinct kind) = 3 then 1 else 0 end from survey_responses where score is not null",
    "withdrawn consents": "select count(*) from consents where status = 'withdrawn'",
    "inactive products": "select count(*) from products where not is_active",
}  # fmt: skip

_MOVEMENTS = {
    "trials": "select count(*) from subscriptions where trial_ends_at is not null",
    "trials never paid": "select count(*) from subscriptions where ended_at = trial_ends_at",
    "open-ended": "select count(*) from subscriptions where ended_at is null",
    "churn": "select count(*) from subscriptions where ended_at is not null",
    "cancelled before the paid period ends": "select count(*) from subscriptions where cancel_requested_at < ended_at",
    "signed and cancelled in one month": "select count(*) from subscriptions where left(started_at, 7) = left(ended_at, 7) and trial_ends_at is null",
    "returned after a gap": "select count(*) from subscriptions a join subscriptions b on a.contact_id = b.contact_id where b.started_at > a.ended_at",
    "two at a time": "select count(*) from subscriptions a join subscriptions b on a.contact_id = b.contact_id and a.subscription_id <> b.subscription_id where b.started_at > a.started_at and (a.ended_at is null or b.started_at < a.ended_at)",
    "one of two cancelled": "select count(*) from subscriptions a join subscriptions b on a.contact_id = b.contact_id where b.started_at > a.started_at and b.ended_at < coalesce(a.ended_at, '9999')",
    "expansion": "select count(*) from changed where amount > before_amount and interval = before_interval and before_amount > 0",
    "seats without an amount": "select count(*) from subscription_changes where amount is null and quantity is not null",
    "contraction": "select count(*) from changed where amount < before_amount and amount > 0 and interval = before_interval",
    "paused": "select count(*) from subscription_changes where amount = 0",
    "resumed": "select count(*) from changed where before_amount = 0 and amount > 0",
    "another plan": "select count(*) from changed where plan <> before_plan",
    "another interval": "select count(*) from changed where interval <> before_interval",
    "another currency": "select count(*) from changed where currency <> before_currency",
    "billed by the year": "select count(*) from subscriptions where interval = 'year'",
    "billed by the quarter": "select count(*) from subscriptions where interval = 'quarter'",
    "billed by the week": "select count(*) from subscriptions where interval = 'week'",
    "billed by the day": "select count(*) from subscriptions where interval = 'day'",
}  # fmt: skip
_CHANGED = """with changed as (select *, lag(amount) over w as before_amount, lag(plan) over w as before_plan, lag(interval) over w as before_interval, lag(currency) over w as before_currency
    from subscription_changes window w as (partition by subscription_id order by changed_at)) """


@pytest.fixture(scope="session", params=[7, 8, 9])
def tiny(request, small, build_world, tmp_path_factory):
    """Three companies of three hundred customers."""
    return small if request.param == 7 else build_world(tmp_path_factory.mktemp("tiny"), 300, seed=request.param)


def test_a_small_company_contains_every_phenomenon(tiny):
    absent = [name for name, sql in _PHENOMENA.items() if not tiny.value(sql)]
    assert not absent, f"missing: {', '.join(absent)}"


def test_a_small_company_contains_every_movement_of_recurring_revenue(tiny):
    absent = [name for name, sql in _MOVEMENTS.items() if not tiny.value(_CHANGED + sql)]
    assert not absent, f"missing: {', '.join(absent)}"


def test_the_signed_terms_are_the_first_version_of_an_amended_contract(medium):
    differing = medium.value("""
        select count(*) from subscriptions s join (select subscription_id, arg_min(struct_pack(plan, interval, amount, currency, quantity, changed_at), changed_at) as v from subscription_changes group by 1) f using (subscription_id)
        where v.changed_at <> s.started_at or v.plan <> s.plan or v.interval <> s.interval or v.amount <> s.amount or v.currency <> s.currency or v.quantity <> s.quantity""")
    assert differing == 0


def test_a_deleted_or_test_contact_is_never_a_survivor(medium):
    assert (
        medium.value(
            "select count(*) from contacts l join contacts s on l.merged_into_id = s.contact_id where s.deleted_at is not null or s.is_test or s.merged_into_id is not null"
        )
        == 0
    )
