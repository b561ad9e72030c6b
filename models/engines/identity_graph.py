"""Identity resolution, second step: which nodes are one customer.

Belongs here: links between nodes, their order, connected components, and the splitting of components that hold a
contradiction. Does not belong here: how values are normalised (`identity_nodes`) or what is stored (`identity_state`).

Definition. Every pair of nodes that share a value under a rule, or of which one names the other, is a link. Links are taken
in order of age (the run in which both nodes first held the value), then of the rule's strength, then of the two node
numbers. A link joins the customers of its ends unless that would put together two nodes that somebody said are different,
or two different values of a property on the rule's `do_not_merge` list. Taking old links first is what keeps ids stable: a
link that came with new rows cannot take an old customer apart, and a pair that is unmerged falls back to what it was before.

Where nothing contradicts, the order does not matter and the answer is the connected components, computed set-based in
O(log n) rounds. Only components with a contradiction are walked link by link, each decision depending on those before it.

DuckDB knows nothing of the size of tables written in the same transaction and then guesses join orders badly (two ends of a
link joined with each other before either was looked up: n² rows). So the two ends of a link are looked up by LEFT JOIN, which
keeps the order as written, and compared only behind a MATERIALIZED step.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import polars as pl

from models.engines.identity_nodes import Columns, quoted
from models.engines.identity_partition import Partition
from models.engines.identity_rules import IdentityRules

# Links of contested components read at a time; bounds memory.
_CHUNK = 50_000


def build_statements(con: duckdb.DuckDBPyConnection, schema: str, present: Columns) -> int:
    """Temp table `identity_statements`: per pair of nodes what was said about it, `same` or `different`, and by whom; and
    `identity_restated`, where that is other than last time.

    Of each source the last word on a pair holds, and `withdrawn` means none. A link may name the types of its records; where it
    does not, contacts are meant first, then leads, then companies. A pair that somebody calls different and somebody else calls
    the same is different. Returns the number of links whose records are not known (yet) or whose decision is no known word.
    """
    columns = present.get("identity_links", set())
    wanted = {"left_source": "VARCHAR", "left_type": "VARCHAR", "left_id": "VARCHAR", "right_source": "VARCHAR", "right_type": "VARCHAR", "right_id": "VARCHAR",
              "decision": "VARCHAR", "decided_at": "TIMESTAMP", "decided_by": "VARCHAR", "_source": "VARCHAR", "_is_tombstone": "BOOLEAN"}
    named = ", ".join(name if name in columns else f"CAST(NULL AS {kind}) AS {name}" for name, kind in wanted.items())
    order = ", ".join(f"{name} DESC NULLS LAST" for name in ("_batch_seq", "_is_tombstone", "decided_at", "_row_hash") if name in columns)
    key = ", ".join(name for name in ("_source", "left_source", "left_type", "left_id", "right_source", "right_type", "right_id") if name in columns)
    current = f"SELECT {named} FROM {quoted(schema)}.identity_links QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order or '1'}) = 1" if key else \
        f"SELECT {named} WHERE false"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_links_now AS
        SELECT row_number() OVER () AS link, * REPLACE (lower(trim(decision)) AS decision) FROM ({current})
        WHERE NOT coalesce(_is_tombstone, false) AND lower(trim(decision)) IS DISTINCT FROM 'withdrawn'""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_meant AS
        WITH lefts AS MATERIALIZED (
            SELECT k.link, k.decision, k.decided_at, k.decided_by, k.right_source, k.right_type, k.right_id, n.node_number, n.node_type
            FROM identity_links_now AS k JOIN identity_memory.nodes AS n ON n.source = k.left_source AND n.source_id = k.left_id AND n.node_type = coalesce(k.left_type, n.node_type)
            WHERE k.decision IN ('same', 'different'))
        SELECT l.decision, l.decided_at, l.decided_by, l.node_number AS a, r.node_number AS b
        FROM lefts AS l JOIN identity_memory.nodes AS r ON r.source = l.right_source AND r.source_id = l.right_id AND r.node_type = coalesce(l.right_type, r.node_type)
             AND (r.node_type = 'company') = (l.node_type = 'company')
        QUALIFY row_number() OVER (PARTITION BY l.link ORDER BY l.node_type = 'company',
                                   (l.node_type = 'lead')::INT + (r.node_type = 'lead')::INT, l.node_type, r.node_type) = 1""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_statements AS
        SELECT least(a, b) AS left_node, greatest(a, b) AS right_node, min(decision) AS decision,   -- 'different' sorts before 'same'
               first(decided_by ORDER BY decision, decided_at DESC NULLS LAST, decided_by) AS decided_by
        FROM identity_meant
        WHERE a <> b
        GROUP BY ALL""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_restated AS
        (FROM identity_statements EXCEPT FROM identity_memory.statements) UNION ALL (FROM identity_memory.statements EXCEPT FROM identity_statements)""")
    if con.execute("SELECT EXISTS (FROM identity_restated)").fetchone()[0]:
        con.execute("DELETE FROM identity_memory.statements")
        con.execute("INSERT INTO identity_memory.statements FROM identity_statements")
    return con.execute("SELECT (SELECT count(*) FROM identity_links_now) - (SELECT count(*) FROM identity_meant)").fetchone()[0]


