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


def build_records(con: duckdb.DuckDBPyConnection, schema: str, columns: Columns) -> None:
    """Temp table `identity_records`: the current version of each contact, company and lead.

    A deleted record keeps the values it had: its facts must go on belonging to the same customer.
    """
    selects = [_current_records(schema, node_type, columns[table])
               for node_type, (table, _, _) in ENTITIES.items() if table in columns]
    empty = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in {**ATTRIBUTES, **_OTHERS}.items())
    selects.append(f"""SELECT CAST(NULL AS VARCHAR) AS source, CAST(NULL AS VARCHAR) AS node_type, CAST(NULL AS VARCHAR) AS source_id, {empty},
                              CAST(NULL AS VARCHAR) AS custom, CAST(NULL AS BOOLEAN) AS is_deleted WHERE false""")
    con.execute("CREATE OR REPLACE TEMP TABLE identity_records AS " + " UNION ALL ".join(selects))


def _current_records(schema: str, node_type: str, present: set[str]) -> str:
    table, key, renamed = ENTITIES[node_type]

    def column(name: str, kind: str) -> str:
        origin = renamed.get(name, name)
        if origin not in present or (name == "contact_id" and node_type == "contact") or (name == "company_id" and node_type == "company"):
            return f"CAST(NULL AS {kind}) AS {name}"
        if name in QUALIFIED:
            return f"_source || ':' || {origin} AS {name}"
        return f"CAST({origin} AS {kind}) AS {name}"

    attributes = ", ".join(column(name, kind) for name, kind in {**ATTRIBUTES, **_OTHERS}.items())
    custom = "CAST(_custom AS VARCHAR)" if "_custom" in present else "CAST(NULL AS VARCHAR)"
    tombstone = "coalesce(_is_tombstone, false)" if "_is_tombstone" in present else "false"
    updated = VERSION_TIME if "_loaded_at" in present else "updated_at"
    order = ", ".join(f"{value} DESC NULLS LAST" for name, value in (("updated_at", updated), ("_batch_seq", "_batch_seq"), ("_row_hash", "_row_hash")) if name in present)
    seen = "_batch_seq" if "_batch_seq" in present else "0"
    gone_at = f"max(_loaded_at) FILTER ({tombstone}) OVER record" if "_loaded_at" in present else "CAST(NULL AS TIMESTAMP)"
    return f"""
        SELECT source, node_type, source_id, {", ".join({**ATTRIBUTES, **_OTHERS})}, custom, deleted_at IS NOT NULL OR is_gone AS is_deleted
        FROM (
            SELECT * REPLACE (CASE WHEN is_gone THEN coalesce(deleted_at, gone_at) ELSE deleted_at END AS deleted_at)
            FROM (SELECT _source AS source, '{node_type}' AS node_type, CAST({key} AS VARCHAR) AS source_id, {attributes}, {custom} AS custom,
                     coalesce(max({seen}) FILTER ({tombstone}) OVER record > max({seen}) FILTER (NOT {tombstone}) OVER record, {tombstone}) AS is_gone,
                     {gone_at} AS gone_at, row_number() OVER versions AS version
              FROM {quoted(schema)}.{quoted(table)} WHERE {key} IS NOT NULL AND _source IS NOT NULL
              WINDOW record AS (PARTITION BY _source, {key}), versions AS (PARTITION BY _source, {key} ORDER BY {tombstone}, {order or '1'}))
        WHERE version = 1)"""


