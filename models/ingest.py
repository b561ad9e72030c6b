"""From a delivered batch to accepted rows: parse by the contract, quarantine what breaks it, keep every version.

Belongs here: the landing, quarantine and operations tables and the SQL that fills them. Does not belong here: where a batch
comes from (`pipelines/sources`) or what the rows mean (`models/layers`).

A row's typed values are computed once; each broken rule of a row becomes one reason. A row with any reason goes to
`quarantine.rows` as it came, the others to `landing.<entity>` unless the same version is there already, so that sending a
batch twice changes nothing. In a full extract, keys that are gone get a tombstone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from data_contracts.contract import LINEAGE, Column, Contract, load_contracts, table_columns
from data_contracts.environment import Workspace
from data_contracts.errors import SourceError, UsageError

MAX_FIELD = 1_048_576    # characters; longer fields are no CRM data but an attached file gone astray
MAX_COLUMNS = 500        # a wider table is a pivoted or wrong file
CLOCK_SKEW = timedelta(minutes=5)
# until when a row may say it was changed: later, its source's clock runs ahead (as the macro `version_time` of dbt says it)
_ARRIVED = f"_loaded_at + INTERVAL {CLOCK_SKEW // timedelta(minutes=1)} MINUTE"
VERSION_TIME = f"CASE WHEN updated_at IS NOT NULL THEN least(updated_at, {_ARRIVED}) END"      # as the macro `version_time` of dbt
# an offset or Z after a time of day; the date's own hyphens must not match
_OFFSET = r"\d{1,2}:\d{2}.*(Z|z|[+-]\d{2}(:?\d{2})?)$"
_COMPACT_OFFSET = r"([+-]\d{2})(\d{2})$"
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_OWN = ("_row_number", "_file")

# When a row begins: its day in a volume, and one of the times that say how far the data of a source reach (`event_watermark`).
EVENT_TIMES = {
    "orders": "ordered_at", "refunds": "refunded_at", "leads": "created_at", "deal_changes": "changed_at", "deals": "created_at",
    "touchpoints": "occurred_at", "events": "occurred_at", "activities": "occurred_at", "tickets": "created_at",
    "survey_responses": "responded_at", "subscription_changes": "changed_at", "subscriptions": "started_at",
    "campaign_members": "delivered_at", "marketing_spend": "spend_date", "consents": "recorded_at", "contacts": "created_at",
}

# What happens to a row afterwards says it too: a team that creates no deal closes deals still. Ends and closings that may only be planned do not
# (`subscriptions.ended_at`, `closed_at` of an open deal), nor does `updated_at`, which may be the time of an export.
LATER_TIMES = {
    "deals": ("closed_at",), "leads": ("converted_at",), "tickets": ("first_response_at", "first_solved_at", "solved_at"), "subscriptions": ("cancel_requested_at",), "survey_responses": ("offered_at",),
    "campaign_members": ("sent_at", "bounced_at", "first_opened_at", "first_clicked_at", "first_replied_at", "responded_at", "converted_at", "unsubscribed_at"),
}
_HAPPENED = {"deals": """(is_won OR is_lost OR EXISTS (SELECT 1 FROM landing.pipeline_stages AS known WHERE known._source = given._source AND known.stage = given.stage
    AND known.pipeline IS NOT DISTINCT FROM given.pipeline AND (known.is_won OR known.is_lost)))"""}


@dataclass(frozen=True)
class BatchContext:
    """What is true of a whole batch."""

    source: str
    batch_id: str
    batch_seq: int
    loaded_at: datetime          # naive UTC
    time_zone: str               # of timestamps without an offset
    default_currency: str


@dataclass
class LoadReport:
    """What became of one delivery. Counts are rows."""

    entity: str
    delivered: int = 0
    accepted: int = 0            # new versions
    unchanged: int = 0
    quarantined: int = 0
    deleted: int = 0             # tombstones written
    duplicate_keys: int = 0      # rows whose key occurred more than once in the delivery
    missing_optional: list[str] = field(default_factory=list)
    custom_columns: list[str] = field(default_factory=list)
    previous_rows: int | None = None   # live rows of the source before a full extract


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string literal, for the places where DuckDB takes no parameter (file paths, DDL)."""
    return "'" + text.replace("'", "''") + "'"


# -- tables ------------------------------------------------------------------------------------------------------------

