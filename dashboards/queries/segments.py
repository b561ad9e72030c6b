"""Segments for the pages: saved ones, counts, explanations, members."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from dashboards.queries.door import has, home, per_snapshot, sees_personal_data
from data_contracts.errors import UsageError
from models import warehouse
from models.segments import compiler, explain, grammar


def saved_segments() -> dict[str, str]:
    """Name → label of the segments of this home."""
    return {s.name: s.label for s in (grammar.read(f) for f in grammar.saved(home().segments))}


@per_snapshot
def segment_answer(reading: warehouse.Reading, name: str, conditions: str) -> dict[str, Any]:
    """Count, universe, sentence, explanation and first members of a segment given as JSON conditions."""
    _need_scores(reading)
    segment = grammar.parse(name, json.loads(conditions))
    return {"customers": compiler.count(reading.con, segment), "universe": compiler.universe_size(reading.con), "sentence": explain.sentence(segment.condition),
            "steps": explain.explain(reading.con, segment), "members": compiler.members(reading.con, segment, personal=False, limit=100)}


@per_snapshot
def segment_members(reading: warehouse.Reading, name: str, conditions: str) -> pl.DataFrame:
    """Every member, with personal data only for those with a right to it."""
    _need_scores(reading)
    return compiler.members(reading.con, grammar.parse(name, json.loads(conditions)), personal=sees_personal_data(reading.viewer.role))


def _need_scores(reading: warehouse.Reading) -> None:
    missing = [table for table in ("scores.churn", "scores.clv") if not has(reading, table)]
    if missing:
        raise UsageError(f"this snapshot carries no {' and no '.join(missing)}, which lists of members show", remedy="Run `rapport run` to build a snapshot with scores.")


def save_segment(name: str, content: dict[str, Any]) -> None:
    """Keep a segment in the home. Raises UsageError when it does not hold together."""
    grammar.save(name, content, home().segments)


def segment_content(name: str) -> dict[str, Any]:
    """A saved segment as the content of its file."""
    return grammar.content(grammar.find(name, home().segments))
