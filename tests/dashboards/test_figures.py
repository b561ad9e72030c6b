"""What cards say: asked together, moved to a mature range when the chosen one is too young."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from dashboards import figures, queries
from dashboards.components import filters


def test_ten_metrics_are_asked_in_two_questions(demo, use_home, monkeypatch):
    use_home(demo)
    asked = []
    original = queries.metric
    monkeypatch.setattr(queries, "metric", lambda names, **more: asked.append(names) or original(names, **more))
    start, end = filters.bounds("12m")
    found = figures.figures(queries.HEADLINE, start, end, {})
    assert [f.metric for f in found] == list(queries.HEADLINE)
    assert asked == [queries.HEADLINE, queries.HEADLINE]


def test_a_card_shows_what_the_metric_layer_answers(demo, use_home):
    use_home(demo)
    start, end = filters.bounds("12m")
    shown = {f.metric: f for f in figures.figures(("average_order_value", "csat"), start, end, {})}
    for name, figure in shown.items():
        answer = queries.metric((name,), start=start, end=end, compare=True)
        assert figure.value == answer.frame[name][0]
        assert figure.change == answer.frame[f"{name}__change"][0]
        assert figure.compared == answer.previous


def test_a_range_too_young_for_conversion_is_moved_and_said_to_be(demo, use_home):
    use_home(demo)
    start, end = filters.bounds("90d")
    (conversion,) = figures.figures(("sales_conversion_rate",), start, end, {})
    window = queries.settings()["lead_conversion_window_days"]
    assert conversion.moved and conversion.value is not None
    assert (conversion.start, conversion.end) == (start - timedelta(days=window), end - timedelta(days=window))


def test_a_metric_that_needs_no_waiting_is_never_moved(demo, use_home):
    use_home(demo)
    start, end = filters.bounds("30d")
    (orders,) = figures.figures(("average_order_value",), start, end, {})
    assert not orders.moved and (orders.start, orders.end) == (start, end)


def test_a_metric_the_snapshot_does_not_define_leaves_the_others_standing(demo, use_home):
    use_home(demo)
    unknown, orders = figures.figures(("no_such_metric", "orders"), date(2020, 1, 1), filters.bounds("all")[1], {})
    assert unknown.value is None and "does not define" in unknown.reason
    assert orders.value > 0


def test_filters_a_metric_does_not_know_are_named(demo, use_home):
    use_home(demo)
    start, end = filters.bounds("12m")
    country = queries.choices()["country"][0]
    cost, value = figures.figures(("cac", "average_order_value"), start, end, {"country": country})
    assert cost.ignored == ("country",) and value.ignored == ()
    assert value.n < figures.figures(("average_order_value",), start, end, {})[0].n


def test_the_channel_of_a_page_is_the_one_that_won_the_customer(demo, use_home):
    use_home(demo)
    start, end = filters.bounds("12m")
    channels = queries.choices()["channel"]
    whole = figures.figures(("orders",), start, end, {})[0].value
    parts = [figures.figures(("orders",), start, end, {"channel": channel})[0].value for channel in channels]
    assert all(part > 0 for part in parts) and sum(parts) <= whole


def test_visitors_at_the_same_time_each_get_their_answer(demo, use_home):
    use_home(demo)
    asked = [f"{letter}{ending}" for letter in "aeioustr" for ending in ("", "n", "r")]
    with ThreadPoolExecutor(8) as visitors:
        found = dict(zip(asked, visitors.map(queries.find_customers, asked), strict=True))
    assert {text: frame.height for text, frame in found.items()} == {text: queries.find_customers(f"{text} ").height for text in asked}
