"""The movement engines against brute force on random logs."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engines import movements, movements_churn, movements_summary
from models.engines.movements_periods import Periods
from tests.oracles import movements_oracle as oracle

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
# Days on which one of the zones changes its clocks, and ends of weeks, months and years.
TURNS = [datetime(2025, 3, 9), datetime(2025, 3, 30), datetime(2025, 4, 6), datetime(2025, 10, 5), datetime(2025, 10, 26)]
TURNS += [datetime(2025, 11, 2), datetime(2024, 12, 31), datetime(2025, 1, 1), datetime(2025, 6, 30), datetime(2024, 2, 29)]


def random_instant(rng: random.Random) -> datetime:
    """Often a tie, a clock change or an edge of a day; now and then any minute of two years."""
    if rng.random() < 0.6:
        return rng.choice(TURNS) + timedelta(minutes=30 * rng.randrange(-50, 50))
    return datetime(2024, 1, 1) + timedelta(minutes=rng.randrange(60 * 24 * 730))


def random_log(rng: random.Random, customers: int, prefix: str = "") -> oracle.Log:
    """Subscriptions with consecutive terms, pauses, trials, restarts, currencies and cancellation requests."""
    log = oracle.Log([], rates={"USD": [], "JPY": []})
    for currency, base in (("USD", "0.9"), ("JPY", "0.0061")):
        day = date(2024, 1, 1) - timedelta(days=rng.choice([400, 1, -100]))
        while day < date(2026, 1, 1):
            log.rates[currency].append((day, (Decimal(base) * rng.randrange(80, 120) / 100).quantize(Decimal("1e-8"))))
            day += timedelta(days=rng.randrange(1, 200))
    for customer in range(customers):
        pool = sorted(random_instant(rng) for _ in range(rng.randrange(2, 9)))
        for subscription in range(rng.choice([1, 1, 2, 3])):
            name = f"{prefix}{customer}-{subscription}"
            edges = sorted(set(rng.sample(pool, rng.randrange(2, len(pool) + 1)))) if len(pool) > 1 else pool
            currency = rng.choice(["EUR", "EUR", "USD", "JPY"])
            for start, end in zip(edges, [*edges[1:], None], strict=True):
                if end is None and rng.random() < 0.5 or rng.random() < 0.15:
                    continue
                if rng.random() < 0.2:
                    currency = rng.choice(["EUR", "USD", "JPY"])
                amount = rng.choice(["0", "10", "10", "20", "166.6667", "0.0001", "33.3333"])
                log.terms.append(oracle.Term(name, f"{prefix}{customer}", start, end, Decimal(amount), currency))
            if rng.random() < 0.5:
                log.cancel_requests[name] = rng.choice(pool)
    return log


def random_periods(rng: random.Random) -> Periods:
    if rng.random() < 0.5:
        start = date(2024, 1, 1) + timedelta(days=rng.randrange(500))
        end = start + timedelta(days=rng.choice([1, 8, 45, 400]))
        grain = rng.choice(["week", "month", "quarter", "year"])
        return Periods.of_range(grain, start, end, rng.choice(["monday", "sunday", "wednesday"]))
    edges = sorted({date(2024, 1, 1) + timedelta(days=rng.randrange(730)) for _ in range(8)})
    return Periods.of_list(list(zip(edges[::2], edges[1::2], strict=False)) or [(edges[0], edges[0] + timedelta(days=1))])


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'; SET threads=1")
    yield connection
    connection.close()


def load(con, log: oracle.Log) -> None:
    con.execute(
        "CREATE OR REPLACE TABLE terms(subscription_id VARCHAR, customer_id VARCHAR, valid_from TIMESTAMP, "
        "valid_to TIMESTAMP, mrr_amount DECIMAL(18,4), currency VARCHAR)"
    )
    con.execute("CREATE OR REPLACE TABLE subscriptions(subscription_id VARCHAR, cancel_requested_at TIMESTAMP)")
    con.execute("CREATE OR REPLACE TABLE rates(currency VARCHAR, rate_date DATE, rate_to_reporting DECIMAL(18,8))")
    terms = [(t.subscription_id, t.customer_id, t.valid_from, t.valid_to, t.mrr, t.currency) for t in log.terms]
    requests = list(log.cancel_requests.items())
    rates = [(currency, day, rate) for currency, known in log.rates.items() for day, rate in known]
    for table, rows in (("terms", terms), ("subscriptions", requests), ("rates", rates)):
        if rows:
            columns = ", ".join(f"unnest($c{i})" for i in range(len(rows[0])))
            con.execute(f"INSERT INTO {table} SELECT {columns}", {f"c{i}": list(c) for i, c in enumerate(zip(*rows, strict=True))})


def compare(con, log: oracle.Log, periods: Periods, spec: movements.MovementSpec, what: str) -> None:
    load(con, log)
    expected = oracle.movements(
        log, list(periods.listed), spec.time_zone, spec.reporting_currency, spec.watermark, spec.churn_dated
    )
    query = movements.movements_query(spec, periods)
    found = {(r["period_start"], r["customer_id"], r["currency"]): r for r in query.run(con).to_dicts()}
    assert found.keys() == expected.keys(), what
    main_rows: dict[tuple, int] = {}
    for key, row in expected.items():
        assert {name: found[key][name] for name in row} == row, f"{key} in {what}"
        main_rows[key[:2]] = main_rows.get(key[:2], 0) + found[key]["is_main_row"]
    assert set(main_rows.values()) <= {1}, what


def merged(logs: list[oracle.Log]) -> oracle.Log:
    """Several logs in one query: customers do not touch each other, and planning one costs as much as many small logs."""
    together = oracle.Log([], logs[0].rates)
    for log in logs:
        together.terms += log.terms
        together.cancel_requests |= log.cancel_requests
    return together


def random_spec(rng: random.Random, **changes) -> movements.MovementSpec:
    watermark = random_instant(rng) if rng.random() < 0.7 else datetime(2026, 2, 1)
    choices = {"churn_dated": rng.choice(movements.CHURN_DATINGS), **changes}
    return movements.MovementSpec(
        rng.choice(ZONES), "EUR", watermark, terms="terms", subscriptions="subscriptions", exchange_rates="rates", **choices
    )


LOGS_AT_ONCE = 18


@settings(max_examples=60, deadline=None, print_blob=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), customers=st.integers(0, 3))
def test_movements_agree_with_brute_force_on_a_thousand_random_logs(con, seed, customers):
    rng = random.Random(seed)
    logs = [random_log(rng, rng.randrange(customers + 1), f"{number}/") for number in range(LOGS_AT_ONCE)]
    log, periods, spec = merged(logs), random_periods(rng), random_spec(rng)
    compare(con, log, periods, spec, f"seed={seed} customers={customers}: {spec}, {periods}, {log}")


@settings(max_examples=15, deadline=None, print_blob=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), grain=st.sampled_from(["day", *movements.TABLE_GRAINS]))
def test_all_of_history_is_the_same_as_its_periods_listed(con, seed, grain):
    rng = random.Random(seed)
    log, spec = random_log(rng, 3), random_spec(rng)
    load(con, log)
    whole = movements.run(con, spec, Periods(grain, "sunday"))
    listed = Periods.of_range(grain, date(2023, 12, 31) if grain == "week" else date(2023, 1, 1), date(2027, 1, 1), "sunday")
    assert whole.equals(movements.run(con, spec, listed)), f"seed={seed} grain={grain}"


@settings(max_examples=15, deadline=None, print_blob=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), customers=st.integers(0, 5))
def test_the_summary_agrees_with_a_recount_customer_by_customer(con, seed, customers):
    rng = random.Random(seed)
    log, periods, spec = random_log(rng, customers), random_periods(rng), random_spec(rng)
    load(con, log)
    rows = oracle.movements(log, list(periods.listed), spec.time_zone, "EUR", spec.watermark, spec.churn_dated)
    by_currency = movements_summary.run(con, movements.movements_query(spec, periods)).to_dicts()
    by_customer = movements_summary.run(con, movements.movements_query(spec, periods, by_currency=False)).to_dicts()
    assert by_currency == by_customer, f"seed={seed}"
    assert {r["period_start"] for r in by_currency} == {period for period, *_ in rows}, f"seed={seed}"
    for row in by_currency:
        for name, value in oracle.summary(rows, row["period_start"]).items():
            expected = pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
            assert row[name] == expected, f"{name} with seed={seed} customers={customers}: {row} {log}"


@settings(max_examples=40, deadline=None, print_blob=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), customers=st.integers(0, 12), window=st.integers(1, 120))
def test_transactional_churn_agrees_with_brute_force(con, seed, customers, window):
    rng = random.Random(seed)
    first = date(2025, 1, 1)
    orders = [
        (str(customer), first + timedelta(days=rng.randrange(365)))
        for customer in range(customers)
        for _ in range(rng.choice([1, 1, 3, 12]))
    ]
    spec = movements_churn.TransactionalChurnSpec(
        rng.choice(ZONES), random_instant(rng), window, orders="orders", day_column="day", counted_column=None
    )
    periods = random_periods(rng)
    con.execute("CREATE OR REPLACE TABLE orders(customer_id VARCHAR, day DATE)")
    if orders:
        con.execute("INSERT INTO orders SELECT unnest($a), unnest($b)", dict(zip("ab", map(list, zip(*orders, strict=True)), strict=True)))
    found = movements_churn.run(con, spec, periods).to_dicts()
    today = oracle.local_day(spec.watermark, spec.time_zone)
    begun = [(start, min(end, today)) for start, end in periods.listed if start <= today]
    expected = oracle.transactional_churn(orders, [close for _, close in begun], window)
    assert [(r["period_start"], r["base_customers"], r["churned_customers"]) for r in found] == [
        (start, *expected[close]) for start, close in begun
    ], f"seed={seed} customers={customers} window={window}"
    for row in found:
        rate = row["churned_customers"] / row["base_customers"] if row["base_customers"] else None
        assert row["churn_rate"] == rate
        assert (row["churn_rate_reason"] is None) == (rate is not None)


def test_a_huge_customer_with_many_ties_agrees_with_brute_force(con):
    rng = random.Random(7)
    ties = sorted({random_instant(rng) for _ in range(40)})
    log = random_log(rng, 0)
    for number in range(250):
        start, end = sorted(rng.sample(ties, 2))
        amount, currency = Decimal(rng.randrange(1, 500)), rng.choice(["EUR", "USD", "JPY"])
        log.terms.append(oracle.Term(f"s{number}", "one", start, rng.choice([end, None]), amount, currency))
    spec = random_spec(rng, churn_dated="period_end")
    compare(con, log, Periods.of_range("month", date(2024, 1, 1), date(2026, 3, 1)), spec, "seed=7")


def test_churn_of_a_breakdown_adds_up_to_the_total(con):
    con.execute("CREATE OR REPLACE TABLE orders AS SELECT 'c' || i % 40 AS customer_id, DATE '2025-01-01' + (i * 37 % 300)::INT AS day FROM range(120) t(i)")
    con.execute("CREATE OR REPLACE TABLE dims AS SELECT DISTINCT customer_id, right(customer_id, 1) AS channel FROM orders")
    common = {"churn_window_days": 30, "orders": "orders", "day_column": "day", "counted_column": None}
    total = movements_churn.run(con, movements_churn.TransactionalChurnSpec("UTC", datetime(2025, 11, 1), **common))
    parts = movements_churn.run(
        con,
        movements_churn.TransactionalChurnSpec(
            "UTC", datetime(2025, 11, 1), **common, dimensions="dims", breakdown=("channel",)
        ),
    )
    assert total["churned_customers"].sum() > 0
    for name in ("base_customers", "churned_customers"):
        summed = parts.group_by("period_start").agg(pl.col(name).sum())
        assert summed.sort("period_start")[name].to_list() == total[name].to_list()