def build_holders(con: duckdb.DuckDBPyConnection, rules: IdentityRules, run_number: int, *, whole: bool) -> None:
    """Bring `identity_memory.holders` (nodes that may be linked by a shared value) up to date for the values that a changed node holds or
    held (with `whole`, for all). Temp tables: `identity_linking` (who is linked by them now) and `identity_former_holders` (who was). Newly
    shared values and newly stated links enter `identity.sightings`."""
    touched = ""
    if not whole:
        con.execute("""CREATE OR REPLACE TEMP TABLE identity_touched_keys AS
                       FROM identity_lost_keys UNION SELECT key_hash FROM identity_memory.keys WHERE node_number IN (SELECT node_number FROM identity_rekeyed)""")
        touched = "WHERE key_hash IN (FROM identity_touched_keys)"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_held AS
        SELECT k.node_number, k.rule_number, k.key_hash, n.own_id
        FROM identity_memory.keys AS k LEFT JOIN identity_memory.nodes AS n USING (node_number)
        WHERE k.key_hash IN (SELECT key_hash FROM identity_memory.keys {touched} GROUP BY key_hash HAVING count(*) > 1)""")
    con.execute("""
        INSERT INTO identity.sightings
        SELECT s.seen_id, s.key_hash, $run_number
        FROM (SELECT own_id AS seen_id, key_hash FROM identity_held
              UNION SELECT seen_id, key_hash FROM identity_memory.direct WHERE naming_node IN (SELECT node_number FROM identity_rekeyed)
              UNION SELECT seen_id, key_hash FROM identity_stated) AS s
        ANTI JOIN identity.sightings AS known ON known.node_id = s.seen_id AND known.key_hash = s.key_hash""", {"run_number": run_number})
    con.execute("CREATE OR REPLACE TEMP TABLE identity_limits (rule_number INTEGER, max_group_size INTEGER, max_distinct_names INTEGER)")
    con.executemany("INSERT INTO identity_limits VALUES (?, ?, ?)",
                    [[number, rule.max_group_size, rule.max_distinct_names] for number, rule in enumerate(rules.rules)])
    # The counts run over the runs in which the value was seen, so that a value that becomes shared keeps what it joined before.
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_linking AS
        WITH seen AS (
            SELECT h.node_number, h.rule_number, h.key_hash, s.run_number, f.full_name
            FROM identity_held AS h
            JOIN identity.sightings AS s ON s.node_id = h.own_id AND s.key_hash = h.key_hash
            JOIN identity_memory.features AS f USING (node_number)),
        first_named AS (
            SELECT key_hash, full_name, min(run_number) AS run_number FROM seen WHERE full_name IS NOT NULL GROUP BY ALL),
        counted AS (
            SELECT key_hash, run_number, sum(node_count) OVER so_far AS node_count, sum(name_count) OVER so_far AS name_count
            FROM (SELECT key_hash, run_number, sum(nodes) AS node_count, sum(names) AS name_count
                  FROM (SELECT key_hash, run_number, 1 AS nodes, 0 AS names FROM seen
                        UNION ALL SELECT key_hash, run_number, 0, 1 FROM first_named) GROUP BY ALL)
            WINDOW so_far AS (PARTITION BY key_hash ORDER BY run_number))
        SELECT seen.node_number, seen.rule_number, seen.key_hash, seen.run_number
        FROM seen JOIN counted USING (key_hash, run_number) JOIN identity_limits USING (rule_number)
        WHERE counted.node_count <= max_group_size AND counted.name_count <= max_distinct_names""")
    if not whole:
        con.execute("CREATE OR REPLACE TEMP TABLE identity_former_holders AS SELECT node_number FROM identity_memory.holders SEMI JOIN identity_touched_keys USING (key_hash)")
        con.execute("DELETE FROM identity_memory.holders WHERE key_hash IN (FROM identity_touched_keys)")
    con.execute("INSERT INTO identity_memory.holders FROM identity_linking")


