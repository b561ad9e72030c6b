"""Checks that stand between landing and publishing, and where their results are kept.

Belongs here: running the contracts' expectation suites, volume bounds, recording verdicts. Does not belong here: what is
expected (`data_contracts/expectations.py`, dbt tests).
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass, field
from typing import Any

import duckdb
import polars as pl

from data_contracts.contract import load_contracts
from data_contracts.environment import Home
from data_contracts.expectations import suite
from models import volumes, warehouse
from models.frames import append
from pipelines.batches import utc_now


@dataclass
class Verdict:
    """Outcome of one entity's suite. `failures` are sentences without any value of a row."""

    entity: str
    evaluated: int = 0
    failures: list[str] = field(default_factory=list)
    failing_rows: int = 0

    is_passed = property(lambda self: not self.failures)

    @classmethod
    def empty(cls, entity: str) -> Verdict:
        return cls(entity)


def volume_drops(con: duckdb.DuckDBPyConnection, allowed: float) -> dict[str, str]:
    """Entity → sentence, for each full extract of the newest batches that lost more than `allowed` (0..1) of its source's rows."""
    rows = con.execute("SELECT entity, source, delivered - quarantined, previous_rows FROM ops.batches WHERE mode = 'full' AND previous_rows > 0 "
                       "QUALIFY row_number() OVER (PARTITION BY source, entity ORDER BY batch_seq DESC) = 1").fetchall()
    return {entity: f"source {source} delivered {now:,} rows of {entity}, the run before had {before:,}"
            for entity, source, now, before in rows if now < before * (1 - allowed)}


def run_expectations(home: Home, entities: list[str]) -> dict[str, Verdict]:
    """Run the contracts' suites on the landed rows with Great Expectations, pushed down into DuckDB. Entities without rows are skipped."""
    if not entities:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
        from great_expectations.expectations.registry import get_expectation_impl

        from pipelines.expectation_dialect import connection_string
        for noisy in ("great_expectations", "great_expectations.expectations"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        verdicts = {}
        with warehouse.writing(home) as con, connection_string(con) as url:
            source = context.data_sources.add_sql("landing", connection_string=url, create_temp_table=False)
            for entity in entities:
                verdicts[entity] = _validate(gx, get_expectation_impl, source, entity)
    return verdicts


def _validate(gx: Any, implementation: Any, source: Any, entity: str) -> Verdict:
    batch = source.add_table_asset(entity, table_name=entity, schema_name="landing").add_batch_definition_whole_table("all")
    expectations = [implementation(e["type"])(**e["kwargs"]) for e in suite(load_contracts()[entity])]
    # no value of a row may enter a result: results are logged and shown
    outcome = batch.get_batch().validate(gx.ExpectationSuite(name=entity, expectations=expectations), result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    verdict = Verdict(entity, evaluated=len(outcome.results))
    for result in outcome.results:
        if result.success:
            continue
        config, details = result.expectation_config, result.result or {}
        subject = config.kwargs.get("column") or config.kwargs.get("description") or "table"
        verdict.failures.append(f"{config.type} on {subject}" + ("" if details else " could not be evaluated"))
        found = details.get("unexpected_count") or details.get("observed_value") or 0
        verdict.failing_rows += found if isinstance(found, int) else 0
    return verdict


def record(home: Home, run_id: str, rows: list[tuple[str, str, str, bool, int, str]]) -> None:
    """Keep verdicts: (check name, subject, severity, passed, failing rows, detail)."""
    if rows:
        with warehouse.writing(home) as con:
            # one statement: executed for each row, a run's two hundred verdicts take longer than many of the checks
            frame = pl.DataFrame(rows, schema={"check_name": pl.String, "subject": pl.String, "severity": pl.String, "is_passed": pl.Boolean, "failing_rows": pl.Int64, "detail": pl.String}, orient="row")
            append(con, "ops.check_results", frame.with_columns(run_id=pl.lit(run_id), checked_at=pl.lit(utc_now())))


def record_landing(home: Home, run_id: str, verdicts: dict[str, Verdict], volume: dict[str, str], usual: list[volumes.Volume], ahead: dict[str, int],
                   tied: dict[str, int]) -> None:
    """Keep the landing verdicts of a run. A volume outside of its own history's bounds is a warning: a good day looks like that too.

    `ahead`: rows by entity that say they were changed after they arrived; they count as of their arrival. `tied`: keys by entity with
    several newest versions of one time in one batch.
    """
    rows = [("contract", f"landing.{v.entity}", "error", v.is_passed, v.failing_rows, "; ".join(v.failures) or f"{v.evaluated} expectations met") for v in verdicts.values()]
    rows += [("volume", f"landing.{entity}", "error", False, 0, detail) for entity, detail in volume.items()]
    rows += [(f"volume of the {v.kind} as usual", f"landing.{v.entity}", "warn", v.is_usual, 0, v.sentence) for v in usual]
    rows += [("changed before it arrived", f"landing.{entity}", "warn", False, found, "updated_at lies after the arrival: a clock runs ahead; these versions count as of their arrival") for entity, found in ahead.items()]
    rows += [("one row of each key is the newest", f"landing.{entity}", "warn", False, found, "one batch held several of one time of change and different content: the content decides which counts, the same way at every run") for entity, found in tied.items()]
    record(home, run_id, rows)


def describe_failures(con: duckdb.DuckDBPyConnection, run_id: str) -> list[dict[str, object]]:
    """The failed checks of a run, errors first."""
    found = con.execute("SELECT check_name, subject, severity, failing_rows, detail FROM ops.check_results WHERE run_id = ? AND NOT is_passed ORDER BY severity, subject", [run_id]).fetchall()
    return [dict(zip(("check", "subject", "severity", "failing_rows", "detail"), row, strict=True)) for row in found]


def as_json(failures: list[dict[str, object]]) -> str:
    """Failures for the run's record."""
    return json.dumps(failures)
