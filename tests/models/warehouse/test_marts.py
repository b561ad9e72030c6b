"""Marts of the company of `company.yml`, worked by hand."""

from datetime import date, datetime
from decimal import Decimal as D


def test_net_amounts_come_from_the_order_else_its_lines_else_its_gross(warehouse):
    found = warehouse.rows("SELECT order_id, gross_amount, net_amount, net_amount_origin FROM marts.fct_orders WHERE order_id IN ('crm:O1', 'crm:O2', 'crm:O3') ORDER BY 1")
    # O2: 2 x 10.00 - 1.00 + 5.50 - 2.00 of the whole order
    assert found == [("crm:O1", None, D("110.0000"), "order"), ("crm:O2", D("25.5000"), D("22.5000"), "lines"), ("crm:O3", D("50.0000"), D("45.0000"), "gross")]


def test_lines_carry_their_cost_in_the_reporting_currency(warehouse):
    found = warehouse.rows("SELECT order_line_id, category, net_amount, net_amount_reporting, cost_amount_reporting FROM marts.fct_order_lines ORDER BY 1")
    # the spare part costs 2.50 USD, in March 2.00 EUR
    assert found == [("crm:O2:1", "toys", D("19.0000"), D("19.0000"), D("8.0000")), ("crm:O2:2", "spares", D("5.5000"), D("5.5000"), D("2.0000"))]


def test_orders_are_numbered_by_customer_without_those_not_counted(warehouse):
    numbers = warehouse.rows("SELECT order_id, is_counted, order_number, is_first_order FROM marts.fct_orders WHERE customer_id = ? ORDER BY ordered_at", warehouse.customer("C1"))
    assert numbers == [("crm:O9", False, None, False), ("crm:O1", True, 1, True), ("crm:O2", True, 2, False), ("crm:O18", True, 3, False), ("crm:O3", True, 4, False)]


def test_an_order_without_a_customer_is_kept_and_one_of_a_company_is_the_organisations(warehouse):
    found = dict(warehouse.rows("SELECT order_id, customer_id FROM marts.fct_orders WHERE order_id IN ('crm:O7', 'crm:O8')"))
    assert found == {"crm:O7": warehouse.customer("K1", "company"), "crm:O8": None}


def test_a_customer_sums_up_what_their_facts_say(warehouse):
    row = warehouse.one("""SELECT name, organisation_name, industry, acquisition_channel, lifecycle_stage, order_count, net_revenue_reporting, first_order_at, first_paid_at,
                           first_paid_date, active_subscription_count, current_mrr_reporting FROM marts.dim_customers WHERE customer_id = ?""", warehouse.customer("C1"))
    assert row == {"name": "Ann Ash", "organisation_name": "Kite Ltd", "industry": "toys", "acquisition_channel": "ads", "lifecycle_stage": "customer", "order_count": 4,
                   "net_revenue_reporting": D("199.5000"), "first_order_at": datetime(2026, 2, 28, 23, 30), "first_paid_at": datetime(2026, 1, 15),
                   "first_paid_date": date(2026, 1, 15), "active_subscription_count": 1, "current_mrr_reporting": D("100.0000")}


def test_first_payments_are_orders_or_paid_terms_and_no_trials(warehouse):
    found = dict(warehouse.rows("SELECT customer_id, (acquisition_kind, acquired_at, first_amount_reporting) FROM marts.fct_new_customers"))
    assert found == {
        warehouse.customer("C1"): ("subscription", datetime(2026, 1, 15), D("100.0000")),
        warehouse.customer("C4"): ("order", datetime(2026, 2, 1, 10), D("120.0000")),
        warehouse.customer("C5"): ("order", datetime(2026, 2, 2, 10), D("100.0000")),
        warehouse.customer("C9"): ("subscription", datetime(2026, 3, 1), D("15.0000")),
        warehouse.customer("K1", "company"): ("order", datetime(2026, 4, 1, 10), D("500.0000"))}


