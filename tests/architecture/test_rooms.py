"""The rooms and their rules, so that they are more than words."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("data_contracts", "models", "ml", "pipelines", "dashboards")
TOP_LEVEL = {"data_contracts", "models", "ml", "pipelines", "dashboards", "tests", "dagster.yaml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE",
             "NOTICE", "Makefile", "pyproject.toml", "uv.lock"}


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def python_files(*rooms: str) -> list[Path]:
    return [f for room in rooms for f in sorted((ROOT / room).rglob("*.py")) if "target" not in f.parts]


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def test_only_the_agreed_entries_stand_at_the_top_level():
    stray = {f.split("/")[0] for f in tracked()} - TOP_LEVEL
    assert not {s for s in stray if not s.startswith(".")}, "move these into a room: the top level holds the rooms and standard configuration only"


def test_rooms_import_downwards_only():
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("call, home", [("duckdb.connect", "models/warehouse.py"), ("os.environ", "data_contracts/environment.py"), ("os.getenv", None)])
def test_a_door_stands_in_one_file(call, home):
    module, name = call.split(".")
    holders = set()
    for file in python_files(*ROOMS):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.value, ast.Name) and node.value.id == module:
                holders.add(str(file.relative_to(ROOT)))
    assert holders <= {home}, f"{call} belongs in {home or 'no file'} alone"


def test_models_know_no_orchestrator_and_ml_no_pages():
    for room, forbidden in (("models", ("dagster", "streamlit")), ("ml", ("dagster", "streamlit")), ("data_contracts", ("dagster", "streamlit", "duckdb")),
                            ("dashboards", ("dagster", "dbt", "sklearn", "great_expectations", "duckdb"))):
        for file in python_files(room):
            used = imported(ast.parse(file.read_text(encoding="utf-8")))
            wrong = {u for u in used if u.split(".")[0] in forbidden}
            assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_no_pickle_is_read_or_written():
    for file in python_files(*ROOMS):
        used = {u.split(".")[0] for u in imported(ast.parse(file.read_text(encoding="utf-8")))}
        assert not used & {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}, f"{file.relative_to(ROOT)} uses a format that can run code when read"


def test_every_module_says_what_belongs_in_it():
    silent = [str(f.relative_to(ROOT)) for f in python_files(*ROOMS) if not ast.get_docstring(ast.parse(f.read_text(encoding="utf-8")))]
    assert not silent, f"these modules have no docstring: {silent}"


def test_python_files_stay_readable_in_one_sitting():
    long = {str(f.relative_to(ROOT)): n for f in python_files(*ROOMS) if (n := len(f.read_text(encoding="utf-8").splitlines())) > 600}
    assert not long, f"split these by subject: {long}"


def test_pipelines_hold_no_sql_longer_than_a_line():
    for file in python_files("pipelines"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value.strip():
                text = node.value.upper()
                assert not ("SELECT " in text and " FROM " in text and "\n" in text and not text.lstrip().startswith(("SELECT WHAT",)) and _is_sql(text)), \
                    f"{file.relative_to(ROOT)}:{node.lineno} holds a long query; queries live in models/"


def _is_sql(text: str) -> bool:
    words = text.split()
    return bool(words) and words[0] in {"SELECT", "WITH", "INSERT", "UPDATE", "CREATE", "DELETE", "COPY"}


def test_pages_load_without_the_heavy_machinery():
    """A visitor must not wait for dbt or Dagster: what the pages import is checked in a fresh interpreter."""
    code = ("import sys, importlib, pathlib\n"
            "for f in sorted(pathlib.Path('dashboards').rglob('*.py')):\n"
            "    name = '.'.join(f.with_suffix('').parts)\n"
            "    if name.endswith('__init__') or name == 'dashboards.app' or '.app_pages.' in name: continue\n"
            "    importlib.import_module(name)\n"
            "heavy = sorted({m.split('.')[0] for m in sys.modules} & {'dagster', 'dbt', 'sklearn', 'great_expectations', 'metricflow', 'dlt'})\n"
            "print(','.join(heavy))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", f"the pages load {done.stdout.strip()}"


def test_no_file_names_a_secret_or_an_unfinished_part():
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "raise NotImplemented" + "Error")
    for file in python_files(*ROOMS):
        text = file.read_text(encoding="utf-8")
        assert not any(m in text for m in marks), f"{file.relative_to(ROOT)} holds an unfinished part"
