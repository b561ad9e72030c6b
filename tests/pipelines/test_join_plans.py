"""No table of the warehouse is built by a loop over both sides of a join that names equal columns: at a million contacts that is the difference
between seconds and minutes, and no small company would show it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from conftest import Cli

from data_contracts.environment import Home


def joins(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and condition of every join of a plan."""
    if "JOIN" in node["name"]:
        told = node["extra_info"]
        yield node["name"].strip(), str(told.get("Condition") or told.get("Conditions"))
    for child in node["children"]:
        yield from joins(child)


def test_equal_columns_are_joined_by_hashing(demo_home: Cli):
    home = Home(demo_home.home)
    looped, seen = {}, 0
    with duckdb.connect(str(home.warehouse), read_only=True) as con:
        for file in sorted(p for p in (home.dbt_target / "compiled").rglob("layers/**/*.sql") if p.is_file() and not p.parent.suffix):
            (_, plan), = con.execute(f"EXPLAIN (FORMAT json) {file.read_text(encoding='utf-8')}").fetchall()
            for kind, condition in joins(json.loads(plan)[0]):
                seen += 1
                if kind == "BLOCKWISE_NL_JOIN" and " = " in condition:
                    looped.setdefault(Path(file).stem, []).append(condition)
    assert seen > 100
    assert looped == {}, "a condition on one side alone, or an 'or', in a left join: see models/macros/history.sql"