def test_terms_follow_changes_of_quantity_amount_and_interval_and_end(warehouse):
    terms = warehouse.rows("SELECT valid_from, valid_to, interval, quantity, amount, mrr_amount FROM marts.fct_subscription_terms WHERE subscription_id = 'crm:S2' ORDER BY 1")
    assert terms == [
        (datetime(2026, 1, 31, 12), datetime(2026, 2, 15), "month", D(5), D(50), D(0)),
        (datetime(2026, 2, 15), datetime(2026, 4, 1), "month", D(5), D(50), D(50)),
        (datetime(2026, 4, 1), datetime(2026, 6, 1), "month", D(10), D(100), D(100)),
        (datetime(2026, 6, 1), datetime(2026, 7, 1), "month", D(10), D(90), D(90)),
        (datetime(2026, 7, 1), datetime(2026, 8, 1), "month", D(5), D(45), D(45)),
        (datetime(2026, 8, 1), datetime(2026, 10, 1), "year", D(5), D(600), D(50))]


def test_terms_are_normalised_to_a_month_and_stay_open(warehouse):
    terms = warehouse.rows("SELECT subscription_id, valid_from, valid_to, currency, mrr_amount FROM marts.fct_subscription_terms WHERE subscription_id IN ('crm:S1', 'crm:S3') ORDER BY 1, 2")
    # 1,200 a year; 12 USD a week is 12 x 52 / 12; 13 EUR a week
    assert terms == [("crm:S1", datetime(2026, 1, 15), None, "EUR", D(100)), ("crm:S3", datetime(2026, 5, 1), datetime(2026, 9, 1), "USD", D(52)),
                     ("crm:S3", datetime(2026, 9, 1), None, "EUR", D("56.3333"))]


def test_a_change_before_the_start_sets_the_terms_of_the_start(warehouse):
    terms = warehouse.rows("SELECT valid_from, valid_to, amount FROM marts.fct_subscription_terms WHERE subscription_id = 'crm:S6'")
    assert terms == [(datetime(2026, 3, 1), datetime(2026, 9, 1), D(15))]


def test_a_running_trial_is_active_and_pays_nothing(warehouse):
    found = warehouse.one("SELECT is_active, mrr_amount, paid_from_at FROM marts.fct_subscriptions WHERE subscription_id = 'crm:S7'")
    assert found == {"is_active": True, "mrr_amount": D(0), "paid_from_at": datetime(2026, 12, 1)}


def test_stage_visits_show_every_stay_and_end_with_the_deal(warehouse):
    visits = warehouse.rows("SELECT stage, visit_number, stage_visit_number, entered_at, exited_at, duration_days, next_stage FROM marts.fct_deal_stage_visits WHERE deal_id = 'crm:D1' ORDER BY 2")
    assert visits == [
        ("New", 1, 1, datetime(2026, 1, 20), datetime(2026, 1, 21), 1.0, "Qualified"),
        ("Qualified", 2, 1, datetime(2026, 1, 21), datetime(2026, 1, 23), 2.0, "Proposal"),
        ("Proposal", 3, 1, datetime(2026, 1, 23), datetime(2026, 1, 24), 1.0, "Qualified"),
        ("Qualified", 4, 2, datetime(2026, 1, 24), datetime(2026, 1, 27), 3.0, "Proposal"),
        ("Proposal", 5, 2, datetime(2026, 1, 27), datetime(2026, 1, 30), 3.0, "Won"),
        ("Won", 6, 1, datetime(2026, 1, 30), datetime(2026, 1, 30), 0.0, None)]


def test_a_deal_without_changes_stays_where_it_is_from_its_creation(warehouse):
    visits = warehouse.rows("SELECT deal_id, stage, entered_at, exited_at FROM marts.fct_deal_stage_visits WHERE deal_id IN ('crm:D4', 'crm:D9') ORDER BY 1")
    assert visits == [("crm:D4", "New", datetime(2026, 1, 20), None), ("crm:D9", "Lost", datetime(2026, 1, 22, 10), datetime(2026, 1, 22, 10))]