def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing: schemas, landing tables (columns a newer contract added too), quarantine and operations."""
    for schema in ("landing", "quarantine", "ops", "meta", "scores", "segments"):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for contract in load_contracts().values():
        wanted = table_columns(contract)
        columns = ", ".join(f"{quoted(n)} {t}" for n, t in wanted.items())
        con.execute(f"CREATE TABLE IF NOT EXISTS landing.{contract.entity} ({columns})")
        present = {r[0] for r in con.execute("SELECT column_name FROM information_schema.columns WHERE table_schema = 'landing' AND table_name = ?", [contract.entity]).fetchall()}
        for name, kind in wanted.items():
            if name not in present:
                con.execute(f"ALTER TABLE landing.{contract.entity} ADD COLUMN {quoted(name)} {kind}")
    con.execute("""
        CREATE TABLE IF NOT EXISTS quarantine.rows (
            quarantine_id VARCHAR PRIMARY KEY, source VARCHAR, entity VARCHAR, batch_id VARCHAR, file VARCHAR, row_number BIGINT,
            row_key VARCHAR, reasons STRUCT(field VARCHAR, reason VARCHAR, value VARCHAR)[], raw VARCHAR, status VARCHAR,
            first_seen_at TIMESTAMP, resolved_at TIMESTAMP)""")
    con.execute("""
        CREATE TABLE IF NOT EXISTS ops.batches (
            batch_id VARCHAR, batch_seq BIGINT, source VARCHAR, entity VARCHAR, mode VARCHAR, loaded_at TIMESTAMP, delivered BIGINT,
            accepted BIGINT, unchanged BIGINT, quarantined BIGINT, deleted BIGINT, duplicate_keys BIGINT, previous_rows BIGINT, notes VARCHAR)""")
    con.execute("CREATE TABLE IF NOT EXISTS ops.files (source VARCHAR, file VARCHAR, sha256 VARCHAR, bytes BIGINT, batch_id VARCHAR, loaded_at TIMESTAMP)")
    con.execute("CREATE TABLE IF NOT EXISTS ops.source_state (source VARCHAR PRIMARY KEY, source_type VARCHAR, extracted_at TIMESTAMP, watermark TIMESTAMP, is_live BOOLEAN, state VARCHAR, message VARCHAR)")
    con.execute("CREATE TABLE IF NOT EXISTS ops.ingestion_gaps (source VARCHAR, starts_at TIMESTAMP, ends_at TIMESTAMP, reason VARCHAR)")
    con.execute("""
        CREATE TABLE IF NOT EXISTS ops.check_results (
            run_id VARCHAR, check_name VARCHAR, subject VARCHAR, severity VARCHAR, is_passed BOOLEAN, failing_rows BIGINT, detail VARCHAR, checked_at TIMESTAMP)""")
    con.execute("CREATE TABLE IF NOT EXISTS ops.runs (run_id VARCHAR, started_at TIMESTAMP, ended_at TIMESTAMP, state VARCHAR, snapshot_id VARCHAR, message VARCHAR)")


def write_settings(con: duckdb.DuckDBPyConnection, workspace: Workspace, as_of: datetime, watermark: datetime) -> None:
    """Replace `ops.settings`, the one row in which SQL finds the workspace's settings. Instants are naive UTC."""
    values: dict[str, Any] = {f.name: getattr(workspace, f.name) for f in fields(Workspace)}
    kinds = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", tuple: "VARCHAR[]", type(None): "BIGINT"}
    columns = ", ".join(f"CAST(? AS {kinds[type(v)]}) AS {quoted(n)}" for n, v in values.items())
    bound = [list(v) if isinstance(v, tuple) else v for v in values.values()]
    con.execute(f"CREATE OR REPLACE TABLE ops.settings AS SELECT {columns}, CAST(? AS TIMESTAMP) AS as_of, CAST(? AS TIMESTAMP) AS watermark, CAST(? AS TIMESTAMP) AS built_at",
                [*bound, as_of, watermark, datetime.now(UTC).replace(tzinfo=None)])


# -- parsing -----------------------------------------------------------------------------------------------------------

