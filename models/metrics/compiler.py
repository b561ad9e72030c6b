"""From a request to one SQL text with bound parameters.

Belongs here: pure functions that write SQL from the registry. Does not belong here: running it, or what a metric means (that is
in the YAML of `models/layers/metrics`). Shape of the SQL: one common table per relation and filter scope ("group"), the keys they
share, and an outer select that composes ratios and derived metrics from the aggregated columns, so that no join can fan a
measure out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from data_contracts.errors import UsageError
from models.metrics import filters, relations
from models.metrics.calendar import Window
from models.metrics.context import Context
from models.metrics.definitions import Measure, Metric, MetricInput, Node, Registry, SemanticModel, Variant, filter_dimensions, filter_sql

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class MetricRequest:
    """What to compute: metric names (`id` or `id__variant`), public dimensions, a grain, and a half-open range of local dates.

    `where` filters by public dimensions; `compare="previous"` adds the like-for-like previous period; `variant="all"` asks for
    every variant. A missing `start` or `end` means all data up to the watermark.
    """

    names: tuple[str, ...]
    by: tuple[str, ...] = ()
    grain: str | None = None
    start: date | None = None
    end: date | None = None
    where: str | None = None
    variant: str | None = None
    compare: str | None = None


@dataclass(frozen=True)
class Column:
    """One metric of an answer: the column name, its definition, and the variant that was really computed."""

    name: str
    metric: Metric
    variant: Variant
    node: Node
    note: str | None = None


@dataclass(frozen=True)
class CompiledQuery:
    """SQL with named placeholders (`$p1`) and their values; `columns` describe the metric columns."""

    sql: str
    params: dict[str, Any]
    columns: tuple[Column, ...] = ()
    windows: tuple[Window, ...] = ()


def columns_of(request: MetricRequest, registry: Registry, context: Context) -> tuple[Column, ...]:
    """The metric columns a request asks for, with variants and fallbacks resolved."""
    if not request.names:
        raise UsageError("No metric was asked for", remedy="Name at least one; `rapport metric list` prints all of them.")
    found: dict[str, Column] = {}
    for asked in request.names:
        name, _, suffix = asked.partition("__")
        metric = registry.find(name)
        wanted = suffix or request.variant
        for variant_name in metric.variants if wanted == "all" else (wanted,):
            variant = registry.variant(metric, variant_name)
            note = None
            fallback = registry.nodes[metric.id].meta.get("fallback") or {}
            if variant_name is None and fallback and context.has(fallback["when"]):
                variant = registry.variant(metric, fallback["variant"])
                note = f"{fallback['note']} (variant {variant.name})"
            bare = variant_name is None or variant.name == metric.default_variant
            column = name if bare else f"{name}__{variant.name}"
            found[column] = Column(column, metric, variant, registry.nodes[variant.node], note)
    return tuple(found.values())


def check(request: MetricRequest, columns: Sequence[Column], registry: Registry, context: Context) -> filters.Filter | None:
    """Refuse unknown dimensions, grains, comparisons and empty ranges; returns the parsed filter."""
    if request.grain is not None:
        context.calendar.check(request.grain)
    if request.compare not in (None, "previous"):
        raise UsageError(f"Unknown comparison {request.compare!r}", remedy="Use previous.")
    if request.start and request.end and request.end <= request.start:
        raise UsageError(f"The range {request.start} to {request.end} is empty", remedy="Give an end after the start; the end itself is not included.")
    if len(set(request.by)) != len(request.by):
        raise UsageError("A dimension is named twice", remedy="Name each dimension once.")
    found = filters.parse(request.where) if request.where and request.where.strip() else None
    for column in columns:
        offered = tuple(registry.dimensions_of(column.node))
        unknown = [name for name in request.by if name not in offered]
        if unknown:
            raise UsageError(f"Metric {column.name} has no dimension {', '.join(unknown)}",
                             remedy=f"It supports {', '.join(offered) or 'no dimensions'}.")
        if found:
            filters.check(found, offered, f"Metric {column.name}")
    return found


def compile(request: MetricRequest, registry: Registry, context: Context, *, windows: Sequence[Window] | None = None,  # noqa: A001
            shift: int = 0) -> CompiledQuery:
    """SQL for `request`. Without `windows` the range is `[start, end)` of the request, ending at the context's data end where it
    names none. `shift=1` reports each period's numbers under the following period (the comparison's side)."""
    columns = columns_of(request, registry, context)
    where = check(request, columns, registry, context)
    if windows is None:
        end = request.end or context.data_end
        start = request.start or min(context.earliest or end, end - timedelta(days=1))
        windows = context.calendar.windows(start, end, request.grain)
    builder = _Builder(request, registry, context, tuple(windows), shift, where)
    return CompiledQuery(*builder.build(columns), columns=columns, windows=tuple(windows))


@dataclass
class _Group:
    """One scan: leaves that share relation, time column, dimensions and filter."""

    model: SemanticModel
    time: str
    by: tuple[str, ...]
    where: tuple[tuple[Any, ...], ...]
    offset: tuple[int, str] | None
    cumulative: bool
    window: tuple[int, str] | None
    leaves: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Scope:
    """What a metric passes down to its inputs."""

    swap: Mapping[str, str]
    whole: Mapping[str, Sequence[str]]
    filters: tuple[str, ...] = ()
    offset: tuple[int, str] | None = None


class _Builder:
    def __init__(self, request: MetricRequest, registry: Registry, context: Context, windows: tuple[Window, ...], shift: int,
                 where: filters.Filter | None) -> None:
        self.request, self.registry, self.context, self.windows, self.shift = request, registry, context, windows, shift
        self.where = where
        self.groups: dict[tuple[Any, ...], _Group] = {}
        self.params: dict[str, Any] = {}

    def bind(self, value: Any) -> str:
        """Keep a value and return the placeholder that stands for it."""
        name = f"p{len(self.params) + 1}"
        self.params[name] = value
        return f"${name}"

    def build(self, columns: Sequence[Column]) -> tuple[str, dict[str, Any]]:
        selected = []
        for column in columns:
            scope = self._scope(column)
            value = self._value(column.node, scope)
            cast = "bigint" if column.metric.unit == "count" else "double"
            required = [f"(select count(*) from {self.registry.models[name].relation}) = 0" for name in column.node.meta.get("requires", ())]
            if required:
                value = f"case when not ({' or '.join(required)}) then {value} end"
            counted = column.node.meta.get("n")
            number = f"cast({self._value(self.registry.nodes[counted], scope)} as double)" if counted else "cast(null as double)"
            reasons = self._reasons(column.node, scope)
            reasons = [(test, f"no rows in {name.replace('_', ' ')}") for test, name in zip(required, column.node.meta.get("requires", ()), strict=True)] + reasons
            cases = " ".join(f"when {test} then {_literal(text)}" for test, text in reasons)
            reason = f"case {cases} else 'no data' end" if cases else "'no data'"
            extras = {name: self._value(self.registry.nodes[node], scope) for name, node in column.node.meta.get("details", {}).items()}
            selected.append((column.name, f"cast({value} as {cast})", number, reason, extras))
        return self._assemble(selected), self.params

    # -- values -------------------------------------------------------------------------------------------------------------

    def _scope(self, column: Column) -> _Scope:
        meta = self.registry.meta(column.node)
        used = {*self.request.by, *(self.where.dimensions if self.where else ())}
        swap: dict[str, str] = {}
        for name, replacements in meta.get("by_dimension", {}).items():
            if name in used:
                swap |= replacements
        return _Scope(swap, meta.get("whole", {}))

    def _value(self, node: Node, scope: _Scope) -> str:
        inner = _Scope(scope.swap, scope.whole, scope.filters + node.filters, scope.offset)
        if node.kind in ("simple", "cumulative"):
            return self._leaf(node, inner)
        if node.kind == "ratio":
            top, bottom = (self._input(item, inner) for item in node.inputs)
            return f"(cast({top} as double) / nullif({bottom}, 0))"
        known = {item.alias: self._input(item, inner) for item in node.inputs}
        return "(" + _IDENTIFIER.sub(lambda found: known.get(found.group(0), found.group(0)), node.expr or "") + ")"

    def _input(self, item: MetricInput, scope: _Scope) -> str:
        return self._value(self.registry.nodes[item.metric], self._inside(item, scope))

    @staticmethod
    def _inside(item: MetricInput, scope: _Scope) -> _Scope:
        return _Scope(scope.swap, scope.whole, scope.filters + item.filters, item.offset or scope.offset)

    def _leaf(self, node: Node, scope: _Scope) -> str:
        measure = self.registry.measures[scope.swap.get(node.measure or "", node.measure or "")]
        model = self.registry.models[measure.model]
        kept = {name for name in self._all_dimensions() if not self._is_whole(name, measure, model, scope)}
        by = tuple(name for name in self.request.by if name in kept)
        where = self._conjuncts(kept)
        cumulative = node.kind == "cumulative"
        key = (model.name, measure.time, by, where, scope.offset, cumulative, node.window)
        group = self.groups.setdefault(key, _Group(model, measure.time, by, where, scope.offset, cumulative, node.window))
        leaf = group.leaves.setdefault((measure.name, scope.filters), f"m{len(group.leaves)}")
        column = f"g{list(self.groups).index(key)}.{leaf}"
        if node.fill is None:
            return column
        if self.request.grain is None:
            return f"coalesce({column}, {int(node.fill)})"
        return f"coalesce({column}, case when keys.period < bounds.data_end then {int(node.fill)} end)"

    def _all_dimensions(self) -> tuple[str, ...]:
        return (*self.request.by, *(self.where.dimensions if self.where else ()))

    @staticmethod
    def _is_whole(name: str, measure: Measure, model: SemanticModel, scope: _Scope) -> bool:
        """Whether this input stays whole under dimension `name`: days of the calendar, or inputs the metric declares so."""
        return model.is_calendar or measure.name in scope.whole.get(name, ())

    def _conjuncts(self, kept: set[str]) -> tuple[tuple[Any, ...], ...]:
        found = []
        for tree in _split(self.where.tree) if self.where else ():
            names = _names(tree)
            if names <= kept:
                found.append(tree)
            elif names & kept:
                raise UsageError("The filter joins by OR dimensions that do not apply to every part of the metric",
                                 remedy="Join them by AND, or filter by one of them.")
        return tuple(found)

    # -- reasons ------------------------------------------------------------------------------------------------------------

    def _reasons(self, node: Node, scope: _Scope) -> list[tuple[str, str]]:
        """Why the value may be null, most telling first."""
        inner = _Scope(scope.swap, scope.whole, scope.filters + node.filters, scope.offset)
        found: list[tuple[str, str]] = []
        if "null_reason" in node.meta:
            found.append((f"{self._value(node, scope)} is null", str(node.meta["null_reason"])))
        if node.kind == "ratio":
            item = node.inputs[1]
            bottom = self._input(item, inner)
            found += [(f"coalesce({bottom}, 0) = 0", f"zero denominator: no {_lower(self.registry.nodes[item.metric].label)}")]
        for item in node.inputs:
            found += self._reasons(self.registry.nodes[item.metric], self._inside(item, inner))
            child = self.registry.nodes[item.metric]
            if node.kind == "derived":
                found.append((f"coalesce({self._input(item, inner)}, 0) = 0", f"zero or no {_lower(child.label)}"))
        return found

    # -- text ---------------------------------------------------------------------------------------------------------------

    def _assemble(self, selected: Sequence[tuple[str, str, str, str, dict[str, str]]]) -> str:
        grain, by = self.request.grain, self.request.by
        keys = (("period",) if grain else ()) + tuple(f"d_{name}" for name in by)
        ctes = [f"bounds as (select cast({self.bind(self.context.data_end)} as date) as data_end)"]
        days = {"period": [window.label for window in self.windows], "window_end": [window.end for window in self.windows]}
        ctes.append("spine as (select " + ", ".join(f"unnest(cast({self.bind(listed)} as date[])) as {name}" for name, listed in days.items()) + ")")
        for index, group in enumerate(self.groups.values()):
            ctes.append(f"g{index} as ({self._group(group)})")
        if by:
            full = [index for index, group in enumerate(self.groups.values()) if group.by == by]
            listed = ", ".join(keys)
            ctes.append("keys as (" + " union ".join(f"select {listed} from g{index}" for index in full) + ")")
        elif grain:
            ctes.append("keys as (select period from spine)")
        else:
            ctes.append("keys as (select 1 as only_row)")
        joins = "".join(
            f"\nleft join g{index} on " + (" and ".join(
                f"g{index}.{key} = keys.{key}" for key in self._group_keys(group)) or "true")
            for index, group in enumerate(self.groups.values())
        )
        shown = (["keys.period as period"] if grain else []) + [f"keys.d_{name} as {_quote(name)}" for name in by]
        values = []
        for name, value, number, reason, extras in selected:
            values.append(f"{value} as {_quote(name)}")
            values.append(f"{number} as {_quote(name + '__n')}")
            values += [f"cast({extra} as double) as {_quote(f'{name}__{part}')}" for part, extra in extras.items()]
            values.append(f"case when {value} is null then {reason} end as {_quote(name + '__null_reason')}")
        order = f"\norder by {', '.join(str(index + 1) for index in range(len(keys)))}" if keys else ""
        return ("with " + ",\n".join(ctes) + "\nselect " + ",\n  ".join(shown + values) + "\nfrom keys cross join bounds" + joins + order)

    def _group_keys(self, group: _Group) -> tuple[str, ...]:
        return (("period",) if self.request.grain else ()) + tuple(f"d_{name}" for name in group.by)

    def _group(self, group: _Group) -> str:
        columns: dict[str, str] = {}
        joins: dict[str, dict[str, str]] = {}

        def resolve(path: str) -> str:
            return self._resolve(group.model, path, columns, joins)

        def public(name: str) -> str:
            found = [resolve(path) for path in group.model.public[name]]
            return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"

        dims = [f"coalesce(cast({public(name)} as varchar), '{filters.NONE}') as d_{name}" for name in group.by]
        aggregates = []
        for (name, conditions), alias in group.leaves.items():
            measure = group.model.measures[name]
            columns[f"v_{name}"] = measure.expr
            tests = [filter_sql(text, {path: resolve(path) for path in filter_dimensions(text)}) for text in conditions]
            condition = f" filter (where {' and '.join(f'({test})' for test in tests)})" if tests else ""
            aggregates.append(f"{_aggregate(measure, f'f.v_{name}')}{condition} as {alias}")
        wheres = []
        for tree in group.where:
            named = {name: public(name) for name in sorted(_names(tree))}
            wheres.append(filters.Filter(tree, tuple(named)).sql(named, self.bind))
        source = self._source(group, columns)
        joined = "".join(
            f" left join (select {self.registry.models[model].entities[entity][1]} as k, "
            + ", ".join(f"{expr} as {alias}" for alias, expr in found.items())
            + f" from {self.registry.models[model].relation}) as j_{entity} on f.e_{entity} = j_{entity}.k"
            for (entity, model), found in joins.items()
        )
        body = f"{source}{joined}"
        if group.model.engine:
            period = ["f.period as period"] if self.request.grain else []
            condition = f" where {' and '.join(wheres)}" if wheres else ""
            return f"select {', '.join(period + dims + aggregates)} from {body}{condition}" + (" group by all" if period or dims else "")
        if group.cumulative:
            return self._cumulative(group, body, dims, aggregates, wheres)
        wheres = [f"f.t >= {self.bind(self.windows[0].start)}", f"f.t < {self.bind(self.windows[-1].end)}", *wheres]
        if group.offset:
            wheres.append(f"f.t < {self.bind(self.context.data_end)}")
        period = [f"{self._label('f.t')} as period"] if self.request.grain else []
        return (f"select {', '.join(period + dims + aggregates)} from {body} where {' and '.join(wheres)}"
                + (" group by all" if period or dims else ""))

    def _cumulative(self, group: _Group, body: str, dims: list[str], aggregates: list[str], wheres: list[str]) -> str:
        wheres = [f"f.t < {self.bind(self.windows[-1].end)}", *wheres]
        daily = f"select f.t as t, {', '.join(dims + aggregates)} from {body} where {' and '.join(wheres)} group by all"
        listed = [f"d.d_{name}" for name in group.by]
        sums = [f"sum(d.{alias}) as {alias}" for alias in group.leaves.values()]
        since = f" and d.t >= s.window_end - interval '{group.window[0]} {group.window[1]}'" if group.window else ""
        period = ["s.period as period"] if self.request.grain else []
        return (f"select {', '.join(period + listed + sums)} from spine s join ({daily}) d on d.t < s.window_end{since}"
                + (" group by all" if period or listed else ""))

    def _source(self, group: _Group, columns: dict[str, str]) -> str:
        listed = [f"{expr} as {alias}" for alias, expr in columns.items()]
        if group.model.engine:
            if self._is_stored(group.model):
                bounds = f"period between {self.bind(self.windows[0].label)} and {self.bind(self.windows[-1].label)}"
                return f"(select period, {', '.join(listed)} from {group.model.relation} where {bounds}) as f"
            used = tuple(expr for alias, expr in columns.items() if alias.startswith("l_"))
            text = relations.sql(group.model.engine, self.windows, self.context, self.bind, self.request.grain, used)
            return f"(select period, {', '.join(listed)} from ({text}) as r) as f"
        time = f"cast({group.model.times[group.time]} as date)"
        if group.offset:
            time = f"cast({time} + interval '{group.offset[0]} {group.offset[1]}' as date)"
        return f"(select {', '.join([f'{time} as t', *listed])} from {group.model.relation}) as f"

    def _is_stored(self, model: SemanticModel) -> bool:
        """Whether the engine's own monthly table answers. Cohorts of attributed customers share the table of another engine."""
        return (self.context.reads_stored and self.request.grain == "month" and not self.shift and model.relation in self.context.tables
                and model.engine not in relations.SHARING_A_TABLE)

    def _label(self, expression: str) -> str:
        label = self.context.calendar.floor_sql(expression, self.request.grain or "day")
        return f"cast({label} + interval '{self.shift} {self.request.grain}' as date)" if self.shift else label

    def _resolve(self, model: SemanticModel, path: str, columns: dict[str, str], joins: dict[Any, dict[str, str]]) -> str:
        """The column that holds semantic dimension `path` (`name` or `entity__name`), joining its entity's model if need be."""
        entity, _, name = path.rpartition("__")
        if not entity or (entity == model.primary and name in model.dimensions):
            columns[f"l_{name}"] = model.dimensions[name]
            return f"f.l_{name}"
        owner = self.registry.joins.get((entity, name))
        if owner is None or entity not in model.entities:
            raise UsageError(f"Semantic model {model.name} cannot reach dimension {path}", remedy="Mend the YAML in models/layers/metrics.")
        columns[f"e_{entity}"] = model.entities[entity][1]
        joins.setdefault((entity, owner), {})[f"x_{name}"] = self.registry.models[owner].dimensions[name]
        return f"j_{entity}.x_{name}"


def _aggregate(measure: Measure, column: str) -> str:
    simple = {"sum": "sum({})", "sum_boolean": "sum(case when {} then 1 else 0 end)", "count": "count({})",
              "count_distinct": "count(distinct {})", "average": "avg({})", "median": "median({})", "min": "min({})", "max": "max({})"}
    if measure.agg == "percentile":
        return f"quantile_cont({column}, {float(measure.percentile or 0.5)})"
    return simple[measure.agg].format(column)


def _split(tree: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [*_split(tree[1]), *_split(tree[2])] if tree[0] == "and" else [tree]


def _names(tree: tuple[Any, ...]) -> set[str]:
    if tree[0] in ("and", "or"):
        return _names(tree[1]) | _names(tree[2])
    return _names(tree[1]) if tree[0] == "not" else {tree[1]}


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _lower(label: str) -> str:
    """A label inside a sentence: its first letter small, unless it is an abbreviation such as MRR."""
    return label if label[:2].isupper() else label[:1].lower() + label[1:]