def build_direct(con: duckdb.DuckDBPyConnection, rules: IdentityRules) -> None:
    """Links that name their other end: source merges and the contact a lead belongs to, into `identity_memory.direct` for the nodes of
    `identity_rekeyed`; and stated links, into the temp table `identity_stated`."""
    link = """SELECT naming_node, least(a, b) AS left_node, greatest(a, b) AS right_node, {0} AS rule_number, CAST(md5($rule_{0} || '|' || named) AS UUID) AS key_hash, seen_id
              FROM ({1}) WHERE a <> b"""
    from_column = """WITH naming AS MATERIALIZED (
                         SELECT n.node_number, n.own_id, n.source, {1} AS other_type, {2} AS other_id
                         FROM identity_records AS r JOIN identity_rekeyed AS n USING (wanted)
                         WHERE {2} IS NOT NULL AND list_contains($types_{0}, r.node_type))
                     SELECT r.node_number AS naming_node, r.node_number AS a, o.node_number AS b, o.own_id AS named, r.own_id AS seen_id
                     FROM naming AS r JOIN identity_memory.nodes AS o ON o.source = r.source AND o.node_type = r.other_type AND o.source_id = r.other_id"""
    columns = {
        "merged_into": ("r.node_type", "r.merged_into_id"),
        # the contact it was converted to is surer than the one it was entered for
        "lead_reference": ("'contact'", "coalesce(r.converted_contact_id, r.contact_id)"),
    }
    selects, bound = [], {}
    for rule_id, (other_type, other_id) in columns.items():
        number = rules.number(rule_id)
        if number is not None:
            selects.append(link.format(number, from_column.format(number, other_type, other_id)))
            bound |= {f"rule_{number}": rule_id, f"types_{number}": list(rules.rules[number].node_types)}
    if selects:
        con.execute("INSERT INTO identity_memory.direct " + " UNION ALL ".join(selects), bound)
    number = rules.number("identity_link")
    stated = """SELECT NULL AS naming_node, left_node AS a, right_node AS b, least(l.own_id, r.own_id) || '|' || greatest(l.own_id, r.own_id) AS named, least(l.own_id, r.own_id) AS seen_id
                FROM identity_statements LEFT JOIN identity_memory.nodes AS l ON l.node_number = left_node LEFT JOIN identity_memory.nodes AS r ON r.node_number = right_node
                WHERE decision = 'same' AND list_contains($types_{0}, l.node_type) AND list_contains($types_{0}, r.node_type)"""
    bound = {} if number is None else {f"rule_{number}": "identity_link", f"types_{number}": list(rules.rules[number].node_types)}
    con.execute("CREATE OR REPLACE TEMP TABLE identity_stated AS " + ("FROM identity_memory.direct LIMIT 0" if number is None else link.format(number, stated.format(number))), bound)


