"""Numbers worked by hand from the rows in conftest, and the fixture F1 of the definitions."""

from __future__ import annotations

from datetime import date

import pytest

OCTOBER = {"start": date(2026, 10, 1), "end": date(2026, 11, 1)}
SEPTEMBER = {"start": date(2026, 9, 1), "end": date(2026, 10, 1)}
NOVEMBER = {"start": date(2026, 11, 1), "end": date(2026, 12, 1)}


def value(answer):
    return answer.frame.row(0)[-1]


# October: o3 100 less a refund of 40 (paid in November), o4 80, o5 50 wholly refunded in October; 5 refunded without an order.
@pytest.mark.parametrize(("metric", "variant", "expected"), [
    ("orders", None, 3), ("gross_revenue", None, 240), ("refunds", None, 55), ("net_revenue", None, 60 + 80 + 0 - 5),
    ("net_revenue", "cash", 230 - 55), ("average_order_value", None, 140 / 2), ("average_order_value", "cash", 180 / 2),
    ("ordering_customers", None, 2), ("new_customers", None, 1), ("customers", None, 3), ("spend", None, 150), ("ad_spend", None, 150),
    ("cac", None, 150), ("cac", "paid", 150), ("won_deals", None, 2), ("won_amount", None, 1500), ("win_rate", None, 2 / 3),
    ("win_rate", "by_amount", 1500 / 4500), ("sales_cycle_days", None, 30), ("open_deals", None, 1), ("open_pipeline", None, 1800),
    ("weighted_pipeline", None, 180), ("tickets", None, 3), ("first_response_time", None, 3), ("resolution_time", None, 29), ("reopen_rate", None, 0.5),
    ("csat", None, 0.5), ("csat_response_rate", None, 2 / 3), ("nps", None, 25), ("ces", None, 4.5), ("converted_leads", None, 1),
])
def test_october_is_as_worked_by_hand(con, ask, metric, variant, expected):
    assert value(ask(con, metric, variant=variant, **OCTOBER)) == pytest.approx(expected)


# September: spend 200 (ads) + 100 (a tool), two new customers; three members delivered of whom two responded, a bot's click apart.
@pytest.mark.parametrize(("metric", "variant", "expected"), [
    ("cac", None, 150), ("cac", "paid", 100), ("campaign_response_rate", None, 2 / 3), ("campaign_response_rate", "with_bots", 3 / 4),
    ("campaign_response_time", None, 2), ("campaign_response_time", "p90", 1 + 0.9 * 2), ("active_customers", None, 3), ("interactions", None, 4),
    ("interaction_frequency", None, 3 / 3), ("open_deals", None, 2), ("clv", "historic", (260 + 100) / 2),
    # A and B first bought in September; A alone bought again in October. Revenue: 60 + 0 of 200.
    ("retention_rate", None, 0.5), ("retention_rate", "unbounded", 0.5), ("retention_rate", "recurring", 0.5), ("retention_rate", "revenue", 60 / 200),
])
def test_september_is_as_worked_by_hand(con, ask, metric, variant, expected):
    assert value(ask(con, metric, variant=variant, **SEPTEMBER)) == pytest.approx(expected)


def test_conversion_counts_mature_leads_and_the_period_variant_all(con, ask):
    july = {"start": date(2026, 7, 1), "end": date(2026, 8, 1)}
    assert value(ask(con, "sales_conversion_rate", **july)) == pytest.approx(2 / 3)
    assert value(ask(con, "sales_conversion_rate", variant="period", **july)) == 0
    november = ask(con, "sales_conversion_rate", **NOVEMBER)
    assert value(november) is None
    assert november.details["sales_conversion_rate__null_reason"][0] == "zero denominator: no mature leads"


def test_the_default_funnel_follows_each_lead_to_a_first_order_or_a_won_deal(con, ask):
    # l1 converted on 1 September and A's first order came within 90 days; l2 converted and C ordered on 3 October, 85 days later
    answer = ask(con, "funnel_conversion_rate", start=date(2026, 7, 1), end=date(2026, 8, 1))
    assert value(answer) == pytest.approx(2 / 3)
    assert answer.details["funnel_conversion_rate__n"][0] == 3
    maturing = ask(con, "funnel_conversion_rate", **NOVEMBER).details
    assert maturing["funnel_conversion_rate__maturing"][0] == 1