def _typed(column: Column, source_type: str, zone_parameter: str) -> str:
    """The expression that turns the delivered column into the agreed type, NULL where it cannot."""
    name = quoted(column.name)
    text = f"NULLIF(TRIM(CAST({name} AS VARCHAR), ' \t\r\n\u00a0'), '')"
    is_text = source_type.startswith("VARCHAR")
    if column.logical_type == "string":
        return f"NULLIF(CAST({name} AS VARCHAR), '')" if not column.required else f"CASE WHEN {text} IS NOT NULL THEN CAST({name} AS VARCHAR) END"
    if column.logical_type == "integer":
        # DuckDB would round 12.7 to 13: only whole numbers pass
        return f"CASE WHEN regexp_full_match({text}, '[+-]?\\d+(\\.0+)?') THEN TRY_CAST(regexp_replace({text}, '\\.0+$', '') AS BIGINT) END"
    if column.logical_type == "number":
        # DuckDB would read 1_000 as a thousand: it may as well be a reference
        return f"CASE WHEN regexp_full_match({text}, '{_NUMBER}') THEN TRY_CAST({text} AS {column.physical_type}) END" if is_text else f"TRY_CAST({name} AS {column.physical_type})"
    if column.logical_type == "boolean":
        return (f"CASE WHEN lower({text}) IN ('true', 't', '1', '1.0', 'yes', 'y') THEN true "
                f"WHEN lower({text}) IN ('false', 'f', '0', '0.0', 'no', 'n') THEN false END")
    if column.logical_type == "date":
        if source_type.startswith("TIMESTAMP"):
            return f"TRY_CAST({name} AS DATE)"
        return f"CASE WHEN regexp_matches({text}, '^\\d{{4}}-\\d{{2}}-\\d{{2}}') THEN TRY_CAST({text} AS DATE) END" if is_text else f"TRY_CAST({name} AS DATE)"
    if column.logical_type == "timestamp":
        if source_type == "TIMESTAMP WITH TIME ZONE":
            return f"timezone('UTC', {name})"
        if source_type.startswith("TIMESTAMP") or source_type == "DATE":
            return f"timezone('UTC', timezone({zone_parameter}, TRY_CAST({name} AS TIMESTAMP)))"
        return (f"CASE WHEN NOT regexp_matches({text}, '^\\d{{4}}-\\d{{2}}-\\d{{2}}') THEN NULL "
                f"WHEN regexp_matches({text}, '{_OFFSET}') THEN timezone('UTC', TRY_CAST(regexp_replace({text}, '{_COMPACT_OFFSET}', '\\1:\\2') AS TIMESTAMPTZ)) "
                f"ELSE timezone('UTC', timezone({zone_parameter}, TRY_CAST({text} AS TIMESTAMP))) END")
    raise SourceError(f"contract type {column.logical_type!r} is not known", field=column.name, remedy="Use string, integer, number, boolean, date or timestamp.")


_EXPECTED = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "date": "a date (YYYY-MM-DD)",
             "timestamp": "a time (ISO 8601, e.g. 2026-03-01T10:00:00Z)", "string": "text"}


def _reasons(column: Column, present: bool) -> Iterable[tuple[str, str, str]]:
    """(condition, field, reason) for each rule of one column; typed values carry the prefix `t_`."""
    name, typed = quoted(column.name), quoted(f"t_{column.name}")
    raw = f"NULLIF(TRIM(CAST({name} AS VARCHAR)), '')" if present else "NULL"
    if present:
        yield f"{typed} IS NULL AND {raw} IS NOT NULL", column.name, f"is not {_EXPECTED[column.logical_type]}"
        yield f"length({raw}) > {MAX_FIELD}", column.name, "is longer than 1 MB"
    if column.required:
        yield f"{typed} IS NULL AND {raw} IS NULL", column.name, "is required and missing"
    if column.valid_values:
        allowed = ", ".join(literal(v) for v in column.valid_values)
        yield f"{typed} NOT IN ({allowed})", column.name, f"is not one of {', '.join(column.valid_values)}"
    if column.minimum is not None:
        yield f"{typed} < {column.minimum}", column.name, f"is below {column.minimum:g}"
    if column.maximum is not None:
        yield f"{typed} > {column.maximum}", column.name, f"is above {column.maximum:g}"
    if column.pattern:
        yield f"NOT regexp_full_match({typed}, {literal(column.pattern)})", column.name, f"does not match {column.pattern}"


def parse_sql(contract: Contract, relation: str, delivered: dict[str, str]) -> str:
    """SELECT over `relation` with the typed columns, `_custom`, `_row_number`, `_file`, `row_key`, `reasons` and `raw`.

    `delivered` maps the relation's column names to DuckDB types. Parameters: `$zone` (time zone of naive timestamps) and
    `$currency` (currency of rows that name none).
    """
    typed, reasons, out = [], [], []
    for column in contract.columns:
        present = column.name in delivered
        expression = _typed(column, delivered[column.name], "$zone") if present else f"CAST(NULL AS {column.physical_type})"
        if column.name == "currency":
            expression = f"coalesce(upper(trim({expression})), $currency)"
        if column.name == "cost_kind":
            expression = f"coalesce({expression}, 'ad')"
        typed.append(f"{expression} AS {quoted('t_' + column.name)}")
        out.append(f"CAST({quoted('t_' + column.name)} AS {column.physical_type}) AS {quoted(column.name)}")
        for condition, name, reason in _reasons(column, present):
            shown = f"left(CAST({quoted(column.name)} AS VARCHAR), 200)" if present else "NULL"
            reasons.append(f"CASE WHEN {condition} THEN {{'field': {literal(name)}, 'reason': {literal(reason)}, 'value': {shown}}} END")
    for rule in contract.rules:
        names = sorted((c.name for c in contract.columns), key=len, reverse=True)
        predicate = rule.predicate
        for name in names:
            predicate = _replace_word(predicate, name, quoted(f"t_{name}"))
        reasons.append(f"CASE WHEN NOT ({predicate}) THEN {{'field': {literal(rule.id)}, 'reason': {literal(rule.description)}, 'value': NULL}} END")
    custom = [n for n in delivered if n not in contract.by_name and n not in _OWN]
    own_custom = "CAST(NULL AS VARCHAR)"
    if custom:
        fields_ = ", ".join(f"{quoted(n)} := {quoted(n)}" for n in custom)
        own_custom = f"CAST(to_json(struct_pack({fields_})) AS VARCHAR)"
        reasons.append(f"CASE WHEN length({own_custom}) > {MAX_FIELD} THEN {{'field': '_custom', 'reason': 'further columns are longer than 1 MB', 'value': NULL}} END")
    raw_names = [n for n in delivered if n not in _OWN]
    raw = f"CAST(to_json(struct_pack({', '.join(f'{quoted(n)} := {quoted(n)}' for n in raw_names)})) AS VARCHAR)"
    key = "concat_ws('|', " + ", ".join(f"coalesce(CAST({quoted('t_' + k)} AS VARCHAR), '')" for k in contract.key) + ")"
    fingerprint = "md5(CAST(struct_pack(" + ", ".join(f"{quoted('t_' + c.name)} := {quoted('t_' + c.name)}" for c in contract.columns) + ", c := " + own_custom + ") AS VARCHAR))"
    return f"""
        WITH typed AS (SELECT *, {', '.join(typed)} FROM {relation})
        SELECT {', '.join(out)}, {own_custom} AS _custom, _row_number, _file, {key} AS row_key, {fingerprint} AS _row_hash,
               list_filter([{', '.join(reasons)}], reason -> reason IS NOT NULL) AS reasons,
               CASE WHEN len(reasons) > 0 THEN {raw} END AS raw
        FROM typed"""


