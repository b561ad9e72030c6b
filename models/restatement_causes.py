"""Why a published number changed: what is different between a warehouse and the snapshot before it.

Belongs here: the rows a build brought by entity and month, changed settings and definitions, merges, and the sentence made of them.
Does not belong here: which numbers changed (`restatements.py`).

A row explains a month when one of its dates, in this or an earlier version, falls in it: an order that moved from March to April
explains both. What holds on from a date (subscriptions, deals) explains the months after it too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

import duckdb
import polars as pl

from data_contracts.contract import Contract, load_contracts
from models.metrics.definitions import Node, Registry

LAYERS = Path(__file__).resolve().parent / "layers"
HOLDING_ON = ("subscriptions", "subscription_changes", "deals", "deal_changes")
PARENTS = {"refunds": ("orders", "order_id", "ordered_at"), "order_lines": ("orders", "order_id", "ordered_at")}   # their amounts belong to the parent's month
NO_MATTER = ("as_of", "watermark", "built_at", "company", "keep_snapshots", "max_row_drop", "small_n", "late_arrival_days")   # settings that no number depends on
SHOWN_BATCHES = 3
_REFERENCE = re.compile(r"ref\(\s*['\"](\w+)['\"]\s*\)|source\(\s*['\"]landing['\"]\s*,\s*['\"](\w+)['\"]\s*\)|current_version\(\s*['\"](\w+)['\"]")


@dataclass
class Touched:
    """Rows of one entity that came since the former snapshot. `months` maps a local month to the number of keys with a date in it."""

    keys: int
    batches: list[str]
    months: dict[date, int] = field(default_factory=dict)


def fingerprint(registry: Registry, metric: str, variant: str) -> str:
    """Hash of how a variant is computed; labels and sentences do not count."""
    said: dict[str, str] = {}

    def tell(node: Node) -> None:
        if node.name in said:
            return
        computing = {k: v for k, v in sorted(node.meta.items()) if k in ("requires", "whole", "by_dimension", "fallback", "completeness", "unit")}
        said[node.name] = repr((node.kind, node.measure, node.fill, node.filters, node.inputs, node.expr, node.window, computing))
        if node.measure:
            measure = registry.measures[node.measure]
            model = registry.models[measure.model]
            said[f"measure {node.measure}"] = repr((measure.agg, measure.expr, measure.percentile, model.relation, model.engine, model.times.get(measure.time)))
        for item in node.inputs:
            tell(registry.nodes[item.metric])

    tell(registry.nodes[registry.variant(registry.find(metric), variant).node])
    return hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()[:16]


@cache
def _references() -> dict[str, frozenset[str]]:
    """dbt model → what it names: other models, and landing entities as `landing.<entity>`."""
    macros = " ".join(f.read_text(encoding="utf-8") for f in sorted((LAYERS.parent / "macros").rglob("*.sql")))
    always = frozenset(a for a, _, _ in _REFERENCE.findall(macros) if a)          # customers and rates reach a model through macros
    found = {}
    for file in sorted([*LAYERS.rglob("*.sql"), *LAYERS.rglob("*.py")]):
        text = file.read_text(encoding="utf-8")
        named = {model or f"landing.{source or version}" for model, source, version in _REFERENCE.findall(text)}
        if "join_customer(" in text:
            named |= always
        if "join_rate(" in text:
            named |= {"int_exchange_rates__daily"}
        found[file.stem] = frozenset(named)
    return found


@cache
def entities_below(model: str) -> frozenset[str]:
    """The landing entities that a dbt model is made of, by the project's own references."""
    seen, waiting = set(), [model]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _references().get(name, ())
    return frozenset(name.removeprefix("landing.") for name in seen if name.startswith("landing."))


def entities_of(registry: Registry, metric: str, variant: str) -> frozenset[str]:
    """The landing entities a variant rests on."""
    leaves = registry.leaves(registry.nodes[registry.variant(registry.find(metric), variant).node])
    models = [registry.models[registry.measures[leaf].model] for leaf in leaves]
    return frozenset().union(*(entities_below(model.relation.split(".")[1]) for model in models if not model.is_calendar))


