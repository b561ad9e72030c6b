"""Metrics: what each number means, compiled to SQL and answered on a snapshot.

Belongs here: the registry of definitions, the compiler, the engine-fed relations and the answers. Does not belong here: the
definitions themselves (YAML in `models/layers/metrics`), connections, pages.

    answer = metrics.query(con, metrics.MetricRequest(("net_revenue",), by=("channel",), grain="month"))
"""

from models.metrics.answer import ColumnMeta, MetricAnswer, query, registry, write_definitions
from models.metrics.calendar import Calendar, Window
from models.metrics.compiler import CompiledQuery, MetricRequest, compile
from models.metrics.context import Context
from models.metrics.context import read as read_context
from models.metrics.definitions import Metric, Registry, Variant
from models.metrics.relations import store_predicted_values

__all__ = [
    "Calendar", "ColumnMeta", "CompiledQuery", "Context", "Metric", "MetricAnswer", "MetricRequest", "Registry", "Variant", "Window",
    "compile", "query", "read_context", "registry", "store_predicted_values", "write_definitions",
]
