"""Identity resolution, fourth step: what is known of a customer, chosen field by field from its records.

Belongs here: survivorship of attributes and the relation of persons to organisations. Does not belong here: anything
counted from facts (orders, tickets), which is the marts' work.
"""

from __future__ import annotations

import duckdb

from models.engines.identity_nodes import ATTRIBUTES, Columns, build_records, entities, quoted
from models.engines.identity_rules import STRATEGIES, Survivorship

# What an organisation relation is chosen by: the rule of the record's own column.
_RELATIONS = {"organisation_id": "company_id", "parent_organisation_id": "parent_company_id"}


def _ranks_sql() -> str:
    """SQL of the records of customers who have several, with the record's place in each order of survivorship (`by_<strategy>`, 1 being first);
    its one parameter is `$trusted`, the sources in order of trust."""
    last = "updated_at DESC NULLS LAST, created_at DESC NULLS LAST, node_number"
    orders = {
        "most_recent": last,
        "most_trusted": f"coalesce(list_position($trusted::VARCHAR[], source), 2147483647), {last}",
        "most_complete": f"filled DESC, {last}",
    }
    filled = " + ".join(f"({name} IS NOT NULL)::INT" for name in ATTRIBUTES)
    ranks = ", ".join(f"row_number() OVER (PARTITION BY customer_id ORDER BY is_deleted OR merged_into_id IS NOT NULL, node_type = 'lead', {orders[name]}) AS by_{name}"
                      for name in STRATEGIES)
    return f"SELECT *, {ranks} FROM (SELECT *, {filled} AS filled FROM identity_customer_records WHERE has_others)"


def _survivorship_sql(survivorship: Survivorship) -> str:
    """SQL of one row per customer. A field takes the first value that is not null in the order its rule names."""
    fields = [*ATTRIBUTES, *_RELATIONS]
    chosen = ", ".join(f"arg_min({name}, by_{survivorship.strategy(_RELATIONS.get(name, name))}) AS {name}" for name in fields)
    common = """count(*) AS record_count, count(DISTINCT source) AS source_count, bool_or(coalesce(is_test, false)) AS is_test,
                bool_or(is_deleted) AND bool_and(is_deleted OR merged_into_id IS NOT NULL) AS is_deleted,
                min(created_at) AS created_at, max(updated_at) AS updated_at, max(deleted_at) AS deleted_at"""
    # Most customers have one record, of which nothing need be chosen.
    return f"""
        SELECT customer_id, {chosen}, {common} FROM identity_ranked_records GROUP BY customer_id
        UNION ALL
        SELECT customer_id, {", ".join(fields)}, 1, 1, coalesce(is_test, false), is_deleted, created_at, updated_at, deleted_at
        FROM identity_customer_records WHERE NOT has_others"""


