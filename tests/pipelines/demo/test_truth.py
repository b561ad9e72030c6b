"""What the truth says shows in the data: statistics of the simulated company against the parameters it was drawn from."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from pipelines.sources.demo.calendar import Calendar, add_months, clear_of_repeated_hour
from pipelines.sources.demo.draws import quota


def _parameter(world, name: str) -> float:
    return world.truth["parameters"].filter(pl.col("name") == name)["value"].item()


@pytest.fixture(scope="session")
def purchases(medium, last_day):
    """Per buyer what BG/NBD needs, in weeks of the shop's clock: repeat purchases x, last tx, length T; and whether alive."""
    calendar = Calendar(last_day.replace(year=last_day.year - 3), last_day)
    orders = medium.query("""
        select coalesce(d.cluster_id, cast(replace(o.contact_id, 'P', '') as bigint)) as person_id, epoch(cast(ordered_at as timestamptz)) as placed, net_amount
        from orders o left join true_duplicates d on d.kind = 'person' and d.record_id = cast(replace(o.contact_id, 'P', '') as bigint)
        where status in ('completed', 'shipped') and net_amount > 0 and contact_id is not null and o.deal_id is null and not o.is_test""")
    week = 7 * 86_400
    orders = orders.with_columns(pl.Series("moment", calendar.shop.operational(orders["placed"].to_numpy()) / week))
    length = calendar.shop.length / week
    people = orders.group_by("person_id").agg(
        (pl.len() - 1).alias("x"), (pl.col("moment").max() - pl.col("moment").min()).alias("tx"), (length - pl.col("moment").min()).alias("T"), pl.col("net_amount").cast(pl.Float64).mean().alias("spend")
    )  # fmt: skip
    return people.join(medium.truth["people"], on="person_id").sort("person_id")


def test_purchase_rates_and_dropout_are_drawn_from_the_stated_distributions(medium):
    people = medium.truth["people"]
    shape, weeks = _parameter(medium, "purchase_shape"), _parameter(medium, "purchase_scale_weeks")
    rate = stats.kstest(people["purchase_rate_per_week"], stats.gamma(shape, scale=1 / weeks).cdf)
    dropout = stats.kstest(people["dropout_probability"], stats.beta(_parameter(medium, "dropout_a"), _parameter(medium, "dropout_b")).cdf)
    assert min(rate.pvalue, dropout.pvalue) > 0.001


def test_bgnbd_with_the_true_parameters_is_right_about_who_is_alive(medium, purchases):
    r, alpha = _parameter(medium, "purchase_shape"), _parameter(medium, "purchase_scale_weeks")
    a, b = _parameter(medium, "dropout_a"), _parameter(medium, "dropout_b")
    x, tx, length = (purchases[name].to_numpy() for name in ("x", "tx", "T"))
    # Fader, Hardie & Lee (2005), P(alive | x, tx, T); nobody has left after a first purchase only.
    odds = np.where(x > 0, a / (b + np.maximum(x, 1) - 1) * ((alpha + length) / (alpha + tx)) ** (r + x), 0.0)
    alive = purchases["is_alive"].to_numpy()
    expected = 1 / (1 + odds)
    assert abs(expected.mean() - alive.mean()) < 0.03
    order = np.argsort(expected)
    for part in np.array_split(order, 8):
        assert abs(expected[part].mean() - alive[part].mean()) < 0.09


def test_buyers_differ_more_than_one_common_rate_would_allow(purchases):
    old = purchases.filter(pl.col("T") > 52)["x"]
    assert old.var() > 3 * old.mean(), "a Poisson count has a variance equal to its mean"


def test_spend_differs_between_people_as_gamma_gamma_says(medium, purchases):
    frequent = purchases.filter(pl.col("x") >= 4)
    assert np.corrcoef(np.log(frequent["spend"].cast(pl.Float64)), np.log(frequent["mean_order_value"]))[0, 1] > 0.4
    assert medium.truth["people"]["mean_order_value"].std() > 25


def test_channels_yield_buyers_in_the_order_of_their_true_quality(medium):
    channels = medium.truth["channels"].filter(pl.col("people") > 100).with_columns(worth=pl.col("order_value") / pl.col("people"))
    assert stats.spearmanr(channels["quality"], channels["worth"]).statistic > 0.8
    assert channels["quality"].n_unique() == channels.height


