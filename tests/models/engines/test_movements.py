"""Worked examples and rules of the revenue movement engine."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import duckdb
import pytest

from models.engines import movements, movements_summary
from models.engines.movements_periods import Periods

SEPTEMBER = Periods.of_list([(date(2026, 9, 1), date(2026, 10, 1))])
WATERMARK = datetime(2026, 11, 22, 12)


@pytest.fixture(scope="module")
def connection():
    opened = duckdb.connect()
    opened.execute("SET TimeZone='UTC'; SET threads=1; CREATE SCHEMA marts; CREATE SCHEMA metrics")
    yield opened
    opened.close()


@pytest.fixture
def con(connection):
    connection.execute(
        "CREATE OR REPLACE TABLE marts.fct_subscription_terms(subscription_id VARCHAR, customer_id VARCHAR, valid_from TIMESTAMP, "
        "valid_to TIMESTAMP, mrr_amount DECIMAL(18,4), currency VARCHAR)"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE marts.fct_subscriptions(subscription_id VARCHAR, cancel_requested_at TIMESTAMP)"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE marts.fct_exchange_rates"
        "(currency VARCHAR, rate_date DATE, rate_to_reporting DECIMAL(18,8))"
    )
    return connection


def spec(**changes) -> movements.MovementSpec:
    return movements.MovementSpec(
        **{"time_zone": "Europe/Berlin", "reporting_currency": "EUR", "watermark": WATERMARK, **changes}
    )


def add(con, subscription, customer, start, end, amount, currency="EUR"):
    con.execute(
        "INSERT INTO marts.fct_subscription_terms VALUES (?, ?, ?, ?, ?, ?)",
        [subscription, customer, start, end, amount, currency],
    )


def add_rates(con, *rates):
    con.executemany("INSERT INTO marts.fct_exchange_rates VALUES (?, ?, ?)", rates)


def moved(con, period_start, chosen=None):
    """The only customer's month over all currencies, as a dict."""
    rows = movements.run(con, chosen or spec(), by_currency=False).to_dicts()
    found = [r for r in rows if r["period_start"] == period_start]
    assert len(found) == 1, rows
    return found[0]


@pytest.fixture
def september(con):
    """The worked September: A, B, C pay 100; A goes to 150, B to 60, C cancels, D returns at 30, E is new at 80."""
    add(con, "a", "A", "2026-08-01", "2026-09-10", 100)
    add(con, "a", "A", "2026-09-10", None, 150)
    add(con, "b", "B", "2026-08-01", "2026-09-11", 100)
    add(con, "b", "B", "2026-09-11", None, 60)
    add(con, "c", "C", "2026-08-01", "2026-09-20", 100)
    add(con, "d1", "D", "2026-07-01", "2026-08-20", 30)
    add(con, "d2", "D", "2026-09-05", None, 30)
    add(con, "e", "E", "2026-09-08", None, 80)
    return con


def test_the_worked_september_comes_out_exactly(september):
    row = movements_summary.run(september, movements.movements_query(spec(), SEPTEMBER)).to_dicts()[0]
    waterfall = ("opening_mrr", "new", "reactivation", "expansion", "contraction", "churn", "fx", "mrr")
    assert [row[name] for name in waterfall] == [300, 80, 30, 50, 40, 100, 0, 320]
    assert row["grr"] == pytest.approx(0.5333, abs=5e-5)
    assert row["nrr"] == pytest.approx(0.70)
    assert row["nrr__net_churn_complement"] == pytest.approx(0.80)
    assert row["nrr__net_of_expansion"] == pytest.approx(0.8333, abs=5e-5)
    assert row["churn_rate"] == pytest.approx(0.3333, abs=5e-5)
    assert row["churn_rate_n"] == 3
    assert row["quick_ratio"] == pytest.approx(130 / 140)
    assert row["gross_mrr_churn_rate"] == pytest.approx(140 / 300)
    assert row["net_mrr_churn_rate"] == pytest.approx(60 / 300)
    assert row["arpa"] == pytest.approx(80)
    assert (row["opening_customers"], row["churned_customers"], row["paying_customers"]) == (3, 1, 4)


