"""What a request may ask, and how ranges, comparisons, gaps and empty values are answered."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta

import duckdb
import polars as pl
import pytest

from data_contracts.errors import UsageError
from models import metrics
from models.metrics.calendar import Calendar
from tests.models.metrics import conftest, random_rows

REGISTRY = metrics.registry()


@pytest.fixture(scope="module")
def random_con():
    con = duckdb.connect()
    conftest.create(con)
    random_rows.fill(con)
    conftest.with_f1(con)
    conftest.build_layer(con)
    yield con
    con.close()


# -- names, dimensions, ranges ------------------------------------------------------------------------------------------------


def test_an_unknown_metric_is_refused_with_the_nearest_names(con, ask):
    with pytest.raises(UsageError, match="net_revenu") as error:
        ask(con, "net_revenu")
    assert "net_revenue" in error.value.remedy


@pytest.mark.parametrize(("names", "choices", "says"), [
    (("orders",), {"by": ("weather",)}, "has no dimension weather"), (("cac",), {"by": ("country",)}, "has no dimension country"),
    (("orders", "tickets"), {"by": ("priority",)}, "Metric orders has no dimension"), (("orders",), {"grain": "hour"}, "Unknown grain"),
    (("orders",), {"variant": "cash"}, "has no variant"), (("orders",), {"compare": "next"}, "Unknown comparison"),
    (("orders",), {"start": date(2026, 10, 2), "end": date(2026, 10, 2)}, "is empty"), ((), {}, "No metric"), (("orders",), {"by": ("channel", "channel")}, "twice"),
])
def test_what_cannot_be_answered_is_refused_with_what_can(con, ask, names, choices, says):
    with pytest.raises(UsageError, match=says) as error:
        ask(con, *names, **choices)
    assert error.value.remedy


@pytest.mark.parametrize("name", ["clv", "churn_rate", "sales_conversion_rate", "average_order_value", "csat", "interaction_frequency", "funnel_conversion_rate",
                                  "retention_rate", "campaign_response_rate"])
@pytest.mark.parametrize("by", ["channel", "country", "segment"])
def test_the_headline_metrics_are_split_by_channel_country_and_segment(con, ask, name, by):
    assert ask(con, name, by=(by,)).frame.columns == [by, name]


def test_where_a_customer_has_no_other_channel_it_is_the_one_that_won_them(random_con, ask):
    for name in ("clv", "retention_rate", "churn_rate", "new_customers", "mrr"):
        assert ask(random_con, name, by=("channel",)).frame.rows() == ask(random_con, name, by=("acquisition_channel",)).frame.rows()


def test_a_deal_counts_for_its_owner_at_the_closing_and_on_request_for_the_one_of_now(con, ask):
    october = {"start": date(2026, 10, 1), "end": date(2026, 11, 1)}
    assert ask(con, "won_deals", by=("owner",), **october).frame.rows() == [("u1", 1), ("u2", 1)]
    assert ask(con, "won_deals", by=("current_owner",), **october).frame.filter(pl.col("won_deals") > 0).rows() == [("u2", 1), ("u3", 1)]


def test_columns_are_bare_for_defaults_and_named_for_variants(con, ask):
    assert ask(con, "average_order_value", "average_order_value__cash").frame.columns == ["average_order_value", "average_order_value__cash"]
    assert ask(con, "nrr", variant="all").frame.columns == ["nrr", "nrr__net_churn_complement", "nrr__net_of_expansion"]
    assert ask(con, "revenue").frame.columns == ["revenue"]


def test_the_answer_says_variant_unit_n_completeness_and_snapshot(con, ask):
    answer = ask(con, "average_order_value", grain="month", start=date(2026, 10, 1), end=date(2026, 12, 1))
    column = answer.columns["average_order_value"]
    assert (column.variant, column.unit, column.snapshot_id, column.n_column) == ("restated", "currency", "20261122T230000Z-test", "average_order_value__n")
    assert answer.details["average_order_value__n"].to_list() == [2, 2]
    assert answer.details["average_order_value__is_complete"].to_list() == [True, False]


def test_ranges_are_half_open(con, ask):
    assert ask(con, "orders", start=date(2026, 10, 1), end=date(2026, 10, 3)).frame.row(0) == (1,)
    assert ask(con, "orders", start=date(2026, 10, 1), end=date(2026, 10, 4)).frame.row(0) == (2,)


def test_without_a_range_everything_up_to_the_watermark_counts(con, ask):
    answer = ask(con, "orders")
    assert (answer.start, answer.end, answer.frame.row(0)) == (date(2026, 9, 5), date(2026, 11, 23), (7,))


def test_a_week_that_starts_before_the_range_does_not_pull_in_earlier_days(con, ask):
    # 1 October is a Thursday: o3 of that day belongs to the week of 28 September, o2 of 20 September does not come in
    answer = ask(con, "orders", grain="week", start=date(2026, 10, 2), end=date(2026, 10, 12))
    assert answer.frame.rows() == [(date(2026, 9, 28), 1), (date(2026, 10, 5), 0)]


@pytest.mark.parametrize(("week_start", "expected"), [("monday", date(2026, 9, 28)), ("sunday", date(2026, 9, 27)), ("saturday", date(2026, 10, 3))])
def test_weeks_begin_as_the_workspace_says(ask, week_start, expected):
    con = duckdb.connect()
    conftest.create(con, week_start=week_start)
    conftest.build_layer(con)
    frame = ask(con, "orders", grain="week", start=date(2026, 10, 3), end=date(2026, 10, 4)).frame
    assert frame.rows() == [(expected, 1)]


def test_sql_and_python_agree_on_every_period_start():
    con = duckdb.connect()
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(0, 1500, 7)]
    for calendar in (Calendar(), Calendar("sunday", 4), Calendar("saturday", 11)):
        for grain in ("day", "week", "month", "quarter", "year"):
            found = con.execute(f"select {calendar.floor_sql('d', grain)} from (select unnest(cast(? as date[])) as d)", [days]).fetchall()
            assert [day for (day,) in found] == [calendar.floor(day, grain) for day in days]


def test_every_period_of_the_range_is_a_row_and_the_future_is_not_zero(con, ask):
    frame = ask(con, "orders", "average_order_value", grain="month", start=date(2026, 7, 1), end=date(2027, 1, 1)).frame
    assert frame.rows() == [(date(2026, 7, 1), 0, None), (date(2026, 8, 1), 0, None), (date(2026, 9, 1), 2, 100.0), (date(2026, 10, 1), 3, 70.0),
                            (date(2026, 11, 1), 2, 65.0), (date(2026, 12, 1), None, None)]


# -- comparison ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end", "grain", "expected"), [
    (date(2026, 11, 1), date(2026, 12, 1), None, (date(2026, 10, 1), date(2026, 10, 23))),   # running month: days 1-22 of both
    (date(2026, 11, 1), date(2026, 11, 23), None, (date(2026, 10, 1), date(2026, 10, 23))),
    (date(2026, 10, 1), date(2026, 11, 1), None, (date(2026, 9, 1), date(2026, 10, 1))),     # whole months by months, not by 31 days
    (date(2026, 10, 1), date(2027, 1, 1), None, (date(2026, 7, 1), date(2026, 8, 23))),      # running quarter
    (date(2026, 10, 20), date(2026, 11, 3), None, (date(2026, 10, 6), date(2026, 10, 20))),  # anything else by its own length
    (date(2026, 3, 1), date(2026, 4, 1), None, (date(2026, 2, 1), date(2026, 3, 1))),
    (date(2026, 9, 1), date(2026, 12, 1), "month", (date(2026, 8, 1), date(2026, 10, 23))),
    (date(2026, 9, 14), date(2026, 9, 28), "week", (date(2026, 9, 7), date(2026, 9, 21))),
])
def test_the_previous_range_is_like_for_like(start, end, grain, expected):
    assert Calendar().previous(start, end, grain, data_end=date(2026, 11, 23)) == expected


def test_the_running_month_is_compared_with_the_same_days_of_the_last(con, ask):
    # up to the 22nd: November two orders; October two as well, the third came on the 25th
    answer = ask(con, "orders", start=date(2026, 11, 1), end=date(2026, 12, 1), compare="previous")
    assert answer.frame.row(0, named=True) == {"orders": 2, "orders__previous": 2, "orders__change": 0, "orders__change_rate": 0}
    by_month = ask(con, "orders", grain="month", start=date(2026, 10, 1), end=date(2026, 12, 1), compare="previous").frame
    assert by_month.select("period", "orders", "orders__previous").rows() == [(date(2026, 10, 1), 3, 2), (date(2026, 11, 1), 2, 2)]


def test_engines_compare_like_for_like_too(f1, ask):
    frame = ask(f1, "mrr", "new_mrr", grain="month", start=date(2026, 10, 1), end=date(2026, 12, 1), compare="previous").frame
    assert frame.select("mrr", "mrr__previous", "new_mrr", "new_mrr__previous").rows() == [(320, 300, 80, 0), (320, 320, 0, 80)]


def test_a_comparison_by_dimension_shows_what_came_and_what_went(con, ask):
    frame = ask(con, "orders", "average_order_value", by=("country",), start=date(2026, 11, 1), end=date(2026, 12, 1), compare="previous").frame
    assert frame.select("country", "orders", "orders__previous", "average_order_value", "average_order_value__previous").rows() == [
        ("CH", 1, 0, 30, None), ("DE", 1, 2, 100, 70)]
    frame = ask(con, "leads", by=("channel",), start=date(2026, 10, 1), end=date(2026, 12, 1), compare="previous", grain="quarter").frame
    assert frame.select("channel", "leads", "leads__previous").rows() == [("(none)", 1, 0), ("email", 0, 1), ("search", 0, 2)]


# -- time zones, completeness -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"])
def test_days_with_23_and_25_hours_are_one_row_and_complete_at_their_own_midnight(ask, zone):
    con = duckdb.connect()
    conftest.create(con, time_zone=zone, watermark=datetime(2026, 11, 20))
    conftest.build_layer(con)
    for start in (date(2026, 3, 7), date(2026, 3, 28), date(2026, 10, 24), date(2026, 10, 31)):
        frame = ask(con, "orders", grain="day", start=start, end=start + timedelta(days=3)).frame
        assert frame["period"].to_list() == [start + timedelta(days=i) for i in range(3)]
    context = metrics.read_context(con)
    for day in (date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 1), date(2026, 4, 5)):
        hours = (context.instant(day + timedelta(days=1)) - context.instant(day)) / timedelta(hours=1)
        assert hours in (23, 24, 25)
        assert context.is_complete(day, day + timedelta(days=1))


def test_a_period_is_complete_by_the_watermark_and_the_gaps_and_not_by_the_clock(fresh, ask):
    def complete(metric="orders"):
        frame = ask(fresh, metric, grain="month", start=date(2026, 9, 1), end=date(2026, 12, 1)).details
        return frame[f"{metric}__is_complete"].to_list()

    assert complete() == [True, True, False]
    assert complete("sales_conversion_rate") == [False, False, False]  # leads of September mature on 29 December
    # 1 October in Berlin begins at 22:00 UTC on 30 September
    fresh.execute("insert into ops.ingestion_gaps values ('shop', timestamp '2026-09-30 21:00', timestamp '2026-09-30 22:00')")
    assert complete() == [False, True, False]
    fresh.execute("insert into ops.ingestion_gaps values ('shop', timestamp '2026-10-31 22:59', timestamp '2026-10-31 23:01')")
    assert complete() == [False, False, False]


def test_the_watermark_at_midnight_ends_the_data_before_that_day():
    at_midnight = metrics.Context(time_zone="Europe/Berlin", watermark=datetime(2026, 11, 22, 23, 0))
    later = metrics.Context(time_zone="Europe/Berlin", watermark=datetime(2026, 11, 22, 23, 1))
    assert (at_midnight.data_end, at_midnight.complete_until) == (date(2026, 11, 23), date(2026, 11, 23))
    assert (later.data_end, later.complete_until) == (date(2026, 11, 24), date(2026, 11, 23))


def test_an_empty_warehouse_answers_with_nulls_and_reasons(ask):
    con = duckdb.connect()
    conftest.create(con)
    for table in conftest.TABLES:
        if table.startswith("marts."):
            con.execute(f"delete from {table}")
    con.execute("update ops.settings set watermark = null")
    conftest.build_layer(con)
    for metric in REGISTRY:
        answer = ask(con, metric)
        number = answer.frame[metric][0]
        assert number in (None, 0), metric
        if number is None:
            assert answer.details[f"{metric}__null_reason"][0], metric


# -- filters and breakdowns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "expected"), [
    ("channel = 'web'", 4), ("channel != 'web'", 3), ("channel in ('web', 'shop')", 6), ("channel not in ('web')", 3), ("channel is null", 1),
    ("channel is not null", 6), ("channel = '(none)'", 1), ("channel like 's%'", 2), ("not (channel = 'web') and country = 'CH'", 1),
    ("channel = 'web' or country = 'AT'", 5), ("is_first_order = true", 3), ("channel = 'it''s'", 0), ("segment = 'champions'", 4), ("country = 'DE'", 5),
])
def test_filters_mean_what_they_show(con, ask, where, expected):
    assert ask(con, "orders", where=where).frame.row(0) == (expected,)


def test_null_dimensions_are_shown_and_a_fact_without_country_takes_the_customers(con, ask):
    assert ask(con, "orders", by=("channel",)).frame.rows() == [("(none)", 1), ("shop", 2), ("web", 4)]
    assert ask(con, "orders", by=("country",)).frame.rows() == [("AT", 1), ("CH", 1), ("DE", 5)]


@pytest.mark.parametrize("where", [
    "1=1; drop table marts.fct_orders", "channel = 'web' -- comment", "channel = (select customer_id from marts.dim_customers limit 1)",
    "channel in (select channel from marts.fct_orders)", "email = 'a@b.c'", "marts.fct_orders.channel = 'web'", "channel = country", "exists (select 1)",
    "lower(channel) = 'web'", "channel = 'web' union select 1", "channel = 'web' group by 1", "channel = 'web' limit 1", "channel = current_user", "1 = 1", "true",
    "channel = 'web' order by 1", "channel ~ '.*'", "cast(channel as int) = 1", "channel = $p1", "channel = ?", "channel", "channel = 'web' qualify true",
    "read_csv('/etc/passwd') = 1", "channel in ()", "(", "'", "channel = 'web' /* x */", "channel between 'a' and 'b'", "case when channel = 'a' then true end",
    "channel = e'\\x27'|| 'x'", "x'41' = channel", "channel = 'web' window w as ()", "channel ilike 'w%'", "not", "channel = null", "*", "channel.a = 1",
    "channel = 'a' having true", "channel = [1]", "channel = {'a': 1}", "(" * 3000,
])
def test_anything_but_a_comparison_of_dimensions_is_refused(con, ask, where):
    before = con.execute("select count(*) from marts.fct_orders").fetchone()
    with pytest.raises(UsageError):
        ask(con, "orders", where=where)
    assert con.execute("select count(*) from marts.fct_orders").fetchone() == before


def test_values_are_bound_and_never_part_of_the_text(con):
    request = metrics.MetricRequest(("orders",), where="channel = 'a''; drop table x; --' and country in ('needle')")
    compiled = metrics.compile(request, REGISTRY, metrics.read_context(con))
    assert "needle" not in compiled.sql and "drop" not in compiled.sql
    assert "needle" in compiled.params.values()


def test_a_breakdown_by_channel_leaves_the_active_customers_whole(con, ask):
    september = {"start": date(2026, 9, 1), "end": date(2026, 10, 1)}
    parts = ask(con, "interaction_frequency", by=("channel",), **september).frame
    assert parts["interaction_frequency"].sum() == pytest.approx(ask(con, "interaction_frequency", **september).frame.row(0)[0])


@pytest.mark.parametrize("metric", [name for name, metric in REGISTRY.items() if metric.is_additive])
def test_the_parts_of_an_additive_metric_add_up_to_the_whole(random_con, ask, metric):
    span = {"start": date(2026, 3, 10), "end": date(2026, 11, 5)}
    whole = ask(random_con, metric, **span).frame[metric][0]
    for dimension in {*REGISTRY[metric].dimensions[:2], *REGISTRY[metric].dimensions[-1:]}:
        parts = ask(random_con, metric, by=(dimension,), **span).frame[metric]
        assert parts.sum() == pytest.approx(whole), dimension


@pytest.mark.parametrize("metric", ["orders", "net_revenue", "leads", "tickets", "spend", "new_mrr", "new_customers"])
def test_the_months_of_a_flow_add_up_to_its_range(random_con, ask, metric):
    span = {"start": date(2026, 3, 10), "end": date(2026, 11, 5)}
    assert ask(random_con, metric, grain="week", **span).frame[metric].sum() == pytest.approx(ask(random_con, metric, **span).frame[metric][0])


@pytest.mark.parametrize("metric", ["funnel_conversion_rate", "retention_rate", "churn_rate", "sales_conversion_rate", "mrr", "cac"])
def test_a_month_has_the_same_number_whatever_range_it_is_asked_in(random_con, ask, metric):
    alone = ask(random_con, metric, grain="month", start=date(2026, 4, 1), end=date(2026, 5, 1)).frame.row(0)
    among = ask(random_con, metric, grain="month", start=date(2025, 6, 1), end=date(2026, 11, 1)).frame.filter(period=date(2026, 4, 1)).row(0)
    assert alone == among


# -- the registry -------------------------------------------------------------------------------------------------------------


def test_every_metric_says_what_a_reader_needs():
    for metric in REGISTRY.values():
        assert metric.label and metric.definition.endswith(".") and metric.unit and metric.owner and metric.group, metric.id
        assert metric.default_variant in metric.variants
        for variant in metric.variants.values():
            assert variant.definition and len({other.definition for other in metric.variants.values()}) == len(metric.variants), variant


def test_the_ten_headline_metrics_are_there():
    headline = {name for name, metric in REGISTRY.items() if metric.group == "headline"}
    assert headline == {"cac", "clv", "churn_rate", "sales_conversion_rate", "average_order_value", "csat", "interaction_frequency",
                        "funnel_conversion_rate", "retention_rate", "campaign_response_rate"}


def test_a_snapshot_keeps_the_definitions_it_was_published_with():
    con = duckdb.connect()
    metrics.write_definitions(con)
    published = metrics.registry(con)
    assert published is not REGISTRY
    assert dict(published) == dict(REGISTRY)


def test_a_query_compiles_within_twenty_milliseconds(con):
    context = metrics.read_context(con)
    request = metrics.MetricRequest(("net_revenue", "average_order_value", "win_rate", "csat"), grain="month", where="segment != 'x'")
    metrics.compile(request, REGISTRY, context)
    spent = time.process_time()
    for _ in range(10):
        metrics.compile(request, REGISTRY, context)
    assert (time.process_time() - spent) / 10 < 0.02
