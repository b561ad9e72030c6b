"""Identity resolution, last step: pairs of customers that are probably one, for a person to decide on.

Belongs here: scoring of pairs and links that a rule proposed and a contradiction stopped. Does not belong here: merging;
nothing here changes who is one customer.

Pairs are scored as by Fellegi and Sunter, A Theory for Record Linkage, JASA 64 (1969): each field adds ln(m/u) when it agrees and
ln((1-m)/(1-u)) when it differs, and nothing when one side is empty.
"""

from __future__ import annotations

import math

import duckdb

from models.engines.identity_rules import FieldWeight, IdentityRules, ReviewRules


def store_review_list(con: duckdb.DuckDBPyConnection, rules: IdentityRules, run_id: str) -> int:
    """Write `identity.review_list`, one row per pair of customers; returns the number of links that were refused."""
    con.execute("DELETE FROM identity.review_list")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_pairs
        (left_node BIGINT, right_node BIGINT, probability DOUBLE, matched_fields VARCHAR[], reason VARCHAR)""")
    con.execute("INSERT INTO identity_pairs SELECT left_node, right_node, NULL, [], 'kept apart: ' || reason FROM identity_refused WHERE reason <> 'different'")
    if rules.review.enabled:
        con.execute(*scored_pairs(rules.review))
    con.execute("""
        INSERT INTO identity.review_list
        WITH apart AS (
            SELECT DISTINCT least(l.customer_id, r.customer_id) AS a, greatest(l.customer_id, r.customer_id) AS b
            FROM identity_statements AS s LEFT JOIN identity_assigned AS l ON l.node_number = s.left_node LEFT JOIN identity_assigned AS r ON r.node_number = s.right_node
            WHERE s.decision = 'different'),
        named AS MATERIALIZED (
            SELECT p.*, l.customer_id AS left_customer, r.customer_id AS right_customer, l.source AS left_source, l.node_type AS left_type, l.source_id AS left_id,
                   r.source AS right_source, r.node_type AS right_type, r.source_id AS right_id,
                   least(left_customer, right_customer) AS a, greatest(left_customer, right_customer) AS b
            FROM identity_pairs AS p
            LEFT JOIN identity_assigned AS l ON l.node_number = p.left_node
            LEFT JOIN identity_assigned AS r ON r.node_number = p.right_node)
        SELECT left_customer, right_customer, left_source, left_type, left_id, right_source, right_type, right_id, probability, matched_fields, reason, $run_id
        FROM named ANTI JOIN apart USING (a, b)
        WHERE a <> b
        QUALIFY row_number() OVER (PARTITION BY a, b ORDER BY probability DESC NULLS LAST, left_node, right_node, reason) = 1
        ORDER BY probability DESC NULLS FIRST, left_node, right_node LIMIT $pairs""", {"run_id": run_id, "pairs": rules.review.max_pairs})
    return con.execute("SELECT count(*) FROM (SELECT DISTINCT left_node, right_node FROM identity_refused)").fetchone()[0]


def scored_pairs(review: ReviewRules) -> tuple[str, dict[str, float]]:
    """Statement and parameters that add the pairs of nodes sharing a block, from `min_probability` on, to `identity_pairs`."""
    if not review.blocks or not review.fields:
        return "SELECT 1", {}
    blocks = " UNION ".join(_block(fields) for fields in review.blocks)
    weights = [f"({_weight(name, weight)})" for name, weight in review.fields.items()]
    matched = ", ".join(f"CASE WHEN l.{name} = r.{name} THEN '{name}' END" for name in review.fields)
    sql = f"""
        INSERT INTO identity_pairs
        WITH customers AS (
            SELECT f.*, a.customer_number FROM identity_features AS f JOIN identity_assigned AS a USING (node_number) WHERE f.customer_type = 'person'),
        candidates AS ({blocks}),
        scored AS MATERIALIZED (SELECT left_node, right_node, round(1 / (1 + exp(-least(700, greatest(-700, $prior + {" + ".join(weights)})))), 6) AS probability,
               list_filter([{matched}], lambda name : name IS NOT NULL) AS matched_fields
            FROM candidates
            LEFT JOIN customers AS l ON l.node_number = left_node
            LEFT JOIN customers AS r ON r.node_number = right_node)
        SELECT left_node, right_node, probability, matched_fields, 'probable' FROM scored WHERE probability >= $min_probability"""
    return sql, {"prior": math.log(review.prior_match_rate / (1 - review.prior_match_rate)), "near": review.near_similarity,
                 "block_size": review.max_block_size, "min_probability": review.min_probability}


def _block(fields: tuple[str, ...]) -> str:
    key = ", ".join(fields)
    held = " AND ".join(f"{name} IS NOT NULL" for name in fields)
    equal = " AND ".join(f"l.{name} = r.{name}" for name in fields)
    return f"""(WITH shared AS (
                    SELECT {key} FROM customers WHERE {held} GROUP BY ALL
                    HAVING count(*) BETWEEN 2 AND $block_size AND min(customer_number) <> max(customer_number)),
                held AS MATERIALIZED (SELECT node_number, customer_number, {key} FROM customers SEMI JOIN shared USING ({key}))
                SELECT l.node_number AS left_node, r.node_number AS right_node FROM held AS l JOIN held AS r ON {equal}
                WHERE l.node_number < r.node_number AND l.customer_number <> r.customer_number)"""


def _weight(name: str, weight: FieldWeight) -> str:
    differ = math.log((1 - weight.m - weight.near_m) / (1 - weight.u - weight.near_u))
    near = ""
    if weight.near_m > 0:
        near = f"WHEN jaro_winkler_similarity(l.{name}, r.{name}) >= $near THEN {math.log(weight.near_m / weight.near_u)!r}"
    return f"CASE WHEN l.{name} IS NULL OR r.{name} IS NULL THEN 0 WHEN l.{name} = r.{name} THEN {math.log(weight.m / weight.u)!r} {near} ELSE {differ!r} END"
