"""The warehouse's table of credits: who is credited for every new customer and every order.

Belongs here: conversions as SELECTs over the marts, and the statements that build the table. Does not belong here: the models
(`attribution`), costs (`attribution_costs`).

Two kinds of conversion: ``new_customer`` (the first ever payment, worth its first amount) with all models, because CAC may
be asked under any of them, and ``order`` (each counted order, worth its net amount) with the workspace's model only,
because eight models over every order would be most of the warehouse; ``attribution.run`` answers for the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import duckdb

from data_contracts.errors import UsageError
from models.engines import attribution
from models.engines.attribution import MODELS, AttributionSpec
from models.engines.funnel_range import relation

TABLE = "metrics.mtr_attribution_credits"
KINDS = ("new_customer", "order")


@dataclass(frozen=True)
class Marts:
    """Names of the tables read."""

    new_customers: str = "marts.fct_new_customers"
    orders: str = "marts.fct_orders"
    leads: str = "marts.fct_leads"
    deals: str = "marts.fct_deals"
    touchpoints: str = "marts.fct_touchpoints"


def conversions_sql(kind: str, marts: Marts = Marts()) -> str:
    """The conversions of one kind, with the creation times of the lead and opportunity before them.

    Both are the latest at or before the conversion; an order that names its deal takes that deal's. Customers without one have
    null. Orders without a customer stay, to be credited to ``no_touch``.
    """
    if kind == "new_customer":
        base = (
            "SELECT n.customer_id AS conversion_id, n.customer_id, n.acquired_at AS converted_at, "
            "n.first_amount_reporting AS revenue, coalesce(o.refunded_amount_reporting, 0) AS refunded, "
            f"NULL::TIMESTAMP AS deal_created_at FROM {relation(marts.new_customers)} AS n "
            f"LEFT JOIN (SELECT customer_id, refunded_amount_reporting FROM {relation(marts.orders)} "
            "WHERE is_first_order AND is_counted) AS o "
            # a condition on one side alone would make it a loop over all pairs of customers and orders
            "ON o.customer_id = CASE WHEN n.acquisition_kind = 'order' THEN n.customer_id END"
        )
    elif kind == "order":
        base = (
            "SELECT o.order_id AS conversion_id, o.customer_id, o.ordered_at AS converted_at, "
            "o.net_amount_reporting AS revenue, o.refunded_amount_reporting AS refunded, d.created_at AS deal_created_at "
            f"FROM {relation(marts.orders)} AS o LEFT JOIN {relation(marts.deals)} AS d ON d.deal_id = o.deal_id "
            "WHERE o.is_counted"
        )
    else:
        raise UsageError(f"there is no kind of conversion '{kind}'", remedy=f"Use one of: {', '.join(KINDS)}.")
    leads = f"SELECT customer_id, created_at FROM {relation(marts.leads)} WHERE customer_id IS NOT NULL"
    deals = f"SELECT customer_id, created_at FROM {relation(marts.deals)} WHERE customer_id IS NOT NULL"
    return (
        "SELECT c.conversion_id, c.customer_id, c.converted_at, c.revenue, c.refunded, l.created_at AS lead_created_at, "
        "CASE WHEN c.deal_created_at <= c.converted_at THEN c.deal_created_at ELSE d.created_at END AS opportunity_created_at "
        f"FROM ({base}) AS c "
        f"ASOF LEFT JOIN ({leads}) AS l ON c.customer_id = l.customer_id AND c.converted_at >= l.created_at "
        f"ASOF LEFT JOIN ({deals}) AS d ON c.customer_id = d.customer_id AND c.converted_at >= d.created_at"
    )


def spec_for(kind: str, base: AttributionSpec, marts: Marts = Marts()) -> AttributionSpec:
    """``base`` with the warehouse's conversions of ``kind`` and its touchpoints."""
    return replace(
        base, conversions=conversions_sql(kind, marts), touchpoints=marts.touchpoints, has_creation_times=True
    )


def build_table_sql(
    kind: str,
    spec: AttributionSpec,
    shares: dict[str, float] | None = None,
    table: str = TABLE,
    create: bool = True,
) -> tuple[str, dict[str, Any]]:
    """The statement that creates the table with the credits of ``kind``, or adds them (``create=False``).

    One row per conversion_kind, model, conversion and touch with credit. ``spec`` comes from ``spec_for``; ``shares``
    from ``attribution.markov_shares`` when the Markov model is among its models.
    """
    text, values = attribution.credits_sql(spec, shares)
    values = {**values, "kind": kind, "zone": spec.time_zone}
    text = text.removesuffix("SELECT * FROM credits")
    select = (
        text + "SELECT $kind AS conversion_kind, model, conversion_id, customer_id, converted_at, "
        "CAST(timezone($zone, converted_at AT TIME ZONE 'UTC') AS DATE) AS converted_date, touchpoint_id, channel, "
        "campaign_id, touch_position, weight, conversions, revenue, refunded, net_revenue, is_sampled "
        "FROM credits WHERE weight > 0"
    )
    action = f"CREATE OR REPLACE TABLE {relation(table)} AS" if create else f"INSERT INTO {relation(table)} BY NAME"
    return f"{action}\n{select}", values


def build_table(
    con: duckdb.DuckDBPyConnection,
    *,
    model: str = "linear",
    lookback_days: float = 90.0,
    half_life_days: float = 7.0,
    time_zone: str = "UTC",
    marts: Marts = Marts(),
    table: str = TABLE,
    until: datetime | None = None,
) -> int:
    """Build the credits table on a writing connection and return its number of rows.

    ``model`` is the workspace's model, used for orders. ``until`` leaves out conversions at or after an instant.
    """
    relation(table)
    if "." in table:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {table.rpartition('.')[0]}")
    for kind in KINDS:
        models = MODELS if kind == "new_customer" else (model,)
        base = AttributionSpec(
            models=models, lookback_days=lookback_days, half_life_days=half_life_days, time_zone=time_zone, end=until
        )
        spec = spec_for(kind, base, marts)
        shares = attribution.markov_shares(con, spec) if "markov" in models else None
        con.execute(*build_table_sql(kind, spec, shares, table, create=kind == KINDS[0]))
    row = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0
