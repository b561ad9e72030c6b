"""Numbers as people read them, ranges counted back from the data, and files that are safe to open."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from dashboards.components import cards, filters, tables
from dashboards.components import format as shown
from dashboards.figures import Figure


@pytest.mark.parametrize("value, unit, text", [
    (0.1234, "share", "12.3%"), (None, "share", "–"), (1234567, "currency", "€1.23 m"), (12345.6, "currency", "€12,346"), (99.5, "currency", "€99.50"), (-5, "currency", "−€5.00"), (1234, "count", "1,234"),
    (41.26, "days", "41.3 days"), (0.0964, "per_customer_and_30_days", "0.096 / 30 d"), (0.0, "share", "0.0%"), (-0.00001, "share", "0.0%"), (1.5, "ratio", "1.50×")])
def test_a_value_is_shown_with_its_unit(value, unit, text):
    assert shown.number(value, unit, "EUR") == text


@pytest.mark.parametrize("value, unit, rate, text", [(0.021, "share", None, "+2.1 pts"), (-0.021, "share", None, "−2.1 pts"), (12.0, "currency", 0.1, "+10.0%"), (-12.0, "currency", -0.1, "−10.0%"),
                                                     (0.00001, "share", None, "±0"), (-0.0014, "per_customer_and_30_days", None, "−0.001"), (None, "share", None, None)])
def test_a_change_is_shown_with_its_sign(value, unit, rate, text):
    assert shown.change(value, unit, "EUR", rate) == text


def test_a_half_open_range_is_said_with_its_last_day():
    assert shown.span(date(2026, 1, 1), date(2026, 2, 1)) == "2026-01-01 to 2026-01-31"


@pytest.mark.parametrize("chosen, newest, start, end", [
    ("30d", datetime(2026, 11, 22, 19), date(2026, 10, 23), date(2026, 11, 22)),      # the running day is left out
    ("12m", datetime(2026, 11, 22, 19), date(2025, 11, 1), date(2026, 11, 1)),
    ("mtd", datetime(2026, 11, 22, 19), date(2026, 11, 1), date(2026, 11, 23)),
    ("mtd", datetime(2026, 11, 1, 0), date(2026, 10, 1), date(2026, 11, 1)),          # at midnight the month has not begun
    ("ytd", datetime(2026, 1, 1, 0), date(2025, 1, 1), date(2026, 1, 1)),
    ("all", datetime(2026, 11, 22, 19), None, date(2026, 11, 23))])
def test_a_named_range_is_counted_back_from_the_newest_data(chosen, newest, start, end):
    assert filters._bounds(chosen, newest) == (start, end)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])      # a busy machine is no defect
@given(some.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(2099, 12, 31)), some.sampled_from(list(filters.RANGES)))
def test_a_named_range_holds_a_day_and_never_the_future(newest, chosen):
    start, end = filters._bounds(chosen, newest)
    assert end <= newest.date() + timedelta(days=1)
    assert start is None or start < end


@pytest.mark.parametrize("text", ["=1+1", "+49 30 1", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＋1", "－1", "＠x", "\x00=1"])
def test_no_cell_of_a_download_runs_as_a_formula(text):
    written = tables.as_csv(pl.DataFrame({"name": [text, "fine"], "amount": [-1.5, 2.0]})).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert rows[1] == ["'" + text, "-1.5"]
    assert rows[2] == ["fine", "2.0"]


@given(some.lists(some.one_of(some.none(), some.text(alphabet=some.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), min_size=1)), min_size=1, max_size=8))
def test_a_download_gives_back_every_text(texts):
    written = tables.as_csv(pl.DataFrame({"text": texts, "end": ["x"] * len(texts)}, schema={"text": pl.String, "end": pl.String})).decode("utf-8-sig")
    rows = [row[0] for row in csv.reader(io.StringIO(written, newline=""))][1:]
    assert [row.removeprefix("'") if given_text is not None and not given_text.startswith("'") else row for row, given_text in zip(rows, texts, strict=True)] == [t or "" for t in texts]


def test_a_download_begins_with_a_byte_order_mark_and_joins_lists():
    written = tables.as_csv(pl.DataFrame({"reasons": [["=a", "b"], None], "at": [datetime(2026, 1, 2, 3, 4, 5), None]}))
    assert written == b"\xef\xbb\xbfreasons,at\r\n'=a; b,2026-01-02T03:04:05\r\n,\r\n"


def card(**more: object) -> str:
    return cards._card(Figure(**{"metric": "m", "label": "M & N", "unit": "share", "definition": "What it is.", "direction": "up_is_good", **more}), "EUR")


def test_a_card_says_what_it_means_and_escapes_what_it_is_given():
    drawn = card(value=0.5, n=100.0, label="<i>", reason="<b>")
    assert "What it is." in drawn and "<i>" not in drawn and "<b>What it is.</b>" in drawn


def test_a_number_from_few_observations_is_greyed_and_has_its_interval():
    drawn = card(value=0.5, n=4.0, is_few=True, lower=0.15, upper=0.85)
    assert 'class="r-card r-few"' in drawn and "n = 4 · 95%: 15.0% to 85.0% · few observations" in drawn


def test_a_rise_of_what_should_fall_is_bad_news():
    assert "r-bad" in card(value=0.5, previous=0.4, change=0.1, direction="down_is_good")
    assert "r-good" in card(value=0.5, previous=0.4, change=0.1, direction="up_is_good")
    assert "r-even" in card(value=0.5, previous=0.4, change=0.1, direction="neither")


def test_a_card_without_a_value_gives_the_reason():
    assert "Zero denominator: no leads" in card(reason="zero denominator: no leads")


def test_a_sparkline_breaks_where_a_month_has_no_value():
    drawn = card(value=0.5, trend=(0.1, 0.2, None, 0.3, 0.4))
    assert drawn.count("polyline") == 2
