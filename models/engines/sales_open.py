"""The open pipeline of a day in sum: by stage, owner or pipeline, with both weights beside each other.

Belongs here: sums over deals open at an instant. Does not belong here: the deals themselves and their movement (`sales`), rates of
closed deals (`sales_rates`).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines import sales
from models.engines.funnel_range import Parameters
from models.engines.sales import PRIOR_DEALS, PipelineSpec

GROUPS = {"stage": ("pipeline", "stage_position", "stage"), "owner": ("owner_id",), "pipeline": ("pipeline",)}


def summary_sql(
    spec: PipelineSpec, day: date | datetime, by: str | None = "stage", prior_deals: float = PRIOR_DEALS
) -> tuple[str, dict[str, Any]]:
    """One row per group (one in all without ``by``; none when no deal is open).

    Columns: those of GROUPS[by], deals, deals_without_amount, amount, weighted_crm, weighted_learned (amount times the
    probability of the stage, by the CRM's word and by own history; null when no deal of the group has one), probability_crm and
    probability_learned (weighted / amount of the deals that have one; null where there is no amount), unweighted_crm and unweighted_learned (deals whose
    stage has no probability, which the weighted amount lacks).
    """
    if by is not None and by not in GROUPS:
        raise UsageError(f"the pipeline cannot be split by '{by}'", remedy=f"Use one of: {', '.join(GROUPS)}.")
    params = Parameters()
    at = params.bind(sales.as_of_instant(day, spec.time_zone))
    keys = ", ".join(f"d.{name}" for name in GROUPS[by]) if by else ""
    lead, group = (f"{keys}, ", f"GROUP BY {keys}") if by else ("", "HAVING count(*) > 0")
    order = f" ORDER BY {', '.join(GROUPS[by])}" if by else ""
    amount = "CAST(coalesce(d.amount_reporting, 0) AS DOUBLE)"
    text = f"""WITH {sales.stage_probabilities_cte(spec, at, prior_deals, params)},
{sales.crm_probabilities_cte(spec, at)},
deals AS (SELECT * FROM ({sales.state_sql(spec, at, params)}) WHERE is_open AND is_in_window),
summed AS (
    SELECT {lead}count(*) AS deals, count(*) FILTER (d.amount_reporting IS NULL) AS deals_without_amount,
        CAST(coalesce(sum(d.amount_reporting), 0) AS DECIMAL(18,4)) AS amount,
        sum({amount} * c.probability) AS weighted_crm, sum({amount} * l.probability) AS weighted_learned,
        sum({amount}) FILTER (c.probability IS NOT NULL) AS amount_crm, sum({amount}) FILTER (l.probability IS NOT NULL) AS amount_learned,
        count(*) FILTER (c.probability IS NULL) AS unweighted_crm, count(*) FILTER (l.probability IS NULL) AS unweighted_learned
    FROM deals AS d
    LEFT JOIN crm AS c ON c.pipeline IS NOT DISTINCT FROM d.pipeline AND c.stage = d.stage
    LEFT JOIN learned AS l ON l.pipeline IS NOT DISTINCT FROM d.pipeline AND l.stage IS NOT DISTINCT FROM d.stage
    {group}
)
SELECT * EXCLUDE (amount_crm, amount_learned), weighted_crm / nullif(amount_crm, 0) AS probability_crm,
    weighted_learned / nullif(amount_learned, 0) AS probability_learned
FROM summed{order}"""
    return text, params.values


def summary(
    con: duckdb.DuckDBPyConnection,
    spec: PipelineSpec,
    day: date | datetime,
    by: str | None = "stage",
    prior_deals: float = PRIOR_DEALS,
) -> pl.DataFrame:
    """The open pipeline in sum; see ``summary_sql``."""
    return con.execute(*summary_sql(spec, day, by, prior_deals)).pl()
