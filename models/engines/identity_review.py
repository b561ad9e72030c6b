"""Identity resolution, last step: pairs of customers that are probably one, for a person to decide on.

Belongs here: scoring of pairs, and links that a rule proposed and a contradiction stopped. Does not belong here: merging;
nothing here changes who is one customer.

Pairs are scored by Splink 5 as by Fellegi and Sunter, A Theory for Record Linkage, JASA 64 (1969). The model learns from the records
themselves (expectation maximisation; what is common among names counts for less) and is kept in `identity.review_model`, because
learning takes several times as long as scoring: it is learned again when the rules of the review change or the people have doubled.
Below `min_training_records` people there are too few pairs to learn from, and the rates of the rules file stand. Where no two
customers share a block nothing is scored and Splink is not even imported (half a CPU second), so that a small home pays nothing.

Why a library: on 20,000 made people with 2,050 duplicates that no rule joins, of the pairs called 0.9 or more probable, 80 % were
right (71 % of the duplicates found) against 16 % (75 % found) with fixed rates, which cannot know how common a company's names are.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import duckdb

from models.engines.identity_rules import FieldWeight, IdentityRules, ReviewRules

_LOG = logging.getLogger(__name__)
_SEED = 20_260_101            # of Splink's samples: equal records give an equal model
_MAX_PRIOR = 0.01              # a handful of records, all of one person, would make every pair certain
_RELATIVELY_RARE = ("first_name", "last_name", "city")   # fields of which two records may share a common value or a rare one


def store_review_list(con: duckdb.DuckDBPyConnection, rules: IdentityRules, run_id: str) -> int:
    """Write `identity.review_list`, one row per pair of customers; returns the number of links that were refused."""
    refused = con.execute("SELECT count(*) FROM (SELECT DISTINCT left_node, right_node FROM identity_memory.refused)").fetchone()[0]
    if not con.execute("SELECT EXISTS (FROM identity_affected) OR EXISTS (FROM identity_gone)").fetchone()[0]:
        con.execute("UPDATE identity.review_list SET run_id = ?", [run_id])
        return refused
    con.execute("DELETE FROM identity.review_list")
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_probable
                   (left_node BIGINT, right_node BIGINT, probability DOUBLE, matched_fields VARCHAR[], reason VARCHAR)""")
    if rules.review.enabled and rules.review.blocks and rules.review.fields:
        score_pairs(con, rules.review, run_id)
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_pairs AS
                   SELECT left_node, right_node, NULL::DOUBLE AS probability, []::VARCHAR[] AS matched_fields, 'kept apart: ' || reason AS reason FROM identity_memory.refused WHERE reason <> 'different'
                   UNION ALL FROM identity_probable""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_paired AS
        WITH paired AS (SELECT unnest([left_node, right_node]) AS node_number FROM (SELECT left_node, right_node FROM identity_pairs UNION ALL SELECT left_node, right_node FROM identity_statements))
        SELECT node_number, n.source, n.node_type, n.source_id, coalesce(f.own_id, n.own_id) AS customer_id
        FROM (SELECT DISTINCT node_number FROM paired)
        LEFT JOIN identity_memory.nodes AS n USING (node_number) LEFT JOIN identity_memory.components AS c USING (node_number) LEFT JOIN identity_memory.nodes AS f ON f.node_number = c.founder""")
    con.execute("""
        INSERT INTO identity.review_list
        WITH apart AS (
            SELECT DISTINCT least(l.customer_id, r.customer_id) AS a, greatest(l.customer_id, r.customer_id) AS b
            FROM identity_statements AS s LEFT JOIN identity_paired AS l ON l.node_number = s.left_node LEFT JOIN identity_paired AS r ON r.node_number = s.right_node
            WHERE s.decision = 'different'),
        named AS MATERIALIZED (
            SELECT p.*, l.customer_id AS left_customer, r.customer_id AS right_customer, l.source AS left_source, l.node_type AS left_type, l.source_id AS left_id,
                   r.source AS right_source, r.node_type AS right_type, r.source_id AS right_id,
                   least(left_customer, right_customer) AS a, greatest(left_customer, right_customer) AS b
            FROM identity_pairs AS p
            LEFT JOIN identity_paired AS l ON l.node_number = p.left_node
            LEFT JOIN identity_paired AS r ON r.node_number = p.right_node)
        SELECT left_customer, right_customer, left_source, left_type, left_id, right_source, right_type, right_id, probability, matched_fields,
               coalesce(min(reason) FILTER (reason <> 'probable') OVER (PARTITION BY a, b), 'probable') AS reason, $run_id   -- what a rule proposed keeps its reason beside a probability
        FROM named ANTI JOIN apart USING (a, b)
        WHERE a <> b
        QUALIFY row_number() OVER (PARTITION BY a, b ORDER BY probability DESC NULLS LAST, left_node, right_node) = 1
        ORDER BY probability DESC NULLS FIRST, left_node, right_node LIMIT $pairs""", {"run_id": run_id, "pairs": rules.review.max_pairs})
    return refused


def score_pairs(con: duckdb.DuckDBPyConnection, review: ReviewRules, run_id: str) -> None:
    """Fill `identity_probable` with the pairs of people of two customers who share a block and are `min_probability` or more likely one.

    All are scored in each run: how common a name is, and how likely two records are one at all, changes with every record that comes.
    """
    _people(con, review)
    if not _candidates(con, review):
        return
    splink = _Splink(con)
    try:
        scored = splink.predict(_model(con, splink, review, run_id), review.min_probability)
        matched = ", ".join(f"CASE WHEN l.{name} = r.{name} THEN '{name}' END" for name in review.fields)
        con.execute(f"""
            INSERT INTO identity_probable
            SELECT least(p.node_number_l, p.node_number_r), greatest(p.node_number_l, p.node_number_r), round(p.match_probability, 4),
                   list_filter([{matched}], lambda name : name IS NOT NULL), 'probable'
            FROM {scored} AS p LEFT JOIN identity_people AS l ON l.node_number = p.node_number_l LEFT JOIN identity_people AS r ON r.node_number = p.node_number_r""")
    finally:
        splink.clean()


def _people(con: duckdb.DuckDBPyConnection, review: ReviewRules) -> None:
    """Temp table `identity_people`: one row per record of a person, with its fields and the node that founded its customer."""
    fields = sorted({*review.fields, *(field for block in review.blocks for field in block)})
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_people AS
        SELECT f.node_number, coalesce(c.founder, f.node_number) AS customer_number, {", ".join(f"CAST(f.{name} AS VARCHAR) AS {name}" for name in fields)}
        FROM identity_memory.features AS f LEFT JOIN identity_memory.components AS c USING (node_number) WHERE f.node_type <> 'company'""")