def _replace_word(text: str, word: str, by: str) -> str:
    return re.sub(rf'(?<!["\w]){re.escape(word)}(?!["\w])', lambda _: by, text)


# -- loading -----------------------------------------------------------------------------------------------------------

def next_batch_seq(con: duckdb.DuckDBPyConnection) -> int:
    """The number of the next batch of this home, from 1."""
    return con.execute("SELECT coalesce(max(batch_seq), 0) + 1 FROM ops.batches").fetchone()[0]


def load(con: duckdb.DuckDBPyConnection, contract: Contract, parquet: Path, batch: BatchContext, *, full: bool) -> LoadReport:
    """Take one delivery into the warehouse. Raises SourceError where the whole table is unusable (a required column is missing)."""
    relation = f"read_parquet({literal(str(parquet))})"
    delivered = {r[0]: r[1] for r in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    if len(delivered) > MAX_COLUMNS:
        raise SourceError(f"{contract.entity} has {len(delivered)} columns, more than {MAX_COLUMNS}", source=batch.source,
                          remedy="Deliver one column per attribute; a pivoted table must be mapped first.")
    missing = [c for c in contract.required_columns if c not in delivered]
    if missing:
        files = [r[0] for r in con.execute(f"SELECT DISTINCT _file FROM {relation} LIMIT 3").fetchall()]
        raise SourceError(f"{contract.entity} lacks the required column {', '.join(missing)}", source=batch.source, file=", ".join(f for f in files if f),
                          field=missing[0], remedy=f"Add the column or map it; found: {', '.join(c for c in delivered if c not in _OWN)}.")
    report = LoadReport(contract.entity, missing_optional=[c.name for c in contract.columns if c.name not in delivered],
                        custom_columns=[n for n in delivered if n not in contract.by_name and n not in _OWN])
    con.execute(f"CREATE OR REPLACE TEMP VIEW delivery AS SELECT * FROM {relation}")
    sql = parse_sql(contract, "delivery", delivered)
    bound = {"zone": batch.time_zone, "currency": batch.default_currency}
    con.execute(f"CREATE OR REPLACE TEMP TABLE parsed AS {sql}", {name: value for name, value in bound.items() if f"${name}" in sql})
    report.delivered, report.quarantined = con.execute("SELECT count(*), count(*) FILTER (len(reasons) > 0) FROM parsed").fetchone()
    report.duplicate_keys = con.execute("SELECT count(*) - count(DISTINCT row_key) FROM parsed WHERE len(reasons) = 0").fetchone()[0]
    _quarantine(con, contract, batch)
    accepted, deleted, previous = _accept(con, contract, batch, full=full)
    report.accepted, report.deleted, report.previous_rows = accepted, deleted, previous
    report.unchanged = report.delivered - report.quarantined - accepted
    con.execute("DROP TABLE parsed")
    con.execute("DROP VIEW delivery")
    con.execute("INSERT INTO ops.batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [batch.batch_id, batch.batch_seq, batch.source, contract.entity, "full" if full else "upsert", batch.loaded_at, report.delivered,
                 report.accepted, report.unchanged, report.quarantined, report.deleted, report.duplicate_keys, report.previous_rows,
                 json.dumps({"missing_optional": report.missing_optional, "custom_columns": report.custom_columns})])
    return report


