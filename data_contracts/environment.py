"""Every setting, and the only reader of the process environment.

Belongs here: where the home is, what `workspace.yml` and `sources.yml` say, secrets by name. Does not belong here: anything
that opens a database or a source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import yaml

from data_contracts.errors import RapportError, UsageError

DEFAULT_HOME = ".rapport"
_ENV_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")


@dataclass(frozen=True)
class Workspace:
    """What `workspace.yml` may say. Days are calendar days, shares are 0..1."""

    company: str = "My company"
    time_zone: str = "UTC"
    reporting_currency: str = "USD"
    week_start: str = "monday"
    fiscal_year_start_month: int = 1
    churn_window_days: int = 90          # no order for this long counts as churned where nothing is subscribed
    lead_conversion_window_days: int = 90
    response_window_days: int = 30
    gross_margin: float = 0.7            # share of revenue left after the cost of what was sold
    attribution_model: str = "linear"
    attribution_lookback_days: int = 90
    exchange_rate_max_age_days: int | None = None  # None: a rate holds until the next one
    small_n: int = 30                    # below this many observations a rate is greyed and shown with its interval
    late_arrival_days: int = 3           # overlap when a source is read by cursor: late rows are met again
    max_row_drop: float = 0.3            # a full extract that lost more than this share of its rows is not published
    test_email_domains: tuple[str, ...] = ()
    keep_snapshots: int = 10
    memory_gib: float | None = None      # of DuckDB in a run, spilling to the home's disk above it; None: half of the machine's

    CHOICES = {
        "week_start": ("monday", "sunday", "saturday"),
        "attribution_model": ("first", "last", "linear", "u_shaped", "w_shaped", "time_decay", "markov", "shapley"),
    }

    def __post_init__(self) -> None:
        if self.time_zone not in available_timezones():
            raise UsageError(f"time_zone {self.time_zone!r} is not a known time zone", file="workspace.yml", field="time_zone",
                             remedy="Use an IANA name such as Europe/Berlin or America/New_York.")
        if not re.fullmatch(r"[A-Z]{3}", self.reporting_currency):
            raise UsageError(f"reporting_currency {self.reporting_currency!r} is not an ISO 4217 code", file="workspace.yml",
                             field="reporting_currency", remedy="Use three capital letters such as EUR.")
        for name, allowed in self.CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}", file="workspace.yml",
                                 field=name, remedy="Choose one of the listed values.")
        for name, low, high in (("churn_window_days", 1, 3650), ("lead_conversion_window_days", 1, 3650),
                                ("response_window_days", 1, 365), ("fiscal_year_start_month", 1, 12), ("gross_margin", 0, 1),
                                ("attribution_lookback_days", 1, 3650), ("keep_snapshots", 1, 10_000), ("max_row_drop", 0, 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise UsageError(f"{name} is {value!r}", file="workspace.yml", field=name, remedy=f"Give a number from {low} to {high}.")
        if self.memory_gib is not None and (isinstance(self.memory_gib, bool) or not isinstance(self.memory_gib, (int, float)) or not 0.5 <= self.memory_gib <= 100_000):
            raise UsageError(f"memory_gib is {self.memory_gib!r}", file="workspace.yml", field="memory_gib", remedy="Give a number of GiB from 0.5, or leave it out for half of the machine's memory.")

    @property
    def zone(self) -> ZoneInfo:
        """The reporting time zone."""
        return ZoneInfo(self.time_zone)


@dataclass(frozen=True)
class SourceDeclaration:
    """One entry of `sources.yml`. `Home.source` replaces `${NAME}` in its options from the environment."""

    name: str
    type: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets: never printed
    time_zone: str = "UTC"
    default_currency: str | None = None
    schedule: str | None = None
    base: Path = Path(".")               # relative paths in the declaration start here

    def path(self, value: str | Path) -> Path:
        """A path of the declaration, made absolute against the folder `sources.yml` lies in."""
        return (self.base / Path(value).expanduser()).resolve()


@dataclass(frozen=True)
class Home:
    """The one folder that holds everything a deployment owns."""

    root: Path

    landing = property(lambda self: self.root / "landing")
    warehouse = property(lambda self: self.root / "warehouse.duckdb")
    lock_file = property(lambda self: self.root / "warehouse.lock")
    serving = property(lambda self: self.root / "serving")
    artifacts = property(lambda self: self.root / "artifacts")
    segments = property(lambda self: self.root / "segments")
    logs = property(lambda self: self.root / "logs")
    dagster = property(lambda self: self.root / "dagster")
    dbt_target = property(lambda self: self.root / "dbt")
    temporary = property(lambda self: self.root / "tmp")
    workspace_file = property(lambda self: self.root / "workspace.yml")
    sources_file = property(lambda self: self.root / "sources.yml")
    identity_file = property(lambda self: self.root / "identity.yml")   # optional: what this home says otherwise than models/engines/identity_rules.yml

    @property
    def exists(self) -> bool:
        return self.workspace_file.exists()

    def require(self) -> Home:
        """This home, or an error that says how to make one."""
        if not self.exists:
            raise UsageError(f"there is no Rapport home at {self.root}",
                             remedy="Run `rapport init` here, `rapport demo` to see a whole company, or pass --home DIR.")
        return self

    @cached_property
    def workspace(self) -> Workspace:
        return load_workspace(self.workspace_file)

    @property
    def memory_limit(self) -> str:
        """How much memory DuckDB may take before it spills to `temporary`, as DuckDB writes it."""
        gib = self.workspace.memory_gib or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 / 2
        return f"{gib:.2f}GiB"

    def sources(self) -> list[SourceDeclaration]:
        """Every declared source, secrets still as `${NAME}`: listing sources needs none of them."""
        return load_sources(self.sources_file)

    def source(self, name: str) -> SourceDeclaration:
        """One source, ready to be read: its secrets are taken from the environment."""
        declared = {s.name: s for s in self.sources()}
        if name not in declared:
            raise UsageError(f"no source is named {name!r}", file=str(self.sources_file),
                             remedy=f"Declared: {', '.join(declared) or 'none'}. Add one with `rapport source add`.")
        return replace(declared[name], options=_resolve(declared[name].options, name, self.sources_file))

    def make_folders(self) -> None:
        for folder in (self.root, self.landing, self.serving, self.artifacts, self.segments, self.logs, self.dagster,
                       self.dbt_target, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)


def find_home(path: str | Path | None = None) -> Home:
    """The home named on the command line, else by RAPPORT_HOME, else `./.rapport`."""
    chosen = path or os.environ.get("RAPPORT_HOME") or DEFAULT_HOME
    return Home(Path(chosen).expanduser().resolve())


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(f"{file.name} is not valid YAML: {getattr(error, 'problem', 'syntax error')}", file=str(file),
                         row=mark.line + 1 if mark else None, remedy="Mend the syntax there.") from None
    if not isinstance(content, dict):
        raise UsageError(f"{file.name} must hold settings as `name: value`", file=str(file), remedy="See the README's examples.")
    return content


def load_workspace(file: Path) -> Workspace:
    """The workspace's settings. Unknown names are refused, so that a misspelt setting is not silently ignored."""
    content = _read_yaml(file) if file.exists() else {}
    known = {f.name for f in fields(Workspace)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}", file=str(file), field=unknown[0], remedy=f"Known: {', '.join(sorted(known))}.")
    if "test_email_domains" in content:
        content["test_email_domains"] = tuple(str(d).lower().lstrip("@") for d in content["test_email_domains"] or ())
    return Workspace(**content)