def _candidates(con: duckdb.DuckDBPyConnection, review: ReviewRules) -> int:
    """Temp tables `identity_candidates` (pairs of records of two customers that share a block with a few others; its columns are those of
    Splink) and `identity_candidate_people` (their records); returns the number of pairs."""
    blocks = []
    for number, fields in enumerate(review.blocks):
        names, held = ", ".join(fields), " AND ".join(f"{field} IS NOT NULL" for field in fields)
        con.execute(f"""
            CREATE OR REPLACE TEMP TABLE identity_block_{number} AS
            SELECT node_number, customer_number, {names} FROM identity_people
            SEMI JOIN (SELECT {names} FROM identity_people WHERE {held} GROUP BY {names} HAVING count(*) BETWEEN 2 AND $size AND min(customer_number) <> max(customer_number)) USING ({names})""",
            {"size": review.max_block_size})
        blocks.append(f"""SELECT l.node_number AS join_key_l, r.node_number AS join_key_r FROM identity_block_{number} AS l JOIN identity_block_{number} AS r USING ({names})
                          WHERE l.node_number < r.node_number AND l.customer_number <> r.customer_number""")
    con.execute(f"CREATE OR REPLACE TEMP TABLE identity_candidates AS SELECT '0' AS match_key, * FROM ({' UNION '.join(blocks)})")
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_candidate_people AS
                   FROM identity_people WHERE node_number IN (SELECT join_key_l FROM identity_candidates UNION SELECT join_key_r FROM identity_candidates)""")
    return con.execute("SELECT count(*) FROM identity_candidates").fetchone()[0]


def _model(con: duckdb.DuckDBPyConnection, splink: _Splink, review: ReviewRules, run_id: str) -> dict[str, Any]:
    """Splink's settings for this run: the kept model, a newly learned one, or the starting rates; the prior is always that of the records at hand."""
    count, joined = con.execute("""SELECT coalesce(sum(n), 0)::BIGINT, coalesce(sum(n * (n - 1) / 2), 0) FROM (SELECT count(*) AS n FROM identity_people GROUP BY customer_number)""").fetchone()
    prior = min(_MAX_PRIOR, (joined + 1) / (review.rule_recall * count * (count - 1) / 2))
    starting = settings(review, prior, count >= review.min_training_records)
    if count < review.min_training_records:
        _LOG.info("identity review: %s people are fewer than %s, the starting rates of the rules file stand", count, review.min_training_records)
        return starting
    rules_hash = hashlib.sha256(json.dumps(settings(review, 0.0, True), sort_keys=True).encode()).hexdigest()
    kept = con.execute("SELECT model, person_count FROM identity.review_model WHERE rules_hash = ?", [rules_hash]).fetchone()
    if kept is not None and count < 2 * kept[1]:
        return {**json.loads(kept[0]), "probability_two_random_records_match": prior}
    learned = splink.train(starting, review)
    con.execute("DELETE FROM identity.review_model")
    con.execute("INSERT INTO identity.review_model VALUES (?, ?, ?, ?)", [run_id, count, rules_hash, json.dumps(learned, sort_keys=True)])
    return {**learned, "probability_two_random_records_match": prior}


