"""A filtered answer is the answer on the filtered log: rows are thrown away in plain Python, and the engines must not notice the difference."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from data_contracts.errors import UsageError
from models import analysis, analysis_sales, scope

BEGIN, WATERMARK = datetime(2026, 1, 1), datetime(2026, 6, 1)
TEXT, AT, DAY, FLAG, MONEY = pl.String, pl.Datetime("us"), pl.Date, pl.Boolean, pl.Decimal(18, 4)
TABLES: dict[str, dict[str, Any]] = {
    "dim_customers": {"customer_id": TEXT, "country_code": TEXT, "segment": TEXT, "acquisition_channel": TEXT, "acquisition_campaign_id": TEXT, "customer_type": TEXT, "industry": TEXT, "owner_id": TEXT},
    "fct_orders": {"order_id": TEXT, "customer_id": TEXT, "ordered_at": AT, "ordered_date": DAY, "is_first_order": FLAG, "is_counted": FLAG, "net_revenue_reporting": MONEY, "channel": TEXT, "country_code": TEXT},
    "fct_events": {"event_id": TEXT, "customer_id": TEXT, "name": TEXT, "occurred_at": AT, "occurred_date": DAY, "sequence": pl.Int64},
    "fct_leads": {"lead_id": TEXT, "customer_id": TEXT, "channel": TEXT, "country_code": TEXT, "campaign_id": TEXT, "owner_id": TEXT, "status": TEXT, "rating": TEXT, "created_at": AT, "converted_at": AT, "disqualified_at": AT},
    "fct_deals": {"deal_id": TEXT, "customer_id": TEXT, "pipeline": TEXT, "channel": TEXT, "campaign_id": TEXT, "owner_id": TEXT, "amount_reporting": MONEY, "created_at": AT, "closed_at": AT, "closed_date": DAY,
                  "is_won": FLAG, "is_lost": FLAG, "cycle_days": pl.Float64},
    "deals_history": {"deal_id": TEXT, "customer_id": TEXT, "pipeline": TEXT, "channel": TEXT, "campaign_id": TEXT, "stage": TEXT, "stage_position": pl.Int32, "amount": MONEY, "currency": TEXT, "amount_reporting": MONEY,
                      "probability": pl.Float64, "expected_close_date": DAY, "owner_id": TEXT, "is_won": FLAG, "is_lost": FLAG, "is_open": FLAG, "created_at": AT, "valid_from": AT, "valid_to": AT},
    "fct_deal_stage_visits": {"deal_id": TEXT, "pipeline": TEXT, "stage": TEXT, "visit_number": pl.Int64, "entered_at": AT, "exited_at": AT},
    "dim_pipeline_stages": {"pipeline": TEXT, "stage": TEXT, "position": pl.Int32, "probability": pl.Float64, "is_won": FLAG, "is_lost": FLAG, "valid_from": AT},
}  # fmt: skip
STAGES = (("New", 1, 0.1, False, False), ("Offer", 2, 0.5, False, False), ("Won", 3, 1.0, True, False), ("Lost", 4, 0.0, False, True))
Rows = dict[str, list[dict[str, Any]]]


def a_company(seed: int) -> Rows:
    """A few customers with everything the filters speak of, some of it missing."""
    rng = random.Random(seed)
    at = lambda: BEGIN + timedelta(hours=rng.randrange(24 * 140))  # noqa: E731
    customers = [f"c{n}" for n in range(rng.randint(1, 9))]
    some = lambda values: rng.choice((*values, None))  # noqa: E731
    rows: Rows = {name: [] for name in TABLES}
    for customer in customers:
        rows["dim_customers"].append({"customer_id": customer, "country_code": some(("DE", "FR")), "segment": rng.choice(("loyal", "lost")), "acquisition_channel": some(("email", "web")), "industry": some(("it",))})
        for n, when in enumerate(sorted(at() for _ in range(rng.randint(0, 5)))):
            rows["fct_orders"].append({"order_id": f"{customer}o{n}", "customer_id": customer, "ordered_at": when, "ordered_date": when.date(), "is_first_order": n == 0, "is_counted": True, "net_revenue_reporting": Decimal(rng.randint(1, 90)),
                                       "channel": some(("email", "web")), "country_code": "DE"})
        for n in range(rng.randint(0, 5)):
            when = at()
            rows["fct_events"].append({"event_id": f"{customer}e{n}", "customer_id": customer, "name": rng.choice(("visit", "sign up")), "occurred_at": when, "occurred_date": when.date(), "sequence": n})
    for n in range(rng.randint(0, 12)):
        when = at()
        rows["fct_leads"].append({"lead_id": f"l{n}", "customer_id": some(customers), "channel": some(("email", "web")), "country_code": some(("DE", "FR")), "rating": some(("hot",)), "created_at": when,
                                  "converted_at": when + timedelta(hours=rng.randrange(400)) if rng.random() < 0.6 else None})
    for n in range(rng.randint(0, 12)):
        begun, amount = at(), Decimal(rng.randint(1, 500))
        shared = {"deal_id": f"d{n}", "customer_id": some(customers), "pipeline": "sales", "channel": some(("email", "web")), "owner_id": rng.choice(("ann", "bob")), "amount_reporting": amount, "created_at": begun}
        path = ["New", *(["Offer"] if rng.random() < 0.7 else []), *([rng.choice(("Won", "Lost"))] if rng.random() < 0.6 else [])]
        times = sorted(begun + timedelta(hours=rng.randrange(1, 900)) for _ in path[1:])
        for place, (stage, since, until) in enumerate(zip(path, [begun, *times], [*times, None], strict=True)):
            won, lost = stage == "Won", stage == "Lost"
            if until is None or until > since:
                rows["deals_history"].append({**shared, "amount": amount, "stage": stage, "stage_position": {s[0]: s[1] for s in STAGES}[stage], "expected_close_date": date(2026, rng.randint(1, 6), 1), "is_won": won, "is_lost": lost,
                                              "is_open": not won and not lost, "valid_from": since, "valid_to": until})
            rows["fct_deal_stage_visits"].append({"deal_id": shared["deal_id"], "pipeline": "sales", "stage": stage, "visit_number": place, "entered_at": since, "exited_at": until})
        if rng.random() < 0.9:      # the rest has been deleted since and lives in the history only
            closed = times[-1] if path[-1] in ("Won", "Lost") else None
            rows["fct_deals"].append({**shared, "closed_at": closed, "closed_date": closed.date() if closed else None, "is_won": path[-1] == "Won", "is_lost": path[-1] == "Lost",
                                      "cycle_days": (closed - begun) / timedelta(days=1) if closed else None})
    rows["dim_pipeline_stages"] = [{"pipeline": "sales", "stage": s, "position": p, "probability": q, "is_won": w, "is_lost": lost} for s, p, q, w, lost in STAGES]
    return rows


def loaded(con: duckdb.DuckDBPyConnection, rows: Rows) -> duckdb.DuckDBPyConnection:
    for table, schema in TABLES.items():
        con.register("given_rows", pl.DataFrame(rows[table], schema=schema))
        con.execute(f"CREATE OR REPLACE TABLE marts.{table} AS FROM given_rows")
        con.unregister("given_rows")
    return con


@pytest.fixture(scope="module")
def two():
    made = []
    for _ in range(2):
        con = duckdb.connect()
        con.execute("SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA marts; CREATE SCHEMA ops; CREATE TABLE ops.ingestion_gaps (starts_at TIMESTAMP, ends_at TIMESTAMP)")
        con.execute("CREATE TABLE ops.settings AS SELECT 'UTC' AS time_zone, 'monday' AS week_start, 1 AS fiscal_year_start_month, 'EUR' AS reporting_currency, ?::TIMESTAMP AS watermark", [WATERMARK])
        made.append(con)
    yield made
    for con in made:
        con.close()


# A filter in words, and the same said in Python of (a row of the log, its customer or {}).
Says = Callable[[dict[str, Any], dict[str, Any]], bool]
FILTERS: dict[str, list[tuple[str, Says]]] = {
    "customers": [("country = 'DE'", lambda t, c: c.get("country_code") == "DE"), ("segment != 'lost' and acquisition_channel in ('email', '(none)')", lambda t, c: c["segment"] != "lost" and c.get("acquisition_channel") in ("email", None)),
                  ("not (industry is null) or channel = 'web'", lambda t, c: c.get("industry") is not None or c.get("acquisition_channel") == "web")],
    "leads": [("channel = 'email'", lambda t, c: t["channel"] == "email"), ("country = 'DE' and segment = 'loyal'", lambda t, c: t["country_code"] == "DE" and c.get("segment") == "loyal"),
              ("rating = 'hot' or channel = 'web'", lambda t, c: t["rating"] == "hot" or t["channel"] == "web")],
    "deals": [("channel = 'web'", lambda t, c: t["channel"] == "web"), ("country = 'FR' or segment = 'lost'", lambda t, c: c.get("country_code") == "FR" or c.get("segment") == "lost")],
}


def thrown_away(rows: Rows, subject: str, says: Says) -> Rows:
    """The company as it were if only the rows that fit had ever been logged."""
    customers = {c["customer_id"]: c for c in rows["dim_customers"]}
    fits = lambda t: says(t, customers.get(t.get("customer_id"), {}))  # noqa: E731
    left = dict(rows)
    if subject == "customers":
        left |= {name: [t for t in rows[name] if fits(t)] for name in ("fct_orders", "fct_events")}
    elif subject == "leads":
        left["fct_leads"] = [t for t in rows["fct_leads"] if fits(t)]
        theirs = {t["customer_id"] for t in left["fct_leads"]}
        left["fct_orders"] = [o for o in rows["fct_orders"] if o["customer_id"] in theirs]
    else:
        left |= {name: [t for t in rows[name] if fits(t)] for name in ("fct_deals", "deals_history")}
        kept = {t["deal_id"] for t in left["deals_history"]}
        left["fct_deal_stage_visits"] = [v for v in rows["fct_deal_stage_visits"] if v["deal_id"] in kept]
    return left


def of_customers(con) -> list[pl.DataFrame]:
    months = [analysis.retention(con, analysis.retention_spec(con, variants=v))[n] for v in (("bounded",), ("unbounded", "recurring"), ("revenue",)) for n in (0, 1)]
    by_country = analysis.retention(con, analysis.retention_spec(con, by=("country",)))[0]
    back = analysis.retention(con, analysis.retention_spec(con, start_event="visit", return_event="order", grain="week"))[0]
    return [*months, by_country, back, analysis.funnel(con, analysis.funnel_spec(con, "visit; sign up", log="events", window="20d"))]


def of_leads(con) -> list[pl.DataFrame]:
    asked = [analysis.funnel_spec(con, steps, log="leads", window="30d", reentry=reentry, order=order, by=by) for steps, reentry, order, by in (
        ("lead_created; lead_converted; first_order", "first_entry", "sequential", None), ("lead_created; order", "totals", "sequential", "channel"), ("lead_converted; order", "best_entry", "any_order", None))]
    compared = analysis.funnel_comparison(con, analysis.funnel_spec(con, "lead_created; lead_converted", log="leads", window="5d", start=date(2026, 3, 1), end=date(2026, 4, 1)))
    return [*(analysis.funnel(con, spec) for spec in asked), analysis.time_to_convert(con, asked[0]), analysis.conversion_histogram(con, asked[0], 4), compared]


def of_deals(con, where: str | None) -> list[pl.DataFrame]:
    """Learned chances come from all deals whatever is asked for, so they are left out of what must be equal here."""
    inner = scope.scoped(con, "deals", where)
    state = analysis_sales.pipeline(con, date(2026, 4, 1), "owner", where=where)
    return [analysis.deal_stages(inner), analysis.funnel(inner, analysis.funnel_spec(inner, "New; Offer; Won", log="deals", window="60d")), analysis_sales.movement(con, date(2026, 2, 1), date(2026, 4, 1), where=where),
            state.drop([name for name in state.columns if "learned" in name]), analysis_sales.forecast(con, date(2026, 2, 1), date(2026, 2, 2), date(2026, 5, 1), where=where, bases=("crm",)),
            analysis_sales.durations(con, where=where), *(analysis_sales.performance(con, date(2026, 1, 1), date(2026, 5, 1), "owner", owner=owner, where=where) for owner in ("at_event", "current"))]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**9), subject=st.sampled_from(("customers", "leads", "deals")), choice=st.integers(0, 2))
def test_a_filtered_answer_is_the_answer_on_the_filtered_log(two, seed, subject, choice):
    where, says = FILTERS[subject][choice % len(FILTERS[subject])]
    rows = a_company(seed)
    whole, part = loaded(two[0], rows), loaded(two[1], thrown_away(rows, subject, says))
    if subject == "deals":
        asked, expected = of_deals(whole, where), of_deals(part, None)
    else:
        ask = of_customers if subject == "customers" else of_leads
        asked, expected = ask(scope.scoped(whole, subject, where)), ask(part)
    for one, other in zip(asked, expected, strict=True):
        assert_frame_equal(one, other, check_row_order=True)


def test_a_filter_that_the_rows_do_not_know_is_refused_with_what_they_know(two):
    con = loaded(two[0], a_company(1))
    with pytest.raises(UsageError, match="customers cannot be filtered by campaign") as refused:
        scope.scoped(con, "customers", "campaign = 'email'")
    assert "acquisition_channel" in refused.value.remedy
    with pytest.raises(UsageError):
        scope.scoped(con, "leads", "channel = 'email'; drop table marts.fct_leads")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**9), day=st.integers(0, 150), by=st.sampled_from(("stage", "owner", "pipeline", None)))
def test_the_open_pipeline_in_sum_is_the_sum_of_its_deals(two, seed, day, by):
    con, at = loaded(two[0], a_company(seed)), (BEGIN + timedelta(days=day)).date()
    end = datetime(at.year, at.month, at.day) + timedelta(days=1)
    history = con.execute("FROM marts.deals_history").pl().to_dicts()
    now = [h for h in history if h["valid_from"] < end and (h["valid_to"] is None or h["valid_to"] >= end)]
    closed = {h["deal_id"]: h["is_won"] for h in now if not h["is_open"]}
    visited: dict[str, set[str]] = {}
    for h in history:
        if h["valid_from"] < end and h["is_open"] and h["deal_id"] in closed:
            visited.setdefault(h["stage"], set()).add(h["deal_id"])
    overall = sum(closed.values()) / len(closed) if closed else None
    seen = set().union(*visited.values()) if visited else set()
    pipeline_share = (sum(closed[d] for d in seen) + 10 * overall) / (len(seen) + 10) if closed else None
    share = pipeline_share if seen else overall

    def learned(stage: str) -> float | None:
        deals = visited.get(stage, set())
        return None if share is None else (sum(closed[d] for d in deals) + 10 * share) / (len(deals) + 10)

    expected: dict[Any, list[float]] = {}
    for h in (h for h in now if h["is_open"]):
        key = {"stage": h["stage"], "owner": h["owner_id"], "pipeline": h["pipeline"], None: None}[by]
        amount, chance = float(h["amount_reporting"]), learned(h["stage"])
        kept = expected.setdefault(key, [0, 0.0, 0.0, 0.0])
        kept[0] += 1
        kept[1] += amount
        kept[2] += amount * {s[0]: s[2] for s in STAGES}[h["stage"]]
        kept[3] += amount * chance if chance is not None else 0
    name = {"stage": "stage", "owner": "owner_id", "pipeline": "pipeline"}.get(by or "")
    found = {row[name] if name else None: row for row in analysis_sales.pipeline(con, at, by).to_dicts()}
    assert found.keys() == expected.keys()
    for key, (deals, amount, crm, own) in expected.items():
        row = found[key]
        assert (row["deals"], float(row["amount"])) == (deals, pytest.approx(amount))
        assert row["weighted_crm"] == pytest.approx(crm)
        assert (row["weighted_learned"] or 0) == pytest.approx(own)


def test_a_period_is_said_in_words():
    assert analysis_sales.period("2026-02") == (date(2026, 2, 1), date(2026, 3, 1))
    assert analysis_sales.period("2026-Q4") == (date(2026, 10, 1), date(2027, 1, 1))
    assert analysis_sales.period("2026") == (date(2026, 1, 1), date(2027, 1, 1))
    assert analysis_sales.period("2026-02-03 .. 2026-02-10") == (date(2026, 2, 3), date(2026, 2, 10))
    for wrong in ("2026-13", "2026-Q5", "soon", "2026-02-10..2026-02-10", "2026-02-10"):
        with pytest.raises(UsageError):
            analysis_sales.period(wrong)


def test_sales_by_owner_follow_the_owner_at_the_event_or_of_today(two):
    rows = a_company(3)
    rows |= {"fct_deals": [], "deals_history": [], "fct_deal_stage_visits": []}
    base = {"deal_id": "x", "pipeline": "sales", "amount_reporting": Decimal(80), "created_at": datetime(2026, 2, 1)}
    rows["fct_deals"].append({**base, "owner_id": "bob", "closed_at": datetime(2026, 2, 21), "closed_date": date(2026, 2, 21), "is_won": True, "is_lost": False, "cycle_days": 20.0})
    for owner, since, until, won in (("ann", datetime(2026, 2, 1), datetime(2026, 2, 21), False), ("ann", datetime(2026, 2, 21), datetime(2026, 3, 1), True), ("bob", datetime(2026, 3, 1), None, True)):
        rows["deals_history"].append({**base, "owner_id": owner, "stage": "Won" if won else "Offer", "stage_position": 3 if won else 2, "is_won": won, "is_lost": False, "is_open": not won, "valid_from": since, "valid_to": until})
    open_deal = {**base, "deal_id": "y", "created_at": datetime(2026, 3, 2)}
    rows["fct_deals"].append({**open_deal, "owner_id": "bob", "is_won": False, "is_lost": False})
    for owner, since, until in (("ann", datetime(2026, 3, 2), datetime(2026, 4, 2)), ("bob", datetime(2026, 4, 2), None)):
        rows["deals_history"].append({**open_deal, "owner_id": owner, "stage": "Offer", "stage_position": 2, "is_won": False, "is_lost": False, "is_open": True, "valid_from": since, "valid_to": until})
    con = loaded(two[0], rows)
    at_event = analysis_sales.performance(con, date(2026, 1, 1), date(2026, 4, 1), owner="at_event").to_dicts()
    current = analysis_sales.performance(con, date(2026, 1, 1), date(2026, 4, 1), owner="current").to_dicts()
    seen = ("owner_id", "won", "win_rate", "open_qualified_deals", "sales_cycle_days", "velocity_per_day")
    assert [tuple(r[n] for n in seen) for r in at_event] == [("ann", 1, 1.0, 1, 20.0, 4.0)]
    assert [tuple(r[n] for n in seen) for r in current] == [("bob", 1, 1.0, 1, 20.0, 4.0)]
