-- Identity resolution of contacts, written by hand for one run over an empty warehouse: the same members, attributes, records and
-- hierarchy as the engine, for the delivered rules and for records in which nothing contradicts (the last statement fails otherwise).
-- Statements are separated by lines of dashes; the one marked `repeat` runs until it changes no row.

CREATE SCHEMA by_hand
----
CREATE TEMP TABLE current AS
SELECT * EXCLUDE (tombstone), coalesce(tombstone, false) AS is_deleted FROM (
    SELECT *, max(_batch_seq) FILTER (_is_tombstone) OVER record > max(_batch_seq) FILTER (NOT _is_tombstone) OVER record AS tombstone
    FROM landing.contacts WHERE contact_id IS NOT NULL
    WINDOW record AS (PARTITION BY _source, contact_id)
    QUALIFY row_number() OVER (PARTITION BY _source, contact_id ORDER BY _is_tombstone, updated_at DESC NULLS LAST, _batch_seq DESC, _row_hash DESC) = 1)
----
CREATE TEMP TABLE nodes AS
SELECT row_number() OVER (ORDER BY created_at NULLS LAST, source, node_type, source_id) AS node, *,
       CASE WHEN node_type = 'company' THEN 'o_' ELSE 'p_' END || left(md5(source || '|' || node_type || '|' || source_id), 16) AS own_id
FROM (SELECT _source AS source, 'contact' AS node_type, contact_id AS source_id, created_at FROM current
      UNION ALL SELECT DISTINCT _source, 'company', company_id, NULL::TIMESTAMP FROM landing.contacts WHERE company_id <> '')
----
CREATE TEMP TABLE features AS
WITH cleaned AS (
    SELECT n.node, c.birth_date,
           lower(trim(c.email)) AS email, trim(c.phone) AS phone, c.country_code, regexp_replace(c.phone, '[^0-9]', '', 'g') AS digits,
           nullif(trim(regexp_replace(lower(strip_accents(c.first_name)), '[^\p{L}\p{N}]+', ' ', 'g')), '') AS first_name,
           nullif(trim(regexp_replace(lower(strip_accents(c.last_name)), '[^\p{L}\p{N}]+', ' ', 'g')), '') AS last_name
    FROM current AS c JOIN nodes AS n ON n.source = c._source AND n.source_id = c.contact_id AND n.node_type = 'contact')
SELECT node, first_name, last_name, nullif(concat_ws(' ', first_name, last_name), '') AS full_name,
       CASE WHEN birth_date NOT IN (DATE '0001-01-01', DATE '1753-01-01', DATE '1899-12-30', DATE '1900-01-01', DATE '1970-01-01') THEN birth_date END AS birth_date,
       CASE WHEN regexp_full_match(email, '[^@\s]+@[^@\s]+\.[^@\s]+') AND split_part(email, '@', 1) NOT IN ({shared}) THEN email END AS email,
       CASE WHEN length(digits) NOT BETWEEN 7 AND 15 OR regexp_matches(digits, '(0{6}|1{6}|2{6}|3{6}|4{6}|5{6}|6{6}|7{6}|8{6}|9{6})$')
                 OR contains('01234567890123456789', digits) OR contains('98765432109876543210', digits) OR regexp_matches(phone, '^[0-9]+([.,][0-9]+)?[eE][+]?[0-9]+$') THEN NULL
            WHEN starts_with(phone, '+') THEN '+' || digits
            WHEN starts_with(digits, '00') THEN '+' || substr(digits, 3)
            WHEN country_code = 'DE' THEN '+49' || ltrim(digits, '0')
            ELSE digits END AS phone
FROM cleaned
----
CREATE TEMP TABLE edges AS
WITH emails AS (SELECT email, min(node) AS hub FROM features WHERE email IS NOT NULL GROUP BY email HAVING count(*) BETWEEN 2 AND 50 AND count(DISTINCT full_name) <= 5),
phones AS (SELECT phone, min(node) AS hub FROM features WHERE phone IS NOT NULL GROUP BY phone HAVING count(*) BETWEEN 2 AND 20 AND count(DISTINCT full_name) <= 3)
SELECT hub AS a, node AS b FROM features JOIN emails USING (email) WHERE node <> hub
UNION
SELECT hub, node FROM features JOIN phones USING (phone) WHERE node <> hub
----
CREATE TEMP TABLE labels AS SELECT node, node AS label FROM (SELECT a AS node FROM edges UNION SELECT b FROM edges)
---- repeat
WITH ends AS (SELECT a, b, x.label AS la, y.label AS lb FROM edges JOIN labels AS x ON x.node = a JOIN labels AS y ON y.node = b WHERE x.label <> y.label),
least AS (SELECT node, min(label) AS label FROM (SELECT a AS node, lb AS label FROM ends UNION ALL SELECT b, la FROM ends) GROUP BY node)
UPDATE labels SET label = least.label FROM least WHERE least.node = labels.node AND least.label < labels.label
----
CREATE TABLE by_hand.members AS
SELECT n.source, n.node_type, n.source_id, coalesce(f.own_id, n.own_id) AS customer_id, n.node
FROM nodes AS n LEFT JOIN labels AS l USING (node) LEFT JOIN nodes AS f ON f.node = l.label
----
CREATE TEMP TABLE ranked AS
WITH records AS (
    SELECT m.customer_id, m.node, c.* EXCLUDE (company_id), m.source, m.source_id, o.customer_id AS organisation_id, count(*) OVER (PARTITION BY m.customer_id) AS n,
           (email IS NOT NULL)::INT + (phone IS NOT NULL)::INT + (first_name IS NOT NULL)::INT + (last_name IS NOT NULL)::INT + (birth_date IS NOT NULL)::INT
           + (country_code IS NOT NULL)::INT + (city IS NOT NULL)::INT + (postal_code IS NOT NULL)::INT AS filled
    FROM current AS c JOIN by_hand.members AS m ON m.source = c._source AND m.source_id = c.contact_id AND m.node_type = 'contact'
    LEFT JOIN by_hand.members AS o ON o.source = c._source AND o.source_id = c.company_id AND o.node_type = 'company')