def test_the_stored_table_gives_the_same_summary_and_keeps_its_identities(september):
    movements.build_table(september, spec())
    stored = movements_summary.run(september, movements_summary.table_rows_query()).to_dicts()
    computed = movements_summary.run(september, movements.movements_query(spec())).to_dicts()
    assert stored == computed
    assert [r["period_start"].month for r in stored] == [7, 8, 9, 10, 11]
    for grain in movements.TABLE_GRAINS:
        assert movements.broken_identities_query(spec(), grain=grain).run(september).is_empty()


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("UPDATE metrics.mtr_revenue_movements SET new = new + 0.01 WHERE customer_id = 'E'", "waterfall"),
        (
            "UPDATE metrics.mtr_revenue_movements SET opening_mrr = opening_mrr + 1, closing_mrr = closing_mrr + 1"
            " WHERE customer_id = 'A' AND period_start = DATE '2026-10-01'",
            "chain",
        ),
        ("UPDATE metrics.mtr_revenue_movements SET fx = 1, closing_mrr = closing_mrr + 1 WHERE customer_id = 'A'", "fx"),
        ("DELETE FROM metrics.mtr_revenue_movements WHERE customer_id = 'A'", "terms"),
        ("INSERT INTO marts.fct_subscription_terms VALUES ('z','Z','2026-01-01',NULL,5,'EUR')", "terms"),
    ],
)
def test_a_damaged_table_is_named_by_its_check(september, damage, check):
    movements.build_table(september, spec())
    september.execute(damage)
    assert check in movements.broken_identities_query(spec()).run(september)["check_name"].to_list()


def test_an_open_ended_subscription_counts_and_never_churns_in_the_running_month(con):
    add(con, "s", "A", "2026-01-15", None, Decimal("166.6667"))
    row = moved(con, date(2026, 11, 1))
    assert (row["opening_mrr"], row["closing_mrr"], row["churn"]) == (Decimal("166.6667"), Decimal("166.6667"), 0)
    assert not row["is_churned_logo"] and not row["is_complete"]


def test_a_cancellation_scheduled_after_the_watermark_has_not_happened(con):
    add(con, "s", "A", "2026-01-15", "2026-11-25", 100)
    row = moved(con, date(2026, 11, 1))
    assert (row["closing_mrr"], row["churn"], row["is_churned_logo"]) == (100, 0, False)
    add(con, "t", "B", "2026-11-24", None, 40)
    assert movements.run(con, spec())["customer_id"].unique().to_list() == ["A"]


def test_trials_are_zero_and_the_first_payment_is_new(con):
    add(con, "s", "A", "2026-01-15", "2026-02-15", 0)
    add(con, "s", "A", "2026-02-15", None, 20)
    assert moved(con, date(2026, 2, 1))["new"] == 20
    assert movements.run(con, spec())["period_start"].min() == date(2026, 2, 1)


def test_sign_up_and_cancellation_in_one_period_are_both_counted_and_flagged(con):
    add(con, "s", "A", "2026-09-03", "2026-09-20", 50)
    row = moved(con, date(2026, 9, 1))
    assert (row["opening_mrr"], row["new"], row["churn"], row["closing_mrr"]) == (0, 50, 50, 0)
    assert row["same_period"] and not row["is_churned_logo"]
    summary = movements_summary.run(con, movements.movements_query(spec(), SEPTEMBER)).to_dicts()[0]
    assert summary["same_period_customers"] == 1
    assert summary["churn_rate"] is None and summary["churn_rate_reason"] == "no customers in the opening book"
    assert summary["nrr"] is None and summary["nrr_reason"] == "no opening MRR"
    assert summary["arpa"] is None and summary["arpa_reason"] == "no paying customers"


def test_a_switch_of_plan_at_one_instant_is_one_change(con):
    add(con, "old", "A", "2026-08-01", "2026-09-10 08:00", 100)
    add(con, "new", "A", "2026-09-10 08:00", None, 130)
    row = moved(con, date(2026, 9, 1))
    assert (row["expansion"], row["churn"], row["reactivation"], row["new"]) == (30, 0, 0, 0)


def test_a_second_subscription_is_expansion_and_losing_one_of_two_is_contraction(con):
    add(con, "s", "A", "2026-08-01", None, 100)
    add(con, "t", "A", "2026-09-05", "2026-10-05", 40)
    assert moved(con, date(2026, 9, 1))["expansion"] == 40
    october = moved(con, date(2026, 10, 1))
    assert (october["contraction"], october["churn"]) == (40, 0)


def test_several_changes_inside_a_period_are_each_counted(con):
    for start, end, amount in (("08-01", "09-05", 100), ("09-05", "09-12", 160), ("09-12", "09-19", 90)):
        add(con, "s", "A", f"2026-{start}", f"2026-{end}", amount)
    add(con, "s", "A", "2026-09-25", None, 70)
    row = moved(con, date(2026, 9, 1))
    assert (row["expansion"], row["contraction"], row["churn"], row["reactivation"]) == (60, 70, 90, 70)
    assert row["closing_mrr"] == 70 and not row["same_period"]


def test_a_pause_is_churn_and_the_restart_a_reactivation(con):
    add(con, "s", "A", "2026-07-01", "2026-08-10", 30)
    add(con, "s", "A", "2026-08-10", "2026-10-10", 0)
    add(con, "s", "A", "2026-10-10", None, 30)
    assert moved(con, date(2026, 8, 1))["churn"] == 30
    assert moved(con, date(2026, 10, 1))["reactivation"] == 30


