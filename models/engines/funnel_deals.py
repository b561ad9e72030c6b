"""Deals through the stages of a pipeline: three counts of who got there, and how long a visit lasts.

Belongs here: the deal-stage funnel and stage durations. Does not belong here: general funnels (`funnel`), the pipeline's
money (`sales`).

    in_order    a deal counts at stage k when it entered stages 1..k one after the other without skipping; a deal that
                skips a stage stops counting there for good, going back does not harm it
    any_stage   every stage it ever entered
    imputed     a deal that reached stage k counts at all earlier ones too; lost deals are not imputed and count as in
                any_stage
A deal belongs to the range in which it was created. The order of stages is that of the pipeline's current stages, or the one
given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines.funnel_range import Parameters, instant, instant_or_none, relation


@dataclass(frozen=True)
class DealFunnelSpec:
    """One deal-stage funnel; ``stages`` from first to last, by default the pipeline's stages that are not lost."""

    pipeline: str | None = None
    stages: tuple[str, ...] = ()
    start: date | datetime | None = None
    end: date | datetime | None = None
    time_zone: str = "UTC"
    visits: str = "marts.fct_deal_stage_visits"
    deals: str = "marts.fct_deals"
    pipeline_stages: str = "marts.dim_pipeline_stages"

    def __post_init__(self) -> None:
        if len(set(self.stages)) != len(self.stages):
            raise UsageError("a stage is named twice", remedy="Name every stage once, from first to last.")


def _deals(spec: DealFunnelSpec, params: Parameters) -> str:
    conditions = ["TRUE"]
    start, end = (instant_or_none(m, spec.time_zone) for m in (spec.start, spec.end))
    if spec.pipeline is not None:
        conditions.append(f"pipeline = {params.bind(spec.pipeline)}")
    if start is not None:
        conditions.append(f"created_at >= {params.bind(start)}")
    if end is not None:
        conditions.append(f"created_at < {params.bind(end)}")
    return (
        f"SELECT deal_id, pipeline, coalesce(is_lost, FALSE) AS is_lost FROM {relation(spec.deals)} "
        f"WHERE {' AND '.join(conditions)}"
    )


def latest_stages_sql(pipeline_stages: str) -> str:
    """Stages as they are now, one row per pipeline and stage: a pipeline that was rearranged has several in the table."""
    since = "coalesce(valid_from, '-infinity'::TIMESTAMP)"
    return (
        f"SELECT pipeline, stage, arg_max(position, {since}) AS position, "
        f"coalesce(arg_max(is_won, {since}), FALSE) AS is_won, coalesce(arg_max(is_lost, {since}), FALSE) AS is_lost "
        f"FROM {relation(pipeline_stages)} GROUP BY pipeline, stage"
    )


def counts_sql(spec: DealFunnelSpec) -> tuple[str, dict[str, Any]]:
    """One row per pipeline and stage, in order: pipeline, stage, stage_position (from 1), in_order, any_stage, imputed."""
    params = Parameters()
    if spec.stages:
        stages = (
            "SELECT p.pipeline, s.stage, s.place FROM (SELECT DISTINCT pipeline FROM chosen) AS p CROSS JOIN "
            f"(SELECT unnest({params.bind(list(spec.stages))}::VARCHAR[]) AS stage, "
            f"unnest(range(1, {len(spec.stages) + 1})) AS place) AS s"
        )
    else:
        only = f" AND pipeline = {params.bind(spec.pipeline)}" if spec.pipeline is not None else ""
        stages = (
            "SELECT pipeline, stage, row_number() OVER (PARTITION BY pipeline ORDER BY position, stage) AS place "
            f"FROM ({latest_stages_sql(spec.pipeline_stages)}) WHERE NOT is_lost{only}"
        )
    text = f"""WITH chosen AS ({_deals(spec, params)}),
stages AS ({stages}),
entered AS (
    SELECT c.deal_id, c.pipeline, c.is_lost, s.place,
        row_number() OVER (PARTITION BY c.deal_id ORDER BY v.entered_at, v.visit_number) AS n
    FROM chosen AS c
    JOIN {relation(spec.visits)} AS v ON v.deal_id = c.deal_id
    JOIN stages AS s ON s.pipeline IS NOT DISTINCT FROM c.pipeline AND s.stage = v.stage
),
first_entered AS (
    SELECT deal_id, pipeline, is_lost, place, min(n) AS n FROM entered GROUP BY ALL
),
-- The first visits in time order must be to places 1, 2, 3 ...: the first one out of step ends the count.
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY deal_id ORDER BY n) AS turn, max(place) OVER (PARTITION BY deal_id) AS furthest
    FROM first_entered
),
judged AS (
    SELECT *, bool_and(place = turn) OVER (PARTITION BY deal_id ORDER BY turn ROWS UNBOUNDED PRECEDING) AS is_in_order
    FROM ranked
),
reached AS (
    SELECT pipeline, place, count(*) AS any_stage, count(*) FILTER (is_in_order) AS in_order,
        count(*) FILTER (is_lost) AS lost_here
    FROM judged GROUP BY ALL
),
furthest AS (
    SELECT pipeline, furthest, count(*) AS deals FROM ranked WHERE n = 1 AND NOT is_lost GROUP BY ALL
)
SELECT s.pipeline, s.stage, CAST(s.place AS INTEGER) AS stage_position, coalesce(r.in_order, 0) AS in_order,
    coalesce(r.any_stage, 0) AS any_stage,
    CAST(coalesce(r.lost_here, 0) + coalesce((SELECT sum(f.deals) FROM furthest AS f
        WHERE f.pipeline IS NOT DISTINCT FROM s.pipeline AND f.furthest >= s.place), 0) AS BIGINT) AS imputed
FROM stages AS s LEFT JOIN reached AS r ON r.pipeline IS NOT DISTINCT FROM s.pipeline AND r.place = s.place
ORDER BY s.pipeline, s.place"""
    return text, params.values


