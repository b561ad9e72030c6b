"""Attribution: how the credit for a conversion is shared among the touches before it.

Belongs here: the eight models, credits per touch, conservation, summaries by channel. Does not belong here: the Markov
chain's mathematics (`attribution_markov`), the warehouse's credits table (`attribution_credits`), costs
(`attribution_costs`).

What the numbers mean
    journey       the touches of the conversion's customer from ``lookback_days`` (of 24 hours) before the conversion up to its
                  instant, both ends included, ordered by instant, sequence (a missing one last), id
    no_touch      a conversion without such a touch is credited whole to the channel ``no_touch``
    first, last   the first, the last touch
    linear        equal shares
    u_shaped      40 % first, 40 % last, 20 % shared by the others; two touches 50/50; one 100 %
    w_shaped      30 % each to three anchors and 10 % shared by the others. The anchors are the first touch, the last touch at
                  or before the creation of the lead, and the last touch at or before the creation of the opportunity (of the
                  conversion itself where there is no opportunity). A touch that is two anchors has both shares; an anchor
                  without a touch, or an absence of others, leaves its share to the rest in proportion.
    time_decay    2^(-age / half-life), scaled to 1
    markov        first-order Markov chain over the journeys' channels, fitted on all conversions asked for; each channel's share
                  of the touched conversions is its removal effect over the sum of removal effects. Every touched conversion
                  is credited by these shares, so the credits have no single touch.
    shapley       Shapley value of the game in which a set of channels is worth the conversions whose journeys use no
                  other channel. In that game the value is exactly an equal share for each distinct channel of the journey
                  (Zhao, Mahboobi & Bagheri 2018, "Shapley Value Methods for Attribution Modeling in Online Advertising",
                  theorem 1), at any number of channels, so it is never sampled; touches of one channel share alike.

Conservation: credits are whole units (10^-9 conversions, 10^-4 of the currency). Along a journey the i-th touch receives
round(total x weights up to i) - round(total x weights up to i-1), which adds up to the total whatever the weights are.
Refunds are shared by the same weights as the revenue they take back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines import attribution_markov
from models.engines.funnel_range import Parameters, instant_or_none, relation

MODELS = ("first", "last", "linear", "u_shaped", "w_shaped", "time_decay", "markov", "shapley")
POSITIONAL = tuple(model for model in MODELS if model != "markov")
NO_TOUCH = "no_touch"


@dataclass(frozen=True)
class AttributionSpec:
    """One attribution question.

    ``conversions`` is a SELECT or table with conversion_id VARCHAR (unique), customer_id, converted_at (naive UTC), revenue and
    refunded (DECIMAL in one currency), and optionally lead_created_at and opportunity_created_at; ``touchpoints`` one
    with touchpoint_id, customer_id, occurred_at, channel, sequence, campaign_id. ``start`` and ``end`` bound the
    conversions, as local days of ``time_zone`` or as instants. Raises UsageError for impossible choices.
    """

    conversions: str = "conversions"
    touchpoints: str = "marts.fct_touchpoints"
    models: tuple[str, ...] = ("linear",)
    lookback_days: float = 90.0
    half_life_days: float = 7.0  # the usual default of advertising platforms; any positive number of days
    start: date | datetime | None = None
    end: date | datetime | None = None
    time_zone: str = "UTC"
    has_creation_times: bool = False
    non_converting_journeys: bool = True

    def __post_init__(self) -> None:
        for model in self.models:
            if model not in MODELS:
                raise UsageError(
                    f"there is no attribution model '{model}'", remedy=f"Use one of: {', '.join(MODELS)}."
                )
        if not self.models:
            raise UsageError("no attribution model given", remedy=f"Use one of: {', '.join(MODELS)}.")
        if not 0 <= self.lookback_days <= 3_660:
            raise UsageError(f"a look-back of {self.lookback_days} days is not possible", remedy="Give 0 to 3660 days.")
        if not self.half_life_days > 0:
            raise UsageError(f"a half-life of {self.half_life_days} days is not possible", remedy="Give more than 0 days.")


def _rows(text: str) -> str:
    """A table name, or a SELECT written by this package's adapters."""
    return f"({text})" if text.lstrip().upper().startswith(("SELECT", "WITH")) else relation(text)


