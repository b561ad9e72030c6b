"""Funnels: how far entities get along a list of steps, in which order, in what time.

Belongs here: the specification, the SQL that follows each entry, and its summaries (counts, time to convert, histogram).
Does not belong here: where a log comes from (`funnel_logs`), how a step is written (`funnel_steps`), steps in any order
(`funnel_any_order`), comparison of two periods (`funnel_compare`), stages of deals counted three ways (`funnel_deals`).

What the numbers mean
    order of occurrences   by instant, then source sequence (a missing one last), then id; occurrences of one instant can
                           follow each other
    entry                  an occurrence of step 1 in [start, end)
    following an entry     each next step is taken by its earliest occurrence after the step before; one occurrence serves
                           one step only
    window                 half-open, [entry, entry + window), a length in elapsed seconds: clocks that change neither
                           lengthen nor shorten it. A step's own window is half-open too, from the step before.
    exclusion              an occurrence of X after step i and before step j ends the attempt where it stands; an occurrence
                           that takes the next step does not count as X
    maturing               an entry whose whole window has not passed at the watermark; counted apart from the others
    order                  sequential: others may come between. strict: the very next occurrence of the log must be the
                           next step. any_order: k-th step means k different steps done, from the first of any of them
    re-entry               first_entry: the first entry only. best_entry: the entry that gets furthest, the earliest of
                           equals; the entity matures until all its windows have closed or a closed one converted. totals:
                           every attempt; the next may begin after the former converted, ran out of time or was ended
                           (the occurrence that ended it may begin the next)
    entry kind             first_matching: entries in the range. first_ever: only entities whose first ever occurrence of
                           step 1 lies in the range
    breakdown              value of an attribute at the first touch (first step of the attempt that has one), the last
                           touch, or step k (null for those who never reached it); the groups sum to the whole
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines import funnel_any_order
from models.engines.funnel_logs import EventLog
from models.engines.funnel_range import Parameters, instant_or_none, local_period, quoted
from models.engines.funnel_steps import MAX_STEPS, Step, check_attributes

Order = Literal["sequential", "strict", "any_order"]
Reentry = Literal["first_entry", "best_entry", "totals"]
EntryKind = Literal["first_matching", "first_ever"]
LONGEST_WINDOW = timedelta(days=3_660)  # ten years: beyond it an instant plus the window may leave the calendar


@dataclass(frozen=True)
class Exclusion:
    """``step`` done after step ``after`` and before step ``before`` (counted from 1; the last step by default)."""

    step: Step
    after: int = 1
    before: int | None = None


@dataclass(frozen=True)
class Breakdown:
    """Which attribute splits the funnel, and at which touch it is read: ``first``, ``last`` or a step's number."""

    attribute: str
    at: Literal["first", "last"] | int = "first"