def build_links(con: duckdb.DuckDBPyConnection) -> None:
    """Temp tables of the affected nodes: `identity_holders`, `identity_direct`, and `identity_edges` (enough links to connect them, numbered in
    the order of the definition)."""
    con.execute("CREATE OR REPLACE TEMP TABLE identity_holders AS FROM identity_memory.holders SEMI JOIN identity_affected USING (node_number)")
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_direct AS
                   SELECT * EXCLUDE (naming_node) FROM (FROM identity_memory.direct UNION ALL FROM identity_stated) WHERE left_node IN (SELECT node_number FROM identity_affected)""")
    # Each holder is linked to the holder that was there first: a star connects a group with one link per node.
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_edges AS
        WITH hubs AS (
            SELECT key_hash, arg_min(node_number, (run_number, node_number)) AS hub FROM identity_holders GROUP BY ALL),
        edges AS (
            SELECT least(h.node_number, hub) AS left_node, greatest(h.node_number, hub) AS right_node, h.rule_number, h.run_number, h.key_hash
            FROM identity_holders AS h JOIN hubs USING (key_hash) WHERE h.node_number <> hub
            UNION ALL
            SELECT d.left_node, d.right_node, d.rule_number, s.run_number, d.key_hash
            FROM identity_direct AS d JOIN identity.sightings AS s ON s.node_id = d.seen_id AND s.key_hash = d.key_hash)
        SELECT row_number() OVER (ORDER BY run_number, rule_number, left_node, right_node, key_hash) AS edge_number, * FROM edges""")


def connect(con: duckdb.DuckDBPyConnection) -> None:
    """Temp tables `identity_components` (node → component), which `settle_contested` splits and `identity_linked` keeps as they are here, and
    `identity_forest` (the strongest links that connect them).

    Borůvka's algorithm (1926): every component takes its strongest outgoing link, and pointer jumping finds the new
    components; each round at least halves their number.
    """
    con.execute("CREATE OR REPLACE TEMP TABLE identity_contracted AS SELECT edge_number, left_node AS a, right_node AS b FROM identity_edges")
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_components AS
                   SELECT node_number, node_number AS component FROM (SELECT a AS node_number FROM identity_contracted UNION SELECT b FROM identity_contracted)""")
    con.execute("CREATE OR REPLACE TEMP TABLE identity_taken (edge_number BIGINT)")
    while con.execute("SELECT EXISTS (FROM identity_contracted)").fetchone()[0]:
        con.execute("""
            CREATE OR REPLACE TEMP TABLE identity_strongest AS
            SELECT component, min(edge_number) AS edge_number
            FROM (SELECT a AS component, edge_number FROM identity_contracted UNION ALL SELECT b, edge_number FROM identity_contracted) GROUP BY ALL""")
        con.execute("INSERT INTO identity_taken SELECT DISTINCT edge_number FROM identity_strongest")
        con.execute("""
            CREATE OR REPLACE TEMP TABLE identity_parents AS
            SELECT component, CASE WHEN theirs.edge_number = mine.edge_number AND component < other THEN component ELSE other END AS parent
            FROM (SELECT s.component, s.edge_number, CASE WHEN e.a = s.component THEN e.b ELSE e.a END AS other
                  FROM identity_strongest AS s JOIN identity_contracted AS e USING (edge_number)) AS mine
            JOIN (SELECT component AS other, edge_number FROM identity_strongest) AS theirs USING (other)""")
        while con.execute("""SELECT EXISTS (FROM identity_parents AS p JOIN identity_parents AS g ON g.component = p.parent WHERE g.parent <> p.parent)""").fetchone()[0]:
            con.execute("""CREATE OR REPLACE TEMP TABLE identity_parents AS
                           SELECT p.component, g.parent FROM identity_parents AS p JOIN identity_parents AS g ON g.component = p.parent""")
        con.execute("""CREATE OR REPLACE TEMP TABLE identity_components AS
                       SELECT node_number, coalesce(p.parent, c.component) AS component
                       FROM identity_components AS c LEFT JOIN identity_parents AS p USING (component)""")
        con.execute("""
            CREATE OR REPLACE TEMP TABLE identity_contracted AS
            WITH moved AS MATERIALIZED (
                SELECT edge_number, p.parent AS a, q.parent AS b
                FROM identity_contracted AS e LEFT JOIN identity_parents AS p ON p.component = e.a LEFT JOIN identity_parents AS q ON q.component = e.b)
            SELECT min(edge_number) AS edge_number, least(a, b) AS a, greatest(a, b) AS b FROM moved WHERE a <> b GROUP BY ALL""")
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_forest AS
                   SELECT left_node, right_node, rule_number, key_hash FROM identity_edges SEMI JOIN identity_taken USING (edge_number)""")
    con.execute("CREATE OR REPLACE TEMP TABLE identity_linked AS FROM identity_components")


