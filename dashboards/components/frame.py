"""The frame around every page: title, what the numbers are as of, warnings, empty states, errors people can act on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import streamlit as st

from dashboards import queries
from dashboards.components import format as shown
from dashboards.components import text
from data_contracts.errors import RapportError

UNEXPECTED = "This part of the page could not be drawn. The log of the server says why; the rest of the page is not affected."
_log = logging.getLogger(__name__)
STALE_HOURS = 48    # a daily pipeline that missed two nights


def page(title: str, lead: str, body: Callable[[], None]) -> None:
    """Draw a page inside its frame, all of it from one snapshot. An error is one sentence with its remedy, never a traceback."""
    st.title(title, anchor=False)
    text.line(lead)
    with explained(), queries.pinned() as snapshot:
        if snapshot is None:
            _nothing_yet()
            return
        _banners(snapshot.watermark)
        body()
        known = queries.settings()
        st.html(f'<div class="r-foot">Data up to {text.safe(shown.instant(datetime.fromisoformat(snapshot.watermark)))} · snapshot <code>{text.safe(snapshot.id)}</code> · '
                f'periods in {text.safe(known["time_zone"])} · amounts in {text.safe(known["reporting_currency"])}</div>')


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error into a message on the page: an expected one says what to do, any other is logged and leaves the rest of the page standing."""
    try:
        yield
    except RapportError as error:
        text.notice("error", f"{error.message[:1].upper()}{error.message[1:]}. {error.remedy}")
    except Exception:  # noqa: BLE001  the edge of the page: whatever it is goes to the log, not to the visitor
        _log.exception("a part of a page could not be drawn")
        text.notice("error", UNEXPECTED)


def _nothing_yet() -> None:
    run = queries.last_run()
    text.notice("info", "Nothing has been published yet. Run “rapport run” to build the first snapshot, or “rapport demo” to see a whole company.")
    if run and run["state"] in ("failed", "blocked"):
        text.notice("error", f"The last run did not publish: {run['message']}")
    if run and run["state"] == "running":
        text.notice("info", "A run is going on; this page shows its result as soon as it is published.")


def _banners(watermark: str) -> None:
    run = queries.last_run()
    if run and run["state"] in ("failed", "blocked"):
        text.notice("warning", f"The run of {run['started_at'][:16].replace('T', ' ')} UTC did not publish, so these are the numbers before it. {run['message']} Data health says what failed.")
    age = datetime.now(UTC) - datetime.fromisoformat(watermark)
    if age.total_seconds() > STALE_HOURS * 3600:
        text.notice("info", f"The data end on {watermark[:10]}, {shown.plural(age.days, 'day')} ago. Periods are counted back from there.")


def empty(what: str, remedy: str = "") -> None:
    """Say that there is nothing to show, and what would bring it."""
    text.notice("info", f"{what} {remedy}".strip())