@dataclass(frozen=True)
class FunnelSpec:
    """One funnel question. See the module's docstring for what each choice means.

    ``start`` and ``end`` are local days of ``time_zone`` or instants (naive ones are UTC). ``step_windows`` has one entry
    for each step after the first, None for no limit of its own. Raises UsageError for a question that makes no sense.
    """

    log: EventLog
    steps: tuple[Step, ...]
    window: timedelta
    start: date | datetime | None = None
    end: date | datetime | None = None
    order: Order = "sequential"
    reentry: Reentry = "first_entry"
    entry_kind: EntryKind = "first_matching"
    step_windows: tuple[timedelta | None, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    breakdown: Breakdown | None = None
    grain: str | None = None
    time_zone: str = "UTC"
    watermark: datetime | None = field(default=None)

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= MAX_STEPS:
            raise UsageError(
                f"a funnel of {len(self.steps)} steps is not possible", remedy=f"Give 1 to {MAX_STEPS} steps."
            )
        _known("order", self.order, ("sequential", "strict", "any_order"))
        _known("re-entry", self.reentry, ("first_entry", "best_entry", "totals"))
        _known("entry", self.entry_kind, ("first_matching", "first_ever"))
        for length in (self.window, *(w for w in self.step_windows if w is not None)):
            if not timedelta(0) < length <= LONGEST_WINDOW:
                raise UsageError(
                    f"a window of {length} is not possible",
                    remedy=f"Give more than zero and at most {LONGEST_WINDOW.days} days.",
                )
        if self.step_windows and len(self.step_windows) != len(self.steps) - 1:
            raise UsageError(
                f"{len(self.step_windows)} step windows for {len(self.steps)} steps",
                remedy="Give one for each step after the first, or none at all.",
            )
        if self.order == "any_order" and any(self.step_windows):
            raise UsageError(
                "windows per step need an order", remedy="Use the whole window, or order sequential or strict."
            )
        for exclusion in self.exclusions:
            before = exclusion.before or len(self.steps)
            if not 1 <= exclusion.after < before <= len(self.steps):
                raise UsageError(
                    f"'{exclusion.step.label}' cannot be excluded between steps {exclusion.after} and {before}",
                    remedy=f"Give two different steps of 1 to {len(self.steps)}, the earlier one first.",
                )
        if self.breakdown is not None:
            at = self.breakdown.at
            if at not in ("first", "last") and not (isinstance(at, int) and 1 <= at <= len(self.steps)):
                raise UsageError(
                    f"a breakdown at '{at}' is not possible",
                    remedy=f"Use first, last or a step from 1 to {len(self.steps)}.",
                )
            if self.breakdown.attribute not in self.log.attributes:
                raise UsageError(
                    f"the log has no attribute '{self.breakdown.attribute}'",
                    remedy=f"Use one of: {', '.join(sorted(self.log.attributes)) or 'none (this log has no attributes)'}.",
                )
        check_attributes([*self.steps, *(e.step for e in self.exclusions)], self.log.attributes)

    @property
    def gaps_with_exclusions(self) -> dict[int, list[Step]]:
        """For each gap g (after step g, before step g+1) the occurrences that end an attempt there."""
        gaps: dict[int, list[Step]] = {}
        for exclusion in self.exclusions:
            for gap in range(exclusion.after, exclusion.before or len(self.steps)):
                gaps.setdefault(gap, []).append(exclusion.step)
        return gaps


def _known(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"there is no {what} '{value}'", remedy=f"Use one of: {', '.join(allowed)}.")


# ---------------------------------------------------------------------------------------------------------------------
# SQL. An occurrence travels as one value ``k``, a struct compared from left to right: instant, sequence, id. The
# breakdown value rides along as its last field: it never decides an order, because ids differ.


class _Builder:
    """Writes the common table expressions of one funnel, in the order in which they depend on each other."""

    def __init__(self, spec: FunnelSpec) -> None:
        self.spec = spec
        self.params = Parameters()
        self.ctes: list[str] = []
        self.start = instant_or_none(spec.start, spec.time_zone)
        self.end = instant_or_none(spec.end, spec.time_zone)
        self.window = self.params.bind(spec.window)

    def add(self, name: str, body: str, materialized: bool = False) -> str:
        """Everything is inlined unless said otherwise: each join then scans only its own columns and step of the log,
        where DuckDB's default would first write out the whole log with its keys (measured: twice the time)."""
        self.ctes.append(f"{name} AS {'' if materialized else 'NOT '}MATERIALIZED (\n{body}\n)")
        return name

    def in_range(self, instant: str) -> str:
        parts = []
        if self.start is not None:
            parts.append(f"{instant} >= {self.params.bind(self.start)}")
        if self.end is not None:
            parts.append(f"{instant} < {self.params.bind(self.end)}")
        return " AND ".join(parts) or "TRUE"

    def key(self) -> str:
        value = quoted(self.spec.breakdown.attribute) if self.spec.breakdown else "NULL"
        return (
            "{'at': occurred_at, 'sequence': CAST(sequence AS BIGINT), 'id': CAST(event_id AS VARCHAR), "
            f"'value': CAST({value} AS VARCHAR)}}"
        )

    def attributes(self) -> set[str]:
        """The attributes this funnel reads; a log joins what it needs for them and no more."""
        steps = (*self.spec.steps, *(e.step for e in self.spec.exclusions))
        used = {condition.attribute for step in steps for condition in step.conditions}
        return used | ({self.spec.breakdown.attribute} if self.spec.breakdown else set())

    def log(self) -> None:
        """The occurrences this funnel can need: names it speaks of, between the start and the last window's end."""
        spec = self.spec
        conditions = ["entity_id IS NOT NULL", "occurred_at IS NOT NULL"]
        if self.start is not None:
            conditions.append(f"occurred_at >= {self.params.bind(self.start)}")
        if self.end is not None:
            conditions.append(f"occurred_at < {self.params.bind(self.end)} + {self.window}")
        if spec.order != "strict":
            names = {step.name for step in (*spec.steps, *(e.step for e in spec.exclusions))}
            conditions.append(f"name IN ({', '.join(self.params.bind(name) for name in sorted(names))})")
        self.add("source", spec.log.sql(self.attributes()))
        self.add("log", f"SELECT *, {self.key()} AS k FROM source WHERE {' AND '.join(conditions)}")

    def entry_condition(self) -> str:
        steps = self.spec.steps if self.spec.order == "any_order" else self.spec.steps[:1]
        return "(" + " OR ".join(step.sql(self.params) for step in dict.fromkeys(steps)) + ")"

    def starts(self) -> None:
        """Candidate entries: entity_id, k1."""
        spec, condition = self.spec, self.entry_condition()
        here = f"entity_id IS NOT NULL AND occurred_at IS NOT NULL AND {condition}"
        if spec.entry_kind == "first_ever":
            first = f"SELECT entity_id, min({self.key()}) AS k1 FROM source WHERE {here} GROUP BY entity_id"
            self.add("first_ever", f"SELECT * FROM ({first}) WHERE {self.in_range('k1.at')}")
        matching = f"SELECT entity_id, k AS k1 FROM log WHERE {condition} AND {self.in_range('occurred_at')}"
        if spec.reentry == "first_entry" and spec.entry_kind == "first_ever":
            self.add("starts", "SELECT entity_id, k1 FROM first_ever")
        elif spec.reentry == "first_entry":
            self.add("starts", f"SELECT entity_id, min(k1) AS k1 FROM ({matching}) GROUP BY entity_id")
        elif spec.entry_kind == "first_ever":
            self.add("starts", f"{matching} AND entity_id IN (SELECT entity_id FROM first_ever)")
        else:
            self.add("starts", matching)

    def deadline(self, step: int) -> str:
        """The instant at which waiting for ``step`` (counted from 1) ends."""
        whole = f"k1.at + {self.window}"
        own = self.spec.step_windows[step - 2] if self.spec.step_windows else None
        return whole if own is None else f"least({whole}, k{step - 1}.at + {self.params.bind(own)})"

    def chain(self) -> str:
        """One ASOF join a step: the earliest occurrence of the next step after the one before.

        A missing left key is asked about by hand: in an ASOF LEFT JOIN it can match the last rows of the right side.
        """
        previous = "starts"
        for step in range(2, len(self.spec.steps) + 1):
            condition = self.spec.steps[step - 1].sql(self.params)
            if self.spec.order == "strict":
                after = f"SELECT entity_id, k, coalesce({condition}, FALSE) AS fits FROM log"
                taken = f"n.fits AND p.k{step - 1} IS NOT NULL AND n.k.at < {self.deadline(step)}"
            else:
                after = f"SELECT entity_id, k FROM log WHERE {condition}"
                taken = f"p.k{step - 1} IS NOT NULL AND n.k.at < {self.deadline(step)}"
            seen = ", n.k AS seen" + str(step) if self.spec.order == "strict" else ""
            previous = self.add(
                f"step{step}",
                f"SELECT p.*, CASE WHEN {taken} THEN n.k END AS k{step}{seen} FROM {previous} AS p "
                f"ASOF LEFT JOIN ({after}) AS n ON p.entity_id = n.entity_id AND p.k{step - 1} < n.k",
            )
        return previous

    def cut(self, chain: str) -> str:
        """End attempts at exclusions. Adds ``reached`` (number of steps) and ``ended_by`` (the occurrence, or null)."""
        count = len(self.spec.steps)
        gaps = self.spec.gaps_with_exclusions
        for gap, excluded in sorted(gaps.items()):
            condition = " OR ".join(step.sql(self.params) for step in excluded)
            chain = self.add(
                f"gap{gap}",
                f"SELECT p.*, n.k AS x{gap} FROM {chain} AS p ASOF LEFT JOIN "
                f"(SELECT entity_id, k FROM log WHERE {condition}) AS n "
                f"ON p.entity_id = n.entity_id AND p.k{gap} < n.k",
            )
        ended = {
            gap: f"(x{gap} IS NOT NULL AND CASE WHEN k{gap + 1} IS NULL THEN k{gap} IS NOT NULL "
            f"AND x{gap}.at < {self.deadline(gap + 1)} ELSE x{gap} < k{gap + 1} END)"
            for gap in gaps
        }
        arms = []
        for step in range(1, count):
            stop = f"k{step + 1} IS NULL"
            arms.append(f"WHEN {stop} OR {ended[step]} THEN {step}" if step in ended else f"WHEN {stop} THEN {step}")
        reached = f"CASE {' '.join(arms)} ELSE {count} END" if arms else "1"
        by = [f"WHEN reached = {gap} AND {ended[gap]} THEN x{gap}" for gap in sorted(gaps)]
        if self.spec.order == "strict":
            # first: whatever follows the step ends the attempt, and no exclusion comes before what follows at once
            by = [f"WHEN reached = {step} AND seen{step + 1}.at < {self.deadline(step + 1)} THEN seen{step + 1}" for step in range(1, count)] + by
        ended_by = f"CASE {' '.join(by)} END" if by else "NULL"
        inner = self.add("measured", f"SELECT *, {reached} AS reached FROM {chain}")
        return self.add("attempts", f"SELECT *, {ended_by} AS ended_by FROM {inner}")

    def chosen(self, attempts: str, largest_group: int) -> str:
        if self.spec.reentry == "first_entry":
            return self.add("chosen", f"SELECT *, {self.open('k1.at')} AS is_maturing FROM {attempts}")
        if self.spec.reentry == "best_entry":
            count = len(self.spec.steps)
            latest = "max(k1.at) OVER (PARTITION BY entity_id)"
            return self.add(
                "chosen",
                f"SELECT *, {self.open(latest)} AND NOT (reached = {count} AND NOT {self.open('k1.at')}) "
                f"AS is_maturing FROM {attempts} "
                "QUALIFY row_number() OVER (PARTITION BY entity_id ORDER BY reached DESC, k1) = 1",
            )
        return self.totals(attempts, largest_group)

    def open(self, entry: str) -> str:
        if self.spec.watermark is None:
            return "FALSE"
        return f"({entry} + {self.window} > {self.params.bind(self.spec.watermark)})"

    def totals(self, attempts: str, largest_group: int) -> str:
        """Attempts that follow one another. Each names its successor; doubling the jump visits the whole path in
        log2(candidates) joins, where following it one by one would take as many rounds as the busiest entity has attempts."""
        count = len(self.spec.steps)
        self.add(
            "numbered",
            f"SELECT *, row_number() OVER (PARTITION BY entity_id ORDER BY k1) AS n FROM {attempts}",
            materialized=True,
        )
        waiting = " ".join(
            f"WHEN {step} THEN {self.deadline(step + 1)}" for step in range(1, count)
        ) or "WHEN 0 THEN NULL"
        # The end of an attempt as a bound: the last step when it converted, the occurrence that ended it, or the instant
        # its time ran out, written as an occurrence that comes before any other of that instant.
        timed_out = (
            f"{{'at': CASE reached {waiting} END, 'sequence': -9223372036854775808, 'id': '', 'value': NULL::VARCHAR}}"
        )
        self.add(
            "bounds",
            f"SELECT entity_id, n, reached = {count} AS converted, CASE WHEN reached = {count} THEN k{count} "
            f"WHEN ended_by IS NOT NULL THEN ended_by ELSE {timed_out} END AS bound FROM numbered",
        )
        self.add(
            "jump0",
            "SELECT b.entity_id, b.n, c.n + CASE WHEN b.converted AND c.k1 = b.bound THEN 1 ELSE 0 END AS next_n "
            "FROM bounds AS b ASOF JOIN numbered AS c ON b.entity_id = c.entity_id AND b.bound <= c.k1",
            materialized=True,
        )
        self.add("path0", "SELECT DISTINCT entity_id, CAST(1 AS BIGINT) AS n FROM numbered")
        rounds = max(1, largest_group.bit_length())
        for i in range(rounds):
            self.add(
                f"path{i + 1}",
                f"SELECT * FROM path{i} UNION ALL SELECT p.entity_id, j.next_n AS n FROM path{i} AS p "
                f"JOIN jump{i} AS j ON p.entity_id = j.entity_id AND p.n = j.n",
                materialized=True,
            )
            if i + 1 < rounds:
                self.add(
                    f"jump{i + 1}",
                    f"SELECT a.entity_id, a.n, b.next_n FROM jump{i} AS a JOIN jump{i} AS b "
                    "ON a.entity_id = b.entity_id AND a.next_n = b.n",
                    materialized=True,
                )
        return self.add(
            "chosen",
            f"SELECT a.*, {self.open('a.k1.at')} AS is_maturing FROM numbered AS a "
            f"SEMI JOIN path{rounds} AS p ON a.entity_id = p.entity_id AND a.n = p.n",
        )

    def candidates(self) -> str:
        self.log()
        self.starts()
        return "starts"

    def entries(self, largest_group: int) -> str:
        self.candidates()
        if self.spec.order == "any_order":
            chain = funnel_any_order.chain(self.add, self.spec.steps, self.window, self.params)
        else:
            chain = self.chain()
        chosen = self.chosen(self.cut(chain), largest_group)
        count = len(self.spec.steps)
        kept = [f"CASE WHEN reached >= {step} THEN k{step} END" for step in range(1, count + 1)]
        columns = [
            "entity_id",
            "k1.at AS entered_at",
            "k1.id AS entry_event_id",
            "CAST(reached AS INTEGER) AS reached",
            f"reached = {count} AS is_converted",
            "is_maturing",
            f"CASE WHEN reached = {count} THEN k{count}.at END AS converted_at",
            f"CASE WHEN reached = {count} THEN epoch_us(k{count}.at) - epoch_us(k1.at) END / 1e6 AS convert_seconds",
            *(f"({k}).at AS step{i}_at" for i, k in enumerate(kept, 1)),
        ]
        if self.spec.breakdown is not None:
            columns.append(f"{self.breakdown_value(kept)} AS breakdown")
        if self.spec.grain is not None:
            zone = self.params.bind(self.spec.time_zone)
            columns.append(f"{local_period('k1.at', self.spec.grain, zone)} AS period")
        return self.add("entries", "SELECT " + ", ".join(columns) + f" FROM {chosen}", materialized=True)

    def breakdown_value(self, kept: list[str]) -> str:
        at = self.spec.breakdown.at if self.spec.breakdown else "first"
        values = [f"({k}).value" for k in kept]
        if isinstance(at, int):
            return values[at - 1]
        return f"coalesce({', '.join(values if at == 'first' else reversed(values))})"

    def finish(self, final: str) -> tuple[str, dict[str, Any]]:
        text = "WITH " + ",\n".join(self.ctes) + "\n" + final
        used = {name: value for name, value in self.params.values.items() if f"${name}" in text}
        return text, used


def entries_sql(spec: FunnelSpec, largest_group: int = 1) -> tuple[str, dict[str, Any]]:
    """One row per entry that counts.

    Columns: entity_id, entered_at, entry_event_id, reached (steps done), is_converted, is_maturing, converted_at,
    convert_seconds, step1_at ..., and breakdown and period when asked for. ``largest_group`` is needed for ``totals`` only:
    at least the largest number of candidate entries of one entity (``largest_group_sql`` counts it).
    """
    builder = _Builder(spec)
    builder.entries(largest_group)
    return builder.finish("SELECT * FROM entries")


def largest_group_sql(spec: FunnelSpec) -> tuple[str, dict[str, Any]]:
    """The largest number of candidate entries of one entity, as one value ``n``."""
    builder = _Builder(spec)
    builder.candidates()
    return builder.finish(
        "SELECT coalesce(max(n), 1) AS n FROM (SELECT count(*) AS n FROM starts GROUP BY entity_id)"
    )


def _keys(spec: FunnelSpec) -> list[str]:
    return [name for name, used in (("period", spec.grain), ("breakdown", spec.breakdown)) if used is not None]


def counts_sql(spec: FunnelSpec, largest_group: int = 1) -> tuple[str, dict[str, Any]]:
    """One row per step (and period and breakdown value when asked for), in order.

    Columns: step (from 1), step_name, entries (those who did it, windows closed), from_start and from_previous (0..1, null
    when nobody could), maturing (those who did it, windows still open), median_seconds (from entry to the step).
    """
    builder = _Builder(spec)
    builder.entries(largest_group)
    keys = _keys(spec)
    names = [step.label for step in spec.steps]
    if spec.order == "any_order":
        names = [f"any {n} of {len(names)}" for n in range(1, len(names) + 1)]
    lead = "".join(f"e.{key}, " for key in keys)
    count = len(spec.steps)
    elapsed = "CASE s.step " + " ".join(
        f"WHEN {i} THEN epoch_us(e.step{i}_at) - epoch_us(e.entered_at)" for i in range(1, count + 1)
    ) + " END / 1e6"
    builder.add(
        "steps",
        f"SELECT unnest(range(1, {count + 1})) AS step, unnest({builder.params.bind(names)}::VARCHAR[]) AS step_name",
    )
    builder.add(
        "counted",
        f"SELECT {lead}s.step, s.step_name, "
        "count(*) FILTER (NOT e.is_maturing AND e.reached >= s.step) AS entries, "
        "count(*) FILTER (e.is_maturing AND e.reached >= s.step) AS maturing, "
        f"median({elapsed}) FILTER (NOT e.is_maturing AND e.reached >= s.step) AS median_seconds "
        f"FROM {'entries AS e CROSS JOIN steps AS s' if keys else 'steps AS s LEFT JOIN entries AS e ON TRUE'} "
        f"GROUP BY {lead}s.step, s.step_name",
    )
    over = f"({'PARTITION BY ' + ', '.join(keys) if keys else ''} ORDER BY step)"
    picked = "".join(f"{key}, " for key in keys)
    return builder.finish(
        f"SELECT {picked}CAST(step AS INTEGER) AS step, step_name, entries, "
        f"entries / nullif(first_value(entries) OVER {over}, 0) AS from_start, "
        f"CASE WHEN step = 1 THEN NULL ELSE entries / nullif(lag(entries) OVER {over}, 0) END AS from_previous, "
        f"maturing, median_seconds FROM counted ORDER BY {picked}step"
    )


def time_to_convert_sql(spec: FunnelSpec, largest_group: int = 1) -> tuple[str, dict[str, Any]]:
    """Median, 90th percentile and mean of the seconds from entry to the last step, over converted entries with closed
    windows: one row (per period and breakdown value). Null where nobody converted."""
    builder = _Builder(spec)
    builder.entries(largest_group)
    picked = "".join(f"{key}, " for key in _keys(spec))
    done = "FILTER (is_converted AND NOT is_maturing)"
    group = f" GROUP BY {picked.rstrip(', ')} ORDER BY {picked.rstrip(', ')}" if picked else ""
    return builder.finish(
        f"SELECT {picked}count(*) {done} AS converted, median(convert_seconds) {done} AS median_seconds, "
        f"quantile_cont(convert_seconds, 0.9) {done} AS p90_seconds, avg(convert_seconds) {done} AS mean_seconds "
        f"FROM entries{group}"
    )


def histogram_sql(spec: FunnelSpec, buckets: int = 20, largest_group: int = 1) -> tuple[str, dict[str, Any]]:
    """Time to convert in ``buckets`` equal parts of the window, empty ones too.

    Columns: bucket (from 1), from_seconds, to_seconds (half-open), converted (and period, breakdown).
    """
    if not 1 <= buckets <= 1_000:
        raise UsageError(f"{buckets} buckets are not possible", remedy="Give 1 to 1000.")
    builder = _Builder(spec)
    builder.entries(largest_group)
    picked = "".join(f"{key}, " for key in _keys(spec))
    width = builder.params.bind(spec.window.total_seconds() / buckets)
    groups = f"SELECT DISTINCT {picked.rstrip(', ')} FROM entries" if picked else "SELECT 1 AS one"
    builder.add("grid", f"SELECT g.*, unnest(range(0, {int(buckets)})) AS b FROM ({groups}) AS g")
    builder.add(
        "filled",
        f"SELECT {picked}least(CAST(floor(convert_seconds / {width}) AS BIGINT), {int(buckets) - 1}) AS b, "
        f"count(*) AS converted FROM entries WHERE is_converted AND NOT is_maturing GROUP BY ALL",
    )
    on = " AND ".join(["g.b = f.b", *(f"g.{key} IS NOT DISTINCT FROM f.{key}" for key in _keys(spec))])
    lead = "".join(f"g.{key}, " for key in _keys(spec))
    return builder.finish(
        f"SELECT {lead}CAST(g.b + 1 AS INTEGER) AS bucket, g.b * {width} AS from_seconds, "
        f"(g.b + 1) * {width} AS to_seconds, coalesce(f.converted, 0) AS converted "
        f"FROM grid AS g LEFT JOIN filled AS f ON {on} ORDER BY {lead}bucket"
    )


def _largest_group(con: duckdb.DuckDBPyConnection, spec: FunnelSpec) -> int:
    if spec.reentry != "totals":
        return 1
    row = con.execute(*largest_group_sql(spec)).fetchone()
    return int(row[0]) if row else 1


def run(con: duckdb.DuckDBPyConnection, spec: FunnelSpec) -> pl.DataFrame:
    """The funnel's counts; see ``counts_sql``."""
    return con.execute(*counts_sql(spec, _largest_group(con, spec))).pl()


def entries(con: duckdb.DuckDBPyConnection, spec: FunnelSpec) -> pl.DataFrame:
    """The entries behind the counts; see ``entries_sql``."""
    return con.execute(*entries_sql(spec, _largest_group(con, spec))).pl()


def time_to_convert(con: duckdb.DuckDBPyConnection, spec: FunnelSpec) -> pl.DataFrame:
    """How long converted entries took; see ``time_to_convert_sql``."""
    return con.execute(*time_to_convert_sql(spec, _largest_group(con, spec))).pl()


def histogram(con: duckdb.DuckDBPyConnection, spec: FunnelSpec, buckets: int = 20) -> pl.DataFrame:
    """Time to convert in equal parts of the window; see ``histogram_sql``."""
    return con.execute(*histogram_sql(spec, buckets, _largest_group(con, spec))).pl()
