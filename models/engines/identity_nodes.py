"""Identity resolution, first step: records, nodes and the values by which records are recognised.

Belongs here: the current version of each record in landing, every id that a fact refers to, and normalised keys. Does not
belong here: deciding which nodes are one customer (`identity_graph`), or which value a customer takes (`identity_attributes`).

A *node* is one record of one source (source, node type, source id), known from its master-data row or only from a fact
that refers to it. Node numbers order nodes by founding right: earliest run, contacts before leads, earliest creation, then
source and id. The first node of a customer founds it and gives it its id.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from models.engines.identity_rules import IdentityRules
from models.ingest import VERSION_TIME

Columns = Mapping[str, set[str]]   # table of the landing schema -> its columns

# Each node type: its landing table, its key, and where the common columns of a record stand when not under their own name.
ENTITIES = {
    "contact": ("contacts", "contact_id", {}),
    "company": ("companies", "company_id", {}),
    "lead": ("leads", "lead_id", {"acquisition_channel": "channel", "acquisition_campaign_id": "campaign_id"}),
}
# Columns that a customer takes from its records, with their types.
ATTRIBUTES = {
    "name": "VARCHAR", "email": "VARCHAR", "phone": "VARCHAR", "first_name": "VARCHAR", "last_name": "VARCHAR", "birth_date": "DATE",
    "gender": "VARCHAR", "domain": "VARCHAR", "industry": "VARCHAR", "employee_count": "BIGINT", "annual_revenue": "DECIMAL(18,4)",
    "currency": "VARCHAR", "country_code": "VARCHAR", "region": "VARCHAR", "city": "VARCHAR", "postal_code": "VARCHAR", "language": "VARCHAR",
    "lifecycle_stage": "VARCHAR", "acquisition_channel": "VARCHAR", "acquisition_campaign_id": "VARCHAR", "owner_id": "VARCHAR",
}
# Ids of other entities: unique only together with their source, so a customer carries them as `source:id`.
QUALIFIED = ("acquisition_campaign_id", "owner_id")
# What resolution itself needs of a record besides its attributes.
_OTHERS = {
    "is_test": "BOOLEAN", "created_at": "TIMESTAMP", "updated_at": "TIMESTAMP", "deleted_at": "TIMESTAMP", "merged_into_id": "VARCHAR",
    "company_id": "VARCHAR", "parent_company_id": "VARCHAR", "contact_id": "VARCHAR", "converted_contact_id": "VARCHAR",
}
# Columns that refer to a node, in whatever landing table they stand; `merged_into_id` refers to its own table's entity.
_REFERENCES = {"contact_id": "contact", "converted_contact_id": "contact", "company_id": "company", "parent_company_id": "company"}

# A word of a name: letters and digits of any script, without accents or case.
_NAME = r"nullif(trim(regexp_replace(lower(strip_accents({})), '[^\p{{L}}\p{{N}}]+', ' ', 'g')), '')"


# A phone that somebody typed because the field wanted one (0000000, +49 999 999999, 123456789), or that a spreadsheet has rounded
# (4.91512E+11): held by people who have nothing else in common. DuckDB's expressions know no back-reference.
_PLACEHOLDER = (r"regexp_matches(digits, '(" + "|".join(f"{digit}{{6}}" for digit in range(10)) + r")$') OR contains('01234567890123456789', digits) "
                r"OR contains('98765432109876543210', digits) OR regexp_matches(phone, '^[0-9]+([.,][0-9]+)?[eE][+]?[0-9]+$')")


def quoted(identifier: str) -> str:
    """Identifier for SQL text."""
    return '"' + identifier.replace('"', '""') + '"'


def landing_columns(con: duckdb.DuckDBPyConnection, schema: str) -> Columns:
    """Columns of each table of the landing schema; an entity without a table counts as empty."""
    rows = con.execute("""SELECT table_name, list(column_name) FROM duckdb_columns()
                          WHERE database_name = current_database() AND schema_name = ? GROUP BY ALL""", [schema]).fetchall()
    return {table: set(columns) for table, columns in rows}


def entities(columns: Columns) -> dict[str, tuple[str, str]]:
    """Landing table and key of each node type that has a table."""
    return {node_type: (table, key) for node_type, (table, key, _) in ENTITIES.items() if table in columns}


def references(columns: Columns) -> list[tuple[str, str, str]]:
    """(table, column, node type) of every column of landing that names a node."""
    found = []
    for table, present in sorted(columns.items()):
        for column, node_type in _REFERENCES.items():
            if column in present and (ENTITIES[node_type][0] != table or column == "parent_company_id"):
                found.append((table, column, node_type))
        for node_type, (own_table, _, _) in ENTITIES.items():
            if table == own_table and "merged_into_id" in present:
                found.append((table, "merged_into_id", node_type))
    return found


def build_records(con: duckdb.DuckDBPyConnection, schema: str, columns: Columns, wanted: str) -> None:
    """Temp table `identity_records`: the current version of each contact, company and lead of the table `wanted`, which has `wanted` (a number),
    `source`, `node_type`, `source_id` and `versions` (how many rows of landing the record has; more than one where that was not counted).

    A deleted record keeps the values it had: its facts must go on belonging to the same customer.
    """
    selects = [_current_records(schema, node_type, columns[table], wanted) for node_type, (table, _, _) in ENTITIES.items() if table in columns]
    empty = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in {**ATTRIBUTES, **_OTHERS}.items())
    selects.append(f"""SELECT CAST(NULL AS BIGINT) AS wanted, CAST(NULL AS BIGINT) AS versions, CAST(NULL AS VARCHAR) AS source, CAST(NULL AS VARCHAR) AS node_type, CAST(NULL AS VARCHAR) AS source_id, {empty},
                              CAST(NULL AS VARCHAR) AS custom, CAST(NULL AS BOOLEAN) AS is_deleted WHERE false""")
    con.execute("CREATE OR REPLACE TEMP TABLE identity_records AS " + " UNION ALL ".join(selects))


def _current_records(schema: str, node_type: str, present: set[str], wanted: str) -> str:
    table, key, renamed = ENTITIES[node_type]

    def column(name: str, kind: str) -> str:
        origin = renamed.get(name, name)
        if origin not in present or (name == "contact_id" and node_type == "contact") or (name == "company_id" and node_type == "company"):
            return f"CAST(NULL AS {kind}) AS {name}"
        if name in QUALIFIED:
            return f"t._source || ':' || t.{origin} AS {name}"
        return f"CAST(t.{origin} AS {kind}) AS {name}"

    attributes = ", ".join(column(name, kind) for name, kind in {**ATTRIBUTES, **_OTHERS}.items())
    custom = "CAST(_custom AS VARCHAR)" if "_custom" in present else "CAST(NULL AS VARCHAR)"
    tombstone = "coalesce(_is_tombstone, false)" if "_is_tombstone" in present else "false"
    updated = VERSION_TIME if "_loaded_at" in present else "updated_at"
    order = ", ".join(f"{value} DESC NULLS LAST" for name, value in (("updated_at", updated), ("_batch_seq", "_batch_seq"), ("_row_hash", "_row_hash")) if name in present)
    seen = "_batch_seq" if "_batch_seq" in present else "0"
    gone_at = f"max(_loaded_at) FILTER ({tombstone}) OVER record" if "_loaded_at" in present else "CAST(NULL AS TIMESTAMP)"
    only_gone_at = f"CASE WHEN {tombstone} THEN _loaded_at END" if "_loaded_at" in present else "CAST(NULL AS TIMESTAMP)"

    def versions(is_gone: str, gone_at: str, which: str, end: str) -> str:
        return f"""SELECT w.wanted, w.versions, w.source, w.node_type, w.source_id, {attributes}, {custom} AS custom, {is_gone} AS is_gone, {gone_at} AS gone_at
                   FROM {quoted(schema)}.{quoted(table)} AS t JOIN {wanted} AS w ON w.source = t._source AND w.source_id = CAST(t.{key} AS VARCHAR)
                   WHERE w.node_type = '{node_type}' AND {which} {end}"""

    # Most records have one version, of which nothing need be chosen.
    return f"""
        SELECT wanted, versions, source, node_type, source_id, {", ".join({**ATTRIBUTES, **_OTHERS})}, custom, deleted_at IS NOT NULL OR is_gone AS is_deleted
        FROM (
            SELECT * REPLACE (CASE WHEN is_gone THEN coalesce(deleted_at, gone_at) ELSE deleted_at END AS deleted_at)
            FROM ({versions(tombstone, only_gone_at, "w.versions = 1", "")}
                  UNION ALL
                  {versions(f"coalesce(max({seen}) FILTER ({tombstone}) OVER record > max({seen}) FILTER (NOT {tombstone}) OVER record, {tombstone})", gone_at, "w.versions > 1",
                            f"WINDOW record AS (PARTITION BY w.wanted) QUALIFY row_number() OVER (PARTITION BY w.wanted ORDER BY {tombstone}, {order or '1'}) = 1")}))"""


def number_nodes(con: duckdb.DuckDBPyConnection, run_number: int, run_id: str) -> None:
    """Bring `identity_memory.nodes` up to date. Temp table `identity_rekeyed`: the nodes of `identity_wanted`, numbered.

    Nodes first seen in a later run found nothing that is there already, so that their numbers follow those given out.
    """
    con.execute("UPDATE identity_memory.nodes AS n SET row_hash = w.row_hash, is_known = w.versions > 0 FROM identity_wanted AS w WHERE w.node_number = n.node_number")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE identity_rekeyed AS
        WITH dated AS (
            SELECT w.*, r.created_at, m.first_seen_run_number AS stored_number, m.founded_at AS stored_founding, m.first_seen_run AS stored_run
            FROM identity_wanted AS w
            LEFT JOIN (SELECT wanted, created_at FROM identity_records) AS r USING (wanted)
            LEFT JOIN identity.members AS m ON m.source = w.source AND m.node_type = w.node_type AND m.source_id = w.source_id AND m.first_seen_run_number < $run_number
            WHERE w.node_number IS NULL)
        SELECT (SELECT coalesce(max(node_number), 0) FROM identity_memory.nodes)
               + row_number() OVER (ORDER BY coalesce(stored_number, $run_number), node_type = 'lead', CASE WHEN stored_number IS NULL THEN created_at ELSE stored_founding END NULLS LAST,
                                    source, node_type, source_id) AS node_number,
               source, node_type, source_id, CASE WHEN node_type = 'company' THEN 'o_' ELSE 'p_' END || left(md5(source || '|' || node_type || '|' || source_id), 16) AS own_id,
               row_hash, versions > 0 AS is_known, coalesce(stored_run, $run_id) AS first_seen_run, coalesce(stored_number, $run_number) AS first_seen_run_number,
               CASE WHEN stored_number IS NULL THEN created_at ELSE stored_founding END AS founded_at, wanted, true AS is_new
        FROM dated
        UNION ALL
        SELECT n.*, w.wanted, false FROM (SELECT node_number, wanted FROM identity_wanted WHERE node_number IS NOT NULL) AS w JOIN identity_memory.nodes AS n USING (node_number)""",
        {"run_number": run_number, "run_id": run_id})
    con.execute("INSERT INTO identity_memory.nodes SELECT * EXCLUDE (wanted, is_new) FROM identity_rekeyed WHERE is_new")


