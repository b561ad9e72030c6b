"""Answers: run a compiled query on an open snapshot and say how much the numbers can be trusted.

Belongs here: resolving the range, running, the like-for-like comparison, n, completeness and the reasons for nulls.
Does not belong here: SQL of a metric (compiler), connections (warehouse).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import duckdb
import polars as pl

from models.metrics import definitions, relations
from models.metrics.calendar import Window
from models.metrics.compiler import Column, CompiledQuery, MetricRequest, check, columns_of, compile
from models.metrics.context import Context
from models.metrics.context import read as read_context
from models.metrics.definitions import Registry

_Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class ColumnMeta:
    """What stands beside a number: which metric and variant it is, its unit, its rule of completeness, and the snapshot it
    was read from. `note` says when another variant than the default answered."""

    name: str
    metric: str
    variant: str
    label: str
    definition: str
    unit: str
    direction: str
    n_column: str
    completeness: str
    snapshot_id: str | None
    note: str | None = None


@dataclass(frozen=True)
class MetricAnswer:
    """`frame`: keys (`period`, dimensions) and metric columns, with `<metric>__previous` and `<metric>__change` (difference; for
    amounts and counts also `<metric>__change_rate`) when compared. `details`: the same rows with `<metric>__n`,
    `__is_complete`, `__null_reason`, `__lower`, `__upper`. `start`/`end` are the half-open range used, `previous` the one
    compared with."""

    frame: pl.DataFrame
    details: pl.DataFrame
    columns: Mapping[str, ColumnMeta]
    start: date
    end: date
    snapshot_id: str | None
    previous: tuple[date, date] | None = None


def registry(con: duckdb.DuckDBPyConnection | None = None) -> Registry:
    """The metric registry: the one a snapshot was published with when it carries one, else that of the installed package."""
    if con is not None:
        known = con.execute("select count(*) from information_schema.tables where table_schema = 'meta' and table_name = 'metrics' "
                            "and table_catalog = current_database()").fetchone()
        if known and known[0]:
            row = con.execute("select definitions from meta.metrics limit 1").fetchone()
            if row:
                return definitions.from_json(row[0])
    return definitions.from_files()


def write_definitions(con: duckdb.DuckDBPyConnection) -> None:
    """Write the package's definitions into `meta.metrics` of a warehouse about to be published: one row, one JSON text."""
    con.execute("create schema if not exists meta")
    con.execute("create or replace table meta.metrics as select cast(? as varchar) as definitions", [definitions.to_json()])


def query(con: duckdb.DuckDBPyConnection, request: MetricRequest, *, reads_stored: bool = False, read: tuple[Registry, Context] | None = None) -> MetricAnswer:
    """Answer `request` on an open snapshot. With `reads_stored` whole months come from the tables that engines filled in the same build.

    Who asks many questions of one state reads `registry(con)` and `read_context(con)` once and gives both as `read`.

    With a grain and no dimension every period of the range is a row, counts and sums being 0 where nothing happened and null
    after the newest data; with dimensions only the combinations that occur are rows. Raises `UsageError` for anything the
    registry does not offer.
    """
    known, context = read or (registry(con), read_context(con))
    context = replace(context, reads_stored=reads_stored)
    columns = columns_of(request, known, context)
    check(request, columns, known, context)
    start, end = _range(con, request, columns, known, context)
    if request.grain and not request.start:      # all data: the first period whole, with what came before the first row that sets it
        start = context.calendar.floor(start, request.grain)
    windows = context.calendar.windows(start, end, request.grain)
    compiled = compile(request, known, context, windows=windows)
    wide = _run(con, compiled)
    previous = None
    if request.compare == "previous":
        previous = context.calendar.previous(start, end, request.grain, context.data_end)
        before = _previous_windows(windows, previous, request, context)
        if before:
            wide = _compare(wide, _run(con, compile(request, known, context, windows=before, shift=1 if request.grain else 0)), request, compiled.columns)
    wide = _completeness(wide, compiled.columns, windows, known, context)
    wide = _intervals(wide, compiled.columns, known)
    keys = [*(["period"] if request.grain else []), *request.by]
    suffixes = ("", "__previous", "__change", "__change_rate") if previous else ("",)
    shown = [column.name + suffix for column in compiled.columns for suffix in suffixes if column.name + suffix in wide.columns]
    meta = {column.name: _meta(column, context) for column in compiled.columns}
    return MetricAnswer(wide.select(keys + shown), wide, meta, start, end, context.snapshot_id, previous)


def _range(con: duckdb.DuckDBPyConnection, request: MetricRequest, columns: Sequence[Column], known: Registry, context: Context) -> tuple[date, date]:
    if request.start and request.end:
        return request.start, request.end
    if request.start:
        return request.start, max(context.data_end, request.start + timedelta(days=1))
    end = request.end or context.data_end
    found = []
    for text in sorted({text for column in columns for text in _earliest(column, known)}):
        found += [day for day in con.execute(text).fetchone() if day is not None]
    return min([*found, end - timedelta(days=1)]), end