def settings(review: ReviewRules, prior: float, is_learned: bool) -> dict[str, Any]:
    """Splink's settings with the starting rates; `prior` is the share of true pairs among all pairs of records."""
    return {
        "link_type": "dedupe_only", "unique_id_column_name": "node_number", "probability_two_random_records_match": prior,
        "comparisons": [_comparison(name, weight, review.near_similarity, is_learned and name in _RELATIVELY_RARE) for name, weight in review.fields.items()],
        "blocking_rules_to_generate_predictions": [" AND ".join(f"l.{name} = r.{name}" for name in fields) for fields in review.blocks],
        "retain_matching_columns": False, "retain_intermediate_calculation_columns": False,
    }


def _comparison(name: str, weight: FieldWeight, near: float, by_frequency: bool) -> dict[str, Any]:
    exact = {"sql_condition": f"{name}_l = {name}_r", "label_for_charts": "equal", "m_probability": weight.m, "u_probability": weight.u}
    if by_frequency:
        exact |= {"tf_adjustment_column": name, "tf_adjustment_weight": 1.0}
    similar = [{"sql_condition": f"jaro_winkler_similarity({name}_l, {name}_r) >= {near}", "label_for_charts": "near",
                "m_probability": weight.near_m, "u_probability": weight.near_u}] if weight.near_m > 0 else []
    return {"output_column_name": name, "comparison_levels": [
        {"sql_condition": f"{name}_l IS NULL OR {name}_r IS NULL", "label_for_charts": "empty", "is_null_level": True}, exact, *similar,
        {"sql_condition": "ELSE", "label_for_charts": "differs", "m_probability": 1 - weight.m - weight.near_m, "u_probability": 1 - weight.u - weight.near_u}]}


class _Splink:
    """Splink on the connection of the run. Its tables live in the transaction of the run and are dropped by `clean`."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        import splink  # here and not above: half a second that a home without probable pairs never pays
        self._splink, self._con = splink, con
        logging.getLogger("splink").setLevel(logging.ERROR)      # its progress and advice are for a notebook
        self._api = splink.DuckDBAPI(con)

    def train(self, starting: dict[str, Any], review: ReviewRules) -> dict[str, Any]:
        """Settings with learned rates. A block without pairs teaches nothing, and what nothing teaches keeps its starting rate."""
        from splink.internals.exceptions import SplinkException
        # its samples are of rows by their place: equal records in one order give an equal model
        self._con.execute("CREATE OR REPLACE TEMP TABLE identity_pupils AS FROM identity_people ORDER BY node_number")
        linker = self._splink.Linker(self._api.register("identity_pupils"), starting, log_level=logging.ERROR)
        linker.training.estimate_u_using_random_sampling(max_pairs=review.max_training_pairs, seed=_SEED)
        for fields in review.training_blocks:
            try:
                linker.training.estimate_parameters_using_expectation_maximisation(self._splink.block_on(*fields), max_pairs=review.max_training_pairs)
            except (SplinkException, duckdb.BinderException, ValueError) as error:
                if isinstance(error.__cause__, duckdb.Error) and not isinstance(error.__cause__, duckdb.BinderException):
                    raise                    # memory or disk ran out: that says nothing about the block
                # no pair agrees there; or every pair that does is one person in all fields, and Splink weighs the block's prior with infinity, which its SQL cannot say;
                # or none is, and the rate of a kind of agreement shrinks below 1e-300, which Splink refuses. The rates stand as they were before the block.
                _LOG.info("identity review: pairs that agree on %s teach nothing (%s: %s)", ", ".join(fields), type(error).__name__, str(error).splitlines()[0][:200])
        return {name: value for name, value in linker.misc.save_model_to_json().items() if name != "linker_uid"}      # drawn by chance

    def predict(self, model: dict[str, Any], min_probability: float) -> str:
        """Name of the table of scored pairs."""
        linker = self._splink.Linker(self._api.register("identity_candidate_people"), model, log_level=logging.ERROR)
        for name in (c["output_column_name"] for c in model["comparisons"] if any("tf_adjustment_column" in level for level in c["comparison_levels"])):
            self._con.execute(f"""
                CREATE OR REPLACE TEMP TABLE identity_frequency_{name} AS
                SELECT {name}, CAST(count(*) AS DOUBLE) / (SELECT count({name}) FROM identity_people) AS tf_{name} FROM identity_people WHERE {name} IS NOT NULL GROUP BY {name}""")
            linker.table_management.register_term_frequency_lookup(self._api.register(f"identity_frequency_{name}"), name)
        linker.table_management.register_blocked_pairs_for_predict(self._api.register("identity_candidates"))
        return linker.inference.predict(threshold_match_probability=min_probability).physical_name

    def clean(self) -> None:
        self._api.delete_tables_created_by_splink_from_db()