def test_churn_can_be_dated_by_the_request(con):
    add(con, "s", "A", "2026-07-01", "2026-08-15", 30)
    add(con, "s", "A", "2026-08-15", "2026-10-01", 50)
    con.execute("INSERT INTO marts.fct_subscriptions VALUES ('s', '2026-08-20')")
    assert moved(con, date(2026, 10, 1))["churn"] == 50
    by_request = spec(churn_dated="cancel_request")
    row = moved(con, date(2026, 8, 1), by_request)
    assert (row["expansion"], row["churn"], row["closing_mrr"]) == (20, 50, 0)
    assert movements.run(con, by_request)["period_start"].max() == date(2026, 8, 1)


def test_a_request_ends_only_the_run_of_terms_it_falls_in(con):
    add(con, "s", "A", "2026-05-01", "2026-07-01", 30)
    add(con, "s", "A", "2026-09-01", None, 30)
    con.execute("INSERT INTO marts.fct_subscriptions VALUES ('s', '2026-06-10')")
    by_request = spec(churn_dated="cancel_request")
    assert moved(con, date(2026, 6, 1), by_request)["churn"] == 30
    assert moved(con, date(2026, 9, 1), by_request)["reactivation"] == 30


def test_exchange_rates_move_the_fx_line_and_are_never_an_expansion(con):
    add(con, "s", "A", "2026-08-10", None, 100, "USD")
    add_rates(con, ("USD", date(2026, 8, 1), "0.90"), ("USD", date(2026, 8, 31), "0.95"), ("USD", date(2026, 9, 15), "0.80"))
    august, september = moved(con, date(2026, 8, 1)), moved(con, date(2026, 9, 1))
    assert (august["new"], august["fx"], august["closing_mrr"]) == (90, 5, 95)
    assert (september["opening_mrr"], september["fx"], september["closing_mrr"]) == (95, -15, 80)
    assert september["expansion"] == september["contraction"] == 0


def test_a_switch_of_currency_is_worth_only_its_difference_on_that_day(con):
    add(con, "s", "A", "2026-08-10", "2026-09-10", 100, "USD")
    add(con, "s", "A", "2026-09-10", None, 95, "EUR")
    add_rates(con, ("USD", date(2026, 8, 1), "0.90"))
    row = moved(con, date(2026, 9, 1))
    assert (row["expansion"], row["churn"], row["reactivation"], row["fx"], row["closing_mrr"]) == (5, 0, 0, 0, 95)
    parts = movements.run(con, spec(), SEPTEMBER).to_dicts()
    assert {(p["currency"], p["expansion"]) for p in parts} == {("USD", -90), ("EUR", 95)}
    assert sum(p["is_main_row"] for p in parts) == 1
    assert sum(p["retained_mrr"] for p in parts) == 90


def test_a_switch_of_currency_at_the_same_value_is_neither_up_nor_down(con):
    add(con, "s", "A", "2026-08-10", "2026-09-10", 100, "USD")
    add(con, "s", "A", "2026-09-10", None, 90, "EUR")
    add_rates(con, ("USD", date(2026, 8, 1), "0.90"))
    row = moved(con, date(2026, 9, 1))
    assert (row["opening_mrr"], row["expansion"], row["contraction"], row["closing_mrr"]) == (90, 0, 0, 90)
    assert {r["contraction"] for r in movements.run(con, spec(), SEPTEMBER).to_dicts()} == {Decimal(0)}


def test_amounts_in_their_own_currency_have_no_fx(con):
    add(con, "s", "A", "2026-08-10", None, 100, "USD")
    add_rates(con, ("USD", date(2026, 8, 1), "0.90"), ("USD", date(2026, 9, 15), "0.80"))
    rows = movements.run(con, spec(amounts="original")).to_dicts()
    assert {r["closing_mrr"] for r in rows} == {Decimal(100)} and {r["fx"] for r in rows} == {Decimal(0)}
    with pytest.raises(ValueError, match="by currency"):
        movements.movements_query(spec(amounts="original"), by_currency=False)


def test_a_term_without_a_rate_is_listed_and_never_taken_at_one(con):
    add(con, "s", "A", "2026-08-10", None, 100, "USD")
    add(con, "t", "B", "2026-09-10", None, 100, "USD")
    add(con, "u", "C", "2026-09-10", None, 100, None)
    add_rates(con, ("USD", date(2026, 9, 1), "0.5"))
    assert movements.run(con, spec())["customer_id"].unique().to_list() == ["B"]
    missing = movements.missing_rates_query(spec()).run(con)
    assert missing["subscription_id"].to_list() == ["s", "u"]


