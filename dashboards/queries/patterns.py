"""Mined patterns for the pages: RFM, what is bought together, groups of customers."""

from __future__ import annotations

import polars as pl

from dashboards.queries.door import has, per_snapshot
from models import patterns, warehouse

RULES_SHOWN = 200
named = patterns.named


@per_snapshot
def rfm_segments(reading: warehouse.Reading) -> pl.DataFrame:
    """Segments with customers, net revenue and shares."""
    return patterns.rfm(reading.con, "segment")


@per_snapshot
def rfm_cells(reading: warehouse.Reading) -> pl.DataFrame:
    """All 125 cells with segment, customers and net revenue; no rows in a snapshot of before they were published."""
    return patterns.rfm(reading.con, "cell") if has(reading, "marts.rfm_segments") else pl.DataFrame()


def rfm_plane(cells: pl.DataFrame, monetary: str) -> pl.DataFrame:
    """Cells by recency and frequency, summed over monetary scores or for one of them: customers, net revenue and the segments met there."""
    kept = cells if monetary == "all" else cells.filter(pl.col("monetary_score") == int(monetary))
    segments = pl.col("segment").filter(pl.col("customers") > 0).unique().sort().str.join(", ")
    return kept.group_by("recency_score", "frequency_score").agg(pl.col("customers", "net_revenue_reporting").sum(), segments).sort("recency_score", "frequency_score")


@per_snapshot
def rules(reading: warehouse.Reading, by: str, level: str) -> pl.DataFrame:
    """Rules of one kind of basket, the most surely confident first; names fall back to ids."""
    if not has(reading, "scores.product_rules"):
        return pl.DataFrame()
    found = patterns.rules(reading.con, by=by, level=level)
    return found.with_columns(pl.col("antecedent_name").fill_null(pl.col("antecedent")), pl.col("consequent_name").fill_null(pl.col("consequent")))


@per_snapshot
def clusters(reading: warehouse.Reading) -> pl.DataFrame:
    """Groups with size, revenue and stability; no rows where none stand."""
    return patterns.clusters(reading.con) if has(reading, "scores.cluster_profiles") else pl.DataFrame()


@per_snapshot
def cluster_profiles(reading: warehouse.Reading) -> pl.DataFrame:
    """What sets each group apart, by group and behaviour."""
    return patterns.profiles(reading.con) if has(reading, "scores.cluster_profiles") else pl.DataFrame()


@per_snapshot
def cluster_members(reading: warehouse.Reading, cluster_id: int) -> pl.DataFrame:
    """Members of one group, without personal data."""
    return patterns.cluster_members(reading.con, cluster_id)


@per_snapshot
def next_products(reading: warehouse.Reading) -> pl.DataFrame:
    """Picks of every customer; no rows where they did not beat the best sellers."""
    return patterns.next_products(reading.con) if has(reading, "scores.next_products") else pl.DataFrame()


@per_snapshot
def pattern_verdicts(reading: warehouse.Reading) -> dict[str, str]:
    """Why each pattern stands or not, by pattern; empty in a snapshot of before patterns were mined."""
    return {r["pattern"]: r["verdict"] for r in patterns.verdicts(reading.con).iter_rows(named=True)} if has(reading, "scores.pattern_verdicts") else {}