def _quarantine(con: duckdb.DuckDBPyConnection, contract: Contract, batch: BatchContext) -> None:
    # the same bad row sent again keeps its first entry; a good version of its key resolves it
    con.execute("""
        INSERT INTO quarantine.rows
        SELECT md5(concat_ws('|', $source, $entity, raw, coalesce(_file, ''))), $source, $entity, $batch, any_value(_file), min(_row_number), any_value(row_key),
               any_value(reasons), raw, 'open', $at, NULL
        FROM parsed WHERE len(reasons) > 0 GROUP BY raw, coalesce(_file, '')
        ON CONFLICT (quarantine_id) DO UPDATE SET batch_id = excluded.batch_id, reasons = excluded.reasons,
            status = CASE WHEN quarantine.rows.status = 'discarded' THEN 'discarded' ELSE 'open' END, resolved_at = NULL""",
        {"source": batch.source, "entity": contract.entity, "batch": batch.batch_id, "at": batch.loaded_at})
    con.execute("""
        UPDATE quarantine.rows SET status = 'superseded', resolved_at = $at
        WHERE status = 'open' AND source = $source AND entity = $entity AND batch_id <> $batch AND trim(row_key, '|') <> ''
          AND row_key IN (SELECT row_key FROM parsed WHERE len(reasons) = 0)""",
        {"source": batch.source, "entity": contract.entity, "batch": batch.batch_id, "at": batch.loaded_at})


def _key(contract: Contract, alias: str) -> str:
    return "concat_ws('|', " + ", ".join(f"coalesce(CAST({alias}.{quoted(k)} AS VARCHAR), '')" for k in contract.key) + ")"


