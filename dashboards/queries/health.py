"""Where the numbers come from: sources, checks, quarantine."""

from __future__ import annotations

from typing import Any

import polars as pl

from dashboards.queries.door import has, per_snapshot
from models import analysis, restatements, warehouse


@per_snapshot
def sources(reading: warehouse.Reading) -> pl.DataFrame:
    """Sources with their freshness: rows delivered, last extraction, how far the data reach."""
    return reading.con.execute("""
        SELECT s.source, s.source_type, s.extracted_at, s.watermark, s.is_live, s.state, s.message, count(DISTINCT b.batch_id) AS batches, CAST(coalesce(sum(b.accepted), 0) AS BIGINT) AS rows_accepted,
               CAST(coalesce(sum(b.quarantined), 0) AS BIGINT) AS rows_quarantined
        FROM ops.source_state AS s LEFT JOIN ops.batches AS b USING (source) GROUP BY ALL ORDER BY s.source""").pl()


@per_snapshot
def health(reading: warehouse.Reading) -> dict[str, Any]:
    """Totals of the page: watermark, rows accepted and in quarantine, batches, checks and how many were met."""
    accepted, batches = reading.con.execute("SELECT CAST(coalesce(sum(accepted), 0) AS BIGINT), count(DISTINCT batch_id) FROM ops.batches").fetchone()
    all_checks, met = reading.con.execute("SELECT count(*), count(*) FILTER (is_passed) FROM ops.check_results WHERE run_id = (SELECT run_id FROM meta.snapshot)").fetchone()
    quarantined = reading.con.execute("SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) FROM ops.quarantine_summary").fetchone()[0] if has(reading, "ops.quarantine_summary") else 0
    return {"watermark": analysis.settings(reading.con)["watermark"], "accepted": accepted, "batches": batches, "quarantined": quarantined, "checks": all_checks, "met": met, "checks_not_met": all_checks - met}


@per_snapshot
def checks(reading: warehouse.Reading) -> pl.DataFrame:
    """Check results of the run that built the snapshot, failed ones first."""
    return reading.con.execute("""
        SELECT check_name, subject, severity, is_passed, failing_rows, detail, checked_at FROM ops.check_results
        WHERE run_id = (SELECT run_id FROM meta.snapshot) ORDER BY is_passed, severity, subject, check_name""").pl()


@per_snapshot
def quarantine(reading: warehouse.Reading) -> pl.DataFrame:
    """Open quarantined rows by source, entity, field and reason; no value of a row."""
    if not has(reading, "ops.quarantine_summary"):
        return pl.DataFrame()
    return reading.con.execute("SELECT * FROM ops.quarantine_summary ORDER BY rows DESC, source, entity, field, reason").pl()


@per_snapshot
def restated(reading: warehouse.Reading, limit: int = 200) -> pl.DataFrame:
    """Published numbers that a later run changed, newest change first: totals, at most `limit`."""
    return restatements.listed(reading.con).filter(pl.col("dimension") == restatements.TOTAL).head(limit)
