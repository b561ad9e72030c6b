"""A segment as SQL: one row per customer of the universe who fits. Builds text and parameters only; every value is bound.

Each behaviour becomes one aggregation over its facts joined to the universe, so that "did not" holds for people without any
fact at all.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb
import polars as pl

from models.segments.grammar import AttributeCondition, BehaviourCondition, Condition, Group, Segment, catalogue

_COMPARE = {"is": "=", "is_not": "IS DISTINCT FROM", "at_least": ">=", "at_most": "<=", "above": ">", "below": "<"}
UNIVERSE = "marts.dim_customers"


class _Builder:
    def __init__(self) -> None:
        self.parameters: list[Any] = []
        self.ctes: list[str] = []
        self.joins: dict[str, str] = {}

    def bind(self, value: Any) -> str:
        self.parameters.append(value)
        return f"${len(self.parameters)}"

    def condition(self, item: Condition) -> str:
        if isinstance(item, Group):
            parts = [f"({self.condition(m)})" for m in item.members]
            # a comparison with an unknown value is not met; `none` must hold for it, so unknown counts as false
            return {"all": " AND ".join(parts), "any": " OR ".join(parts), "none": "NOT (" + " OR ".join(f"coalesce({p}, false)" for p in parts) + ")"}[item.mode]
        return self.attribute(item) if isinstance(item, AttributeCondition) else self.behaviour(item)

    def attribute(self, item: AttributeCondition) -> str:
        spec = catalogue()["attributes"][item.attribute]
        if "needs" in spec:
            # `relation`: one row a customer of scores whose own key is another
            self.joins[spec["needs"]] = f"LEFT JOIN {spec.get('relation', 'scores.' + spec['needs'])} AS {spec['needs']} ON {spec['needs']}.customer_id = c.customer_id"
        expression = f"({spec['expression']})"
        if item.operator == "is_known":
            return f"{expression} IS {'NOT ' if item.value else ''}NULL"
        if item.operator in ("in", "not_in"):
            listed = ", ".join(self.bind(v) for v in item.value)
            return f"{expression} IN ({listed})" if item.operator == "in" else f"({expression} IS NULL OR {expression} NOT IN ({listed}))"
        if item.operator in ("contains", "starts_with"):
            return f"{item.operator}(lower({expression}), lower({self.bind(item.value)}))"
        return f"{expression} {_COMPARE[item.operator]} {self.bind(item.value)}"

    def behaviour(self, item: BehaviourCondition) -> str:
        spec = catalogue()["behaviours"][item.behaviour]
        name = f"b{len(self.ctes) + 1}"
        filters = [f"f.{spec['at']} < s.watermark"]
        if item.within_days is not None:
            filters.append(f"f.{spec['at']} >= s.watermark - to_days(CAST({self.bind(item.within_days)} AS INTEGER))")
        for bound, sign in ((item.since, ">="), (item.before, "<")):
            if bound is not None:
                filters.append(f"CAST(timezone(s.time_zone, timezone('UTC', f.{spec['at']})) AS DATE) {sign} {self.bind(bound)}")
        for key, values in item.where:
            filters.append(f"CAST(f.{spec['attributes'][key]} AS VARCHAR) IN ({', '.join(self.bind(v) for v in values)})")
        total = f"sum(f.{spec['amount']})" if "amount" in spec else "NULL"
        self.ctes.append(f"{name} AS (SELECT f.customer_id, count(*) AS times, {total} AS amount FROM {spec['relation']} AS f, ops.settings AS s "
                         f"WHERE f.customer_id IS NOT NULL AND {' AND '.join(filters)} GROUP BY f.customer_id)")
        self.joins[name] = f"LEFT JOIN {name} ON {name}.customer_id = c.customer_id"
        tests = []
        for column, bound, sign in (("times", item.at_least, ">="), ("times", item.at_most, "<="), ("amount", item.amount_at_least, ">="), ("amount", item.amount_at_most, "<=")):
            if bound is not None:
                tests.append(f"coalesce({name}.{column}, 0) {sign} {self.bind(bound)}")
        return " AND ".join(tests)


def compile_condition(condition: Condition) -> tuple[str, list[Any]]:
    """(SELECT of `customer_id`, parameters) of the customers who meet one condition."""
    builder = _Builder()
    test = builder.condition(condition)
    with_ = f"WITH {', '.join(builder.ctes)} " if builder.ctes else ""
    sql = (f"{with_}SELECT c.customer_id FROM {UNIVERSE} AS c CROSS JOIN ops.settings AS s {' '.join(builder.joins.values())} "
           f"WHERE NOT c.is_deleted AND NOT c.is_lead_only AND ({test})")
    return sql, builder.parameters


def compile_segment(segment: Segment) -> tuple[str, list[Any]]:
    """(SELECT of `customer_id`, parameters) of a segment's members."""
    return compile_condition(segment.condition)