def store_attributes(con: duckdb.DuckDBPyConnection, survivorship: Survivorship, schema: str, columns: Columns, *, whole: bool) -> None:
    """Write `identity.customer_attributes` (one row per customer), `identity.hierarchy` (person to organisation), and what they were chosen
    from: `identity.records` and `identity.survivorship`. Without `whole`, the rows of the customers that may have changed are replaced."""
    _find_touched(con, schema, columns, whole=whole)
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_customer_records AS
        SELECT a.customer_id, a.node_number, a.has_others, r.* EXCLUDE (wanted), o.customer_id AS organisation_id,
               CASE WHEN p.customer_id <> a.customer_id THEN p.customer_id END AS parent_organisation_id
        FROM identity_records AS r
        LEFT JOIN identity_record_customers AS a USING (wanted)
        LEFT JOIN identity_organisations AS o ON o.source = r.source AND o.source_id = r.company_id
        LEFT JOIN identity_organisations AS p ON p.source = r.source AND p.source_id = r.parent_company_id""")
    con.execute(f"CREATE OR REPLACE TEMP TABLE identity_ranked_records AS {_ranks_sql()}", {"trusted": list(survivorship.trusted_sources)})
    for table in ("records", "customer_attributes", "hierarchy"):
        con.execute(f"DELETE FROM identity.{table}" + ("" if whole else " WHERE customer_id IN (FROM identity_touched_customers)"))
    _store_records(con, survivorship)
    names = [name for name in ATTRIBUTES if name != "name"]
    con.execute(f"""
        INSERT INTO identity.customer_attributes BY NAME
        WITH customers AS (
            SELECT customer_id, customer_type, is_lead_only, bool_or(is_known) AS is_known FROM identity.members
            {"" if whole else "WHERE customer_id IN (FROM identity_touched_customers)"} GROUP BY ALL),
        chosen AS ({_survivorship_sql(survivorship)})
        SELECT c.customer_id, c.customer_type, c.is_lead_only, c.is_known, coalesce(s.is_deleted, false) AS is_deleted, coalesce(s.is_test, false) AS is_test,
               coalesce(s.record_count, 0) AS record_count, coalesce(s.source_count, 0) AS source_count,
               CASE WHEN c.customer_type = 'person' THEN nullif(concat_ws(' ', s.first_name, s.last_name), '') ELSE s.name END AS name, {", ".join(f"s.{name}" for name in names)},
               s.organisation_id, s.parent_organisation_id, s.created_at, s.updated_at, CASE WHEN s.is_deleted THEN s.deleted_at END AS deleted_at
        FROM customers AS c LEFT JOIN chosen AS s USING (customer_id)""")
    _store_hierarchy(con, schema, columns.get("contacts", set()))


def _find_touched(con: duckdb.DuckDBPyConnection, schema: str, columns: Columns, *, whole: bool) -> None:
    """Temp tables `identity_touched_customers`, their `identity_records`, and `identity_record_customers`, which says of each of these whose it is.

    A customer is touched when a record of it changed, came or went, and when an organisation that a record of it names is another customer now.
    """
    con.execute("CREATE OR REPLACE TEMP TABLE identity_organisations AS SELECT source, source_id, customer_id FROM identity.members WHERE node_type = 'company'")
    if whole:       # the records of this run are those of all customers
        con.execute("""
            CREATE OR REPLACE TEMP TABLE identity_record_customers AS
            SELECT wanted, node_number, customer_id, coalesce(records > 1, false) AS has_others
            FROM (SELECT wanted, node_number FROM identity_rekeyed WHERE is_known) LEFT JOIN identity_assigned USING (node_number)
            LEFT JOIN (SELECT customer_number, count(*) AS records FROM identity_assigned SEMI JOIN identity_linked USING (node_number) WHERE is_known GROUP BY customer_number) USING (customer_number)""")
        return
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_moved_organisations AS
        SELECT source, source_id FROM identity_assigned WHERE node_type = 'company' AND customer_id IS DISTINCT FROM previous_id   -- one that is gone is named by no record""")
    naming = "".join(
        f""" UNION SELECT t._source, '{node_type}', CAST(t.{key} AS VARCHAR) FROM {quoted(schema)}.{quoted(table)} AS t
             JOIN identity_moved_organisations AS m ON m.source = t._source AND m.source_id = CAST(t.{column} AS VARCHAR) WHERE t.{key} IS NOT NULL"""
        for node_type, (table, key) in entities(columns).items() for column in _RELATIONS.values() if column in columns[table] and column != key)
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_touched_customers AS
        WITH named AS (SELECT source, node_type, source_id FROM identity_assigned {naming})
        SELECT customer_id FROM identity.members SEMI JOIN named USING (source, node_type, source_id)
        UNION FROM identity_former_customers""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_record_customers AS
        WITH touched AS MATERIALIZED (SELECT source, node_type, source_id, customer_id FROM identity.members SEMI JOIN identity_touched_customers USING (customer_id) WHERE is_known)
        SELECT n.node_number, n.node_number AS wanted, n.source, n.node_type, n.source_id, 2 AS versions,   -- how many was not counted
               t.customer_id, count(*) OVER (PARTITION BY t.customer_id) > 1 AS has_others
        FROM touched AS t JOIN identity_memory.nodes AS n USING (source, node_type, source_id)""")
    build_records(con, schema, columns, "identity_record_customers")


def _store_records(con: duckdb.DuckDBPyConnection, survivorship: Survivorship) -> None:
    """What a person needs to see why a customer is as it is: each record with its values and its places in the orders of survivorship."""
    columns = f"source, node_type, source_id, customer_id, is_deleted, merged_into_id, {', '.join(ATTRIBUTES)}, created_at, updated_at"
    con.execute(f"""
        INSERT INTO identity.records BY NAME
        SELECT {columns}, {", ".join(f"by_{name}" for name in STRATEGIES)} FROM identity_ranked_records
        UNION ALL
        SELECT {columns}, {", ".join(f"1 AS by_{name}" for name in STRATEGIES)} FROM identity_customer_records WHERE NOT has_others""")
    con.execute("DELETE FROM identity.survivorship")
    con.executemany("INSERT INTO identity.survivorship VALUES (?, ?)", [[name, survivorship.strategy(name)] for name in ATTRIBUTES])


def _store_hierarchy(con: duckdb.DuckDBPyConnection, schema: str, present: set[str]) -> None:
    """A person belongs to an organisation since the first version of the record that names it."""
    if "company_id" not in present:
        return
    updated, created = ("updated_at" if "updated_at" in present else "NULL::TIMESTAMP"), ("created_at" if "created_at" in present else "NULL::TIMESTAMP")
    con.execute(f"""
        INSERT INTO identity.hierarchy
        WITH people AS MATERIALIZED (
            SELECT source, source_id, versions, customer_id, company_id, organisation_id, created_at, updated_at FROM identity_customer_records
            WHERE node_type = 'contact' AND organisation_id IS NOT NULL),
        named AS (
            SELECT p.source, p.source_id, t.company_id, min(t.created_at) AS created_at, min(coalesce(t.updated_at, t.created_at)) AS first_at
            FROM (SELECT _source, contact_id, company_id, {updated} AS updated_at, {created} AS created_at FROM {quoted(schema)}.contacts) AS t
            JOIN (SELECT source, source_id FROM people WHERE versions > 1) AS p ON p.source = t._source AND p.source_id = CAST(t.contact_id AS VARCHAR) GROUP BY ALL),
        dated AS (   -- a record that never named another company has named this one from its creation on
            SELECT *, CASE WHEN count(*) OVER (PARTITION BY source, source_id) = 1 THEN coalesce(created_at, first_at) ELSE first_at END AS since FROM named),
        belonging AS (
            SELECT customer_id, organisation_id, coalesce(created_at, updated_at) AS since FROM people WHERE versions = 1
            UNION ALL
            SELECT r.customer_id, r.organisation_id, d.since
            FROM people AS r JOIN dated AS d ON d.source = r.source AND d.source_id = r.source_id AND d.company_id = r.company_id)
        SELECT b.customer_id, b.organisation_id, min(b.since), b.organisation_id IS NOT DISTINCT FROM c.organisation_id
        FROM belonging AS b JOIN identity.customer_attributes AS c USING (customer_id)
        GROUP BY b.customer_id, b.organisation_id, c.organisation_id ORDER BY b.customer_id, b.organisation_id""")
