"""What customers and sources wrote is shown as the characters it consists of, to those who may see it."""

from __future__ import annotations

import ast
from datetime import datetime
from pathlib import Path

import pytest

import dashboards
from dashboards import queries
from dashboards.queries import door
from models import warehouse

APP = Path(dashboards.__file__).parent
PAYLOAD = "**Bo** [click](http://evil.example) <img src=x onerror=alert(1)> :red[x] $x^2$"
RENAME = f"UPDATE marts.dim_customers SET name = '{PAYLOAD}', organisation_name = '<b>Acme</b>' WHERE customer_id = (SELECT min(customer_id) FROM marts.dim_customers WHERE order_count > 0 AND NOT is_deleted)"
MARKDOWN = {"markdown", "write", "caption", "info", "warning", "error", "success", "title", "header", "subheader", "toast", "badge", "expander", "popover", "tabs"}


@pytest.fixture(scope="module")
def renamed(make_home):
    return make_home(filled=("everything",), statements=(RENAME,))


def named(home) -> str:
    with warehouse.reading(home) as reading:
        return reading.con.execute("SELECT customer_id FROM marts.dim_customers WHERE name = ?", [PAYLOAD]).fetchone()[0]


def test_a_name_that_looks_like_markup_is_shown_as_it_was_written(renamed, show, html):
    app = show(renamed, "customers", id=named(renamed))
    shown = html(app)
    assert "**Bo** [click](http://evil.example) &lt;img src=x onerror=alert(1)&gt; :red[x] $x^2$" in shown
    assert "<img src=x" not in shown and "<b>Acme" not in shown
    for kind in ("markdown", "caption", "subheader", "info", "error", "warning"):
        assert not any(PAYLOAD in e.value for e in app.get(kind))


def test_a_search_that_looks_like_markup_is_shown_as_it_was_written(renamed, show, html):
    shown = html(show(renamed, "customers", q="<script>alert(1)</script>"))
    assert "&lt;script&gt;" in shown and "<script>" not in shown


def test_pages_give_markdown_elements_only_words_of_their_own():
    wrong = []
    for file in sorted([*APP.glob("*.py"), *(APP / "components").glob("*.py"), *(APP / "app_pages").glob("*.py")]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MARKDOWN and isinstance(node.func.value, ast.Name) and node.func.value.id == "st" and node.args:
                wrong += [f"{file.name}:{node.lineno}" for name in ast.walk(node.args[0]) if isinstance(name, ast.Name) and not _is_own(file, name.id)]
    assert not wrong, f"show what comes from data through components/text.py, not through Markdown: {wrong}"


def _is_own(file: Path, name: str) -> bool:
    return (file.name, name) in {("frame.py", "title"), ("data_health.py", "rows"), *((page, "currency") for page in ("overview.py", "acquisition.py", "retention.py"))}    # a page's own title; a number of rows; a checked code


@pytest.mark.parametrize("page", ["customers", "identity"])
def test_a_viewer_without_the_right_sees_no_personal_data(page, demo, show, monkeypatch, html):
    with warehouse.reading(demo) as reading:
        customer, name, email = reading.con.execute("SELECT customer_id, name, email FROM marts.dim_customers WHERE email IS NOT NULL AND name IS NOT NULL AND NOT is_deleted AND order_count > 1 ORDER BY 1 LIMIT 1").fetchone()
    as_admin = html(show(demo, page, id=customer))
    assert email in as_admin and (name in as_admin or page == "identity")      # first and last name stand apart there
    monkeypatch.setattr(door, "viewer", lambda: warehouse.Viewer("v", "viewer"))      # the same process and caches, another role
    as_viewer = show(demo, page, id=customer)
    everything = html(as_viewer) + "".join(str(o) for box in as_viewer.selectbox for o in box.options)
    assert name not in everything and email not in everything
    assert customer in everything
    assert queries.find_customers(email).is_empty()
    assert not {"name", "email", "phone"} & set(queries.segment_members("s", '{"all": [{"attribute": "order_count", "at_least": 1}]}').columns)
    monkeypatch.setattr(door, "viewer", lambda: warehouse.LOCAL)
    assert email in queries.segment_members("s", '{"all": [{"attribute": "order_count", "at_least": 1}]}')["email"].to_list()


def test_one_run_of_a_page_reads_one_snapshot_though_another_is_published(make_home, use_home):
    home = make_home(filled=("marts.dim_customers",))
    use_home(home)
    first = warehouse.current_id(home)
    with queries.pinned() as snapshot:
        before = queries.best_customers().height
        warehouse.publish(home, "run-2", datetime(2026, 3, 2), datetime(2026, 3, 2))
        assert queries.snapshot_id() == first == snapshot.id
        assert queries.best_customers().height == before
    assert queries.snapshot_id() != first