def build_keys(con: duckdb.DuckDBPyConnection, rules: IdentityRules) -> None:
    """Normalised values of the nodes of `identity_rekeyed`, and one row per node, rule and value: `identity_memory.features`, `external_ids` and `keys`."""
    _normalise_unicode(con)
    _phone_countries(con, rules)
    con.execute("CREATE OR REPLACE TEMP TABLE identity_shared_locals AS SELECT unnest($parts::VARCHAR[]) AS local_part", {"parts": list(rules.shared_local_parts)})
    con.execute("CREATE OR REPLACE TEMP TABLE identity_shared_domains AS SELECT unnest($domains::VARCHAR[]) AS domain", {"domains": list(rules.shared_domains)})
    con.execute(f"""
        INSERT INTO identity_memory.features BY NAME
        WITH cleaned AS (
            SELECT n.node_number, n.node_type, CASE WHEN NOT list_contains($unknown_days, r.birth_date) THEN r.birth_date END AS birth_date, r.parent_company_id, r.postal_code, r.city, r.country_code,
                   lower(trim(coalesce(u.normalised, r.email))) AS email,
                   trim(r.phone) AS phone,
                   lower(trim(coalesce(r.domain, json_extract_string(try_cast(r.custom AS JSON), '$.website')))) AS domain,
                   {_NAME.format("r.first_name")} AS first_name, {_NAME.format("r.last_name")} AS last_name,
                   CASE WHEN n.node_type = 'company' THEN {_NAME.format("r.name")} END AS organisation_name
            FROM identity_records AS r
            JOIN identity_rekeyed AS n USING (wanted)
            LEFT JOIN identity_unicode AS u ON u.raw = r.email),
        parted AS (
            SELECT *, split_part(email, '@', 1) AS local_part, split_part(email, '@', 2) AS mail_domain,
                   local_part <> '' AND mail_domain LIKE '_%._%' AND length(email) = length(local_part) + 1 + length(mail_domain) AND NOT regexp_matches(email, '\\s') AS is_address,
                   regexp_replace(phone, '[^0-9]', '', 'g') AS digits,
                   regexp_extract(rtrim(domain, '.'), '^(?:[a-z][a-z0-9+.-]*://)?(?:[^/@]*@)?(?:www\\.)?([^/?#:\\s]+\\.[^/?#:\\s]+)', 1) AS web_domain
            FROM cleaned),
        phones AS (
            SELECT p.* EXCLUDE (phone),
                   CASE WHEN length(digits) < $min_digits OR {_PLACEHOLDER} THEN NULL
                        WHEN starts_with(phone, '+') THEN '+' || digits
                        WHEN starts_with(digits, '00') THEN '+' || substr(digits, 3)
                        WHEN c.calling_code IS NULL THEN digits
                        WHEN c.trunk_prefix <> '' AND starts_with(digits, c.trunk_prefix) THEN '+' || c.calling_code || substr(digits, length(c.trunk_prefix) + 1)
                        ELSE '+' || c.calling_code || digits END AS phone
            FROM parted AS p
            LEFT JOIN identity_phone_countries AS c ON c.country_code = coalesce(upper(p.country_code), $default_country))
        SELECT node_number, node_type, birth_date, parent_company_id, first_name, last_name,
               coalesce(organisation_name, nullif(concat_ws(' ', first_name, last_name), '')) AS full_name,
               lower(trim(postal_code)) AS postal_code, lower(strip_accents(trim(city))) AS city, upper(country_code) AS country_code,
               CASE WHEN NOT is_address OR local_part IN (SELECT local_part FROM identity_shared_locals) THEN NULL
                    WHEN $gmail_aliases AND mail_domain IN ('gmail.com', 'googlemail.com')
                    THEN replace(split_part(local_part, '+', 1), '.', '') || '@gmail.com'
                    ELSE local_part || '@' || mail_domain END AS email,
               CASE WHEN length(ltrim(phone, '+')) <= $max_digits THEN phone END AS phone,
               CASE WHEN web_domain = '' OR web_domain IN (SELECT domain FROM identity_shared_domains) THEN NULL ELSE web_domain END AS domain
        FROM phones""",
        {"unknown_days": list(rules.unknown_birth_dates), "default_country": rules.phone_default_country, "gmail_aliases": rules.gmail_aliases,
         "min_digits": rules.phone_min_digits, "max_digits": rules.phone_max_digits})
    _external_ids(con, rules)
    selects, bound = [], {}
    for number, rule in enumerate(rules.rules):
        if rule.kind != "key":
            continue
        value, origin = ("space || '|' || external_id", "identity_memory.external_ids") if rule.key == "external_id" else (rule.key, "identity_memory.features")
        selects.append(f"""
            SELECT DISTINCT node_number, {number} AS rule_number, CAST(md5($rule_{number} || '|' || CASE WHEN n.node_type = 'company' THEN 'organisation' ELSE 'person' END || '|' || {value}) AS UUID)
            FROM {origin} AS k JOIN (SELECT node_number, node_type FROM identity_rekeyed) AS n USING (node_number)
            WHERE {value} IS NOT NULL AND list_contains($types_{number}, n.node_type)""")
        bound |= {f"rule_{number}": rule.id, f"types_{number}": list(rule.node_types)}
    if selects:
        con.execute("INSERT INTO identity_memory.keys " + " UNION ALL ".join(selects), bound)