def future_versions(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Rows by entity whose `updated_at` lies after their arrival; entities without such rows are left out."""
    counts = {c.entity: con.execute(f"SELECT count(*) FROM landing.{c.entity} WHERE NOT _is_tombstone AND updated_at > {_ARRIVED}").fetchone()[0]
              for c in load_contracts().values() if "updated_at" in c.by_name}
    return {entity: rows for entity, rows in counts.items() if rows}


def tied_versions(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Keys by entity whose newest versions came in one batch with one time of change (or none) and differ: their content decides which counts.

    Only a batch in which a key occurred more than once can hold such versions, and only those are looked at.
    """
    found = {}
    for (entity,) in con.execute("SELECT DISTINCT entity FROM ops.batches WHERE duplicate_keys > 0 ORDER BY entity").fetchall():
        contract = load_contracts()[entity]
        key, time = ", ".join(map(quoted, ("_source", *contract.key))), VERSION_TIME if "updated_at" in contract.by_name else "CAST(NULL AS TIMESTAMP)"
        same = " AND ".join(f"l.{quoted(name)} IS NOT DISTINCT FROM t.{quoted(name)}" for name in ("_source", *contract.key))
        (rows,) = con.execute(f"""
            WITH tied AS (
                SELECT {key}, {time} AS made_at, _batch_seq FROM landing.{entity}
                WHERE NOT _is_tombstone AND _batch_id IN (SELECT batch_id FROM ops.batches WHERE entity = $entity AND duplicate_keys > 0)
                GROUP BY ALL HAVING count(*) > 1)
            SELECT count(*) FROM tied AS t WHERE NOT EXISTS (
                SELECT 1 FROM (SELECT {key}, {time} AS made_at, _batch_seq, _is_tombstone FROM landing.{entity}) AS l
                WHERE {same} AND CASE WHEN l._is_tombstone OR l.made_at IS NOT DISTINCT FROM t.made_at THEN l._batch_seq > t._batch_seq ELSE coalesce(l.made_at > t.made_at, t.made_at IS NULL) END)""",
            {"entity": entity}).fetchone()
        if rows:
            found[entity] = rows
    return found


def _accept(con: duckdb.DuckDBPyConnection, contract: Contract, batch: BatchContext, *, full: bool) -> tuple[int, int, int]:
    columns = [c.name for c in contract.columns]
    listed = ", ".join(quoted(c) for c in columns)
    versioned = "updated_at" in contract.by_name
    # a version met before under the same `updated_at` is the same fact delivered again, however old the batch
    seen_before = "h.updated_at IS NOT NULL OR h.is_newest" if versioned else "h.is_newest"
    order = f"""(PARTITION BY {', '.join('l.' + quoted(k) for k in contract.key)}
                 ORDER BY _is_tombstone, {f'{VERSION_TIME} DESC NULLS LAST,' if versioned else ''} _batch_seq DESC, _row_hash DESC"""
    whole = f"{order} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"     # the same order, so that DuckDB sorts once
    # whether a row is gone is a matter of batches alone (an odd number is the last batch's tombstone): one that returned from an older copy lives, though the version that vanished was newer
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE history AS
        SELECT {_key(contract, 'l')} AS row_key, _row_hash, {'updated_at,' if versioned else ''} _is_tombstone, row_number() OVER {order}) = 1 AS is_latest,
               first_value(_batch_seq) OVER {whole} = _batch_seq {f"AND first_value({VERSION_TIME}) OVER {whole} IS NOT DISTINCT FROM {VERSION_TIME}" if versioned else ""} AS is_newest,
               max(2 * _batch_seq + CAST(_is_tombstone AS INTEGER)) OVER {whole} % 2 = 1 AS is_gone
        FROM landing.{contract.entity} AS l WHERE _source = ?""", [batch.source])
    before = con.execute("SELECT count(*) FROM history WHERE is_latest AND NOT is_gone").fetchone()[0]
    # keys whose newest versions are several of one time, which the delivery does not repeat as they were: what it says of them now is taken
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE unsettled AS
        WITH tied AS (
            SELECT row_key FROM history WHERE is_newest AND NOT is_latest AND NOT is_gone
            {'' if versioned else 'UNION SELECT row_key FROM parsed WHERE len(reasons) = 0 GROUP BY row_key HAVING count(DISTINCT _row_hash) > 1'}),
        delivered AS (SELECT row_key, list_sort(list(DISTINCT _row_hash)) AS content FROM parsed WHERE len(reasons) = 0 AND row_key IN (FROM tied) GROUP BY row_key),
        known AS (SELECT row_key, list_sort(list(DISTINCT _row_hash)) AS content FROM history WHERE is_newest AND NOT is_gone AND row_key IN (FROM tied) GROUP BY row_key)
        SELECT row_key FROM delivered LEFT JOIN known USING (row_key) WHERE delivered.content IS DISTINCT FROM known.content""")
    con.execute(f"""
        INSERT INTO landing.{contract.entity} ({listed}, {', '.join(LINEAGE)})
        SELECT {', '.join('p.' + quoted(c) for c in columns)}, $source, $batch, $seq, $at, p._row_number, p._row_hash, p._custom, false
        FROM (SELECT DISTINCT ON (row_key, _row_hash) * FROM parsed WHERE len(reasons) = 0 ORDER BY row_key, _row_hash, _row_number) AS p
        WHERE NOT EXISTS (SELECT 1 FROM history AS h WHERE h.row_key = p.row_key AND h._row_hash = p._row_hash AND NOT h._is_tombstone AND NOT h.is_gone AND ({seen_before})
                          AND NOT (h.is_newest AND p.row_key IN (FROM unsettled)))""",
        {"source": batch.source, "batch": batch.batch_id, "seq": batch.batch_seq, "at": batch.loaded_at})
    accepted = con.execute(f"SELECT count(*) FROM landing.{contract.entity} WHERE _batch_id = ? AND _source = ?", [batch.batch_id, batch.source]).fetchone()[0]
    deleted = 0
    if full:
        con.execute(f"""
            INSERT INTO landing.{contract.entity} ({listed}, {', '.join(LINEAGE)})
            SELECT {', '.join('l.' + quoted(c) for c in columns)}, l._source, $batch, $seq, $at, NULL, l._row_hash, l._custom, true
            FROM landing.{contract.entity} AS l
            JOIN history AS h ON h.row_key = {_key(contract, 'l')} AND h._row_hash = l._row_hash AND h.is_latest AND NOT h.is_gone
            WHERE l._source = $source AND NOT l._is_tombstone AND l._batch_seq < $seq
              AND {_key(contract, 'l')} NOT IN (SELECT row_key FROM parsed)
            QUALIFY row_number() OVER (PARTITION BY h.row_key ORDER BY l._batch_seq DESC) = 1""",
            {"source": batch.source, "batch": batch.batch_id, "seq": batch.batch_seq, "at": batch.loaded_at})
        deleted = con.execute(f"SELECT count(*) FROM landing.{contract.entity} WHERE _batch_id = ? AND _source = ? AND _is_tombstone", [batch.batch_id, batch.source]).fetchone()[0]
    con.execute("DROP TABLE history")
    con.execute("DROP TABLE unsettled")
    return accepted, deleted, before


def quarantine_rejects(con: duckdb.DuckDBPyConnection, entity: str, parquet: Path, batch: BatchContext) -> int:
    """Take lines that a reader could not split into columns (`_file, _row_number, _raw, _reason`) into quarantine."""
    con.execute(f"""
        INSERT INTO quarantine.rows
        SELECT md5(concat_ws('|', $source, $entity, _raw, coalesce(_file, ''), _row_number)), $source, $entity, $batch, _file, _row_number, '',
               [{{'field': NULL, 'reason': _reason, 'value': left(_raw, 200)}}], _raw, 'open', $at, NULL
        FROM read_parquet({literal(str(parquet))}) ON CONFLICT (quarantine_id) DO NOTHING""",
        {"source": batch.source, "entity": entity, "batch": batch.batch_id, "at": batch.loaded_at})
    return con.execute("SELECT count(*) FROM quarantine.rows WHERE batch_id = ? AND entity = ? AND row_key = ''", [batch.batch_id, entity]).fetchone()[0]


# -- how far the data reach --------------------------------------------------------------------------------------------

