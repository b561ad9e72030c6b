"""A segment in plain words, and how many customers each of its conditions keeps. Holds no SQL of its own."""

from __future__ import annotations

from typing import Any

import duckdb
import polars as pl

from models.segments.compiler import compile_condition, universe_size
from models.segments.grammar import OPERATORS, AttributeCondition, BehaviourCondition, Condition, Group, Segment, catalogue

_JOIN = {"all": " and ", "any": " or ", "none": " or "}


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_value(v) for v in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def sentence(condition: Condition) -> str:
    """A condition in words."""
    if isinstance(condition, Group):
        inner = _JOIN[condition.mode].join(f"({sentence(m)})" if isinstance(m, Group) else sentence(m) for m in condition.members)
        return f"not ({inner})" if condition.mode == "none" else inner
    if isinstance(condition, AttributeCondition):
        label = catalogue()["attributes"][condition.attribute]["label"]
        if condition.operator == "is_known":
            return f"{label} is {'known' if condition.value else 'unknown'}"
        return f"{label} {OPERATORS[condition.operator][1]} {_value(condition.value)}"
    return _behaviour(condition)


def _behaviour(item: BehaviourCondition) -> str:
    label = catalogue()["behaviours"][item.behaviour]["label"]
    if item.at_most == 0:
        text = f"never {label}"
    elif item.at_least is not None and item.at_least == item.at_most:
        text = f"{label} exactly {item.at_least} times"
    else:
        text = label
        text += f" at least {item.at_least} times" if item.at_least and item.at_least > 1 else ""
        text += f" at most {item.at_most} times" if item.at_most is not None else ""
    text += f" for at least {item.amount_at_least}" if item.amount_at_least is not None else ""
    text += f" for at most {item.amount_at_most}" if item.amount_at_most is not None else ""
    text += "".join(f", {key} {' or '.join(values)}" for key, values in item.where)
    text += f" in the last {item.within_days} days" if item.within_days else ""
    text += f" since {item.since}" if item.since else ""
    text += f" before {item.before}" if item.before else ""
    return text


def explain(con: duckdb.DuckDBPyConnection, segment: Segment) -> pl.DataFrame:
    """One row per top condition: how many customers meet it alone, and how many are left after it and those before it.

    Columns: condition, customers_alone, customers_left. The first row is the universe.
    """
    total = universe_size(con)
    rows: list[dict[str, Any]] = [{"condition": catalogue()["universe"], "customers_alone": total, "customers_left": total}]
    top = segment.condition
    for number, member in enumerate(top.members, 1):
        alone = Group("none", (member,)) if top.mode == "none" else member
        so_far = Group(top.mode, top.members[:number])
        rows.append({"condition": sentence(alone), "customers_alone": _count(con, alone), "customers_left": _count(con, so_far)})
    return pl.DataFrame(rows)


def _count(con: duckdb.DuckDBPyConnection, condition: Condition) -> int:
    sql, parameters = compile_condition(condition)
    return con.execute(f"SELECT count(*) FROM ({sql})", parameters).fetchone()[0]
