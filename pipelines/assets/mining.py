"""Patterns: what is bought together, what customers may want next, which kinds of customers there are."""

from dagster import AssetSpec, MaterializeResult, multi_asset

from models import warehouse
from pipelines.progress import PROGRESS
from pipelines.resources import RunContext

_BASKETS = [["marts", "fct_orders"], ["marts", "fct_order_lines"], ["marts", "dim_products"]]
_BEHAVIOUR = [["features", "ftr_customers__behaviour"], ["features", "ftr_as_of_dates"]]
SAYS = {
    "product_rules": ("Products and categories bought together more often than chance. One row per rule.", _BASKETS),
    "next_products": ("Products a customer may want next, by rule. One row per customer and pick.", _BASKETS),
    "customer_clusters": ("Group of each buyer and the distance to its centre. One row per buyer.", _BEHAVIOUR),
    "cluster_profiles": ("What sets each group apart. One row per group and behaviour.", _BEHAVIOUR),
    "pattern_verdicts": ("Whether each pattern stands, and on what. One row per pattern.", [*_BASKETS, *_BEHAVIOUR]),
}


@multi_asset(name="patterns", can_subset=False,
             specs=[AssetSpec(["scores", table], group_name="scores", kinds={"scikitlearn", "duckdb"}, description=says, deps=deps) for table, (says, deps) in SAYS.items()])
def pattern_assets(run: RunContext):
    """Mine baskets and behaviour; what has no pattern says so."""
    from ml import mining
    with PROGRESS.stage("mine patterns"), warehouse.writing(run.home) as con:
        report = mining.mine_all(con, run.home, say=PROGRESS.detail)
    for table in SAYS:
        yield MaterializeResult(asset_key=["scores", table], metadata={"rows": report.rows[table]})