def _normalise_unicode(con: duckdb.DuckDBPyConnection) -> None:
    """Compatibility forms (full-width letters, ligatures) of e-mail addresses; DuckDB itself has only canonical composition."""
    found = con.execute(r"SELECT DISTINCT email AS raw FROM identity_records WHERE regexp_matches(email, '[^\x00-\x7F]')").pl()
    con.register("identity_composed", found.with_columns(found["raw"].str.normalize("NFKC").alias("normalised")))
    con.execute("CREATE OR REPLACE TEMP TABLE identity_unicode AS SELECT CAST(raw AS VARCHAR) AS raw, CAST(normalised AS VARCHAR) AS normalised FROM identity_composed")
    con.unregister("identity_composed")


def _phone_countries(con: duckdb.DuckDBPyConnection, rules: IdentityRules) -> None:
    con.execute("CREATE OR REPLACE TEMP TABLE identity_phone_countries (country_code VARCHAR, calling_code VARCHAR, trunk_prefix VARCHAR)")
    if rules.phone_countries:
        con.executemany("INSERT INTO identity_phone_countries VALUES (?, ?, ?)",
                        [[country, *codes] for country, codes in rules.phone_countries.items()])


def _external_ids(con: duckdb.DuckDBPyConnection, rules: IdentityRules) -> None:
    fields = [(f"space:{space}", source, name) for space, source, name in rules.id_spaces]
    if rules.external_id_field:
        fields.append((None, None, rules.external_id_field))       # each source is a numbering of its own
    selects, bound = [], {}
    for number, (space, source, name) in enumerate(fields):
        value = "n.source_id" if space and name == "source_id" else f"nullif(trim(json_extract_string(try_cast(r.custom AS JSON), $path_{number})), '')"
        numbering, only = (f"$space_{number}", f"n.source = $source_{number}") if space else ("'source:' || n.source", "r.custom IS NOT NULL")
        selects.append(f"SELECT node_number, {numbering} AS space, {value} AS external_id FROM identity_records AS r JOIN identity_rekeyed AS n USING (wanted) WHERE {only}")
        bound |= {} if value == "n.source_id" else {f"path_{number}": _json_path(name)}
        bound |= {f"space_{number}": space, f"source_{number}": source} if space else {}
    if selects:
        con.execute(f"INSERT INTO identity_memory.external_ids SELECT * FROM ({' UNION ALL '.join(selects)}) WHERE external_id IS NOT NULL", bound)


def _json_path(name: str) -> str:
    return '$."' + name.replace('"', '\\"') + '"'