def test_f1_movements_and_rates(f1, ask):
    def october(name, variant=None):
        return value(ask(f1, name, variant=variant, **OCTOBER))

    waterfall = {name: october(name) for name in ("opening_mrr", "new_mrr", "reactivation_mrr", "expansion_mrr", "contraction_mrr", "churned_mrr", "fx_mrr", "mrr")}
    assert waterfall == {"opening_mrr": 300, "new_mrr": 80, "reactivation_mrr": 30, "expansion_mrr": 50, "contraction_mrr": 40, "churned_mrr": 100, "fx_mrr": 0, "mrr": 320}
    assert october("grr") == pytest.approx(160 / 300)
    assert october("nrr") == pytest.approx(0.70)
    assert october("nrr", "net_churn_complement") == pytest.approx(0.80)
    assert october("nrr", "net_of_expansion") == pytest.approx(250 / 300)
    assert october("churn_rate") == pytest.approx(1 / 3)
    assert october("quick_ratio") == pytest.approx(130 / 140)
    assert october("gross_mrr_churn_rate") == pytest.approx(140 / 300)
    assert october("net_mrr_churn_rate") == pytest.approx(60 / 300)
    assert october("arpa") == 80
    # six complete months before the end of October: one of four customers left in August, one of three in October
    assert october("clv", "formula") == pytest.approx(80 / ((1 / 4 + 1 / 3) / 6))
    assert october("payback_months") == pytest.approx(150 / (80 * 0.5))


def test_f1_closes_by_breakdown_and_for_any_range(f1, ask):
    names = ("opening_mrr", "new_mrr", "reactivation_mrr", "expansion_mrr", "contraction_mrr", "churned_mrr", "fx_mrr", "mrr")
    for choices in ({"by": ("acquisition_channel",), **OCTOBER}, {"grain": "week", **OCTOBER}, {"start": date(2026, 10, 6), "end": date(2026, 10, 13)}):
        frame = ask(f1, *names, **choices).frame
        closing = (frame["opening_mrr"] + frame["new_mrr"] + frame["reactivation_mrr"] + frame["expansion_mrr"]
                   - frame["contraction_mrr"] - frame["churned_mrr"] + frame["fx_mrr"])
        assert closing.to_list() == pytest.approx(frame["mrr"].to_list())


def test_nobody_churns_in_the_running_month_while_active(f1, ask):
    answer = ask(f1, "churn_rate", **NOVEMBER)
    assert value(answer) == 0
    assert answer.details["churn_rate__n"][0] == 4
    assert not answer.details["churn_rate__is_complete"][0]


def test_churn_falls_back_to_orders_where_nothing_is_subscribed_and_says_so(con, ask):
    answer = ask(con, "churn_rate", **OCTOBER)
    column = answer.columns["churn_rate"]
    assert column.variant == "transactional"
    assert "no subscriptions" in column.note
    assert answer.frame.columns == ["churn_rate"]


def test_transactional_churn_compares_two_windows_of_orders(fresh, ask):
    # close 1 November, window 90 days: base ordered in [5 May, 3 August), of whom none again since
    fresh.execute("insert into marts.fct_orders by name select 'x' as order_id, 'D' as customer_id, date '2026-07-01' as ordered_date, true as is_counted, true as is_valued")
    fresh.execute("insert into marts.fct_orders by name select 'y' as order_id, 'A' as customer_id, date '2026-07-02' as ordered_date, true as is_counted, true as is_valued")
    assert value(ask(fresh, "churn_rate", variant="transactional", **OCTOBER)) == pytest.approx(1 / 2)


def test_cac_by_channel_credits_customers_and_keeps_the_unattributed(con, ask):
    # linear: A is 2/3 search, 1/3 email; B email; together two customers and 300 of spend in September
    frame = ask(con, "cac", "attributed_customers", "spend", by=("channel",), **SEPTEMBER).frame
    rows = {row["channel"]: row for row in frame.to_dicts()}
    assert rows["search"]["cac"] == pytest.approx(200 / (2 / 3))
    assert rows["email"]["cac"] == pytest.approx(100 / (4 / 3))
    assert frame["attributed_customers"].sum() == pytest.approx(2)
    october = {row["channel"]: row for row in ask(con, "attributed_customers", by=("channel",), **OCTOBER).frame.to_dicts()}
    assert october == {"unattributed": {"channel": "unattributed", "attributed_customers": 1.0}}


def test_cac_without_new_customers_is_null_with_a_reason(con, ask):
    answer = ask(con, "cac", **NOVEMBER)
    assert value(answer) is None
    assert answer.details["cac__null_reason"][0] == "zero denominator: no new customers"


def test_cac_without_any_recorded_spend_is_null_and_not_free(fresh, ask):
    fresh.execute("delete from metrics.mtr_marketing_spend__day")
    answer = ask(fresh, "cac", **SEPTEMBER)
    assert value(answer) is None
    assert answer.details["cac__null_reason"][0] == "no rows in marketing spend"


