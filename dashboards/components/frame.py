"""The frame around every page: title, what the numbers are as of, warnings, empty states, errors people can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import streamlit as st

from dashboards import queries
from dashboards.components import format as shown
from data_contracts.errors import RapportError

STALE_HOURS = 48    # a daily pipeline that missed two nights


def page(title: str, lead: str, body: Callable[[], None]) -> None:
    """Draw a page inside its frame. An error is one sentence with its remedy, never a traceback."""
    st.title(title, anchor=False)
    st.caption(lead)
    with explained():
        snapshot = queries.current()
        if snapshot is None:
            _nothing_yet()
            return
        _banners(snapshot.watermark)
        body()
        as_of = datetime.fromisoformat(snapshot.watermark)
        st.divider()
        st.caption(f"Data up to {shown.instant(as_of)} · snapshot `{snapshot.id}` · periods in {queries.settings()['time_zone']} · amounts in {queries.settings()['reporting_currency']}")


@contextmanager
def explained() -> Iterator[None]:
    """Turn an expected error into a message on the page."""
    try:
        yield
    except RapportError as error:
        st.error(f"{error.message}. {error.remedy}")


def _nothing_yet() -> None:
    run = queries.last_run()
    st.info("Nothing has been published yet. Run `rapport run` to build the first snapshot, or `rapport demo` to see a whole company.")
    if run and run["state"] in ("failed", "blocked"):
        st.error(f"The last run did not publish: {run['message']}")
    if run and run["state"] == "running":
        st.info("A run is going on; this page shows its result as soon as it is published.")


def _banners(watermark: str) -> None:
    run = queries.last_run()
    if run and run["state"] in ("failed", "blocked"):
        st.warning(f"The run of {run['started_at'][:16].replace('T', ' ')} UTC did not publish, so these are the numbers before it. {run['message']}", icon=":material/report:")
    age = datetime.now(timezone.utc) - datetime.fromisoformat(watermark)
    if age.total_seconds() > STALE_HOURS * 3600:
        st.info(f"The data end on {watermark[:10]}, {age.days} days ago. Periods after that are not complete.", icon=":material/schedule:")


def empty(what: str, remedy: str) -> None:
    """Say that there is nothing to show, and what would bring it."""
    st.info(f"{what} {remedy}")
