"""Funnels for the pages: one question for everything a page says of one funnel, cached.

Belongs here: asking `models.analysis`, putting its answers together. Does not belong here: how a funnel is counted or drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from dashboards.queries.door import per_snapshot
from models import analysis, scope, warehouse

PARTS = 12      # of the window, in the histogram of times to convert


@dataclass(frozen=True)
class Story:
    """A funnel's counts, how long converted entries took, and what it was before. `compared` is None without a range before; `times` and `histogram` are None with a breakdown."""

    counts: pl.DataFrame
    times: dict[str, Any] | None = None
    histogram: pl.DataFrame | None = None
    compared: pl.DataFrame | None = None


def filterable(subject: str, values: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """(filter, names it cannot follow) of a page's chosen values for a kind of log; see `scope.followed`."""
    return scope.followed(subject, values)


@per_snapshot
def step_names(reading: warehouse.Reading, log: str) -> list[str]:
    """Names that steps of a log can have, most frequent first."""
    return analysis.step_names(reading.con, log)


@per_snapshot
def funnel_story(reading: warehouse.Reading, steps: str, window: str, log: str, order: str = "sequential", reentry: str = "first_entry", by: str | None = None, start: date | None = None, end: date | None = None,
                 values: tuple[tuple[str, str], ...] = ()) -> Story:
    """Everything a page says of one funnel under the chosen filters."""
    con = scope.scoped(reading.con, analysis.log_subject(log), filterable(analysis.log_subject(log), dict(values))[0])
    spec = analysis.funnel_spec(con, steps, window=window, log=log, order=order, reentry=reentry, by=by, start=start, end=end)
    counts = analysis.funnel(con, spec)
    if by:
        return Story(counts)
    compared = analysis.funnel_comparison(con, spec) if start is not None else None
    return Story(counts, analysis.time_to_convert(con, spec).row(0, named=True), analysis.conversion_histogram(con, spec, PARTS), compared)
