"""No metric is computed outside the metric layer: no ratio of metric-like quantities stands in the pages or the pipelines."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from models import metrics

ROOT = Path(__file__).resolve().parents[3]
REGISTRY = metrics.registry()
AGGREGATE_RATIO = re.compile(r"\b(?:sum|count|avg|median|countif)\s*\([^()]*(?:\([^()]*\))?[^()]*\)(?:\s*filter\s*\([^)]*\))?\s*/", re.IGNORECASE)
RATIO_OF_NULLIF = re.compile(r"/\s*nullif\s*\(", re.IGNORECASE)
QUANTITIES = {*REGISTRY, *REGISTRY.aliases, *REGISTRY.measures} | {"churned", "retained", "converted", "delivered", "responded", "satisfied", "promoters", "detractors"}


def words(node: ast.AST) -> set[str]:
    """Names, attributes and column names that an expression mentions."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.add(part.value)
    return found


def offences(text: str) -> list[str]:
    """Lines that divide, or subtract from, quantities of the metric layer, in Python or in SQL inside it."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.FloorDiv)):
            if words(node.left) & QUANTITIES and not isinstance(node.right, ast.Constant):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (AGGREGATE_RATIO.search(node.value) or RATIO_OF_NULLIF.search(node.value)):
            found.append(f"line {node.lineno}: {node.value[:80]}")
    return found


@pytest.mark.parametrize("text", [
    "rate = churned_customers / opening_customers", "x = row['mrr'] / row['paying_customers']", "q = 'select sum(amount) / count(*) from t'",
    "q = 'select won / nullif(closed, 0) from t'", "f = pl.col('spend') / pl.col('new_customers')",
])
def test_the_search_finds_planted_arithmetic(text):
    assert offences(text)


def test_the_search_leaves_display_alone():
    assert not offences("shown = mrr / 1000\nhalf = width / 2\nq = 'select count(*) from marts.fct_orders'")


@pytest.mark.parametrize("room", ["dashboards", "pipelines"])
def test_no_page_and_no_pipeline_computes_a_metric(room):
    found = [f"{path.relative_to(ROOT)} {offence}" for path in sorted((ROOT / room).rglob("*.py")) if "demo" not in path.parts
             for offence in offences(path.read_text(encoding="utf-8"))]
    assert not found, "compute it in models/layers/metrics and ask models.metrics for it:\n" + "\n".join(found)