def event_watermark(con: duckdb.DuckDBPyConnection, source: str, now: datetime) -> datetime | None:
    """The second after the latest event of a source (naive UTC), times after `now` + 5 minutes left aside; None without any event.

    After it, because data are complete up to, but not at, the watermark: of files that know days alone it would leave out the last day.
    """
    times = [(entity, column, "true") for entity, column in EVENT_TIMES.items()] + [(entity, column, _HAPPENED.get(entity, "true")) for entity, columns in LATER_TIMES.items() for column in columns]
    parts = " UNION ALL ".join(f"SELECT max(CAST({column} AS TIMESTAMP)) AS latest FROM landing.{entity} AS given WHERE _source = $source AND NOT _is_tombstone AND CAST({column} AS TIMESTAMP) <= $cap AND {happened}"
                               for entity, column, happened in times)
    return con.execute(f"SELECT date_trunc('second', max(latest)) + INTERVAL 1 SECOND FROM ({parts})", {"source": source, "cap": now + CLOCK_SKEW}).fetchone()[0]


def overall_watermark(con: duckdb.DuckDBPyConnection, as_of: datetime) -> datetime:
    """Up to when every source's data are complete: the least of the sources' watermarks, never after `as_of` (naive UTC)."""
    (least,) = con.execute("SELECT min(watermark) FROM ops.source_state WHERE watermark IS NOT NULL").fetchone()
    return min(least, as_of) if least else as_of


# -- quarantine, as people see it --------------------------------------------------------------------------------------

