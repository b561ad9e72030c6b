"""Data health: sources, freshness, checks, quarantine."""

import polars as pl
import streamlit as st

from dashboards import queries
from dashboards.components import frame, tables


def body() -> None:
    run = queries.last_run()
    if run:
        st.caption(f"Last run: {run['state']}, started {run['started_at']}" + (f", ended {run['ended_at']}" if run["ended_at"] else ""))
        for failure in run["failures"]:
            st.error(f"{failure['check']} on {failure['subject']}: {failure['detail']} ({failure['failing_rows']} rows)")
    st.subheader("Sources", anchor=False)
    sources = queries.sources()
    if sources.is_empty():
        frame.empty("No source has delivered yet.", "Declare one with `rapport source add`.")
    else:
        tables.table(sources, {"source": "Source", "source_type": "Type", "extracted_at": "Last extraction (UTC)", "watermark": "Data up to (UTC)", "is_live": "Live", "batches": "Batches",
                               "rows_accepted": "Rows accepted", "rows_quarantined": "Rows quarantined"})
    st.subheader("Quarantine", anchor=False)
    quarantine = queries.quarantine()
    if quarantine.is_empty():
        st.success("No row is in quarantine.")
    else:
        st.caption("Rows that broke their contract. `rapport quarantine show` prints them, `rapport quarantine replay` sends them again.")
        tables.table(quarantine, {"source": "Source", "entity": "Entity", "field": "Field", "reason": "Reason", "rows": "Rows", "first_seen_at": "First seen (UTC)"})
    st.subheader("Checks of this snapshot", anchor=False)
    checks = queries.checks()
    failed = checks.filter(~pl.col("is_passed"))
    st.caption(f"{checks.height:,} checks, {failed.height:,} not met")
    tables.table(checks, {"check_name": "Check", "subject": "Subject", "severity": "Severity", "is_passed": "Met", "failing_rows": "Failing rows", "detail": "Detail", "checked_at": "Checked (UTC)"})
    st.subheader("How the scores were judged", anchor=False)
    judged = queries.models()
    if judged.is_empty():
        frame.empty("No score has been judged yet.", "`rapport model list` says what is missing.")
    else:
        tables.table(judged)


frame.page("Data health", "Where the numbers come from, how fresh they are, and what did not fit.", body)