def _earliest(column: Column, known: Registry) -> list[str]:
    texts = []
    for leaf in known.leaves(column.node):
        measure = known.measures[leaf]
        model = known.models[measure.model]
        if model.engine:
            texts.append(relations.RELATIONS[model.engine].earliest)
        elif not model.is_calendar:
            texts.append(f"select min(cast({model.times[measure.time]} as date)) from {model.relation}")
    return texts


def _run(con: duckdb.DuckDBPyConnection, compiled: CompiledQuery) -> pl.DataFrame:
    frame = con.execute(compiled.sql, compiled.params).pl()
    numbers = [name for name, kind in frame.schema.items() if kind == pl.Float64]
    return frame.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in numbers)


def _previous_windows(windows: Sequence[Window], previous: tuple[date, date], request: MetricRequest, context: Context) -> tuple[Window, ...]:
    """The compared windows under the labels of the current ones."""
    if previous[1] <= previous[0]:
        return ()
    if request.grain is None:
        return (Window(None, *previous),)
    labels = {window.label for window in windows}
    moved = (replace(window, label=context.calendar.add(window.label, request.grain, 1))
             for window in context.calendar.windows(*previous, request.grain))
    return tuple(window for window in moved if window.label in labels)


def _compare(wide: pl.DataFrame, before: pl.DataFrame, request: MetricRequest, columns: Sequence[Column]) -> pl.DataFrame:
    keys = [*(["period"] if request.grain else []), *request.by]
    names = [column.name for column in columns]
    side = before.select(*keys, *(pl.col(name).alias(f"{name}__previous") for name in names),
                         *(pl.col(f"{name}__n").alias(f"{name}__previous_n") for name in names))
    if not keys:
        wide = pl.concat([wide, side], how="horizontal")
    elif request.by:
        # a value that occurred only before has come to nothing, which is the comparison's news: its row is kept
        wide = wide.join(side, on=keys, how="full", coalesce=True).sort(keys)
        added = [name for column in columns if column.metric.is_additive for name in (column.name, f"{column.name}__previous")]
        wide = wide.with_columns(pl.col(name).fill_null(0) for name in added)
    else:
        wide = wide.join(side, on=keys, how="left", maintain_order="left")
    for column in columns:
        now, then = pl.col(column.name), pl.col(f"{column.name}__previous")
        wide = wide.with_columns((now - then).alias(f"{column.name}__change"))
        if column.metric.unit in ("count", "currency"):
            wide = wide.with_columns(pl.when(then > 0).then((now - then) / then).alias(f"{column.name}__change_rate"))
    return wide


def _completeness(wide: pl.DataFrame, columns: Sequence[Column], windows: Sequence[Window], known: Registry, context: Context) -> pl.DataFrame:
    for column in columns:
        rule = column.node.meta.get("completeness") or column.metric.completeness
        extra = 0 if rule == "watermark" else int(context.settings.get(rule) or 0)
        flags = {window.label: context.is_complete(window.start, window.end, extra) for window in windows}
        name = f"{column.name}__is_complete"
        if "period" in wide.columns and wide.schema["period"] == pl.Date:
            side = pl.DataFrame({"period": list(flags), name: list(flags.values())}, schema={"period": pl.Date, name: pl.Boolean})
            wide = wide.join(side, on="period", how="left", maintain_order="left")
        else:
            wide = wide.with_columns(pl.lit(flags.get(None, False)).alias(name))
    return wide


def _intervals(wide: pl.DataFrame, columns: Sequence[Column], known: Registry) -> pl.DataFrame:
    """95 % intervals: Wilson's (1927) for shares of counted observations, the normal one for NPS, whose two shares exclude each
    other; null where the metric declares none."""
    for column in columns:
        kind = column.node.meta.get("interval")
        value, n = pl.col(column.name), pl.col(f"{column.name}__n")
        if kind == "wilson":
            centre = (value + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
            half = _Z95 / (1 + _Z95**2 / n) * (value * (1 - value) / n + _Z95**2 / (4 * n**2)).sqrt()
            lower, upper = (centre - half).clip(0, 1), (centre + half).clip(0, 1)
        elif kind == "nps":
            outer = (pl.col(f"{column.name}__promoters") + pl.col(f"{column.name}__detractors")) / n
            half = _Z95 * 100 * ((outer - (value / 100) ** 2).clip(0, None) / n).sqrt()
            lower, upper = (value - half).clip(-100, 100), (value + half).clip(-100, 100)
        else:
            lower, upper = pl.lit(None, dtype=pl.Float64), pl.lit(None, dtype=pl.Float64)
        has = (n > 0) & value.is_not_null()
        wide = wide.with_columns(pl.when(has).then(lower).alias(f"{column.name}__lower"), pl.when(has).then(upper).alias(f"{column.name}__upper"))
    return wide


def _meta(column: Column, context: Context) -> ColumnMeta:
    metric = column.metric
    return ColumnMeta(
        name=column.name, metric=metric.id, variant=column.variant.name, label=column.variant.label, definition=column.variant.definition,
        unit=str(column.node.meta.get("unit", metric.unit)), direction=metric.direction, n_column=f"{column.name}__n",
        completeness=str(column.node.meta.get("completeness") or metric.completeness), snapshot_id=context.snapshot_id, note=column.note,
    )