def _is_built(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    return bool(con.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", [schema, table]).fetchone()[0])


def _rows_without_rate(con: duckdb.DuckDBPyConnection) -> str:
    """A relation of the rows that the marts left out for want of an exchange rate; without rows before the first build."""
    return f"""(
        SELECT left(md5(concat_ws('|', 'rate', source, entity, key)), 16) AS quarantine_id, source, entity, key, currency, 'currency' AS field, 'has no exchange rate: ' || currency AS reason,
               CAST(to_json({{'key': key, 'date': date, 'currency': currency, 'amount': amount}}) AS VARCHAR) AS raw
        FROM {"intermediate.int_missing_rates" if _is_built(con, "intermediate", "int_missing_rates") else "(SELECT NULL AS source, NULL AS entity, NULL AS key, NULL AS date, NULL AS currency, NULL AS amount) WHERE false"})"""


def _rows_left_out(con: duckdb.DuckDBPyConnection) -> str:
    """A relation of the rows that kept their contract and that some number leaves out: those without a rate, subscriptions that ended as they began, and deals closed at no known time."""
    if not (_is_built(con, "marts", "fct_subscriptions") and _is_built(con, "marts", "fct_deals")):
        return _rows_without_rate(con)
    return f"""(
        FROM {_rows_without_rate(con)}
        UNION ALL
        SELECT left(md5(concat_ws('|', 'ended', subscription_id)), 16), split_part(subscription_id, ':', 1), 'subscriptions', subscription_id, currency, 'ended_at',
               'is the instant of its start: it counts as a subscription, but it was worth nothing at any instant and is in no movement of revenue',
               CAST(to_json({{'key': subscription_id, 'date': started_date, 'currency': currency, 'amount': amount}}) AS VARCHAR)
        FROM marts.fct_subscriptions WHERE ended_at <= started_at
        UNION ALL
        SELECT left(md5(concat_ws('|', 'closed', deal_id)), 16), split_part(deal_id, ':', 1), 'deals', deal_id, currency, 'closed_at',
               'is missing and no version or log tells it: the deal is won or lost, and in no number by the day of closing',
               CAST(to_json({{'key': deal_id, 'date': created_date, 'currency': currency, 'amount': amount}}) AS VARCHAR)
        FROM marts.fct_deals WHERE (is_won OR is_lost) AND closed_at IS NULL)"""


def missing_rates(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int]]:
    """(entity, currency, rows) left out of the marts because no exchange rate is known for them."""
    return con.execute(f"SELECT entity, currency, count(*) FROM {_rows_without_rate(con)} GROUP BY ALL ORDER BY ALL").fetchall()


def _counted_reasons(con: duckdb.DuckDBPyConnection) -> str:
    """A relation of the quarantine by source, entity, field, reason and status. A row with two reasons counts under both."""
    return f"""(
        SELECT source, entity, reason.field AS field, reason.reason AS reason, status, count(*) AS rows, min(first_seen_at) AS first_seen_at
        FROM (SELECT *, unnest(reasons) AS reason FROM quarantine.rows) GROUP BY ALL
        UNION ALL
        SELECT source, entity, field, reason, 'open', count(*), NULL FROM {_rows_left_out(con)} GROUP BY ALL)"""


def summarise_quarantine(con: duckdb.DuckDBPyConnection) -> None:
    """Write `ops.quarantine_summary`, the part of the quarantine that snapshots carry: counts by reason, no value of a row."""
    con.execute(f"CREATE OR REPLACE TABLE ops.quarantine_summary AS SELECT * EXCLUDE (status) FROM {_counted_reasons(con)} WHERE status = 'open'")


def quarantine_summary(con: duckdb.DuckDBPyConnection, include_resolved: bool = False) -> pl.DataFrame:
    """Rows by source, entity, field, reason and status, most first.

    Rows that the last build left out for want of an exchange rate are among them (a rate that arrives takes them out again), subscriptions that
    no movement of revenue holds, because they ended at the instant they began, and deals that closed nobody knows when.
    """
    return con.execute(f"SELECT * FROM {_counted_reasons(con)} WHERE $everything OR status = 'open' ORDER BY rows DESC, source, entity, field, reason",
                       {"everything": include_resolved}).pl()


def quarantine_rows(con: duckdb.DuckDBPyConnection, identifier: str | None, source: str | None, entity: str | None, limit: int) -> pl.DataFrame:
    """Quarantined rows with their reasons as sentences. `identifier` may be the beginning of an id.

    Of a row that kept its contract and is left out `raw` holds its key, day, currency and amount: it kept its contract and stands in landing.
    """
    return con.execute(f"""
        SELECT * FROM (
            SELECT quarantine_id, source, entity, file, row_number,
                   list_aggregate(list_transform(reasons, r -> concat_ws(' ', r.field, r.reason)), 'string_agg', '; ') AS reasons, raw, status, first_seen_at
            FROM quarantine.rows
            UNION ALL
            SELECT quarantine_id, source, entity, NULL, NULL, concat_ws(' ', field, reason), raw, 'open', NULL FROM {_rows_left_out(con)})
        WHERE ($id IS NULL AND status = 'open' OR starts_with(quarantine_id, $id)) AND ($source IS NULL OR source = $source) AND ($entity IS NULL OR entity = $entity)
        ORDER BY first_seen_at, source, entity, file, row_number, quarantine_id LIMIT $limit""",
        {"id": identifier, "source": source, "entity": entity, "limit": limit}).pl()


def write_replay(con: duckdb.DuckDBPyConnection, contract: Contract, source: str, identifiers: list[str] | None, changes: dict[str, str], target: Path) -> int:
    """Write the open quarantined rows of one source and entity to a Parquet file in the shape of a delivery; return their number.

    `changes` maps a column to the value it is to have. Raises UsageError for a column that neither the contract nor the rows know.
    """
    con.execute("""
        CREATE OR REPLACE TEMP TABLE replayed AS
        SELECT quarantine_id, raw, row_number, file FROM quarantine.rows
        WHERE status = 'open' AND source = $source AND entity = $entity AND json_valid(raw)
          AND ($ids IS NULL OR len(list_filter(coalesce($ids, []), i -> starts_with(quarantine_id, i))) > 0)""",
        {"source": source, "entity": contract.entity, "ids": identifiers})
    (count,) = con.execute("SELECT count(*) FROM replayed").fetchone()
    if not count:
        return 0
    names = {r[0] for r in con.execute("SELECT DISTINCT unnest(json_keys(raw)) FROM replayed").fetchall()}
    unknown = [c for c in changes if c not in names and c not in contract.by_name]
    if unknown:
        raise UsageError(f"{contract.entity} has no column {unknown[0]!r}", field="--set", remedy=f"Columns: {', '.join(sorted(names))}.")
    columns = []
    bound: dict[str, str] = {}
    for number, name in enumerate(sorted(names | set(changes))):
        if name in changes:
            bound[f"v{number}"] = changes[name]
            columns.append(f"$v{number} AS {quoted(name)}")
        else:
            bound[f"v{number}"] = '$."' + name.replace('"', '\\"') + '"'
            columns.append(f"json_extract_string(raw, $v{number}) AS {quoted(name)}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE replay_rows AS SELECT {', '.join(columns)}, row_number AS _row_number, file AS _file FROM replayed", bound)
    con.execute(f"COPY replay_rows TO {literal(str(target))} (FORMAT parquet)")
    con.execute("DROP TABLE replay_rows")
    return count


def settle_replay(con: duckdb.DuckDBPyConnection, source: str, entity: str, batch_id: str, at: datetime) -> int:
    """Close the replayed rows that did not fall into quarantine again in `batch_id`; return how many were accepted."""
    con.execute("""
        UPDATE quarantine.rows SET status = 'replayed', resolved_at = $at
        WHERE quarantine_id IN (SELECT quarantine_id FROM replayed) AND NOT (status = 'open' AND batch_id = $batch)""", {"at": at, "batch": batch_id})
    (open_again,) = con.execute("SELECT count(*) FROM quarantine.rows WHERE source = ? AND entity = ? AND batch_id = ? AND status = 'open'", [source, entity, batch_id]).fetchone()
    (sent,) = con.execute("SELECT count(*) FROM replayed").fetchone()
    con.execute("DROP TABLE replayed")
    return sent - min(open_again, sent)