def _journeys(spec: AttributionSpec, params: Parameters) -> str:
    """Expressions ``converted`` (one row per conversion) and ``journey`` (one row per touch of a conversion)."""
    start, end = (instant_or_none(moment, spec.time_zone) for moment in (spec.start, spec.end))
    conditions = ["converted_at IS NOT NULL"]
    if start is not None:
        conditions.append(f"converted_at >= {params.bind(start)}")
    if end is not None:
        conditions.append(f"converted_at < {params.bind(end)}")
    created = (
        "lead_created_at, opportunity_created_at"
        if spec.has_creation_times
        else "NULL::TIMESTAMP AS lead_created_at, NULL::TIMESTAMP AS opportunity_created_at"
    )
    lookback = f"to_microseconds(CAST({params.bind(round(spec.lookback_days * 86_400_000_000))} AS BIGINT))"
    return f"""converted AS NOT MATERIALIZED (
    SELECT CAST(conversion_id AS VARCHAR) AS conversion_id, customer_id, converted_at,
        CAST(coalesce(revenue, 0) AS DECIMAL(18,4)) AS revenue, CAST(coalesce(refunded, 0) AS DECIMAL(18,4)) AS refunded,
        {created}
    FROM {_rows(spec.conversions)}
    WHERE {' AND '.join(conditions)}
),
journey AS MATERIALIZED (
    SELECT c.conversion_id, c.customer_id, c.converted_at, c.revenue, c.refunded, t.touchpoint_id,
        coalesce(t.channel, 'unknown') AS channel, t.campaign_id, t.occurred_at,
        (epoch_us(c.converted_at) - epoch_us(t.occurred_at)) / 86400000000.0 AS age_days,
        t.occurred_at <= c.lead_created_at AS before_lead,
        t.occurred_at <= coalesce(c.opportunity_created_at, c.converted_at) AS before_opportunity,
        row_number() OVER path AS position,
        count(*) OVER (PARTITION BY c.conversion_id) AS touches
    FROM converted AS c
    JOIN {_rows(spec.touchpoints)} AS t
        ON t.customer_id = c.customer_id AND t.occurred_at <= c.converted_at AND t.occurred_at >= c.converted_at - {lookback}
    WINDOW path AS (PARTITION BY c.conversion_id ORDER BY t.occurred_at, t.sequence NULLS LAST, t.touchpoint_id)
)"""


_WEIGHTS = {
    "first": "CASE WHEN position = 1 THEN 1.0 ELSE 0.0 END",
    "last": "CASE WHEN position = touches THEN 1.0 ELSE 0.0 END",
    "linear": "1.0",
    "u_shaped": "CASE WHEN touches <= 2 THEN 1.0 WHEN position IN (1, touches) THEN 0.4 ELSE 0.2 / (touches - 2) END",
    "w_shaped": (
        "CASE WHEN position = 1 THEN 0.3 ELSE 0.0 END + CASE WHEN position = lead_position THEN 0.3 ELSE 0.0 END "
        "+ CASE WHEN position = opportunity_position THEN 0.3 ELSE 0.0 END "
        "+ CASE WHEN position = 1 OR position IS NOT DISTINCT FROM lead_position "
        "OR position IS NOT DISTINCT FROM opportunity_position THEN 0.0 ELSE 0.1 / others END"
    ),
    # Ages count from the last touch, so that a journey much older than the half-life does not become 0 / 0.
    "time_decay": "pow(0.5, (age_days - youngest_days) / $half_life)",
    "shapley": "1.0 / channel_touches",
}


