"""Questions to the mined patterns of a published snapshot: rules of baskets, RFM, groups of customers.

Belongs here: reading and filtering the pattern tables for the command line and the pages. Does not belong here: how a pattern is
found (`ml`), what RFM means (`models.engines.rfm`).
"""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models import analysis
from models.engines import rfm as rfm_engine

BASKETS = ("order", "customer")
LEVELS = ("product", "category")
_PLURAL = {"product": "products", "category": "categories"}


def named(level: str, by: str) -> str:
    """Name of the verdict on rules of a level and a kind of basket."""
    return f"{_PLURAL.get(level, level)} bought together by {by}"


def _require(con: duckdb.DuckDBPyConnection, table: str) -> None:
    if not con.execute("SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'scores' AND table_name = ?", [table]).fetchone()[0]:
        raise UsageError("this snapshot was published before patterns were mined", remedy="Run `rapport run` again.")


def rfm(con: duckdb.DuckDBPyConnection, by: str = "segment", as_of: date | None = None, window_days: int | None = None) -> pl.DataFrame:
    """RFM by `segment`, `cell` (all 125) or `customer`; as published, or at the end of a local day over a window. See `models.engines.rfm.run`."""
    if as_of is None and window_days is None:
        return rfm_engine.run(con, by)
    known = analysis.settings(con)
    return rfm_engine.run(con, by, rfm_engine.spec_at(as_of, known["watermark"], known["time_zone"], window_days))


def rules(con: duckdb.DuckDBPyConnection, item: str | None = None, by: str = "order", level: str = "product", limit: int | None = None) -> pl.DataFrame:
    """Rules, the most surely confident first (lower end of the 95 % interval); `item` keeps those from one product or category, by id or a part of its name. Raises UsageError when no rule starts there."""
    _require(con, "product_rules")
    for name, value, known in (("--by", by, BASKETS), ("--level", level, LEVELS)):
        if value not in known:
            raise UsageError(f"there are no rules by {value!r}", field=name, remedy=f"Use {' or '.join(known)}.")
    wanted = "" if item is None else " AND (antecedent = $item OR contains(lower(coalesce(antecedent_name, antecedent)), lower($item)))"
    found = con.execute(f"SELECT * EXCLUDE (basket, level) FROM scores.product_rules WHERE basket = $by AND level = $level{wanted} "
                        "ORDER BY confidence_lower DESC, lift DESC, antecedent, consequent" + (f" LIMIT {int(limit)}" if limit else ""),
                        {"by": by, "level": level, **({"item": item} if item is not None else {})}).pl()
    if item is not None and found.is_empty():
        told = con.execute("SELECT verdict FROM scores.pattern_verdicts WHERE pattern = ?", [named(level, by)]).fetchone()
        raise UsageError(f"no rule by {by} starts at a {level} called {item!r}", field="--for", remedy=f"See `rapport rules` for those that have one ({told[0] if told else 'none was mined'}).")
    return found


def next_products(con: duckdb.DuckDBPyConnection, customer_id: str | None = None) -> pl.DataFrame:
    """Products customers may want next, by rule; empty when rules did not beat the best sellers (see `verdicts`)."""
    _require(con, "next_products")
    return con.execute("SELECT * FROM scores.next_products WHERE $id IS NULL OR customer_id = $id ORDER BY customer_id, place", {"id": customer_id}).pl()


def clusters(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """One row per group: cluster_id, cluster (its name), customers, customer_share, stability, model_id, as_of, net revenue of its members and its share."""
    _require(con, "cluster_profiles")
    return con.execute("""
        WITH spent AS (SELECT cluster_id, CAST(sum(net_revenue_reporting) AS DECIMAL(18, 4)) AS net_revenue_reporting FROM scores.customer_clusters JOIN marts.dim_customers USING (customer_id) GROUP BY ALL)
        SELECT DISTINCT p.cluster_id, p.cluster, p.customers, p.customer_share, s.net_revenue_reporting,
            CAST(s.net_revenue_reporting AS DOUBLE) / nullif((SELECT sum(net_revenue_reporting) FROM spent), 0) AS revenue_share, p.stability, p.model_id, p.as_of
        FROM scores.cluster_profiles AS p LEFT JOIN spent AS s USING (cluster_id) ORDER BY p.cluster_id""").pl()


def profiles(con: duckdb.DuckDBPyConnection, cluster_id: int | None = None) -> pl.DataFrame:
    """One row per group and behaviour: typical value of the group and of all, and the difference in robust units. Raises UsageError for a group that is not there."""
    _require(con, "cluster_profiles")
    found = con.execute("SELECT cluster_id, cluster, customers, feature, label, unit, typical, typical_of_all, difference, stability FROM scores.cluster_profiles "
                        "WHERE $id IS NULL OR cluster_id = $id ORDER BY cluster_id, abs(difference) DESC, feature", {"id": cluster_id}).pl()
    if cluster_id is not None and found.is_empty():
        known = ", ".join(str(r[0]) for r in con.execute("SELECT DISTINCT cluster_id FROM scores.cluster_profiles ORDER BY 1").fetchall())
        raise UsageError(f"there is no cluster {cluster_id}", remedy=f"Known: {known}." if known else "No clusters stand: `rapport cluster list` says why.")
    return found


def cluster_members(con: duckdb.DuckDBPyConnection, cluster_id: int) -> pl.DataFrame:
    """Members of a group without personal data, nearest to its centre first: customer_id, cluster_id, cluster, distance (robust units), segment, orders, net revenue."""
    profiles(con, cluster_id)
    return con.execute("SELECT m.customer_id, m.cluster_id, m.cluster, m.distance, c.segment, c.order_count, c.net_revenue_reporting FROM scores.customer_clusters AS m "
                       "LEFT JOIN marts.dim_customers AS c USING (customer_id) WHERE m.cluster_id = ? ORDER BY m.distance, m.customer_id", [cluster_id]).pl()


def verdicts(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Whether each pattern stands: pattern, is_published, verdict, n, tested, found, as_of."""
    _require(con, "pattern_verdicts")
    return con.execute("SELECT * FROM scores.pattern_verdicts").pl()
