"""Customers for the pages: search, one customer's profile, scores, segments and timeline."""

from __future__ import annotations

from typing import Any

import polars as pl

from dashboards.queries.door import has, per_snapshot, sees_personal_data
from models import warehouse

FOUND_CUSTOMERS = 50    # more matches than this mean that the search has to be narrowed
TIMELINE_ROWS = 300
BEST_CUSTOMERS = 20

PERSONAL = ("name", "email", "phone", "first_name", "last_name", "birth_date", "gender")


@per_snapshot
def find_customers(reading: warehouse.Reading, text: str) -> pl.DataFrame:
    """Customers whose name, e-mail, organisation or id holds the text; the most valuable first. People are searched by name and address only by those who may see them."""
    personal = sees_personal_data(reading.viewer.role)
    found = reading.con.execute("""
        SELECT customer_id, coalesce(name, '(no name)') AS name, customer_type, organisation_name, country_code, segment, order_count, net_revenue_reporting, last_order_at
        FROM marts.dim_customers
        WHERE NOT is_deleted AND (customer_id = $text OR contains(lower(coalesce(organisation_name, '')), lower($text))
              OR ($personal AND (contains(lower(coalesce(name, '')), lower($text)) OR contains(lower(coalesce(email, '')), lower($text)))))
        ORDER BY net_revenue_reporting DESC NULLS LAST, customer_id LIMIT $limit""", {"text": text.strip(), "limit": FOUND_CUSTOMERS, "personal": personal}).pl()
    return found if personal else found.with_columns(pl.col("customer_id").alias("name"))


@per_snapshot
def best_customers(reading: warehouse.Reading) -> pl.DataFrame:
    """The customers with the highest net revenue, to begin with."""
    found = reading.con.execute("""
        SELECT customer_id, coalesce(name, '(no name)') AS name, customer_type, organisation_name, country_code, segment, order_count, net_revenue_reporting, last_order_at
        FROM marts.dim_customers WHERE NOT is_deleted AND order_count > 0 ORDER BY net_revenue_reporting DESC NULLS LAST, customer_id LIMIT $limit""", {"limit": BEST_CUSTOMERS}).pl()
    return found if sees_personal_data(reading.viewer.role) else found.with_columns(pl.col("customer_id").alias("name"))


@per_snapshot
def customer(reading: warehouse.Reading, customer_id: str) -> dict[str, Any] | None:
    """One customer's profile; None when there is none of that id. Personal columns are None for those without a right to them."""
    frame = reading.con.execute("SELECT * FROM marts.dim_customers WHERE customer_id = ?", [customer_id]).pl()
    if not frame.height:
        return None
    row = frame.row(0, named=True)
    return row if sees_personal_data(reading.viewer.role) else {name: None if name in PERSONAL else value for name, value in row.items()}


@per_snapshot
def customer_scores(reading: warehouse.Reading, customer_id: str) -> dict[str, dict[str, Any]]:
    """The published scores of one customer, by model; a model that publishes nothing is left out."""
    scores = {}
    for model in ("churn", "clv", "churn_timing", "uplift"):
        if has(reading, f"scores.{model}"):
            frame = reading.con.execute(f"SELECT * FROM scores.{model} WHERE customer_id = ?", [customer_id]).pl()
            if frame.height:
                scores[model] = frame.row(0, named=True)
    return scores


@per_snapshot
def customer_curve(reading: warehouse.Reading, customer_id: str) -> pl.DataFrame:
    """Chance of still being a customer after so many days (day, still), from 1 today on; no rows where none is scored."""
    if not has(reading, "scores.churn_timing"):
        return pl.DataFrame(schema={"day": pl.Int32, "still": pl.Float64})
    return reading.con.execute("""
        WITH scored AS (SELECT * FROM scores.churn_timing WHERE customer_id = ?)
        SELECT day, still FROM (
            SELECT 0 AS day, CAST(1 AS DOUBLE) AS still FROM scored
            UNION ALL SELECT 30, still_30d FROM scored UNION ALL SELECT 60, still_60d FROM scored UNION ALL SELECT 90, still_90d FROM scored
            UNION ALL SELECT 180, still_180d FROM scored UNION ALL SELECT 365, still_365d FROM scored)
        WHERE still IS NOT NULL ORDER BY day""", [customer_id]).pl()


@per_snapshot
def customer_segments(reading: warehouse.Reading, customer_id: str) -> list[str]:
    """Labels of the saved segments a customer is in, as of the snapshot."""
    if not has(reading, "segments.memberships"):
        return []
    return [r[0] for r in reading.con.execute("SELECT d.label FROM segments.memberships AS m JOIN segments.definitions AS d USING (segment) WHERE m.customer_id = ? ORDER BY 1", [customer_id]).fetchall()]


@per_snapshot
def timeline(reading: warehouse.Reading, customer_id: str) -> pl.DataFrame:
    """What happened with a customer, newest first: happened_at (UTC), what, detail, amount."""
    return reading.con.execute("""
        SELECT * FROM (
            SELECT ordered_at AS happened_at, 'order' AS what, concat_ws(', ', order_id, status, channel) AS detail, net_amount AS amount, currency FROM marts.fct_orders WHERE customer_id = $id
            UNION ALL SELECT refunded_at, 'refund', coalesce(reason, ''), -amount, currency FROM marts.fct_refunds WHERE customer_id = $id
            UNION ALL SELECT created_at, 'lead', concat_ws(', ', channel, status), NULL, NULL FROM marts.fct_leads WHERE customer_id = $id
            UNION ALL SELECT created_at, 'deal', concat_ws(', ', CASE WHEN $personal THEN name END, stage), amount, currency FROM marts.fct_deals WHERE customer_id = $id
            UNION ALL SELECT started_at, 'subscription started', plan, amount, currency FROM marts.fct_subscriptions WHERE customer_id = $id
            UNION ALL SELECT ended_at, 'subscription ended', plan, NULL, NULL FROM marts.fct_subscriptions WHERE customer_id = $id AND ended_at <= (SELECT watermark FROM ops.settings)
            UNION ALL SELECT occurred_at, kind, concat_ws(', ', direction, outcome), NULL, NULL FROM marts.fct_activities WHERE customer_id = $id
            UNION ALL SELECT created_at, 'ticket', concat_ws(', ', category, status), NULL, NULL FROM marts.fct_tickets WHERE customer_id = $id
            UNION ALL SELECT responded_at, kind || ' answer', CAST(score AS VARCHAR), NULL, NULL FROM marts.fct_survey_responses WHERE customer_id = $id AND is_answered
            UNION ALL SELECT occurred_at, 'touch', concat_ws(', ', channel, source_name), NULL, NULL FROM marts.fct_touchpoints WHERE customer_id = $id)
        WHERE happened_at IS NOT NULL ORDER BY happened_at DESC, what, detail LIMIT $limit""", {"id": customer_id, "limit": TIMELINE_ROWS, "personal": sees_personal_data(reading.viewer.role)}).pl()
