"""The metric registry: dbt's semantic models and metrics, read once, with Rapport's facts from `config.meta`.

Belongs here: parsing the YAML (or the copy published in a snapshot) into frozen records. Does not belong here: SQL of a query.

Why not MetricFlow at run time: importing it costs seconds and its command 8 s a call, and it does not know completeness, the
number of observations, named variants or like-for-like comparison. It stays the reference the tests compare with.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from data_contracts.errors import RapportError, UsageError

DEFINITIONS = Path(__file__).resolve().parent.parent / "layers" / "metrics"
AGGREGATIONS = ("sum", "sum_boolean", "count", "count_distinct", "average", "median", "percentile", "min", "max")
ADDITIVE = ("sum", "sum_boolean", "count")
DIRECTIONS = ("up_is_good", "down_is_good", "neither")
_REF = re.compile(r"^ref\('(\w+)'\)$")
_JINJA_DIMENSION = re.compile(r"\{\{\s*(?:Dimension|TimeDimension)\('(\w+)'[^)]*\)\s*\}\}")


@dataclass(frozen=True)
class Measure:
    """An aggregation over the rows of one semantic model."""

    name: str
    label: str
    agg: str
    expr: str
    model: str
    time: str
    percentile: float | None = None


@dataclass(frozen=True)
class SemanticModel:
    """One relation with its entities, dimensions and measures. `relation` is `schema.table`; `public` maps a public dimension to the semantic
    dimensions that hold it, the first known value counting. `engine` names the generator in `models.metrics.relations` that replaces the stored monthly table for other grains and ranges."""

    name: str
    relation: str
    entities: Mapping[str, tuple[str, str]]
    dimensions: Mapping[str, str]
    times: Mapping[str, str]
    measures: Mapping[str, Measure]
    public: Mapping[str, tuple[str, ...]]
    primary_entity: str | None = None
    engine: str | None = None
    is_calendar: bool = False

    @property
    def primary(self) -> str | None:
        """The entity whose name leads this model's own dimensions."""
        return self.primary_entity or next((name for name, (kind, _) in self.entities.items() if kind == "primary"), None)


@dataclass(frozen=True)
class MetricInput:
    """A metric used inside another one, under `alias`, perhaps shifted back in time."""

    metric: str
    alias: str
    filters: tuple[str, ...] = ()
    offset: tuple[int, str] | None = None


