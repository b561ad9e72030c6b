"""Pages read like the screen: no SQL and no arithmetic in them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dashboards

FILES = sorted((Path(dashboards.__file__).parent / "app_pages").glob("*.py"))
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
SQL = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", " FROM ", " JOIN ")


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_page_holds_no_arithmetic(file):
    found = [node.lineno for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ARITHMETIC)]
    assert not found, f"{file.name} calculates in lines {found}: a number's meaning belongs in models, its look in components"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_page_holds_no_sql(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    found = [node.lineno for node in texts if any(word in node.value for word in SQL)]
    assert not found, f"{file.name} holds SQL in lines {found}: questions to the data belong in dashboards/queries"
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("execute", "con", "sql")]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_page_is_drawn_inside_the_frame(file):
    last = ast.parse(file.read_text(encoding="utf-8")).body[-1]
    assert ast.unparse(last).startswith("frame.page("), f"{file.name} must end with frame.page(…), which pins the snapshot and explains errors"