def touched(con: duckdb.DuckDBPyConnection, previous: duckdb.DuckDBPyConnection, zone: str) -> dict[str, Touched]:
    """Entity → the rows that batches unknown to the former snapshot brought, changed or took away."""
    known = [row[0] for row in previous.execute("SELECT DISTINCT batch_id FROM ops.batches").fetchall()]
    new = con.execute("SELECT DISTINCT entity, source, batch_id FROM ops.batches WHERE accepted + deleted > 0 AND NOT list_contains(?, batch_id) ORDER BY ALL", [known]).fetchall()
    found = {}
    for entity in sorted({e for e, _, _ in new}):
        contract = load_contracts().get(entity)
        if contract is None:
            continue
        batches = [f"{source} {batch}" for e, source, batch in new if e == entity]
        ids = [batch for e, _, batch in new if e == entity]
        key = ", ".join(f'"{k}"' for k in contract.key)
        con.execute(f"CREATE OR REPLACE TEMP TABLE touched_keys AS SELECT DISTINCT _source, {key} FROM landing.{entity} WHERE list_contains($ids, _batch_id)", {"ids": ids})
        keys = con.execute("SELECT count(*) FROM touched_keys").fetchone()[0]
        months = con.execute(_months_query(contract), {"zone": zone}).fetchall() if _dates(contract) or entity in PARENTS else []
        con.execute("DROP TABLE touched_keys")
        if keys:
            found[entity] = Touched(keys, batches, dict(months))
    return found


def _dates(contract: Contract) -> list[tuple[str, bool]]:
    return [(c.name, c.logical_type == "date") for c in contract.columns if c.logical_type in ("date", "timestamp") and c.name != "updated_at"]


def _months_query(contract: Contract) -> str:
    key = " AND ".join(f'l."{k}" IS NOT DISTINCT FROM t."{k}"' for k in contract.key)
    identity = "concat_ws('|', l._source, " + ", ".join(f'l."{k}"' for k in contract.key) + ")"
    parts = [f"SELECT {identity} AS k, {_month(f'l.{chr(34)}{name}{chr(34)}', is_day)} AS month FROM landing.{contract.entity} AS l JOIN touched_keys AS t ON t._source = l._source AND {key}"
             for name, is_day in _dates(contract)]
    if contract.entity in PARENTS:
        parent, column, at = PARENTS[contract.entity]
        parts.append(f"SELECT {identity}, {_month(f'p.{at}', False)} FROM landing.{contract.entity} AS l JOIN touched_keys AS t ON t._source = l._source AND {key} "
                     f"JOIN landing.{parent} AS p ON p._source = l._source AND p.{column} = l.{column}")
    return f"SELECT month, count(DISTINCT k) FROM ({' UNION ALL '.join(parts)}) WHERE month IS NOT NULL AND $zone IS NOT NULL GROUP BY month ORDER BY month"


def _month(column: str, is_day: bool) -> str:
    local = column if is_day else f"timezone($zone, {column} AT TIME ZONE 'UTC')"
    return f"CAST(date_trunc('month', {local}) AS DATE)"


def changed_settings(con: duckdb.DuckDBPyConnection, previous: duckdb.DuckDBPyConnection) -> list[str]:
    """Sentences, one for each setting that numbers depend on and that differs."""
    before, after = (_settings(c) for c in (previous, con))
    return [f"{name} from {before.get(name)} to {after.get(name)}" for name in sorted({*before, *after} - set(NO_MATTER)) if before.get(name) != after.get(name)]


def _settings(con: duckdb.DuckDBPyConnection) -> dict[str, object]:
    cursor = con.execute("SELECT * FROM ops.settings")
    return dict(zip([d[0] for d in cursor.description], cursor.fetchone(), strict=True))