def run(con: duckdb.DuckDBPyConnection, spec: DealFunnelSpec) -> pl.DataFrame:
    """The three counts; see ``counts_sql``."""
    return con.execute(*counts_sql(spec)).pl()


def stage_durations_sql(spec: DealFunnelSpec, watermark: date | datetime) -> tuple[str, dict[str, Any]]:
    """How long visits to a stage last, of the first visit of each deal and of all visits.

    A visit not left by the watermark is censored there: its length is known only to be at least what has passed, so the
    median comes from the Kaplan-Meier estimate (Kaplan & Meier 1958) and is null when more than half are still inside.
    Stages that end a deal have no duration and are left out unless they are asked for by name.
    Columns: pipeline, stage, visit_basis ('first' or 'all'), visits, open_visits, median_days, mean_completed_days.
    """
    params = Parameters()
    now = params.bind(instant(watermark, spec.time_zone))
    if spec.stages:
        only = f"AND v.stage IN (SELECT unnest({params.bind(list(spec.stages))}::VARCHAR[]))"
    else:
        only = (
            f"AND NOT EXISTS (SELECT 1 FROM ({latest_stages_sql(spec.pipeline_stages)}) AS s "
            "WHERE s.pipeline = c.pipeline AND s.stage = v.stage AND (s.is_won OR s.is_lost))"
        )
    text = f"""WITH chosen AS ({_deals(spec, params)}),
visits AS (
    SELECT c.pipeline, v.stage, v.exited_at IS NOT NULL AND v.exited_at <= {now} AS is_complete,
        (epoch_us(least(coalesce(v.exited_at, {now}), {now})) - epoch_us(v.entered_at)) / 86400e6 AS days,
        row_number() OVER (PARTITION BY v.deal_id, v.stage ORDER BY v.entered_at, v.visit_number) = 1 AS is_first
    FROM chosen AS c JOIN {relation(spec.visits)} AS v ON v.deal_id = c.deal_id
    WHERE v.entered_at <= {now} {only}
),
based AS (
    SELECT pipeline, stage, 'all' AS visit_basis, is_complete, days FROM visits
    UNION ALL SELECT pipeline, stage, 'first', is_complete, days FROM visits WHERE is_first
),
by_length AS (
    SELECT pipeline, stage, visit_basis, days, count(*) FILTER (is_complete) AS left_then, count(*) AS gone
    FROM based GROUP BY ALL
),
at_risk AS (
    SELECT *, sum(gone) OVER (PARTITION BY pipeline, stage, visit_basis ORDER BY days DESC ROWS UNBOUNDED PRECEDING) AS inside
    FROM by_length
),
surviving AS (
    SELECT *, CASE WHEN bool_or(left_then = inside) OVER path THEN 0
        ELSE exp(sum(CASE WHEN left_then < inside THEN ln(1 - left_then / inside) ELSE 0 END) OVER path) END AS share
    FROM at_risk
    WINDOW path AS (PARTITION BY pipeline, stage, visit_basis ORDER BY days ROWS UNBOUNDED PRECEDING)
),
medians AS (
    SELECT pipeline, stage, visit_basis, min(days) FILTER (share <= 0.5 + 1e-12) AS median_days FROM surviving GROUP BY ALL
)
SELECT b.pipeline, b.stage, b.visit_basis, count(*) AS visits, count(*) FILTER (NOT b.is_complete) AS open_visits,
    any_value(m.median_days) AS median_days, avg(b.days) FILTER (b.is_complete) AS mean_completed_days
FROM based AS b JOIN medians AS m
    ON m.pipeline IS NOT DISTINCT FROM b.pipeline AND m.stage = b.stage AND m.visit_basis = b.visit_basis
GROUP BY ALL ORDER BY b.pipeline, b.stage, b.visit_basis"""
    return text, params.values


def stage_durations(
    con: duckdb.DuckDBPyConnection, spec: DealFunnelSpec, watermark: date | datetime
) -> pl.DataFrame:
    """Durations of visits; see ``stage_durations_sql``."""
    return con.execute(*stage_durations_sql(spec, watermark)).pl()