def test_the_stage_a_deal_has_now_closes_a_log_that_lacks_it(warehouse):
    visits = warehouse.rows("SELECT stage, entered_at, exited_at FROM marts.fct_deal_stage_visits WHERE deal_id = 'crm:D8' ORDER BY visit_number")
    assert visits == [("New", datetime(2026, 1, 22), datetime(2026, 1, 23)), ("Qualified", datetime(2026, 1, 23), datetime(2026, 1, 25)), ("Proposal", datetime(2026, 1, 25), None)]
    assert warehouse.column("SELECT count(*) FROM marts.fct_deal_changes WHERE deal_id = 'crm:D8'") == [1], "the log itself is shown as it is"


def test_a_deal_may_be_lost_in_any_stage_and_without_a_closing_time(warehouse):
    lost = warehouse.one("SELECT is_won, is_lost, is_open, closed_at, cycle_days FROM marts.fct_deals WHERE deal_id = 'crm:D11'")
    assert lost == {"is_won": False, "is_lost": True, "is_open": False, "closed_at": None, "cycle_days": None}
    assert warehouse.rows("SELECT stage, is_lost, is_open, valid_to FROM marts.deals_history WHERE deal_id = 'crm:D11'") == [("Proposal", True, False, None)]


def test_cycles_are_never_negative(warehouse):
    cycles = dict(warehouse.rows("SELECT deal_id, cycle_days FROM marts.fct_deals WHERE deal_id IN ('crm:D1', 'crm:D9')"))
    assert cycles == {"crm:D1": 10.0, "crm:D9": 0.0}


def test_history_comes_from_the_log_where_there_is_one(warehouse):
    history = warehouse.rows("SELECT valid_from, valid_to, stage, amount, is_won FROM marts.deals_history WHERE deal_id = 'crm:D2' ORDER BY 1")
    assert history == [
        (datetime(2026, 1, 20), datetime(2026, 1, 25), "New", D(90), False), (datetime(2026, 1, 25), datetime(2026, 2, 1), "Proposal", D(90), False),
        (datetime(2026, 2, 1), datetime(2026, 2, 28, 23, 30), "Proposal", D(110), False), (datetime(2026, 2, 28, 23, 30), None, "Won", D(110), True)]


def test_history_comes_from_landed_versions_where_the_source_logs_nothing(warehouse):
    history = warehouse.rows("SELECT valid_from, valid_to, stage, amount FROM marts.deals_history WHERE deal_id = 'erp:E1' ORDER BY 1")
    assert history == [(datetime(2026, 1, 5), datetime(2026, 2, 10), "offer", D(100)), (datetime(2026, 2, 10), None, "order", D(250))]
    stages = warehouse.rows("SELECT stage, entered_at, exited_at FROM marts.fct_deal_stage_visits WHERE deal_id = 'erp:E1' ORDER BY visit_number")
    assert stages == [("offer", datetime(2026, 1, 5), datetime(2026, 2, 10)), ("order", datetime(2026, 2, 10), None)]
    assert warehouse.column("SELECT DISTINCT origin FROM marts.fct_deal_changes WHERE deal_id = 'erp:E1'") == ["observed"]


def test_customers_history_follows_landed_versions(warehouse):
    history = warehouse.rows("SELECT valid_from, valid_to, lifecycle_stage, country_code FROM marts.customers_history WHERE customer_id = ? ORDER BY 1", warehouse.customer("C1"))
    assert history == [(datetime(2026, 1, 1, 9), datetime(2026, 3, 5, 10), "lead", "DE"), (datetime(2026, 3, 5, 10), None, "customer", "DE")]


def test_leads_convert_within_the_window_and_mature_with_it(warehouse):
    leads = warehouse.rows("SELECT lead_id, customer_id, is_converted, is_converted_in_window, is_mature, days_to_convert FROM marts.fct_leads ORDER BY 1")
    assert leads == [("crm:L1", warehouse.customer("C1"), True, True, True, 19.0), ("crm:L2", warehouse.customer("L2", "lead"), False, False, False, None),
                     ("crm:L3", warehouse.customer("C4"), True, False, True, 120.0)]
    assert warehouse.column("SELECT lead_id FROM marts.fct_deals WHERE deal_id = 'crm:D1'") == ["crm:L1"]


