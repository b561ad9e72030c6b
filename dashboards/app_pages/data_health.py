"""Data health: sources, freshness, checks, quarantine."""

import polars as pl
import streamlit as st

from dashboards import queries
from dashboards.components import cards, frame, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

SOURCES = {"source": Column("Source"), "source_type": Column("Type"), "extracted_at": Column("Last extraction (UTC)", "instant"), "watermark": Column("Data up to (UTC)", "instant"), "is_live": Column("Live", "flag"),
           "batches": Column("Batches", "count"), "rows_accepted": Column("Rows accepted", "count"), "rows_quarantined": Column("Rows quarantined", "count"), "state": Column("State"), "message": Column("Message")}
QUARANTINE = {"source": Column("Source"), "entity": Column("Entity"), "field": Column("Field"), "reason": Column("Reason"), "rows": Column("Rows", "count"), "first_seen_at": Column("First seen (UTC)", "instant")}
CHECKS = {"check_name": Column("Check"), "subject": Column("Subject"), "severity": Column("Severity"), "is_passed": Column("Met", "flag"), "failing_rows": Column("Failing rows", "count"), "detail": Column("Detail"),
          "checked_at": Column("Checked (UTC)", "instant")}
RESTATED = {"period": Column("Month", "date"), "metric": Column("Metric", "words"), "variant": Column("Variant", "words"), "old_value": Column("Published", "decimal"), "new_value": Column("Now", "decimal"),
            "unit": Column("Unit", "words"), "cause": Column("Cause", "words"), "reason": Column("Reason"), "restated_at": Column("Changed (UTC)", "instant")}
STATES = {"published": "success", "unchanged": "success", "running": "info", "blocked": "error", "failed": "error"}


def body() -> None:
    last_run()
    summary()
    st.subheader("Sources", anchor=False)
    sources = queries.sources()
    if sources.is_empty():
        frame.empty("No source has delivered yet.", "Declare one with “rapport source add”.")
    else:
        tables.table(sources, SOURCES)
    st.subheader("Quarantine", anchor=False)
    quarantine = queries.quarantine()
    if quarantine.is_empty():
        text.notice("success", "No row is in quarantine.")
    else:
        text.line("Rows that broke their contract, by reason. “rapport quarantine show” prints them, “rapport quarantine replay” sends them again.")
        tables.table(quarantine, QUARANTINE)
    st.subheader("Contract and build checks of this snapshot", anchor=False)
    checks()
    st.subheader("Restated numbers", anchor=False)
    restated()


def last_run() -> None:
    run = queries.last_run()
    if not run:
        return
    ended = f", ended {run['ended_at'][:16].replace('T', ' ')} UTC" if run["ended_at"] else ""
    text.notice(STATES.get(run["state"], "info"), f"Last run: {run['state']}, started {run['started_at'][:16].replace('T', ' ')} UTC{ended}.")
    for failure in run["failures"]:
        rows = f" ({shown.plural(failure['failing_rows'], 'row')})" if failure["failing_rows"] else ""
        text.notice("error" if failure["severity"] == "error" else "warning", f"{failure['check']} on {failure['subject']}: {failure['detail']}{rows}")


def summary() -> None:
    health = queries.health()
    cards.plain((
        ("Data up to", shown.day(health["watermark"]), shown.instant(health["watermark"]).partition(" ")[2], "Up to this instant every live source has delivered."),
        ("Rows accepted", shown.number(health["accepted"], "count"), shown.plural(health["batches"], "batch", "batches"), ""),
        ("Rows in quarantine", shown.number(health["quarantined"], "count"), "waiting for a replay" if health["quarantined"] else "none waiting", "Rows that broke their contract are kept with their reason and leave every number."),
        ("Checks met", f"{health['met']:,} of {health['checks']:,}", shown.plural(health["checks_not_met"], "check not met", "checks not met"), "A failed blocking check stops the publish; a warning is shown here."),
    ))


def checks() -> None:
    rows = queries.checks()
    if rows.is_empty():
        frame.empty("This snapshot carries no check results.")
        return
    failed = rows.filter(~pl.col("is_passed"))
    if failed.height:
        tables.table(failed, CHECKS)
    with st.expander(f"All {rows.height:,} checks"):
        tables.table(rows, CHECKS)


def restated() -> None:
    rows = queries.restated()
    if rows.is_empty():
        text.notice("success", "No number of a month that was complete when it was published has changed since.")
        return
    text.line("Numbers of complete months that a later run changed, in the unit of their metric. “rapport restatement list” gives all of them, by channel too.")
    tables.table(rows, RESTATED)


frame.page("Data health", "Where the numbers come from, how fresh they are, and what did not fit.", body)
