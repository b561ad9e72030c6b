"""Restatements: published numbers of past months that a new snapshot changes, from what to what, and why.

Belongs here: the numbers a snapshot is published with, their comparison with those of the snapshot before, the log `ops.restatements`.
Does not belong here: what a number means (`models/metrics`), publishing (`warehouse.py`), what explains a change (`restatement_causes`).

Compared are all variants of all metrics by month, and those that add up by channel too, for the months that were complete when the
former snapshot was published: a running month grows, which is no restatement. Metrics that rest on predictions are left out; they
are estimates as of a run and move with every training.
"""

from __future__ import annotations

from datetime import date, datetime

import duckdb
import polars as pl

from models import metrics, restatement_causes
from models.frames import append
from models.metrics.context import Context

GRAIN = "month"
TOTAL, CHANNEL = "total", "channel"
TOLERANCE = 1e-9        # relative; sums of decimals are exact, averages of floats depend on the order of addition in the last digits
NUMBERS = "ops.published_numbers"
LOG = "ops.restatements"
_NUMBER = {"metric": pl.String, "variant": pl.String, "grain": pl.String, "period": pl.Date, "dimension": pl.String, "dimension_value": pl.String,
           "value": pl.Float64, "is_complete": pl.Boolean, "is_additive": pl.Boolean, "fingerprint": pl.String}
_KEYS = ["metric", "variant", "grain", "dimension", "dimension_value", "period"]


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Create the log and the table of published numbers where they are missing."""
    con.execute(f"""CREATE TABLE IF NOT EXISTS {NUMBERS} (metric VARCHAR, variant VARCHAR, grain VARCHAR, period DATE, dimension VARCHAR, dimension_value VARCHAR,
                    value DOUBLE, is_complete BOOLEAN, is_additive BOOLEAN, fingerprint VARCHAR)""")
    con.execute(f"""CREATE TABLE IF NOT EXISTS {LOG} (metric VARCHAR, variant VARCHAR, grain VARCHAR, period DATE, dimension VARCHAR, dimension_value VARCHAR,
                    old_value DOUBLE, new_value DOUBLE, cause VARCHAR, reason VARCHAR, previous_snapshot_id VARCHAR, new_snapshot_id VARCHAR, run_id VARCHAR, restated_at TIMESTAMP)""")


def measure(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The numbers of every month, in the columns of `ops.published_numbers`; `value` is in the metric's unit."""
    known, context = metrics.registry(con), metrics.read_context(con)
    # metrics of one engine at a time: joining all of them in one statement takes DuckDB's planner longer than the answers
    groups: dict[tuple[str, ...], list[str]] = {}
    additive: list[str] = []
    for metric in known.values():
        for variant in metric.variants.values():
            leaves = known.leaves(known.nodes[variant.node])
            if any("predicted" in known.measures[leaf].expr for leaf in leaves):
                continue
            name = f"{metric.id}__{variant.name}"
            groups.setdefault(tuple(sorted({known.models[known.measures[leaf].model].engine or "" for leaf in leaves})), []).append(name)
            if metric.is_additive and CHANNEL in known.dimensions_of(known.nodes[variant.node]):
                additive.append(name)
    parts = [_numbers(con, known, context, names, ()) for names in groups.values()]
    parts += [_numbers(con, known, context, additive, (CHANNEL,))] if additive else []
    return pl.concat(parts).sort(_KEYS) if parts else pl.DataFrame(schema=_NUMBER)


def _numbers(con: duckdb.DuckDBPyConnection, known: metrics.Registry, context: Context, names: list[str], by: tuple[str, ...]) -> pl.DataFrame:
    answer = metrics.query(con, metrics.MetricRequest(names=tuple(names), by=by, grain=GRAIN), reads_stored=True, read=(known, context))
    parts = []
    for name, meta in answer.columns.items():
        parts.append(answer.frame.select(
            pl.lit(meta.metric).alias("metric"), pl.lit(meta.variant).alias("variant"), pl.lit(GRAIN).alias("grain"), pl.col("period"),
            pl.lit(by[0] if by else TOTAL).alias("dimension"), (pl.col(by[0]) if by else pl.lit("")).alias("dimension_value"),
            pl.col(name).cast(pl.Float64).alias("value"),
            pl.col("period").replace_strict({p: _is_complete(p, meta.completeness, context) for p in answer.frame["period"].unique()}, return_dtype=pl.Boolean).alias("is_complete"),
            pl.lit(known[meta.metric].is_additive).alias("is_additive"), pl.lit(restatement_causes.fingerprint(known, meta.metric, meta.variant)).alias("fingerprint")))
    return pl.concat(parts).cast(_NUMBER)


def _is_complete(period: date, rule: str, context: Context) -> bool:
    end = context.calendar.add(period, GRAIN, 2 if rule == "next_period" else 1)
    return context.is_complete(period, end, 0 if rule in ("watermark", "next_period") else int(context.settings.get(rule) or 0))