def test_the_last_touch_misjudges_the_channels(medium):
    """Crediting new people to their last visit overrates the channels that collect them; the first visit is mostly right."""
    known = medium.query("""
        with paths as (select anonymous_id, t.channel, p.channel as drawn_by, row_number() over (partition by anonymous_id order by occurred_at, sequence) as n,
            row_number() over (partition by anonymous_id order by occurred_at desc, sequence desc) as back
            from touchpoints t join true_people p on t.anonymous_id = 'c' || p.person_id join contacts c on c.contact_id = 'P' || p.person_id where t.occurred_at <= c.created_at)
        select drawn_by, max(channel) filter (n = 1) as first, max(channel) filter (back = 1) as last from paths group by anonymous_id, drawn_by""")
    assert known.height > 1_000
    first, last = (known["first"] == known["drawn_by"]).mean(), (known["last"] == known["drawn_by"]).mean()
    assert first > 0.85
    assert last < 0.7
    credited = known["last"].value_counts().rename({"count": "credited"}).join(known["drawn_by"].value_counts().rename({"drawn_by": "last", "count": "drawn"}), on="last")
    ratio = dict(credited.select("last", pl.col("credited") / pl.col("drawn")).iter_rows())
    assert ratio["paid_search"] > 1.2 > 0.8 > ratio["referral"]


def test_channels_cost_what_the_truth_says(medium):
    spend = medium.query("""
        select s.channel, sum(case when currency = 'USD' then amount / 1.09 else amount end) / any_value(n) as paid, any_value(cost_per_person) as cost
        from marketing_spend s join true_channels t using (channel)
        join (select channel, count(*) as n from (select channel from true_prospects union all select channel from true_people where person_id not in (
            select is_person_id from true_prospects join leads on lead_id = 'L' || prospect_id where converted_at is not null)) group by 1) using (channel)
        where cost_kind = 'ad' group by 1""")
    assert spend.height == 7
    for channel, paid, cost in spend.iter_rows():
        assert float(paid) == pytest.approx(cost, rel=0.2), channel


def test_control_groups_are_drawn_at_random(medium):
    share, count = medium.query("select avg(is_control::int), count(*) from campaign_members where contact_id is not null").row(0)
    assert abs(share - 0.2) < 4 * math.sqrt(0.16 / count)
    balance = medium.query("""
        select is_control, avg(orders), stddev(orders) / sqrt(count(*)) from campaign_members m join true_people p on m.contact_id = 'P' || p.person_id group by 1 order by 1""")
    (_, treated, error), (_, held, other) = balance.rows()
    assert abs(treated - held) < 4 * math.hypot(error, other)


def _uplift(medium, condition: str) -> tuple[float, float, float]:
    """Difference of order rates between treated and control, its standard error, and the true effect."""
    rows = medium.query(f"""
        select is_control, avg((converted_at is not null)::int), count(*), avg(average_effect) from campaign_members m join true_campaigns t on m.campaign_id = cast(t.campaign_id as varchar)
        where {condition} group by 1 order by 1""").rows()
    (_, treated, n, truth), (_, control, k, _) = rows
    return treated - control, math.sqrt(treated * (1 - treated) / n + control * (1 - control) / k), truth


def test_campaigns_without_effect_show_none(medium):
    difference, error, truth = _uplift(medium, "average_effect = 0")
    assert truth == 0
    assert abs(difference) < 3 * error


def test_campaigns_with_effect_show_it(medium):
    difference, error, truth = _uplift(medium, "effect_on_responsive >= 0.2")
    assert truth > 0.01
    # Some would have ordered anyway within the month and some messages bounce: the visible difference is a little smaller.
    assert 0.3 * truth - 3 * error < difference < truth + 3 * error


def test_leads_convert_by_channel_rating_size_and_engagement(medium):
    def rate(condition: str) -> float:
        return medium.value(f"select avg((converted_at is not null)::int) from leads where {condition}")

    assert rate("rating = 'hot'") > 1.5 * rate("rating = 'cold'")
    assert rate("channel = 'referral'") > 2 * rate("channel = 'display'")
    assert rate("engagement_score > 60") > 1.5 * rate("engagement_score < 40")
    assert rate("employee_count > 60") > rate("employee_count < 10")


def test_true_conversion_probabilities_are_calibrated(medium):
    leads = medium.query("""
        select conversion_probability as p, (converted_at is not null)::int as won from true_prospects join leads on lead_id = 'L' || prospect_id where created_at < '2026-05-01'""")
    assert abs(leads["p"].mean() - leads["won"].mean()) < 0.02
    top, rest = leads.filter(pl.col("p") > 0.3), leads.filter(pl.col("p") <= 0.3)
    assert top["won"].mean() > 2 * rest["won"].mean()


def test_people_use_the_app_less_and_complain_more_before_they_leave(medium):
    def before(table: str, at: str) -> tuple[float, float]:
        return medium.query(f"""
            with leavers as (select 'P' || person_id as contact_id, cast(dropped_out_on as timestamptz) as gone from true_people p
                where dropped_out_on is not null and not exists (select 1 from subscriptions s where s.contact_id = 'P' || p.person_id)
                and cast(dropped_out_on as timestamptz) - (select cast(created_at as timestamptz) from contacts c where c.contact_id = 'P' || p.person_id) > interval 150 days)
            select count(*) filter (cast({at} as timestamptz) between gone - interval 45 days and gone) / 45.0, count(*) filter (cast({at} as timestamptz) between gone - interval 150 days and gone - interval 60 days) / 90.0
            from leavers join {table} using (contact_id) where true {"and name in ('login', 'search', 'open_app', 'read_article')" if table == "events" else ""}""").row(0)

    late, early = before("events", "occurred_at")
    assert late < 0.7 * early
    late, early = before("tickets", "created_at")
    assert late > 2 * early