def _merges(con: duckdb.DuckDBPyConnection, since_run: str) -> list[str]:
    if not con.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'identity' AND table_name = 'merge_log' AND table_catalog = current_database()").fetchone()[0]:
        return []
    rows = con.execute("""
        SELECT m.kind, count(*) FROM identity.merge_log AS m JOIN identity.runs AS r USING (run_id)
        WHERE r.run_number > (SELECT coalesce(max(run_number), 0) FROM identity.runs WHERE run_id = ?) GROUP BY m.kind ORDER BY m.kind""", [since_run]).fetchall()
    return [f"{count} {kind}{'s' if count != 1 else ''} of customers" for kind, count in rows]


def explain(con: duckdb.DuckDBPyConnection, previous: duckdb.DuckDBPyConnection, rows: pl.DataFrame, full_refresh: bool) -> pl.DataFrame:
    """`rows` with `cause` and `reason`: every difference that bears on a number is told, and the first names the cause.

    Causes: `definition`, `setting`, `late_rows` (a date of theirs falls in the month, or holds on into it), `identity`, `other_rows` (of
    other months, or without a date), `as_of`, `full_refresh`, `unexplained`.
    """
    from models import metrics
    registry = metrics.registry(con)
    settings = _settings(con)
    came = touched(con, previous, str(settings["time_zone"]))
    changed = changed_settings(con, previous)
    merges = _merges(con, previous.execute("SELECT run_id FROM meta.snapshot").fetchone()[0])
    as_of = (_settings(previous)["as_of"], settings["as_of"])
    told: dict[tuple[str, str, date, bool], tuple[str, str]] = {}
    for metric, variant, period, redefined in rows.select("metric", "variant", "period", "has_new_definition").unique().iter_rows():
        below = entities_of(registry, metric, variant)
        here = [_late(entity, t, period) for entity, t in came.items() if entity in below and _reaches(entity, t, period)]
        elsewhere = [_other(entity, t) for entity, t in came.items() if entity in below and not _reaches(entity, t, period)]
        found = [("definition", "the metric's definition changed")] if redefined else []
        found += [("setting", "setting changed: " + ", ".join(changed))] if changed else []
        found += [("late_rows", "rows of the period: " + ", ".join(here))] if here else []
        found += [("identity", ", ".join(merges))] if merges else []
        found += [("other_rows", "rows of other periods: " + ", ".join(elsewhere))] if elsewhere else []
        found += [("as_of", f"built as of {as_of[1]} after {as_of[0]} (UTC)")] if as_of[1] < as_of[0] else []
        found += [("full_refresh", "full refresh")] if full_refresh else []
        if not found:
            found = [("unexplained", "no new row, setting, definition or merge explains it; another version of Rapport may compute it differently")]
        told[metric, variant, period, redefined] = (found[0][0], "; ".join(text for _, text in found))
    causes = pl.DataFrame([(*key, *value) for key, value in told.items()], orient="row",
                          schema={"metric": pl.String, "variant": pl.String, "period": pl.Date, "has_new_definition": pl.Boolean, "cause": pl.String, "reason": pl.String})
    return rows.join(causes, on=["metric", "variant", "period", "has_new_definition"], how="left", maintain_order="left").drop("has_new_definition")


def _reaches(entity: str, found: Touched, period: date) -> bool:
    return period in found.months or (entity in HOLDING_ON and any(month < period for month in found.months))


def _batches(found: Touched) -> str:
    more = len(found.batches) - SHOWN_BATCHES
    return ", ".join(found.batches[:SHOWN_BATCHES]) + (f" and {more} more" if more > 0 else "")


def _late(entity: str, found: Touched, period: date) -> str:
    count = found.months.get(period)
    return f"{entity} {count} ({_batches(found)})" if count else f"{entity} {found.keys} from before it ({_batches(found)})"


def _other(entity: str, found: Touched) -> str:
    months = sorted(found.months)
    span = f" of {months[0]:%Y-%m}" + (f" to {months[-1]:%Y-%m}" if len(months) > 1 else "") if months else ""
    return f"{entity} {found.keys}{span} ({_batches(found)})"