def _measures(models: tuple[str, ...]) -> str:
    """The further columns of a journey that the asked models need."""
    found = []
    if "time_decay" in models:
        found.append("min(age_days) OVER whole AS youngest_days")
    if "shapley" in models:
        found.append("count(*) OVER (PARTITION BY conversion_id, channel) AS channel_touches")
    if "w_shaped" in models:
        found += [
            "max(position) FILTER (before_lead) OVER whole AS lead_position",
            "max(position) FILTER (before_opportunity) OVER whole AS opportunity_position",
        ]
    return "".join(f", {column}" for column in found)


def credits_sql(
    spec: AttributionSpec, shares: dict[str, float] | None = None
) -> tuple[str, dict[str, Any]]:
    """Credits, one row per model, conversion and touch (markov: and channel).

    Columns: model, conversion_id, customer_id, converted_at, touchpoint_id, channel, campaign_id, touch_position (the last
    three null where they do not apply), weight (0..1), conversions DECIMAL(18,9), revenue, refunded, net_revenue
    DECIMAL(18,4), is_sampled. ``shares`` are the channel shares of the Markov model; without them a question that asks
    for it raises UsageError (``credits`` fits them).
    """
    params = Parameters()
    parts = [_journeys(spec, params)]
    positional = tuple(model for model in spec.models if model != "markov")
    if "markov" in spec.models and shares is None:
        raise UsageError("the markov model has no channel shares", remedy="Fit it first, or call credits().")
    if positional:
        weighted, others = [], ""
        if "w_shaped" in positional:
            others = (
                ", touches - 1 - CASE WHEN lead_position > 1 THEN 1 ELSE 0 END - CASE WHEN opportunity_position > 1 "
                "AND opportunity_position IS DISTINCT FROM lead_position THEN 1 ELSE 0 END AS others"
            )
        parts.append(
            f"measured AS MATERIALIZED (SELECT *{others} FROM (SELECT *{_measures(positional)} FROM journey "
            "WINDOW whole AS (PARTITION BY conversion_id)))"
        )
        for model in positional:
            weight = _WEIGHTS[model]
            if "$half_life" in weight:
                weight = weight.replace("$half_life", params.bind(float(spec.half_life_days)))
            weighted.append(
                f"SELECT {params.bind(model)} AS model, conversion_id, customer_id, converted_at, revenue, refunded, "
                f"touchpoint_id, channel, campaign_id, position, {weight} AS raw FROM measured"
            )
        parts.append("weighted AS NOT MATERIALIZED (" + "\nUNION ALL ".join(weighted) + ")")
        parts.append(_ALONG_THE_JOURNEY)
    branches = ["SELECT * FROM credited_touches"] if positional else []
    if "markov" in spec.models:
        branches.append(_markov_credits(shares or {}, params))
    branches.append(
        f"""SELECT m.model, c.conversion_id, c.customer_id, c.converted_at, NULL AS touchpoint_id, '{NO_TOUCH}' AS channel,
        NULL AS campaign_id, NULL AS touch_position, 1.0 AS weight, 1000000000 AS conversion_units,
        CAST(c.revenue * 10000 AS BIGINT) AS revenue_units, CAST(c.refunded * 10000 AS BIGINT) AS refunded_units
    FROM (SELECT unnest({params.bind(list(spec.models))}::VARCHAR[]) AS model) AS m
    CROSS JOIN (SELECT * FROM converted WHERE conversion_id NOT IN (SELECT conversion_id FROM journey)) AS c"""
    )
    parts.append("credited AS NOT MATERIALIZED (" + "\nUNION ALL ".join(branches) + ")")
    parts.append(_CREDITS)
    return "WITH " + ",\n".join(parts) + "\nSELECT * FROM credits", params.values