def build_nodes(con: duckdb.DuckDBPyConnection, schema: str, columns: Columns, run_number: int) -> None:
    """Temp table `identity_nodes`, one row per known or referenced contact, company and lead, in founding order."""
    references = []
    for table, present in sorted(columns.items()):
        for column, node_type in _REFERENCES.items():
            if column in present and ENTITIES[node_type][0] != table:
                references.append((table, column, node_type))
            if column == "parent_company_id" and table == "companies" and column in present:
                references.append((table, column, node_type))
        for node_type, (own_table, _, _) in ENTITIES.items():
            if table == own_table and "merged_into_id" in present:
                references.append((table, "merged_into_id", node_type))
    referenced = "".join(
        f""" UNION ALL SELECT _source, '{node_type}', CAST({column} AS VARCHAR) FROM {quoted(schema)}.{quoted(table)}
             WHERE nullif({column}, '') IS NOT NULL AND _source IS NOT NULL GROUP BY ALL"""
        for table, column, node_type in references)
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_nodes AS
        WITH named AS (
            SELECT source, node_type, source_id FROM identity_records {referenced}),
        nodes AS (
            SELECT source, node_type, source_id FROM named GROUP BY ALL),
        dated AS (
            SELECT n.*, r.source IS NOT NULL AS is_known, r.created_at, r.is_test,
                   m.first_seen_run_number AS stored_number, m.founded_at AS stored_founding, m.first_seen_run AS stored_run
            FROM nodes AS n
            LEFT JOIN identity_records AS r USING (source, node_type, source_id)
            LEFT JOIN identity.members AS m ON m.source = n.source AND m.node_type = n.node_type AND m.source_id = n.source_id
                 AND m.first_seen_run_number < $run_number)
        SELECT row_number() OVER (ORDER BY coalesce(stored_number, $run_number), node_type = 'lead',
                                  CASE WHEN stored_number IS NULL THEN created_at ELSE stored_founding END NULLS LAST,
                                  source, node_type, source_id) AS node_number,
               source, node_type, source_id, is_known,
               CASE WHEN node_type = 'company' THEN 'organisation' ELSE 'person' END AS customer_type,
               CASE WHEN node_type = 'company' THEN 'o_' ELSE 'p_' END || left(md5(source || '|' || node_type || '|' || source_id), 16) AS own_id,
               coalesce(stored_number, $run_number) AS first_seen_run_number, stored_run AS first_seen_run,
               CASE WHEN stored_number IS NULL THEN created_at ELSE stored_founding END AS founded_at
        FROM dated""", {"run_number": run_number})


def build_keys(con: duckdb.DuckDBPyConnection, rules: IdentityRules) -> None:
    """Temp tables `identity_features` (normalised values of a node) and `identity_keys` (one row per node, rule and value)."""
    _normalise_unicode(con)
    _phone_countries(con, rules)
    con.execute("CREATE OR REPLACE TEMP TABLE identity_shared_locals AS SELECT unnest($parts::VARCHAR[]) AS local_part", {"parts": list(rules.shared_local_parts)})
    con.execute("CREATE OR REPLACE TEMP TABLE identity_shared_domains AS SELECT unnest($domains::VARCHAR[]) AS domain", {"domains": list(rules.shared_domains)})
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE identity_features AS
        WITH cleaned AS (
            SELECT n.node_number, n.customer_type, r.source, r.source_id, r.custom, CASE WHEN NOT list_contains($unknown_days, r.birth_date) THEN r.birth_date END AS birth_date, r.parent_company_id, r.postal_code, r.city, r.country_code,
                   lower(trim(coalesce(u.normalised, r.email))) AS email,
                   trim(r.phone) AS phone,
                   lower(trim(coalesce(r.domain, json_extract_string(try_cast(r.custom AS JSON), '$.website')))) AS domain,
                   {_NAME.format("r.first_name")} AS first_name, {_NAME.format("r.last_name")} AS last_name,
                   CASE WHEN n.customer_type = 'organisation' THEN {_NAME.format("r.name")} END AS organisation_name
            FROM identity_records AS r
            JOIN identity_nodes AS n USING (source, node_type, source_id)
            LEFT JOIN identity_unicode AS u ON u.raw = r.email),
        parted AS (
            SELECT *, split_part(email, '@', 1) AS local_part, split_part(email, '@', 2) AS mail_domain,
                   local_part <> '' AND mail_domain LIKE '_%._%' AND length(email) = length(local_part) + 1 + length(mail_domain) AND NOT regexp_matches(email, '\\s') AS is_address,
                   regexp_replace(phone, '[^0-9]', '', 'g') AS digits,
                   regexp_extract(rtrim(domain, '.'), '^(?:[a-z][a-z0-9+.-]*://)?(?:[^/@]*@)?(?:www\\.)?([^/?#:\\s]+\\.[^/?#:\\s]+)', 1) AS web_domain
            FROM cleaned),
        phones AS (
            SELECT p.*, c.calling_code, c.trunk_prefix FROM parted AS p
            LEFT JOIN identity_phone_countries AS c ON c.country_code = coalesce(upper(p.country_code), $default_country))
        SELECT node_number, customer_type, source, source_id, custom, birth_date, parent_company_id, first_name, last_name,
               coalesce(organisation_name, nullif(concat_ws(' ', first_name, last_name), '')) AS full_name,
               lower(trim(postal_code)) AS postal_code, lower(strip_accents(trim(city))) AS city, upper(country_code) AS country_code,
               CASE WHEN NOT is_address OR local_part IN (SELECT local_part FROM identity_shared_locals) THEN NULL
                    WHEN $gmail_aliases AND mail_domain IN ('gmail.com', 'googlemail.com')
                    THEN replace(split_part(local_part, '+', 1), '.', '') || '@gmail.com'
                    ELSE local_part || '@' || mail_domain END AS email,
               CASE WHEN length(digits) < $min_digits OR {_PLACEHOLDER} THEN NULL
                    WHEN starts_with(phone, '+') THEN '+' || digits
                    WHEN starts_with(digits, '00') THEN '+' || substr(digits, 3)
                    WHEN calling_code IS NULL THEN digits
                    WHEN trunk_prefix <> '' AND starts_with(digits, trunk_prefix) THEN '+' || calling_code || substr(digits, length(trunk_prefix) + 1)
                    ELSE '+' || calling_code || digits END AS phone,
               CASE WHEN web_domain = '' OR web_domain IN (SELECT domain FROM identity_shared_domains) THEN NULL ELSE web_domain END AS domain
        FROM phones""",
        {"unknown_days": list(rules.unknown_birth_dates), "default_country": rules.phone_default_country, "gmail_aliases": rules.gmail_aliases, "min_digits": rules.phone_min_digits})
    con.execute("UPDATE identity_features SET phone = NULL WHERE length(ltrim(phone, '+')) > ?", [rules.phone_max_digits])
    _external_ids(con, rules)
    con.execute("CREATE OR REPLACE TEMP TABLE identity_keys (node_number BIGINT, rule_number INTEGER, key_hash UUID)")
    for number, rule in enumerate(rules.rules):
        if rule.kind != "key":
            continue
        value, origin = ("space || '|' || external_id", "identity_external_ids") if rule.key == "external_id" else (rule.key, "identity_features")
        con.execute(f"""
            INSERT INTO identity_keys
            SELECT DISTINCT k.node_number, $number, CAST(md5($rule || '|' || n.customer_type || '|' || {value}) AS UUID)
            FROM {origin} AS k JOIN identity_nodes AS n USING (node_number)
            WHERE {value} IS NOT NULL AND list_contains($types, n.node_type)""",
            {"number": number, "rule": rule.id, "types": list(rule.node_types)})


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
    con.execute("CREATE OR REPLACE TEMP TABLE identity_external_ids (node_number BIGINT, space VARCHAR, external_id VARCHAR)")
    if rules.external_id_field:
        con.execute("""
            INSERT INTO identity_external_ids
            SELECT node_number, 'source:' || source, external_id
            FROM (SELECT node_number, source, nullif(trim(json_extract_string(try_cast(custom AS JSON), $path)), '') AS external_id
                  FROM identity_features WHERE custom IS NOT NULL)
            WHERE external_id IS NOT NULL""", {"path": _json_path(rules.external_id_field)})
    for space, source, name in rules.id_spaces:
        con.execute("""
            INSERT INTO identity_external_ids
            SELECT node_number, 'space:' || $space, external_id
            FROM (SELECT node_number, CASE WHEN $field = 'source_id' THEN source_id
                         ELSE nullif(trim(json_extract_string(try_cast(custom AS JSON), $path)), '') END AS external_id
                  FROM identity_features WHERE source = $source)
            WHERE external_id IS NOT NULL""", {"space": space, "source": source, "field": name, "path": _json_path(name)})


def _json_path(name: str) -> str:
    return '$."' + name.replace('"', '\\"') + '"'
