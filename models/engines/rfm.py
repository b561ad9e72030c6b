"""RFM: recency, frequency and monetary value of customers at an instant, scored 1 to 5 by value quantile.

Belongs here: the three measures, their scores, the 125 cells and the segments over them. Does not belong here: what a counted
order or a matched refund is (the marts), which label a cell has (`models/seeds/rfm_segments.csv`).

A value's score is one more than the number of its column's four quintile borders that lie below it, so equal values always score
alike. The borders are those of linear interpolation (Hyndman & Fan 1996, type 7: the default of R, NumPy and pandas), decided in
whole numbers: with `b` customers below a value and `n` in all, border `k` lies below it exactly when `5 b > k (n - 1)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines.funnel_range import instant
from models.engines.movements_periods import Query, bind, local_date_sql, naive_utc, relation

MEASURES = ("recency", "frequency", "monetary")
SEGMENTS = "marts.rfm_segments"


@dataclass(frozen=True)
class RfmSpec:
    """What is scored. `as_of` is naive UTC: orders and refunds up to and including it count. `window_days` None takes all of history."""

    as_of: datetime
    time_zone: str
    window_days: int | None = None
    orders: str = "marts.fct_orders"
    refunds: str = "marts.fct_refunds"
    segments: str = SEGMENTS

    def __post_init__(self) -> None:
        naive_utc(self.as_of, "as_of")
        if self.window_days is not None and self.window_days < 1:
            raise UsageError("the window is empty", field="--window", remedy="Give at least one day, or none for all of history.")


def spec_at(day: date | None, watermark: datetime, time_zone: str, window_days: int | None = None) -> RfmSpec:
    """The question at the end of a local day, or at the watermark when no day is given. Raises UsageError for a day the data do not reach."""
    as_of = watermark
    if day is not None:
        if instant(day, time_zone) > watermark:
            raise UsageError(f"the data reach up to {watermark:%Y-%m-%d %H:%M} UTC, before {day}", field="--as-of", remedy="Give an earlier day.")
        as_of = min(watermark, instant(day + timedelta(days=1), time_zone) - timedelta(microseconds=1))
    return RfmSpec(as_of, time_zone, window_days)


def _score(measure: str) -> str:
    borders = " + ".join(f"CAST(5 * {measure}_below > {k} * (customer_total - 1) AS INTEGER)" for k in (1, 2, 3, 4))
    return f"CAST({'5 - (' if measure == 'recency' else '1 + ('}{borders}) AS INTEGER) AS {measure}_score"


def scores_query(spec: RfmSpec) -> Query:
    """One row per customer with an order that was not fully refunded: customer_id, recency_days, order_count (distinct counted orders),
    net_revenue_reporting, recency_score, frequency_score, monetary_score, segment."""
    in_window = "" if spec.window_days is None else " AND o.ordered_at > CAST($as_of AS TIMESTAMP) - to_days(CAST($window_days AS INTEGER))"
    # a refund is whole when less than a cent of the order is left: amounts are rounded one by one, so parts may miss the whole
    sql = f"""WITH refunded AS (
    SELECT order_id, sum(amount_at_order_rate_reporting) AS amount FROM {relation(spec.refunds)} WHERE is_matched AND refunded_at <= $as_of GROUP BY order_id
), ordered AS (
    SELECT o.customer_id, o.ordered_date, o.net_amount_reporting - coalesce(r.amount, 0) AS net_revenue,
        coalesce(o.net_amount_reporting > 0 AND r.amount IS NOT NULL AND o.net_amount_reporting - r.amount < 0.005, false) AS is_fully_refunded
    FROM {relation(spec.orders)} AS o LEFT JOIN refunded AS r ON r.order_id = o.order_id
    WHERE o.is_counted AND o.customer_id IS NOT NULL AND o.ordered_at <= $as_of{in_window}
), customers AS (
    SELECT customer_id, CAST(date_diff('day', max(ordered_date) FILTER (NOT is_fully_refunded), {local_date_sql('CAST($as_of AS TIMESTAMP)')}) AS BIGINT) AS recency_days,
        count(*) AS order_count, CAST(coalesce(sum(net_revenue), 0) AS DECIMAL(18, 4)) AS net_revenue_reporting
    FROM ordered GROUP BY customer_id HAVING count(*) FILTER (NOT is_fully_refunded) > 0
), placed AS (
    SELECT *, count(*) OVER () AS customer_total, rank() OVER (ORDER BY recency_days) - 1 AS recency_below, rank() OVER (ORDER BY order_count) - 1 AS frequency_below,
        rank() OVER (ORDER BY net_revenue_reporting) - 1 AS monetary_below
    FROM customers
), scored AS (
    SELECT customer_id, recency_days, order_count, net_revenue_reporting, {', '.join(_score(m) for m in MEASURES)} FROM placed
)
SELECT scored.*, segments.segment FROM scored LEFT JOIN {relation(spec.segments)} AS segments USING (recency_score, frequency_score, monetary_score)"""
    return bind(sql, {"as_of": spec.as_of, "time_zone": spec.time_zone, "window_days": spec.window_days})


def stored(con: duckdb.DuckDBPyConnection, segments: str) -> duckdb.DuckDBPyRelation:
    """The scores at the watermark over all of history: what the dbt model stores. They pass through a temporary table, so that many spill to disk."""
    watermark, time_zone = con.execute("SELECT watermark, time_zone FROM ops.settings").fetchone()
    query = scores_query(RfmSpec(watermark, time_zone, segments=segments))
    con.execute(f"CREATE OR REPLACE TEMPORARY TABLE stored_rfm AS {query.sql}", query.params)
    return con.table("stored_rfm")


def _summed(scores: Query, keys: tuple[str, ...], frame: str, order: str) -> Query:
    joined = ", ".join(keys)
    return Query(f"""WITH scores AS ({scores.sql}), totals AS (SELECT count(*) AS customers, sum(net_revenue_reporting) AS net_revenue FROM scores),
    summed AS (SELECT {joined}, count(*) AS customers, CAST(sum(net_revenue_reporting) AS DECIMAL(18, 4)) AS net_revenue_reporting,
        median(recency_days) AS median_recency_days, median(order_count) AS median_order_count FROM scores GROUP BY {joined})