def changed(old: pl.DataFrame, new: pl.DataFrame, data_end: date) -> pl.DataFrame:
    """The restated numbers: `old` and `new` as `measure` gives them, `data_end` the exclusive local date up to which `old` speaks.

    Columns: the keys, `old_value`, `new_value`, `has_new_definition`. A month without a row holds 0 of what adds up. A metric or variant
    that one side does not know was not restated.
    """
    both = old.join(new, on=_KEYS, how="full", coalesce=True, suffix="_new")
    known = old.select("metric", "variant").unique().join(new.select("metric", "variant").unique(), on=["metric", "variant"], how="inner")
    complete = old.filter("is_complete").select("metric", "variant", "period").unique().with_columns(pl.lit(True).alias("was_complete"))
    first = old.group_by("metric", "variant").agg(pl.col("period").min().alias("first_period"))
    fingerprints = old.select("metric", "variant", pl.col("fingerprint").alias("old_fingerprint")).unique(["metric", "variant"])
    both = both.join(known, on=["metric", "variant"], how="semi").join(complete, on=["metric", "variant", "period"], how="left")
    both = both.join(first, on=["metric", "variant"], how="left").join(fingerprints, on=["metric", "variant"], how="left")
    additive = pl.coalesce("is_additive", "is_additive_new")
    # before the first published month there was nothing, which is 0 of what adds up and no number of anything else
    was_published = pl.col("was_complete").fill_null(False) | ((pl.col("period") < pl.col("first_period")) & additive & (pl.col("period") < data_end))
    before, after = (pl.when(additive).then(pl.col(name).fill_null(0)).otherwise(pl.col(name)) for name in ("value", "value_new"))
    both = both.filter(was_published).select(*_KEYS, before.alias("old_value"), after.alias("new_value"),
                                             (pl.col("fingerprint_new").is_not_null() & (pl.col("fingerprint_new") != pl.col("old_fingerprint"))).alias("has_new_definition"))
    scale = pl.max_horizontal(pl.lit(1.0), pl.col("old_value").abs(), pl.col("new_value").abs())
    differs = pl.when(pl.col("old_value").is_null() | pl.col("new_value").is_null()).then(pl.col("old_value").is_null() != pl.col("new_value").is_null())
    return both.filter(differs.otherwise((pl.col("old_value") - pl.col("new_value")).abs() > TOLERANCE * scale)).sort(_KEYS)


def record(con: duckdb.DuckDBPyConnection, previous: duckdb.DuckDBPyConnection | None, *, previous_id: str | None, snapshot_id: str, run_id: str,
           newest_id: str | None, full_refresh: bool, at: datetime) -> pl.DataFrame:
    """Measure the warehouse `con`, compare with the open snapshot `previous`, and write both tables; returns the new rows of the log.

    `newest_id` is the newest snapshot ever published: rows of later ids stem from a publish that did not come about and are taken back.
    """
    prepare(con)
    con.execute(f"DELETE FROM {LOG} WHERE new_snapshot_id > coalesce(?, '')", [newest_id])
    numbers = measure(con)
    rows = pl.DataFrame()
    if previous is not None and _has(previous, "published_numbers"):
        if _has(previous, "restatements") and not con.execute(f"SELECT count(*) FROM {LOG}").fetchone()[0]:
            append(con, LOG, previous.execute(f"FROM {LOG}").pl())      # the warehouse file was made anew: its log lives on in the snapshots
        rows = changed(previous.execute(f"FROM {NUMBERS}").pl().cast(_NUMBER), numbers, metrics.read_context(previous).data_end)
        if rows.height:
            rows = restatement_causes.explain(con, previous, rows, full_refresh)
            rows = rows.with_columns(previous_snapshot_id=pl.lit(previous_id), new_snapshot_id=pl.lit(snapshot_id), run_id=pl.lit(run_id), restated_at=pl.lit(at))
            append(con, LOG, rows)
    con.execute(f"DROP TABLE {NUMBERS}")      # made anew: an older Rapport may have kept other columns
    prepare(con)
    append(con, NUMBERS, numbers)
    return rows


def _has(con: duckdb.DuckDBPyConnection, table: str) -> bool:
    return bool(con.execute("SELECT count(*) FROM information_schema.tables WHERE table_catalog = current_database() AND table_schema = 'ops' AND table_name = ?", [table]).fetchone()[0])


def forget(con: duckdb.DuckDBPyConnection, snapshot_id: str) -> None:
    """Take back the rows of a snapshot that was not published after all."""
    con.execute(f"DELETE FROM {LOG} WHERE new_snapshot_id = ?", [snapshot_id])


def listed(con: duckdb.DuckDBPyConnection, metric: str | None = None, start: date | None = None, end: date | None = None, cause: str | None = None) -> pl.DataFrame:
    """The log of an open snapshot, newest change first; `start` and `end` bound the period's first day, half-open. Raises UsageError for an unknown metric."""
    registry = metrics.registry(con)
    found = registry.find(metric).id if metric else None
    if not _has(con, "restatements"):
        return pl.DataFrame(schema={"metric": pl.String, "variant": pl.String, "period": pl.Date, "dimension": pl.String, "dimension_value": pl.String, "old_value": pl.Float64, "new_value": pl.Float64, "unit": pl.String,
                                    "cause": pl.String, "reason": pl.String, "restated_at": pl.Datetime("us"), "previous_snapshot_id": pl.String, "new_snapshot_id": pl.String, "run_id": pl.String})
    rows = con.execute(f"""
        SELECT metric, variant, grain, period, dimension, dimension_value, old_value, new_value, cause, reason, restated_at, previous_snapshot_id, new_snapshot_id, run_id FROM {LOG}
        WHERE ($metric IS NULL OR metric = $metric) AND ($first IS NULL OR period >= $first) AND ($last IS NULL OR period < $last) AND ($cause IS NULL OR cause = $cause)
        ORDER BY restated_at DESC, period DESC, metric, variant, dimension <> '{TOTAL}', dimension, dimension_value""", {"metric": found, "first": start, "last": end, "cause": cause}).pl()
    units = {m.id: m.unit for m in registry.values()}
    return rows.insert_column(rows.columns.index("cause"), rows["metric"].replace_strict(units, default=None, return_dtype=pl.String).alias("unit"))