def build_exclusives(con: duckdb.DuckDBPyConnection, rules: IdentityRules) -> None:
    """Temp table `identity_exclusives`: the properties of linked nodes in which one customer has one value only."""
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_exclusives AS
        WITH linked AS MATERIALIZED (
            SELECT f.*, n.source, n.source_id FROM identity_memory.features AS f SEMI JOIN identity_components USING (node_number) JOIN identity_memory.nodes AS n USING (node_number)),
        parents AS MATERIALIZED (
            SELECT DISTINCT n.source, f.parent_company_id AS source_id
            FROM (FROM identity_memory.features WHERE parent_company_id IS NOT NULL) AS f LEFT JOIN identity_memory.nodes AS n USING (node_number))
        SELECT node_number, 'birth_date' AS condition, '' AS scope, CAST(birth_date AS VARCHAR) AS value FROM linked WHERE birth_date IS NOT NULL
        UNION ALL SELECT node_number, 'last_name', '', last_name FROM linked WHERE last_name IS NOT NULL
        UNION ALL SELECT node_number, 'first_initial', '', left(first_name, 1) FROM linked WHERE first_name IS NOT NULL
        UNION ALL SELECT node_number, 'source_record', source, source_id FROM linked WHERE list_contains($unique, source)
        UNION ALL SELECT x.node_number, 'external_id', x.space, x.external_id FROM identity_memory.external_ids AS x JOIN linked USING (node_number)
                  WHERE list_contains($unique, linked.source)
        UNION ALL SELECT node_number, 'parent_company', source, source_id FROM linked
                  WHERE node_type = 'company' AND (parent_company_id IS NOT NULL OR (source, source_id) IN (SELECT (source, source_id) FROM parents))""",
        {"unique": list(rules.unique_sources)})
    con.execute("CREATE OR REPLACE TEMP TABLE identity_conditions (rule_number INTEGER, condition VARCHAR)")
    pairs = [[number, condition] for number, rule in enumerate(rules.rules) for condition in rule.do_not_merge]
    if pairs:
        con.executemany("INSERT INTO identity_conditions VALUES (?, ?)", pairs)


def settle_contested(con: duckdb.DuckDBPyConnection, rules: IdentityRules) -> None:
    """Split the components that hold a contradiction; `identity_memory.refused` lists the links that were not followed."""
    con.execute("DELETE FROM identity_memory.refused WHERE left_node IN (SELECT node_number FROM identity_affected UNION ALL SELECT node_number FROM identity_gone)")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_contested AS
        WITH stated AS MATERIALIZED (
            SELECT c.component AS a, d.component AS b FROM identity_statements AS s
            LEFT JOIN identity_components AS c ON c.node_number = s.left_node LEFT JOIN identity_components AS d ON d.node_number = s.right_node
            WHERE s.decision = 'different')
        SELECT a AS component FROM stated WHERE a = b
        UNION
        SELECT component
        FROM (SELECT DISTINCT c.component, k.condition FROM identity_edges AS e JOIN identity_components AS c ON c.node_number = e.left_node
              JOIN identity_conditions AS k USING (rule_number)) AS checked
        JOIN (SELECT c.component, x.condition, x.scope, x.value FROM identity_exclusives AS x JOIN identity_components AS c USING (node_number)) AS held
             USING (component, condition)
        GROUP BY component, condition, scope HAVING count(DISTINCT value) > 1""")
    if not con.execute("SELECT EXISTS (FROM identity_contested)").fetchone()[0]:
        return
    con.execute("CREATE OR REPLACE TEMP TABLE identity_disputed AS SELECT node_number FROM identity_components SEMI JOIN identity_contested USING (component)")
    partition = Partition(conditions=[rule.do_not_merge for rule in rules.rules])
    for node, condition, scope, value in _rows(con, "SELECT x.* FROM identity_exclusives AS x SEMI JOIN identity_disputed USING (node_number)"):
        partition.describe(node, condition, scope, value)
    for left, right in _rows(con, """SELECT left_node, right_node FROM identity_statements WHERE decision = 'different'
                                     AND left_node IN (FROM identity_disputed) AND right_node IN (FROM identity_disputed)"""):
        partition.keep_apart(left, right)
    partition.follow(_rows(con, """
        WITH disputed AS (SELECT h.* FROM identity_holders AS h SEMI JOIN identity_disputed USING (node_number)),
        pairs AS (
            SELECT l.node_number AS left_node, r.node_number AS right_node, l.rule_number, greatest(l.run_number, r.run_number) AS run_number, key_hash
            FROM disputed AS l JOIN disputed AS r USING (key_hash) WHERE l.node_number < r.node_number
            UNION ALL
            SELECT e.left_node, e.right_node, e.rule_number, e.run_number, e.key_hash FROM identity_edges AS e
            JOIN identity_direct AS d USING (left_node, right_node, rule_number, key_hash) SEMI JOIN identity_disputed AS i ON i.node_number = e.left_node)
        SELECT left_node, right_node, rule_number, CAST(key_hash AS VARCHAR) FROM pairs ORDER BY run_number, rule_number, left_node, right_node, key_hash"""))
    _store(con, partition)


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[tuple]:
    cursor = con.execute(sql)
    while chunk := cursor.fetchmany(_CHUNK):
        yield from chunk


