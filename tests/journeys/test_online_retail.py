"""Somebody's own file, end to end: the Online Retail II invoice lines through `mapped_files` to published marts.

Reference numbers: straight from the file (Chen, UCI Machine Learning Repository, CC BY 4.0), recounted here with Polars.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from contextlib import chdir
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from fixtures.online_retail_marts import FILE
from fixtures.shared_data import given
from typer.testing import CliRunner

from data_contracts.environment import Home
from models import warehouse
from pipelines.cli import app

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "pipelines" / "sources" / "examples" / "online_retail_ii.yml"

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def lines() -> pl.DataFrame:
    """The file's lines with exact amounts, and what each line is."""
    money = (pl.col("quantity").cast(pl.Decimal(18, 4)) * pl.col("unit_price").cast(pl.Decimal(18, 4))).alias("amount")
    is_purchase = (pl.col("quantity") > 0) & (pl.col("unit_price") > 0)
    return pl.read_parquet(given(FILE)).with_columns(money, is_purchase.alias("is_purchase"), pl.col("invoice").str.starts_with("C").alias("is_cancellation"))


def readme_walk() -> list[list[str]]:
    """The commands of the README's walk through this file, as it prints them."""
    block = next(b for b in re.findall(r"^```\w*\n(.*?)^```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.S | re.M) if EXAMPLE.name in b)
    return [shlex.split(line)[1:] for line in block.replace("\\\n", " ").splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which a newcomer, standing in the checkout, took the README's walk with the file where it lies."""
    place, file = tmp_path_factory.mktemp("retail") / "home", given(FILE)
    printed = {}
    with chdir(REPOSITORY):
        for words in readme_walk():
            told = [w.replace("/data/online_retail_ii.parquet", str(file)) if w != "retail" else str(place) for w in words]
            done = CliRunner().invoke(app, told, catch_exceptions=False)
            assert done.exit_code == 0, done.output
            printed[" ".join(words[:2])] = done.output
    assert file.name in printed["source test"] and "published" in printed["run --home"] and "gross_revenue" in printed["metric query"]
    return Home(place)


@pytest.fixture(scope="module")
def ask(home: Home) -> Callable[[str], list[tuple]]:
    """Asks the published snapshot."""
    def query(sql: str) -> list[tuple]:
        with warehouse.reading(home) as snapshot:
            return snapshot.con.execute(sql).fetchall()
    return query


def cents(value: Decimal) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"), rounding="ROUND_HALF_UP")


def test_the_file_is_the_one_the_reference_numbers_speak_of(lines: pl.DataFrame) -> None:
    purchases, cancellations = lines.filter("is_purchase"), lines.filter("is_cancellation")
    assert (lines.height, lines["invoice"].n_unique(), lines["customer_id"].drop_nulls().n_unique()) == (725_829, 39_271, 5_041)
    assert (purchases.height, purchases["invoice"].n_unique(), cents(purchases["amount"].sum())) == (707_060, 28_818, Decimal("14235748.82"))
    assert (cancellations["invoice"].n_unique(), cents(cancellations["amount"].sum())) == (6_251, Decimal("-969601.83"))


def test_purchases_are_orders_with_and_without_a_customer(ask: Callable[[str], list[tuple]]) -> None:
    orders, gross, customers = ask("SELECT count(*), sum(gross_amount), count(DISTINCT customer_id) FROM marts.fct_orders WHERE is_counted")[0]
    assert (orders, cents(gross), customers) == (28_818, Decimal("14235748.82"), 4_976)
    known, gross = ask("SELECT count(*), sum(gross_amount) FROM marts.fct_orders WHERE customer_id IS NOT NULL")[0]
    assert (known, cents(gross)) == (26_368, Decimal("12118441.36"))
    assert ask("SELECT count(*) FROM marts.dim_customers WHERE is_known") == [(5_041,)]


def test_equal_lines_of_an_invoice_are_all_there(ask: Callable[[str], list[tuple]], lines: pl.DataFrame) -> None:
    count, quantity = ask("SELECT count(*), sum(quantity) FROM marts.fct_order_lines")[0]
    assert (count, quantity) == (707_060, lines.filter("is_purchase")["quantity"].sum())


def test_cancellations_are_refunds_and_each_line_counts_once(ask: Callable[[str], list[tuple]], lines: pl.DataFrame) -> None:
    """Invoice C496350 holds one line of a positive quantity: an order, so that no refund is below zero and no line counts twice."""
    rows, amount, invoices = ask("SELECT count(*), sum(amount), count(DISTINCT regexp_replace(refund_id, '-[0-9]+$', '')) FROM marts.fct_refunds")[0]
    odd_orders, odd_amount = ask("SELECT count(*), sum(net_amount) FROM marts.fct_orders WHERE order_id LIKE 'shop:C%'")[0]
    assert (rows, odd_orders) == (lines.filter("is_cancellation", pl.col("quantity") < 0).height, 1)
    assert (cents(odd_amount - amount), invoices + odd_orders) == (Decimal("-969601.83"), 6_251)
    assert cents(ask("SELECT sum(amount) FROM marts.fct_refunds WHERE customer_id IS NOT NULL")[0][0]) == Decimal("731855.63")


def test_net_revenue_is_what_the_lines_say(ask: Callable[[str], list[tuple]], lines: pl.DataFrame) -> None:
    net = ask("SELECT (SELECT sum(net_amount) FROM marts.fct_orders) - (SELECT sum(amount) FROM marts.fct_refunds)")[0][0]
    assert cents(net) == cents(lines.filter(pl.col("is_purchase") | pl.col("is_cancellation"))["amount"].sum())


def test_no_line_vanishes_without_a_word(ask: Callable[[str], list[tuple]], home: Home) -> None:
    (manifest,) = home.landing.glob("shop/*/batch.json")
    ignored = json.loads(manifest.read_text())["ignored"]
    used = ask("SELECT (SELECT count(*) FROM marts.fct_order_lines) + (SELECT count(*) FROM marts.fct_refunds)")[0][0]
    assert used + sum(ignored.values()) == 725_829 and sum(ignored.values()) == 4_872
    assert ask("SELECT sum(quarantined) FROM ops.batches") == [(0,)]


def test_times_are_london_time_and_countries_are_codes(ask: Callable[[str], list[tuple]], lines: pl.DataFrame) -> None:
    by_day = dict(ask("SELECT ordered_date, count(*) FROM marts.fct_orders GROUP BY ALL"))
    first = lines.filter("is_purchase").group_by("invoice").agg(pl.col("invoice_ts").min().dt.date().alias("day"))
    assert by_day == dict(first.group_by("day").len().rows())
    summer = lines.filter("is_purchase", pl.col("invoice_ts").dt.month() == 7)["invoice_ts"].min()
    assert ask("SELECT min(ordered_at) FROM marts.fct_orders WHERE month(ordered_date) = 7") == [(summer.replace(hour=summer.hour - 1),)], "one hour before London in summer"
    codes = dict(ask("SELECT country_code, count(*) FROM marts.fct_orders GROUP BY 1"))
    assert codes["GB"] > 20_000 and codes["IE"] > 0 and {c for c in codes if len(c) != 2} == {"Channel Islands", "Unspecified", "European Community", "West Indies"}