SELECT *, row_number() OVER (PARTITION BY customer_id ORDER BY is_deleted, updated_at DESC NULLS LAST, created_at DESC NULLS LAST, node) AS by_most_recent,
       row_number() OVER (PARTITION BY customer_id ORDER BY is_deleted, filled DESC, updated_at DESC NULLS LAST, created_at DESC NULLS LAST, node) AS by_most_complete
FROM records WHERE n > 1
UNION ALL SELECT *, 1, 1 FROM records WHERE n = 1
----
CREATE TABLE by_hand.records AS
SELECT source, 'contact' AS node_type, source_id, customer_id, is_deleted, email, phone, first_name, last_name, birth_date, country_code, city, postal_code, created_at, updated_at,
       by_most_recent, by_most_recent AS by_most_trusted, by_most_complete
FROM ranked ORDER BY customer_id, source, source_id
----
CREATE TABLE by_hand.customer_attributes AS
WITH chosen AS (
    SELECT customer_id, arg_min(email, by_most_recent) AS email, arg_min(phone, by_most_recent) AS phone, arg_min(first_name, by_most_complete) AS first_name,
           arg_min(last_name, by_most_complete) AS last_name, arg_min(birth_date, by_most_recent) AS birth_date, arg_min(country_code, by_most_recent) AS country_code,
           arg_min(city, by_most_recent) AS city, arg_min(postal_code, by_most_recent) AS postal_code, arg_min(organisation_id, by_most_recent) AS organisation_id,
           count(*) AS record_count, count(DISTINCT source) AS source_count, bool_and(is_deleted) AS is_deleted, min(created_at) AS created_at, max(updated_at) AS updated_at
    FROM ranked WHERE n > 1 GROUP BY customer_id
    UNION ALL
    SELECT customer_id, email, phone, first_name, last_name, birth_date, country_code, city, postal_code, organisation_id, 1, 1, is_deleted, created_at, updated_at FROM ranked WHERE n = 1
    UNION ALL
    SELECT DISTINCT customer_id, NULL, NULL, NULL, NULL, NULL::DATE, NULL, NULL, NULL, NULL, 0, 0, false, NULL::TIMESTAMP, NULL::TIMESTAMP FROM by_hand.members WHERE node_type = 'company')
SELECT *, nullif(concat_ws(' ', first_name, last_name), '') AS name, CASE WHEN starts_with(customer_id, 'o_') THEN 'organisation' ELSE 'person' END AS customer_type FROM chosen ORDER BY customer_id
----
CREATE TABLE by_hand.hierarchy AS
WITH named AS (
    SELECT _source AS source, contact_id, company_id, min(created_at) AS created_at, min(coalesce(updated_at, created_at)) AS first_at FROM landing.contacts GROUP BY ALL),
dated AS (
    SELECT *, CASE WHEN count(*) OVER (PARTITION BY source, contact_id) = 1 THEN coalesce(created_at, first_at) ELSE first_at END AS since FROM named)
SELECT m.customer_id, o.customer_id AS organisation_id, min(d.since) AS since, o.customer_id IS NOT DISTINCT FROM any_value(a.organisation_id) AS is_primary
FROM dated AS d JOIN current AS c ON c._source = d.source AND c.contact_id = d.contact_id AND c.company_id = d.company_id
JOIN by_hand.members AS m ON m.source = d.source AND m.source_id = d.contact_id AND m.node_type = 'contact'
JOIN by_hand.members AS o ON o.source = d.source AND o.source_id = d.company_id AND o.node_type = 'company'
JOIN by_hand.customer_attributes AS a ON a.customer_id = m.customer_id
GROUP BY m.customer_id, o.customer_id ORDER BY 1, 2
----
SELECT CASE WHEN count(*) > 0 THEN error('the records contradict each other: only the engine can settle that') END
FROM (SELECT l.label FROM labels AS l JOIN features AS f USING (node) GROUP BY l.label
      HAVING count(DISTINCT f.birth_date) > 1 OR count(DISTINCT f.last_name) > 1 OR count(DISTINCT left(f.first_name, 1)) > 1)