@dataclass(frozen=True)
class Node:
    """A dbt metric as dbt spells it: `simple`, `ratio`, `derived` or `cumulative`."""

    name: str
    kind: str
    label: str
    measure: str | None = None
    fill: int | None = None
    filters: tuple[str, ...] = ()
    inputs: tuple[MetricInput, ...] = ()
    expr: str | None = None
    window: tuple[int, str] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One named reading of a metric; `node` is the dbt metric that computes it."""

    name: str
    node: str
    label: str
    definition: str


@dataclass(frozen=True)
class Metric:
    """What a person may ask for. `dimensions` are the public names it can be broken down by."""

    id: str
    label: str
    definition: str
    unit: str
    direction: str
    owner: str
    default_variant: str
    variants: Mapping[str, Variant]
    dimensions: tuple[str, ...]
    completeness: str
    kind: str
    is_additive: bool
    group: str


class Registry(dict[str, Metric]):
    """Metric id -> `Metric` (looked up by an alias too), together with the nodes, measures and semantic models that compute them."""

    def __init__(self, models: Mapping[str, SemanticModel], nodes: Mapping[str, Node]) -> None:
        super().__init__()
        self.models, self.nodes = dict(models), dict(nodes)
        self.measures = {name: measure for model in models.values() for name, measure in model.measures.items()}
        self.aliases: dict[str, str] = {}
        self.joins = {
            (entity, dimension): model.name
            for model in models.values() for entity, (kind, _) in model.entities.items() if kind in ("primary", "unique")
            for dimension in model.dimensions
        }
        _check(self)
        heads = [node for node in nodes.values() if "definition" in node.meta and "variant_of" not in node.meta]
        for node in heads:
            for alias in node.meta.get("aliases", ()):
                self.aliases[alias] = node.name
            self[node.name] = self._metric(node)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(self.aliases.get(str(name), name))

    def __missing__(self, name: str) -> Metric:
        return super().__getitem__(self.aliases[name])

    def find(self, name: str) -> Metric:
        """The metric called `name` (or one of its aliases); an unknown one is refused with the nearest names."""
        found = self.get(self.aliases.get(name, name))
        if found is None:
            near = difflib.get_close_matches(name, [*self, *self.aliases], n=3, cutoff=0.5)
            hint = f"Did you mean {', '.join(near)}?" if near else "`rapport metric list` prints all of them."
            raise UsageError(f"Unknown metric {name!r}", remedy=hint)
        return found

    def variant(self, metric: Metric, name: str | None) -> Variant:
        """The variant called `name` of `metric`, its default for None."""
        found = metric.variants.get(name or metric.default_variant)
        if found is None:
            raise UsageError(f"Metric {metric.id} has no variant {name!r}", remedy=f"It has {', '.join(metric.variants)}.")
        return found

    def meta(self, node: Node) -> dict[str, Any]:
        """What the YAML says of `node`, a variant taking over what it does not say itself from its metric."""
        head = node.meta.get("variant_of")
        inherited = self.nodes[head].meta if head else {}
        return {**{key: inherited[key] for key in ("whole", "by_dimension") if key in inherited}, **node.meta}

    def leaves(self, node: Node, seen: tuple[str, ...] = ()) -> frozenset[str]:
        """Names of the measures `node` is computed from."""
        if node.name in seen:
            raise RapportError(f"Metric {node.name} is defined by itself", remedy=f"Break the cycle {' -> '.join((*seen, node.name))}.")
        if node.measure:
            return frozenset({node.measure})
        return frozenset().union(*(self.leaves(self.nodes[item.metric], (*seen, node.name)) for item in node.inputs))

    def dimensions_of(self, node: Node) -> dict[str, None]:
        """Public dimension names every input of `node` can be broken down by, in the order of the first input."""
        meta = self.meta(node)
        whole, swapped = meta.get("whole", {}), meta.get("by_dimension", {})
        names: dict[str, None] = {}
        supported = []
        for leaf in sorted(self.leaves(node)):
            model = self.models[self.measures[leaf].model]
            if model.is_calendar:
                continue
            extra = {name for name, inputs in whole.items() if leaf in inputs} | {n for n, swap in swapped.items() if leaf in swap}
            supported.append({**dict.fromkeys(model.public), **dict.fromkeys(sorted(extra))})
        for name in supported[0] if supported else ():
            if all(name in other for other in supported):
                names[name] = None
        return names

    def _metric(self, node: Node) -> Metric:
        meta = node.meta
        default = str(meta.get("default_variant", "default"))
        variants = {default: Variant(default, node.name, node.label, str(meta["definition"]))}
        for other in self.nodes.values():
            if other.meta.get("variant_of") == node.name:
                name = str(other.meta["variant"])
                variants[name] = Variant(name, other.name, other.label, str(other.meta["definition"]))
        return Metric(
            id=node.name, label=node.label, definition=str(meta["definition"]), unit=str(meta["unit"]), direction=str(meta["direction"]),
            owner=str(meta["owner"]), default_variant=default, variants=variants, dimensions=tuple(self.dimensions_of(node)),
            completeness=str(meta.get("completeness", "watermark")), kind=node.kind, is_additive=self._is_additive(node),
            group=str(meta.get("group", "")),
        )

    def _is_additive(self, node: Node) -> bool:
        """Whether the values of a complete breakdown add up to the total: sums and counts, and derived ones that only add or
        subtract such."""
        if node.meta.get("is_additive") is not None:
            return bool(node.meta["is_additive"])
        if node.kind in ("simple", "cumulative"):
            return self.measures[node.measure or ""].agg in ADDITIVE
        linear = node.kind == "derived" and not re.search(r"[*/(]", node.expr or "")
        return linear and all(self._is_additive(self.nodes[item.metric]) for item in node.inputs)


def nullable_interval(text: str | None) -> tuple[int, str] | None:
    """`"1 month"` -> (1, "month")."""
    if not text:
        return None
    count, unit = str(text).split()
    return int(count), unit.rstrip("s")


def filter_dimensions(text: str) -> tuple[str, ...]:
    """The semantic dimensions (`entity__name`) that a dbt filter names."""
    return tuple(_JINJA_DIMENSION.findall(text))


def filter_sql(text: str, columns: Mapping[str, str]) -> str:
    """A dbt filter with each `{{ Dimension(...) }}` replaced by its column."""
    return _JINJA_DIMENSION.sub(lambda found: columns[found.group(1)], text)


def parse(documents: Iterable[Mapping[str, Any]]) -> Registry:
    """Build the registry from parsed YAML documents in dbt's `semantic_models` / `metrics` form."""
    models: dict[str, SemanticModel] = {}
    nodes: dict[str, Node] = {}
    for document in documents:
        for raw in document.get("semantic_models") or ():
            model = _model(raw)
            models[model.name] = model
            for raw_measure in raw.get("measures") or ():
                if raw_measure.get("create_metric"):
                    measure = model.measures[raw_measure["name"]]
                    nodes[measure.name] = Node(measure.name, "simple", measure.label, measure=measure.name)
        for raw in document.get("metrics") or ():
            node = _node(raw)
            nodes[node.name] = node
    return Registry(models, nodes)


@lru_cache(maxsize=1)
def from_files() -> Registry:
    """The registry of the installed package."""
    return parse(documents())


def documents(folder: Path = DEFINITIONS) -> list[dict[str, Any]]:
    """The metric YAML files of the dbt project, parsed, in the order of their names."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [yaml.load(path.read_text(encoding="utf-8"), Loader=loader) for path in sorted(folder.glob("*.yml"))]  # noqa: S506


@lru_cache(maxsize=8)
def from_json(text: str) -> Registry:
    """The registry as a snapshot carries it (see `to_json`)."""
    return parse(json.loads(text))


def to_json() -> str:
    """The package's definitions as one JSON text: what a snapshot publishes, so that old numbers keep their definitions."""
    wanted = ("semantic_models", "metrics")
    return json.dumps([{key: document[key] for key in wanted if key in document} for document in documents()], default=str)