def test_a_response_is_the_earliest_within_the_window_and_no_scanners_click(warehouse):
    members = warehouse.rows("SELECT member_id, is_delivered, is_responded, response_kind, response_days, is_control FROM marts.fct_campaign_members ORDER BY 1")
    assert members == [("1", True, True, "reply", 1.0, False), ("2", True, False, None, None, False), ("3", True, False, None, None, False),
                       ("4", False, False, None, None, True), ("5", False, False, None, None, False)]


def test_interactions_are_inbound_or_two_way(warehouse):
    found = dict(warehouse.rows("SELECT activity_id, is_interaction FROM marts.fct_activities"))
    assert found == {"crm:A1": True, "crm:A2": False, "crm:A3": True, "crm:A4": False, "crm:A5": False, "crm:A6": True, "crm:A7": False}


def test_tickets_count_elapsed_hours_over_a_change_of_clocks(warehouse):
    ticket = warehouse.one("SELECT created_date, first_response_hours, resolution_hours FROM marts.fct_tickets")
    assert ticket == {"created_date": date(2026, 10, 25), "first_response_hours": 3.0, "resolution_hours": 24.0}


def test_survey_answers_belong_to_the_customer_of_their_ticket(warehouse):
    found = warehouse.rows("SELECT response_id, customer_id, channel, is_answered, is_satisfied FROM marts.fct_survey_responses ORDER BY 1")
    assert found == [("crm:V1", warehouse.customer("C1"), "chat", True, True), ("crm:V2", warehouse.customer("C1"), None, False, None), ("crm:V3", warehouse.customer("C4"), None, True, None)]


def test_the_last_word_on_consent_counts(warehouse):
    found = warehouse.rows("SELECT status, is_latest, is_granting FROM marts.fct_consents ORDER BY recorded_at")
    assert found == [("granted", False, True), ("withdrawn", True, False)]


def test_rates_are_listed_with_the_days_they_hold(warehouse):
    rates = warehouse.rows("SELECT currency, valid_from, valid_to, round(rate_to_reporting, 6), via_currency FROM marts.fct_exchange_rates ORDER BY 1, 2")
    assert rates == [
        ("CHF", date(2026, 6, 1), None, 1.05, None), ("EUR", date(1900, 1, 1), None, 1.0, None), ("GBP", date(2026, 1, 2), date(2026, 3, 15), 1.2, None), ("GBP", date(2026, 3, 15), None, 1.3, None),
        ("JPY", date(2026, 1, 2), date(2026, 3, 1), 0.006061, "USD"), ("JPY", date(2026, 3, 1), None, 0.005333, "USD"),
        ("USD", date(2026, 1, 2), date(2026, 3, 1), 0.909091, None), ("USD", date(2026, 3, 1), None, 0.8, None)]


def test_rfm_scores_people_with_orders_only(warehouse):
    scored = warehouse.rows("SELECT customer_id, recency_days, order_count, net_revenue_reporting FROM marts.fct_rfm_scores")
    # 28 days since 25 October; C4's last order is the one that was kept of three; two were fully refunded
    assert dict((c, rest) for c, *rest in scored) == {
        warehouse.customer("C1"): [28, 4, D("199.5000")], warehouse.customer("C4"): [294, 3, D("43.0000")],
        warehouse.customer("C5"): [293, 1, D("100.0000")], warehouse.customer("K1", "company"): [235, 1, D("500.0000")]}


def test_targets_in_money_are_in_the_reporting_currency_too(warehouse):
    assert warehouse.rows("SELECT value, currency, value_reporting FROM marts.fct_targets") == [(D(1250), "USD", D(1000))]


def test_no_money_column_of_a_mart_is_wider_than_eighteen_digits(warehouse):
    wide = warehouse.rows("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'marts' AND (numeric_precision > 18 AND data_type LIKE 'DECIMAL%' OR data_type = 'HUGEINT')")
    assert wide == []