def _store(con: duckdb.DuckDBPyConnection, partition: Partition) -> None:
    """Put the groups of contested components, the links that made them and the refused links in place of what stood there."""
    number, text = pl.Int64, pl.String
    link = {"left_node": number, "right_node": number, "rule_number": pl.Int32}
    frames = {
        "identity_labels": pl.DataFrame(partition.labels(), schema={"node_number": number, "component": number}, orient="row"),
        "identity_accepted": pl.DataFrame(partition.accepted, schema={**link, "key": text}, orient="row"),
        "identity_unfollowed": pl.DataFrame(partition.refused, schema={**link, "reason": text}, orient="row"),
    }
    for name, frame in frames.items():
        con.register(name, frame)
    con.execute("""CREATE OR REPLACE TEMP TABLE identity_components AS
                   SELECT node_number, component FROM identity_components ANTI JOIN identity_disputed USING (node_number)
                   UNION ALL
                   SELECT node_number, coalesce(labels.component, node_number) FROM identity_disputed LEFT JOIN identity_labels AS labels USING (node_number)""")
    con.execute("DELETE FROM identity_forest WHERE left_node IN (FROM identity_disputed)")
    con.execute("INSERT INTO identity_forest SELECT left_node, right_node, rule_number, CAST(key AS UUID) FROM identity_accepted")
    con.execute("INSERT INTO identity_memory.refused FROM identity_unfollowed")
    for name in frames:
        con.unregister(name)