def _resolve(value: Any, source: str, file: Path) -> Any:
    if isinstance(value, str):
        def secret(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in os.environ:
                raise RapportError(f"the environment variable {name} is not set", source=source, file=str(file),
                                   remedy=f"Export {name} before running, or remove ${{{name}}} from the declaration.")
            return os.environ[name]
        return _ENV_NAME.sub(secret, value)
    if isinstance(value, dict):
        return {k: _resolve(v, source, file) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, source, file) for v in value]
    return value


def declared_sources(file: Path) -> dict[str, dict[str, Any]]:
    """The raw entries of `sources.yml` by name, secrets still as `${NAME}`."""
    content = _read_yaml(file) if file.exists() else {}
    entries = content.get("sources") or {}
    if not isinstance(entries, dict):
        raise UsageError("`sources` must be a mapping of name to declaration", file=str(file), remedy="Write `sources: {shop: {type: sql, …}}`.")
    for name, entry in entries.items():
        if not _NAME.match(str(name)):
            raise UsageError(f"{name!r} cannot name a source", file=str(file), remedy="Use small letters, digits and _, starting with a letter.")
        if not isinstance(entry, dict) or "type" not in entry:
            raise UsageError(f"source {name} has no type", file=str(file), source=str(name), remedy="Add `type:`, e.g. canonical_files or sql.")
    return entries


def load_sources(file: Path) -> list[SourceDeclaration]:
    """Every declared source, in the order of the file."""
    result = []
    for name, entry in declared_sources(file).items():
        entry = dict(entry)
        zone = entry.pop("time_zone", "UTC")
        if zone not in available_timezones():
            raise UsageError(f"time_zone {zone!r} is not known", source=name, file=str(file), field="time_zone", remedy="Use an IANA name such as Europe/London.")
        result.append(SourceDeclaration(
            name=name, type=str(entry.pop("type")), time_zone=zone, default_currency=entry.pop("default_currency", None),
            schedule=entry.pop("schedule", None), options=entry, base=file.parent))
    return result


@contextmanager
def exported(**values: str) -> Iterator[None]:
    """Set environment variables for a library that reads its settings there (dbt, Dagster), and restore them after."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# For the libraries beneath, before they are imported; what is set already stands.
_LIBRARY_SETTINGS = {
    "DO_NOT_TRACK": "1", "DAGSTER_DISABLE_TELEMETRY": "1", "GX_ANALYTICS_ENABLED": "false",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",           # scikit-learn's threads wait by spinning otherwise: beside another busy process a fit of seconds took minutes
    "DAGSTER_EVENT_BATCH_SIZE": "1000",     # the plan of a run is written in one transaction
}


def prepare_libraries() -> None:
    """Telemetry off, and threads that share the machine, for the life of the process."""
    for name, value in _LIBRARY_SETTINGS.items():
        os.environ.setdefault(name, value)


def child_environment(**values: str) -> dict[str, str]:
    """The environment for a process that Rapport starts."""
    return {**os.environ, **values}
