"""Identity for the pages: joins by rule, what changed last, pairs to judge, one customer's records."""

from __future__ import annotations

from typing import Any

import polars as pl

from dashboards.queries.door import has, per_snapshot, sees_personal_data
from data_contracts.errors import UsageError
from models import warehouse
from models.engines import identity_answers

RECENT = 10        # changes and pairs shown; the command line gives all
FOUND = 50


@per_snapshot
def serves_identity(reading: warehouse.Reading) -> bool:
    """Whether the snapshot carries identity; one published by an older program does not."""
    return has(reading, "identity.records")


@per_snapshot
def identity_totals(reading: warehouse.Reading) -> dict[str, Any]:
    """Customers, those of several records, records, former ids and pairs to judge: counts."""
    return reading.con.execute("""
        SELECT count(*) FILTER (NOT is_lead_only) AS customers, count(*) FILTER (record_count > 1 AND NOT is_lead_only) AS joined, CAST(coalesce(sum(record_count), 0) AS BIGINT) AS records,
               (SELECT count(*) FROM identity.aliases) AS former_ids, (SELECT count(*) FROM identity.review_list) AS pairs,
               (SELECT count(*) FROM identity.review_list WHERE reason <> 'probable') AS kept_apart
        FROM identity.customer_attributes""").pl().row(0, named=True)


@per_snapshot
def joins_by_rule(reading: warehouse.Reading) -> pl.DataFrame:
    """Joins and partings by rule."""
    return identity_answers.joins_by_rule(reading.con)


@per_snapshot
def identity_changes(reading: warehouse.Reading, kind: str | None, limit: int | None = RECENT) -> pl.DataFrame:
    """The newest joins or partings; all of them without a limit."""
    return identity_answers.log(reading.con, kind=kind, limit=limit)


@per_snapshot
def pairs_to_judge(reading: warehouse.Reading, limit: int | None = RECENT) -> pl.DataFrame:
    """Probable pairs and those a contradiction kept apart."""
    return identity_answers.review(reading.con, personal=sees_personal_data(reading.viewer.role), limit=limit)


@per_snapshot
def joined_customers(reading: warehouse.Reading, text: str) -> pl.DataFrame:
    """Customers of several records, or every customer that a search finds."""
    return identity_answers.customers(reading.con, personal=sees_personal_data(reading.viewer.role), text=text, min_records=1 if text else 2, limit=FOUND)


@per_snapshot
def identity_of(reading: warehouse.Reading, name: str) -> dict[str, Any] | None:
    """One customer by an id, a former id or a record: its id now, records, fields, former ids and organisations; None when nobody is named so."""
    personal = sees_personal_data(reading.viewer.role)
    try:
        customer = identity_answers.current(reading.con, name)
    except UsageError:
        return None
    return {"customer_id": customer, "records": identity_answers.records(reading.con, customer, personal=personal), "fields": identity_answers.survivorship(reading.con, customer, personal=personal),
            "former": identity_answers.former_ids(reading.con, customer), "organisations": identity_answers.organisations(reading.con, customer)}