# Each touch's whole units, as differences of the rounded running total.
_ALONG_THE_JOURNEY = """summed AS NOT MATERIALIZED (
    SELECT *, raw / sum(raw) OVER whole AS weight,
        CASE WHEN row_number() OVER path = count(*) OVER whole THEN 1.0 ELSE sum(raw) OVER path / sum(raw) OVER whole END AS upto
    FROM weighted
    WINDOW path AS (PARTITION BY model, conversion_id ORDER BY position ROWS UNBOUNDED PRECEDING),
        whole AS (PARTITION BY model, conversion_id)
),
units AS NOT MATERIALIZED (
    SELECT *, CAST(round(upto * 1e9) AS BIGINT) AS conversion_units,
        CAST(round(upto * CAST(revenue * 10000 AS BIGINT)) AS BIGINT) AS revenue_units,
        CAST(round(upto * CAST(refunded * 10000 AS BIGINT)) AS BIGINT) AS refunded_units
    FROM summed
),
credited_touches AS NOT MATERIALIZED (
    SELECT model, conversion_id, customer_id, converted_at, touchpoint_id, channel, campaign_id, position AS touch_position, weight,
        conversion_units - coalesce(lag(conversion_units) OVER path, 0) AS conversion_units,
        revenue_units - coalesce(lag(revenue_units) OVER path, 0) AS revenue_units,
        refunded_units - coalesce(lag(refunded_units) OVER path, 0) AS refunded_units
    FROM units
    WINDOW path AS (PARTITION BY model, conversion_id ORDER BY position)
)"""

_CREDITS = """credits AS NOT MATERIALIZED (
    SELECT model, conversion_id, customer_id, converted_at, touchpoint_id, channel, campaign_id,
        CAST(touch_position AS INTEGER) AS touch_position, weight,
        CAST(conversion_units / CAST(1000000000 AS DECIMAL(18,0)) AS DECIMAL(18,9)) AS conversions,
        CAST(revenue_units / CAST(10000 AS DECIMAL(18,0)) AS DECIMAL(18,4)) AS revenue,
        CAST(refunded_units / CAST(10000 AS DECIMAL(18,0)) AS DECIMAL(18,4)) AS refunded,
        CAST((revenue_units - refunded_units) / CAST(10000 AS DECIMAL(18,0)) AS DECIMAL(18,4)) AS net_revenue,
        FALSE AS is_sampled
    FROM credited
)"""


def _markov_credits(shares: dict[str, float], params: Parameters) -> str:
    """Every touched conversion by the same shares, so the running totals are known beforehand."""
    upto = list(accumulate(shares.values()))
    upto[-1:] = [1.0] if upto else []
    lists = {
        "channel": params.bind(list(shares)) + "::VARCHAR[]",
        "share": params.bind([float(share) for share in shares.values()]) + "::DOUBLE[]",
        "former": params.bind([0.0, *upto[:-1]] if upto else []) + "::DOUBLE[]",
        "upto": params.bind([*upto]) + "::DOUBLE[]",
    }
    columns = ", ".join(f"unnest({values}) AS {name}" for name, values in lists.items())

    def part(total: str) -> str:
        return f"CAST(round(s.upto * {total}) AS BIGINT) - CAST(round(s.former * {total}) AS BIGINT)"

    return (
        f"SELECT {params.bind('markov')} AS model, j.conversion_id, j.customer_id, j.converted_at, NULL AS touchpoint_id, "
        "s.channel, NULL AS campaign_id, NULL AS touch_position, s.share AS weight, "
        f"{part('1e9')} AS conversion_units, {part('CAST(j.revenue * 10000 AS BIGINT)')} AS revenue_units, "
        f"{part('CAST(j.refunded * 10000 AS BIGINT)')} AS refunded_units "
        f"FROM (SELECT * FROM journey WHERE position = 1) AS j CROSS JOIN (SELECT {columns}) AS s"
    )