SELECT {frame}, coalesce(customers, 0) AS customers, CAST(customers AS DOUBLE) / nullif((SELECT customers FROM totals), 0) AS customer_share,
    coalesce(net_revenue_reporting, 0) AS net_revenue_reporting, CAST(net_revenue_reporting AS DOUBLE) / nullif((SELECT net_revenue FROM totals), 0) AS revenue_share,
    median_recency_days, median_order_count
FROM {order}""", scores.params)


def cells_query(scores: Query, segments: str = SEGMENTS) -> Query:
    """All 125 cells, each once: the three scores, segment, customers, net revenue, their shares (null where the total is zero), median recency and orders."""
    keys = ("recency_score", "frequency_score", "monetary_score")
    return _summed(scores, keys, f"{', '.join(keys)}, segments.segment", f"{relation(segments)} AS segments LEFT JOIN summed USING ({', '.join(keys)}) ORDER BY {', '.join(keys)}")


def segments_query(scores: Query) -> Query:
    """One row per segment that has customers, the highest net revenue first; columns as `cells_query` without the scores."""
    return _summed(scores, ("segment",), "segment", "summed ORDER BY net_revenue_reporting DESC, segment")


def published(table: str = "marts.fct_rfm_scores") -> Query:
    """The scores that were published with a snapshot."""
    return Query(f"SELECT * FROM {relation(table)}", {})


def run(con: duckdb.DuckDBPyConnection, by: str, spec: RfmSpec | None = None) -> pl.DataFrame:
    """Rows by `segment`, `cell` or `customer`; `spec` None reads the published scores. Raises UsageError for another `by`."""
    scores = scores_query(spec) if spec else published()
    if by == "customer":
        return Query(f"SELECT * FROM ({scores.sql}) ORDER BY net_revenue_reporting DESC, customer_id", scores.params).run(con)
    if by not in ("segment", "cell"):
        raise UsageError(f"RFM is not listed by {by!r}", field="--by", remedy="Use segment, cell or customer.")
    return (segments_query(scores) if by == "segment" else cells_query(scores)).run(con)