def universe_size(con: duckdb.DuckDBPyConnection) -> int:
    """Customers a segment is chosen from."""
    return con.execute(f"SELECT count(*) FROM {UNIVERSE} WHERE NOT is_deleted AND NOT is_lead_only").fetchone()[0]


def count(con: duckdb.DuckDBPyConnection, segment: Segment) -> int:
    """Members of a segment."""
    sql, parameters = compile_segment(segment)
    return con.execute(f"SELECT count(*) FROM ({sql})", parameters).fetchone()[0]


# Columns a list of members carries. Personal ones are given only to viewers with a right to them.
PROFILE = ("customer_id", "customer_type", "organisation_name", "country_code", "city", "acquisition_channel", "segment", "order_count",
           "net_revenue_reporting", "current_mrr_reporting", "first_order_at", "last_order_at")
PERSONAL = ("name", "email", "phone")


def members(con: duckdb.DuckDBPyConnection, segment: Segment, *, personal: bool, limit: int | None = None) -> pl.DataFrame:
    """Members with their profile and scores, most valuable first; ties by id, so that a list is the same each time."""
    sql, parameters = compile_segment(segment)
    columns = ", ".join(f"c.{n}" for n in (PROFILE[:2] + (PERSONAL if personal else ()) + PROFILE[2:]))
    end = f" LIMIT {int(limit)}" if limit is not None else ""
    return con.execute(
        f"SELECT {columns}, churn.score AS churn_probability, clv.score AS predicted_value FROM ({sql}) AS m JOIN {UNIVERSE} AS c USING (customer_id) "
        "LEFT JOIN scores.churn AS churn ON churn.customer_id = c.customer_id LEFT JOIN scores.clv AS clv ON clv.customer_id = c.customer_id "
        f"ORDER BY c.net_revenue_reporting DESC NULLS LAST, c.customer_id{end}", parameters).pl()


def build_tables(con: duckdb.DuckDBPyConnection, segments: list[Segment]) -> dict[str, int]:
    """Write `segments.definitions` and `segments.memberships`; return members by segment."""
    con.execute("CREATE SCHEMA IF NOT EXISTS segments")
    con.execute("CREATE OR REPLACE TABLE segments.definitions (segment VARCHAR, label VARCHAR, description VARCHAR, owner VARCHAR, customers BIGINT, as_of DATE)")
    con.execute("CREATE OR REPLACE TABLE segments.memberships (segment VARCHAR, customer_id VARCHAR, as_of DATE)")
    (as_of,) = con.execute("SELECT CAST(timezone(time_zone, timezone('UTC', watermark)) AS DATE) FROM ops.settings").fetchone()
    sizes: dict[str, int] = {}
    for segment in segments:
        sql, parameters = compile_segment(segment)
        con.execute(f"INSERT INTO segments.memberships SELECT ${len(parameters) + 1}, customer_id, ${len(parameters) + 2} FROM ({sql})", [*parameters, segment.name, as_of])
        sizes[segment.name] = count(con, segment)
        _add_definition(con, segment, sizes[segment.name], as_of)
    return sizes


def _add_definition(con: duckdb.DuckDBPyConnection, segment: Segment, customers: int, as_of: date) -> None:
    con.execute("INSERT INTO segments.definitions VALUES (?, ?, ?, ?, ?, ?)", [segment.name, segment.label, segment.description, segment.owner, customers, as_of])