def summary_sql(
    spec: AttributionSpec, shares: dict[str, float] | None = None
) -> tuple[str, dict[str, Any]]:
    """One row per model and channel: conversions, revenue, refunded, net_revenue, n (conversions with any credit to the
    channel), is_sampled. Each model's rows sum to all conversions, all revenue and all refunds, exactly."""
    text, values = credits_sql(spec, shares)
    text = text.removesuffix("SELECT * FROM credits")
    markov = "'markov'"
    return (
        text + "SELECT channel, model, CAST(sum(conversions) AS DECIMAL(18,9)) AS conversions, "
        "CAST(sum(revenue) AS DECIMAL(18,4)) AS revenue, CAST(sum(refunded) AS DECIMAL(18,4)) AS refunded, "
        "CAST(sum(net_revenue) AS DECIMAL(18,4)) AS net_revenue, "
        # under markov a conversion has one row a channel, so there is nothing to make distinct
        f"count(DISTINCT conversion_id) FILTER (weight > 0 AND model <> {markov}) "
        f"+ count(*) FILTER (weight > 0 AND model = {markov}) AS n, bool_or(is_sampled) AS is_sampled "
        "FROM credits GROUP BY channel, model ORDER BY model, conversions DESC, channel",
        values,
    )


def transitions_sql(spec: AttributionSpec) -> tuple[str, dict[str, Any]]:
    """How often a journey goes from one state to the next: state_from, state_to, n.

    States are channels, with null for the start of a journey (``state_from``); ``state_to`` is null at the end, and then
    ``converts`` says how it ended. Journeys that did not convert are those of customers without any conversion asked for:
    all their touches inside the look-back and range.
    """
    params = Parameters()
    journeys = _journeys(spec, params)
    paths = "SELECT conversion_id AS path, position, channel, TRUE AS converts FROM journey"
    if spec.non_converting_journeys:
        conditions = ["customer_id IS NOT NULL", "customer_id NOT IN (SELECT customer_id FROM converted WHERE customer_id IS NOT NULL)"]
        start, end = (instant_or_none(moment, spec.time_zone) for moment in (spec.start, spec.end))
        if start is not None:
            lookback = f"to_microseconds(CAST({params.bind(round(spec.lookback_days * 86_400_000_000))} AS BIGINT))"
            conditions.append(f"occurred_at >= {params.bind(start)} - {lookback}")
        if end is not None:
            conditions.append(f"occurred_at < {params.bind(end)}")
        paths += (
            " UNION ALL SELECT 'never:' || customer_id, row_number() OVER (PARTITION BY customer_id ORDER BY occurred_at, "
            "sequence NULLS LAST, touchpoint_id), coalesce(channel, 'unknown'), FALSE "
            f"FROM {_rows(spec.touchpoints)} WHERE {' AND '.join(conditions)}"
        )
    return (
        f"WITH {journeys},\npaths AS ({paths}),\n"
        "linked AS (SELECT *, lag(channel) OVER path_order AS before, lead(channel) OVER path_order AS after FROM paths "
        "WINDOW path_order AS (PARTITION BY path, converts ORDER BY position))\n"
        "SELECT NULL AS state_from, channel AS state_to, NULL AS converts, count(*) AS n FROM linked WHERE before IS NULL "
        "GROUP BY ALL UNION ALL "
        "SELECT channel, after, CASE WHEN after IS NULL THEN converts END, count(*) FROM linked GROUP BY ALL",
        params.values,
    )


def markov_shares(con: duckdb.DuckDBPyConnection, spec: AttributionSpec) -> dict[str, float]:
    """Each channel's share of the touched conversions under the Markov model, in the order of channel names."""
    return attribution_markov.shares(con.execute(*transitions_sql(spec)).fetchall())


def _shares(con: duckdb.DuckDBPyConnection, spec: AttributionSpec) -> dict[str, float] | None:
    return markov_shares(con, spec) if "markov" in spec.models else None


def credits(con: duckdb.DuckDBPyConnection, spec: AttributionSpec) -> pl.DataFrame:
    """Credits per conversion and touch; see ``credits_sql``."""
    return con.execute(*credits_sql(spec, _shares(con, spec))).pl()


def run(con: duckdb.DuckDBPyConnection, spec: AttributionSpec) -> pl.DataFrame:
    """Credited conversions and revenue by model and channel; see ``summary_sql``."""
    return con.execute(*summary_sql(spec, _shares(con, spec))).pl()
