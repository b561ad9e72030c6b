"""Making and editing a home's files: `workspace.yml`, `sources.yml`, the segment library. Holds no setting's meaning."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from data_contracts.environment import Home, Workspace, declared_sources, load_sources, load_workspace
from data_contracts.errors import UsageError

SEGMENT_LIBRARY = Path(__file__).resolve().parent.parent / "models" / "segments" / "library"

_WORKSPACE = """\
# Settings of this workspace. Every line may be left out; what is shown after `#` is the default.
company: {company}
time_zone: {time_zone}              # IANA name; every day, week and month is counted in it
reporting_currency: {currency}        # ISO 4217; amounts in other currencies are converted at the day's rate
# week_start: monday
# fiscal_year_start_month: 1
# churn_window_days: 90              # without subscriptions, no order for so long counts as churned
# lead_conversion_window_days: 90
# response_window_days: 30
# gross_margin: 0.7                  # share of revenue left after the cost of what was sold
# attribution_model: linear          # first, last, linear, u_shaped, w_shaped, time_decay, markov, shapley
# attribution_lookback_days: 90
# exchange_rate_max_age_days:        # a rate older than this is not used; without it a rate holds until the next one
# small_n: 30                        # a rate over fewer observations is greyed and shown with its interval
# late_arrival_days: 3               # overlap when a source is read by cursor: late rows are met again
# max_row_drop: 0.3                  # a full extract that lost more than this share of its rows blocks the publish
test_email_domains: [{test_domains}]   # people with such an address are left out of every number
# keep_snapshots: 10
# memory_gib:                        # memory of the database in a run, above which it uses the disk; default: half of the machine's
"""

_SOURCES = """\
# Where the data come from. Secrets are written as ${NAME} and read from the environment when a run starts.
# `rapport source add` writes here; `rapport source test NAME` tries a source without loading anything.
sources: {}
"""


def make_home(home: Home, *, company: str = "My company", time_zone: str = "UTC", currency: str = "USD", test_domains: tuple[str, ...] = ()) -> list[Path]:
    """Create what is missing and return the files written; existing files are never touched."""
    home.make_folders()
    written = []
    if not home.workspace_file.exists():
        text = _WORKSPACE.format(company=yaml.safe_dump(company).splitlines()[0], time_zone=time_zone, currency=currency, test_domains=", ".join(test_domains))
        Workspace(company=company, time_zone=time_zone, reporting_currency=currency)
        home.workspace_file.write_text(text, encoding="utf-8")
        written.append(home.workspace_file)
    if not home.sources_file.exists():
        home.sources_file.write_text(_SOURCES, encoding="utf-8")
        written.append(home.sources_file)
    for example in sorted(SEGMENT_LIBRARY.glob("*.yml")):
        target = home.segments / example.name
        if not target.exists():
            shutil.copyfile(example, target)
            written.append(target)
    load_workspace(home.workspace_file)
    return written


def add_source(home: Home, name: str, entry: dict[str, Any], *, replace: bool = False) -> None:
    """Declare a source. Raises UsageError when the name is taken or the declaration does not hold together."""
    entries = dict(declared_sources(home.sources_file))
    if name in entries and not replace:
        raise UsageError(f"a source {name!r} is declared already", file=str(home.sources_file), remedy="Choose another name, or edit the file.")
    entries[name] = entry
    before = home.sources_file.read_text(encoding="utf-8") if home.sources_file.exists() else _SOURCES
    comments = "".join(line for line in before.splitlines(keepends=True) if line.startswith("#"))
    home.sources_file.write_text(comments + yaml.safe_dump({"sources": entries}, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        load_sources(home.sources_file)
    except UsageError:
        home.sources_file.write_text(before, encoding="utf-8")
        raise
