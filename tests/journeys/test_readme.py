"""The README is true: every command in it exists with its options, and those that only read give an answer on a published company.

Commands with a `--home` of their own belong to walks through one's own data, which the journeys of those sources take.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import typer
from conftest import ROOT, Cli

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.S | re.M)
READING = {"status", "quarantine list", "quarantine show", "snapshot list", "doctor", "metric list", "metric show", "metric query", "funnel", "retention", "attribution", "segment explain",
           "segment export", "segment preview", "query", "model list", "source list", "restatement list",
           "rfm", "rules", "next-products", "cluster list", "identity list", "identity log", "identity review", "identity decisions"}


def commands() -> list[list[str]]:
    """Every `rapport …` line of a code block and every inline `rapport …`, as arguments; lines that end in \\ are joined."""
    found: list[str] = []
    for block in BLOCK.findall(README):
        joined = block.replace("\\\n", " ")
        found += [line.strip() for line in joined.splitlines() if line.strip().startswith("rapport ")]
    without_blocks = BLOCK.sub("", README)
    found += [text for text in re.findall(r"`(rapport [^`]+)`", without_blocks) if "…" not in text]
    return [shlex.split(text, comments=True)[1:] for text in dict.fromkeys(found)]


def named(arguments: list[str]) -> str:
    """`metric query` of `metric query churn_rate …`."""
    two = " ".join(arguments[:2])
    return two if two in READING or arguments[0] in ("metric", "segment", "snapshot", "quarantine", "source", "model", "restatement", "identity") else arguments[0]


def test_the_readme_holds_commands():
    assert len(commands()) > 20


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_a_command_of_the_readme_exists_with_its_options(arguments):
    from pipelines.cli import app
    command: click.Command = typer.main.get_command(app)
    words = ["X" if w in ("ID",) else w for w in arguments]
    context = click.Context(command, info_name="rapport")
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, parent=context, info_name=name)
    command.make_context(context.info_name, list(words), parent=context.parent)


@pytest.mark.parametrize("arguments", [a for a in commands() if named(a) in READING and "--home" not in a], ids=" ".join)
def test_a_reading_command_of_the_readme_answers(arguments, demo_home: Cli, tmp_path: Path):
    words = [str(tmp_path / w) if arguments[n - 1] == "--output" else w for n, w in enumerate(arguments)]
    done = demo_home.run(*words)
    assert done.stdout.strip() or list(tmp_path.iterdir())


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), f"the README points at {target}"


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.M), f"`make {target}` is no target"