def test_autumn_sells_more(medium):
    monthly = medium.query("select cast(left(ordered_at, 4) as int) as year, cast(substr(ordered_at, 6, 2) as int) as month, count(*) as orders from orders group by 1, 2")
    for year in (2024, 2025):
        of_year = dict(monthly.filter(pl.col("year") == year).select("month", "orders").iter_rows())
        # Against the months around, so that growth does not pass for season.
        assert (of_year[10] + of_year[11] + of_year[12]) > 1.15 * (of_year[7] + of_year[8] + of_year[9])
    assert medium.value("select count(*) from orders where isodow(cast(left(ordered_at, 10) as date)) = 1") > medium.value(
        "select count(*) from orders where isodow(cast(left(ordered_at, 10) as date)) = 6"
    )


def test_duplicates_of_the_truth_are_records_of_the_crm(medium):
    clusters = medium.truth["duplicates"]
    assert clusters.group_by("cluster_id").len()["len"].min() >= 2
    for kind, entity, key in (("person", "contacts", "contact_id"), ("prospect", "leads", "lead_id")):
        letter = "P" if kind == "person" else "L"
        claimed = clusters.filter(pl.col("kind") == kind).select((letter + pl.col("record_id").cast(pl.String)).alias(key))
        assert claimed.join(medium.canonical[entity], on=key, how="anti").is_empty()
    merged = medium.query("""
        select count(*) from contacts l left join true_duplicates a on a.kind = 'person' and 'P' || a.record_id = l.contact_id
        left join true_duplicates b on b.kind = 'person' and 'P' || b.record_id = l.merged_into_id
        where l.merged_into_id is not null and a.cluster_id is distinct from b.cluster_id""")
    assert merged.item() == 0
    assert (
        medium.value("""select count(*) from identity_links l join true_duplicates a on a.kind = 'person' and 'P' || a.record_id = left_id
        join true_duplicates b on b.kind = 'person' and 'P' || b.record_id = right_id where (decision = 'same') <> (a.cluster_id = b.cluster_id)""")
        == 0
    )


def test_numbers_have_a_realistic_level(medium):
    average = float(
        medium.value("""
        with spent as (select order_id, net_amount * coalesce((select 1 / rate from exchange_rates where quote_currency = orders.currency and rate_date <= left(ordered_at, 10) order by rate_date desc limit 1), 1) as euros
            from orders where status in ('completed', 'shipped') and net_amount > 0 and not is_test)
        select avg(euros) from spent""")
    )
    assert 60 < average < 120
    assert 0.72 < medium.value("select avg((score >= 4)::int) from survey_responses where kind = 'csat' and score is not null") < 0.88
    assert 0.10 < medium.value("select avg((converted_at is not null)::int) from leads where created_at < '2026-08-01'") < 0.25
    spend = float(medium.value("select sum(amount) from marketing_spend"))
    assert 50 < spend / medium.value("select count(*) from true_people where orders > 0") < 250
    months = medium.query("""
        with m as (select unnest(generate_series(timestamptz '2025-01-01', timestamptz '2026-10-01', interval 1 month)) as opening)
        select count(*) filter (cast(ended_at as timestamptz) < opening + interval 1 month) / count(*) as churn from m join subscriptions s
        on coalesce(cast(trial_ends_at as timestamptz), cast(started_at as timestamptz)) < opening and (ended_at is null or cast(ended_at as timestamptz) >= opening) group by opening""")
    assert 0.015 < months["churn"].mean() < 0.055


def test_months_are_added_by_the_calendar():
    january_31 = np.array([1_706_702_400 + 3_600])  # 2024-01-31 13:00 UTC
    assert add_months(january_31, np.array([1]))[0] == 1_709_208_000 + 3_600  # 2024-02-29 13:00 UTC


def test_the_repeated_hour_is_left_in_order():
    start = 1_761_436_800  # 2025-10-26 00:00 UTC, two hours before and after which the wall clock shows the same hour twice
    moments = start + np.arange(-3_600, 5 * 3_600, 300)
    moved = clear_of_repeated_hour(moments)
    assert (np.diff(moved) > 0).all()
    assert not ((moved >= start) & (moved < start + 7_200)).any()


def test_a_quota_deals_out_every_kind_while_there_are_enough():
    rng = np.random.default_rng(1)
    assert set(quota(rng, [0.98, 0.01, 0.01], 5)) == {0, 1, 2}
    assert quota(rng, [0.5, 0.5], 1).size == 1
    assert quota(rng, [0.5, 0.5], 0).size == 0
