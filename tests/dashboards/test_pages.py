"""Every page draws on every kind of home, and says what is missing instead of failing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dashboards.components.frame import UNEXPECTED
from data_contracts.environment import Home
from models import warehouse

PAGES = ("overview", "acquisition", "retention", "funnel", "sales", "customers", "identity", "segments", "patterns", "models", "data_health")


@pytest.fixture
def is_whole(html):
    def check(app) -> None:
        assert not app.exception, app.exception[0].message
        assert UNEXPECTED not in html(app)
        assert len(app.title) == 1
    return check


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_home_that_never_published_says_how_to_begin(page, tmp_path, show, html, is_whole):
    home = Home(tmp_path)
    home.make_folders()
    app = show(home, page)
    is_whole(app)
    assert "Nothing has been published yet" in html(app)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_snapshot_without_a_row_is_drawn(page, empty_home, show, is_whole):
    is_whole(show(empty_home, page))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_company_that_only_delivers_orders_is_drawn(page, orders_home, show, is_whole):
    is_whole(show(orders_home, page))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_demo_is_drawn_with_its_snapshot_named(page, demo, show, html, is_whole):
    app = show(demo, page)
    is_whole(app)
    assert (demo.serving / "current").read_text() in html(app)


@pytest.mark.parametrize("page, parameters", [
    ("overview", {"range": "90d"}), ("overview", {"range": "all"}), ("overview", {"range": "mtd"}), ("overview", {"channel": "email", "country": "DE"}), ("acquisition", {"grain": "week", "range": "ytd"}),
    ("retention", {"variant": "cumulative_revenue", "grain": "quarter", "range": "all"}), ("retention", {"variant": "unbounded", "grain": "year"}), ("funnel", {"count": "imputed", "range": "30d"}),
    ("funnel", {"log": "leads", "steps": "lead_created; lead_converted", "window": "90d", "by": "channel", "channel": "email"}), ("funnel", {"steps": "page; sign_up", "order": "any_order", "entry": "totals", "country": "DE"}),
    ("retention", {"country": "DE", "segment": "champions"}), ("acquisition", {"channel": "email", "country": "DE"}), ("sales", {"as_of": "2026-02-15", "since": "2025-12-31", "split": "owner", "channel": "email", "owner_basis": "current", "targets": "owner"}),
    ("models", {"model": "uplift"}), ("models", {"model": "churn_timing_orders"}), ("models", {"model": "clv"}), ("customers", {"q": "a"}), ("customers", {"q": "no such customer"}), ("customers", {"id": "p_nobody"}), ("segments", {"saved": "new_segment"}),
    ("segments", {"conditions": '{"any":[{"attribute":"country","is":"DE"},{"did_not":"order","within_days":90}]}'})])
def test_a_link_with_filters_is_drawn(page, parameters, demo, show, is_whole):
    app = show(demo, page, **parameters)
    is_whole(app)
    assert {name: app.query_params[name] for name in parameters if name != "q"} == {name: value for name, value in parameters.items() if name != "q"}


def test_a_company_without_deals_is_told_what_the_sales_page_needs(orders_home, show, html):
    assert "There are no deals, so there is no pipeline to show. Declare a source with deals" in html(show(orders_home, "sales"))


def test_filters_reach_cohorts_funnels_and_costs(demo, show, html):
    """A page used to show everybody there, and say so; now its numbers are those of the people chosen."""
    for page in ("retention", "funnel", "acquisition"):
        whole, part = html(show(demo, page)), html(show(demo, page, country="DE"))
        assert whole.count("r-table") + whole.count("r-heat") == part.count("r-table") + part.count("r-heat")
        assert [line for line in whole.split("<table")[1:]] != [line for line in part.split("<table")[1:]]
        for said in ("The cohorts cannot", "These steps cannot", "These stages cannot", "This table cannot"):
            assert said not in part


@pytest.mark.parametrize("page, parameters", [("overview", {"range": "7y"}), ("sales", {"as_of": "soon"}), ("funnel", {"steps": "no such step"}), ("overview", {"country": "Atlantis"}), ("segments", {"conditions": "{"}), ("segments", {"conditions": '{"all":[{"attribute":"shoe_size","is":4}]}'})])
def test_a_link_that_asks_for_what_is_not_there_is_answered_with_the_default_and_says_so(page, parameters, demo, show, html, is_whole):
    app = show(demo, page, **parameters)
    is_whole(app)
    assert "link" in html(app)


def test_pages_tell_of_a_run_that_could_not_publish(make_home, show, html, say_last_run):
    home = make_home(watermark=datetime.now(UTC).replace(tzinfo=None))
    assert "did not publish" not in html(show(home, "overview"))
    say_last_run(home, "running", "")
    assert warehouse.DIED in html(show(home, "overview")), "nobody holds the writing lock, so the run that says it is going on has died"
    with warehouse.locked(home):
        assert "did not publish" not in html(show(home, "overview")) and "Last run: running" in html(show(home, "data_health"))
    say_last_run(home, "blocked", "1 check failed.")
    assert "did not publish, so these are the numbers before it. 1 check failed." in html(show(home, "overview"))
    shown = html(show(home, "data_health"))
    assert "contract on landing.orders: amount &lt;b&gt;is&lt;/b&gt; missing (3 rows)" in shown


def test_pages_tell_when_the_data_are_old(make_home, empty_home, show, html):
    assert "The data end on 2026-03-01" in html(show(empty_home, "overview"))
    fresh = make_home(watermark=datetime.now(UTC).replace(tzinfo=None))
    assert "The data end on" not in html(show(fresh, "overview"))


def test_the_overview_of_the_demo_has_all_ten_values(demo, show, html):
    shown = html(show(demo, "overview"))
    cards = shown.split('data-metric="')[1:]
    assert len(cards) == 10
    empty = [card.split('"')[0] for card in cards if '<div class="r-card-value">–</div>' in card]
    assert not empty
    assert all("Compared with" in card and "Unit:" in card for card in cards)


def test_a_page_of_a_snapshot_that_an_older_rapport_wrote_says_so_and_how_to_go_on(make_home, show, html, is_whole):
    dropped = (("marts.fct_orders", "net_amount_reporting"), ("marts.dim_customers", "country_code"), ("marts.fct_leads", "channel"), ("marts.deals_history", "is_open"))
    home = make_home(filled=("everything",), statements=[f"ALTER TABLE {table} DROP COLUMN {column}" for table, column in dropped])
    for page in ("overview", "funnel", "sales", "retention"):
        app = show(home, page)
        is_whole(app)
        assert "needs an upgrade" in html(app) and "rapport run" in html(app), page