def _meta(raw: Mapping[str, Any]) -> dict[str, Any]:
    return dict((raw.get("config") or {}).get("meta") or {})


def _schema_of(name: str) -> str:
    return "metrics" if name.startswith("mtr_") else "marts"


def _model(raw: Mapping[str, Any]) -> SemanticModel:
    name, meta = raw["name"], _meta(raw)
    found = _REF.match(str(raw["model"]).strip())
    if found is None:
        raise RapportError(f"Semantic model {name} reads {raw['model']!r}", remedy="Write model: ref('<mart>').")
    table = found.group(1)
    entities = {item["name"]: (item["type"], str(item.get("expr") or item["name"])) for item in raw.get("entities") or ()}
    everything = {item["name"]: item for item in raw.get("dimensions") or ()}
    times = {key: str(item.get("expr") or key) for key, item in everything.items() if item["type"] == "time"}
    default_time = (raw.get("defaults") or {}).get("agg_time_dimension", "")
    measures = {}
    for item in raw.get("measures") or ():
        parameters = item.get("agg_params") or {}
        measures[item["name"]] = Measure(
            name=item["name"], label=str(item.get("label") or item["name"]), agg=item["agg"], expr=str(item.get("expr", item["name"])),
            model=name, time=item.get("agg_time_dimension") or default_time, percentile=parameters.get("percentile"),
        )
    return SemanticModel(
        name=name, relation=f"{_schema_of(table)}.{table}", entities=entities,
        dimensions={key: str(item.get("expr") or key) for key, item in everything.items()},
        times=times, measures=measures,
        public={key: (path,) if isinstance(path, str) else tuple(path) for key, path in (meta.get("dimensions") or {}).items()}, primary_entity=raw.get("primary_entity"), engine=meta.get("engine"),
        is_calendar=bool(meta.get("is_calendar", False)),
    )


def _filters(raw: Any) -> tuple[str, ...]:
    if not raw:
        return ()
    return (raw.strip(),) if isinstance(raw, str) else tuple(str(item).strip() for item in raw)


def _input(raw: Any) -> MetricInput:
    if isinstance(raw, str):
        return MetricInput(raw, raw)
    return MetricInput(raw["name"], raw.get("alias") or raw["name"], _filters(raw.get("filter")), nullable_interval(raw.get("offset_window")))


def _node(raw: Mapping[str, Any]) -> Node:
    parameters = raw["type_params"]
    measure = parameters.get("measure")
    fill = measure.get("fill_nulls_with") if isinstance(measure, dict) else None
    measure_filter = _filters(measure.get("filter")) if isinstance(measure, dict) else ()
    if raw["type"] == "ratio":
        inputs = tuple(_input(parameters[part]) for part in ("numerator", "denominator"))
    else:
        inputs = tuple(_input(item) for item in parameters.get("metrics") or ())
    cumulative = parameters.get("cumulative_type_params") or {}
    return Node(
        name=raw["name"], kind=raw["type"], label=raw["label"], measure=measure["name"] if isinstance(measure, dict) else measure, fill=fill,
        filters=_filters(raw.get("filter")) + measure_filter, inputs=inputs, expr=parameters.get("expr"),
        window=nullable_interval(cumulative.get("window")), meta=_meta(raw),
    )


def _check(registry: Registry) -> None:
    """Refuse definitions that cannot be computed, naming the metric, before anybody asks for a number."""
    problems = []
    for measure in registry.measures.values():
        model = registry.models[measure.model]
        if measure.agg not in AGGREGATIONS:
            problems.append(f"measure {measure.name}: unknown agg {measure.agg}")
        if measure.time not in model.times:
            problems.append(f"measure {measure.name}: time dimension {measure.time!r} is not in {model.name}")
    for node in registry.nodes.values():
        for item in node.inputs:
            if item.metric not in registry.nodes:
                problems.append(f"metric {node.name}: input {item.metric} does not exist")
        if node.measure and node.measure not in registry.measures:
            problems.append(f"metric {node.name}: measure {node.measure} does not exist")
        if node.kind == "cumulative" and registry.measures[node.measure or ""].agg not in ADDITIVE:
            problems.append(f"metric {node.name}: a cumulative metric must sum or count")
        head = node.meta.get("variant_of")
        if head and head not in registry.nodes:
            problems.append(f"metric {node.name}: variant_of {head} does not exist")
        if "definition" in node.meta and not head:
            problems += [f"metric {node.name}: config.meta lacks {key}" for key in ("unit", "direction", "owner") if key not in node.meta]
            if node.meta.get("direction") not in DIRECTIONS:
                problems.append(f"metric {node.name}: direction must be one of {', '.join(DIRECTIONS)}")
        counted = node.meta.get("n")
        if counted and counted not in registry.nodes:
            problems.append(f"metric {node.name}: n {counted} does not exist")
    if problems:
        raise RapportError("Metric definitions do not fit together: " + "; ".join(problems), remedy="Mend the YAML in models/layers/metrics.")