def test_a_subscription_without_a_customer_keeps_its_revenue(con):
    add(con, "s", None, "2026-08-10", None, 100)
    add(con, "t", None, "2026-08-12", None, 50)
    summary = movements_summary.run(con, movements.movements_query(spec(), SEPTEMBER)).to_dicts()[0]
    assert (summary["mrr"], summary["paying_customers"]) == (150, 2)


def test_an_instant_belongs_to_the_day_of_the_reporting_zone(con):
    add(con, "s", "A", "2026-08-31 22:30", None, 10)
    assert moved(con, date(2026, 9, 1))["new"] == 10
    assert moved(con, date(2026, 8, 1), spec(time_zone="UTC"))["new"] == 10


def test_weeks_start_on_the_day_the_workspace_says(con):
    add(con, "s", "A", "2026-11-18", None, 10)
    monday = movements.run(con, spec(), Periods("week"))
    sunday = movements.run(con, spec(), Periods("week", "sunday"))
    assert monday["period_start"].to_list() == [date(2026, 11, 16)]
    assert sunday["period_start"].to_list() == [date(2026, 11, 15), date(2026, 11, 22)]


def test_a_range_that_starts_in_mid_week_does_not_pull_in_earlier_days(con):
    add(con, "s", "A", "2026-09-01", None, 10)
    add(con, "t", "A", "2026-09-04", None, 5)
    rows = movements.run(con, spec(), Periods.of_range("week", date(2026, 9, 3), date(2026, 9, 16))).to_dicts()
    assert [(r["period_start"].day, r["opening_mrr"], r["expansion"]) for r in rows] == [(3, 10, 5), (7, 15, 0), (14, 15, 0)]


def test_listed_periods_may_leave_gaps_over_which_balances_are_carried(con):
    add(con, "s", "A", "2026-03-01", None, 10)
    add(con, "t", "A", "2026-05-05", None, 7)
    periods = Periods.of_list([(date(2026, 6, 1), date(2026, 6, 23)), (date(2026, 4, 1), date(2026, 4, 23))])
    rows = movements.run(con, spec(), periods).to_dicts()
    assert [(r["period_start"].month, r["opening_mrr"], r["expansion"], r["closing_mrr"]) for r in rows] == [
        (4, 10, 0, 10),
        (6, 17, 0, 17),
    ]
    with pytest.raises(ValueError, match="overlap"):
        Periods.of_list([(date(2026, 6, 1), date(2026, 6, 23)), (date(2026, 6, 20), date(2026, 7, 1))])


def test_breakdown_values_add_up_to_the_total_and_unknown_customers_are_kept(september):
    september.execute("CREATE OR REPLACE TABLE dims AS SELECT * FROM (VALUES ('A','web'), ('B','web'), ('C','shop')) t(customer_id, channel)")
    query = movements.movements_query(spec(), SEPTEMBER)
    total = movements_summary.run(september, query).to_dicts()[0]
    parts = movements_summary.run(september, query, ["channel"], "dims")
    for name in ("opening_mrr", "new", "expansion", "contraction", "churn", "reactivation", "fx", "mrr"):
        assert parts[name].sum() == total[name]
    for part in parts.to_dicts():
        walked = part["opening_mrr"] + part["new"] + part["reactivation"] + part["expansion"] + part["fx"]
        assert walked - part["contraction"] - part["churn"] == part["mrr"]
    assert parts["channel"].to_list() == ["shop", "web", None]
    september.execute("INSERT INTO dims VALUES ('A', 'shop')")
    with pytest.raises(ValueError, match="more than one row for customer 'A'"):
        movements_summary.run(september, query, ["channel"], "dims")


def test_no_terms_at_all_give_no_rows(con):
    assert movements.run(con, spec()).is_empty()
    assert movements_summary.run(con, movements.movements_query(spec(), SEPTEMBER)).is_empty()
    movements.build_table(con, spec())
    assert con.execute("SELECT count(*) FROM metrics.mtr_revenue_movements").fetchone() == (0,)


def test_no_amount_is_stored_wider_than_the_money_type(september):
    movements.build_table(september, spec())
    types = {t for _, t, *_ in september.execute("DESCRIBE metrics.mtr_revenue_movements").fetchall() if "DECIMAL" in t}
    assert types == {"DECIMAL(18,4)"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"churn_dated": "whenever"}, "churn is dated"),
        ({"amounts": "both"}, "amounts are one of"),
        ({"watermark": datetime.fromisoformat("2026-11-22T00:00+00:00")}, "naive datetime"),
    ],
)
def test_a_wrong_choice_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        spec(**changes)


def test_a_relation_name_is_not_a_place_for_sql():
    with pytest.raises(ValueError, match="not a relation name"):
        movements.movements_query(spec(terms="x; DROP TABLE y"))