def test_lagged_and_cohort_cac_move_spend_and_customers(con, ask):
    # latest leads before the first payment: A 66 days, C 85 days; the median 76 moves September's spend to November and December
    days = con.execute("select distinct lagged_date - spend_date from metrics.mtr_marketing_spend__day").fetchall()
    assert days == [(76,)]
    assert value(ask(con, "cac", variant="cohort", start=date(2026, 7, 1), end=date(2026, 8, 1))) == 0
    assert ask(con, "cac", variant="cohort", start=date(2026, 7, 1), end=date(2026, 8, 1)).details["cac__cohort__n"][0] == 2


def test_clv_falls_back_to_history_until_scores_are_published(fresh, ask):
    before = ask(fresh, "clv", **SEPTEMBER)
    assert (before.columns["clv"].variant, value(before)) == ("historic", 180)
    fresh.execute("create table scores.clv as select * from (values ('A', 50.0), ('B', 30.0)) as t(customer_id, predicted_value_365)")
    after = ask(fresh, "clv", "ltv_cac", **SEPTEMBER)
    assert after.columns["clv"].variant == "historic_and_predicted"
    assert after.frame.row(0) == pytest.approx(((360 + 80) / 2, (360 + 80) / 2 * 0.5 / 150))
    assert value(ask(fresh, "clv", variant="predicted", **SEPTEMBER)) == 40


def test_survey_scores_carry_n_response_rate_and_interval(con, ask):
    details = ask(con, "csat", "nps", **OCTOBER).details.row(0, named=True)
    assert details["csat__n"] == 2
    assert details["csat__response_rate"] == pytest.approx(2 / 3)
    assert 0 < details["csat__lower"] < 0.5 < details["csat__upper"] < 1
    assert details["nps__n"] == 4
    # promoters 2, detractors 1 of 4: variance (3/4 - (1/4)^2) / 4; a score cannot exceed 100
    assert details["nps__lower"] == pytest.approx(25 - 1.959963984540054 * 100 * ((0.75 - 0.0625) / 4) ** 0.5)
    assert details["nps__upper"] == 100


def test_first_response_in_business_hours_leaves_out_nights_and_weekends(con, ask):
    # t1 Thursday 16:00 to 18:00 in Berlin: one hour until 17:00. t2 Friday 16:00 to Monday 10:00: one hour each day.
    assert value(ask(con, "first_response_time", variant="business_hours", **OCTOBER)) == pytest.approx((1 + 2) / 2)


def test_the_learned_weight_comes_from_deals_closed_by_then(con, ask):
    # by November d1 and d3 had left New as won, d2 had left Proposal as lost; ten pseudo-deals at the pipeline's 2/3 stand behind each
    new, proposal = (2 + 10 * 2 / 3) / 12, (0 + 10 * 2 / 3) / 11
    assert value(ask(con, "weighted_pipeline", variant="learned", **OCTOBER)) == pytest.approx(1800 * new)
    assert value(ask(con, "weighted_pipeline", variant="learned", **NOVEMBER)) == pytest.approx(2000 * proposal)
    assert value(ask(con, "weighted_pipeline", variant="learned", **SEPTEMBER)) in (0, None)


def test_open_stage_visits_are_censored_and_counted_beside(con, ask):
    details = ask(con, "stage_duration", by=("stage",), start=date(2026, 9, 1), end=date(2026, 12, 1)).details.to_dicts()
    assert [(row["stage"], row["stage_duration"], row["stage_duration__n"], row["stage_duration__open_visits"]) for row in details] == [
        ("New", 24.0, 3.0, 0.0), ("Proposal", None, 0.0, 1.0)]


def test_stored_movements_give_what_the_engine_gives(f1, ask):
    from models.engines import movements

    asked = ("mrr", "new_mrr", "grr", "churn_rate", "arpa", "fx_mrr")
    requests = [{"grain": "month", "by": ("acquisition_channel",)}, {"grain": "week", "start": date(2026, 9, 28), "end": date(2026, 11, 23)},
                {"grain": "month", "start": date(2026, 9, 10), "end": date(2026, 11, 23), "compare": "previous"}, {"grain": "quarter"}, OCTOBER, NOVEMBER]
    computed = [ask(f1, *asked, **request).frame for request in requests]
    spec = movements.MovementSpec("Europe/Berlin", "EUR", f1.execute("select watermark from ops.settings").fetchone()[0])
    movements.build_table(f1, spec)
    try:
        assert [ask(f1, *asked, **request).frame.rows() for request in requests] == [frame.rows() for frame in computed]
    finally:
        f1.execute("drop table metrics.mtr_revenue_movements")


def test_observed_payback_waits_until_the_cost_is_earned(con, ask):
    # September: 300 spent; A and B brought 200 + 60 + 100 of revenue, half of it profit, by 22 November
    answer = ask(con, "payback_months", variant="observed", **SEPTEMBER)
    assert value(answer) is None
    assert answer.details["payback_months__observed__null_reason"][0] == "the acquisition cost is not covered yet"
