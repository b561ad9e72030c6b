"""The `where` language: comparisons over public dimensions, parsed by sqlglot, turned into bound parameters.

Belongs here: what a filter may say. Everything not allowed is refused, so no text of a user ever becomes SQL text.
Grammar: `=`, `!=`, `<`, `<=`, `>`, `>=`, `in (...)`, `not in (...)`, `like`, `is null`, `is not null`, `and`, `or`, `not`, brackets;
names are dimensions, values are literals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from data_contracts.errors import UsageError

NONE = "(none)"
MAX_LENGTH = 4000
MAX_NODES = 500  # a longer filter is a machine's mistake and could exhaust the parser's stack
_REMEDY = "Write comparisons such as channel = 'email' and country in ('DE', 'AT')."


@dataclass(frozen=True)
class Filter:
    """A checked filter: a tree of plain tuples, and the dimensions it names."""

    tree: tuple[Any, ...]
    dimensions: tuple[str, ...]

    def sql(self, columns: Mapping[str, str], bind: Callable[[Any], str]) -> str:
        """SQL over `columns` (dimension -> column expression); `bind` keeps a value and returns its placeholder."""
        return _render(self.tree, columns, bind)


@lru_cache(maxsize=256)
def parse(text: str) -> Filter:
    """Parse `text`; anything outside the grammar raises `UsageError` with the part that is not understood."""
    import sqlglot  # loaded only when somebody filters: its import is slower than a whole metric query
    from sqlglot.errors import SqlglotError

    if len(text) > MAX_LENGTH:
        raise UsageError(f"The filter is longer than {MAX_LENGTH} characters", remedy="Use fewer values.")
    try:
        statements = sqlglot.parse(f"select 1 where {text}", read="duckdb")
    except (SqlglotError, RecursionError) as error:
        raise UsageError(f"The filter {text!r} cannot be read", remedy=_REMEDY) from error
    select = statements[0] if len(statements) == 1 else None
    allowed = {"kind", "expressions", "where", "hint", "distinct", "operation_modifiers"}
    if not isinstance(select, sqlglot.exp.Select) or any(value for key, value in select.args.items() if key not in allowed):
        raise UsageError(f"The filter {text!r} is more than one condition", remedy=_REMEDY)
    where = select.args["where"].this
    if any(node.comments for node in select.walk()):
        raise UsageError(f"The filter {text!r} holds a comment", remedy=_REMEDY)
    if sum(1 for _ in where.walk()) > MAX_NODES:
        raise UsageError("The filter has too many parts", remedy="Use fewer values.")
    names: dict[str, None] = {}
    return Filter(_tree(where, names), tuple(names))


def check(found: Filter, allowed: Iterable[str], what: str) -> None:
    """Refuse a filter over dimensions that are not in `allowed`."""
    offered = list(allowed)
    unknown = [name for name in found.dimensions if name not in offered]
    if unknown:
        raise UsageError(f"{what} cannot be filtered by {', '.join(unknown)}", remedy=f"It supports {', '.join(offered) or 'no dimensions'}.")


def _tree(node: Any, names: dict[str, None]) -> tuple[Any, ...]:
    from sqlglot import exp

    binary = {exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.Like: "like"}
    if isinstance(node, exp.Paren):
        return _tree(node.this, names)
    if isinstance(node, (exp.And, exp.Or)):
        return ("and" if isinstance(node, exp.And) else "or", _tree(node.this, names), _tree(node.expression, names))
    if isinstance(node, exp.Not):
        return ("not", _tree(node.this, names))
    if type(node) in binary:
        return (binary[type(node)], _name(node.this, names), _value(node.expression))
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return ("is null", _name(node.this, names))
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Not) and isinstance(node.expression.this, exp.Null):
        return ("not", ("is null", _name(node.this, names)))
    if isinstance(node, exp.In) and node.args.get("expressions") and not node.args.get("query") and not node.args.get("unnest"):
        return ("in", _name(node.this, names), tuple(_value(item) for item in node.expressions))
    raise UsageError(f"The filter part {node.sql(dialect='duckdb')!r} is not understood", remedy=_REMEDY)


def _name(node: Any, names: dict[str, None]) -> str:
    from sqlglot import exp

    if not isinstance(node, exp.Column) or node.args.get("table") or not isinstance(node.this, exp.Identifier):
        raise UsageError(f"The filter compares {node.sql(dialect='duckdb')!r}, which is not a dimension", remedy=_REMEDY)
    names[node.name] = None
    return node.name


def _value(node: Any) -> str | float | bool:
    from sqlglot import exp

    if isinstance(node, exp.Literal):
        return node.this if node.is_string else float(node.this)
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return -float(node.this.this)
    raise UsageError(f"The filter value {node.sql(dialect='duckdb')!r} is not a literal", remedy=_REMEDY)


def _compare(column: str, value: str | float | bool) -> tuple[str, Any]:
    """Left side and bound value. Text is compared with what is shown, so that `!= 'email'` keeps '(none)' and a value and its
    opposite add up to everything."""
    if isinstance(value, float):
        return f"try_cast({column} as double)", value
    shown = f"coalesce(cast({column} as varchar), '{NONE}')"
    return shown, ("true" if value else "false") if isinstance(value, bool) else value


def _render(tree: tuple[Any, ...], columns: Mapping[str, str], bind: Callable[[Any], str]) -> str:
    operator = tree[0]
    if operator in ("and", "or"):
        return f"({_render(tree[1], columns, bind)} {operator} {_render(tree[2], columns, bind)})"
    if operator == "not":
        return f"(not {_render(tree[1], columns, bind)})"
    column = columns[tree[1]]
    if operator == "is null":
        return f"({column} is null)"
    if operator == "in":
        return "(" + " or ".join(_render(("=", tree[1], value), columns, bind) for value in tree[2]) + ")"
    left, value = _compare(column, tree[2])
    return f"coalesce({left} {operator} {bind(value)}, false)"
