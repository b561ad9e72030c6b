"""Steps of a funnel done in any order.

Belongs here: how many *different* steps a set of occurrences completes, and when each became complete. Does not belong
here: entries, re-entry, exclusions, counting (`funnel`).

An occurrence may fit several steps (``page`` and ``page[path=/pricing]``) and may serve only one, so the number of
steps done is the size of a largest matching between occurrences and steps. By Hall's theorem (P. Hall 1935; the deficiency
form is due to O. Ore 1955) that size is the minimum, over sets S of steps, of |steps| - |S| + |occurrences that fit some step
of S|. Steps of different names never share an occurrence, so each name is solved by itself, and with one step a name the
formula is just "seen or not".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

from data_contracts.errors import UsageError
from models.engines.funnel_range import Parameters
from models.engines.funnel_steps import Step

MAX_SAME_NAME = 6  # different conditions on one name: 2^6 - 1 running counts; more is not a funnel anybody reads


def chain(
    add: Callable[..., str], steps: Sequence[Step], window: str, params: Parameters
) -> str:
    """Add the expressions that turn ``starts`` into entity_id, k1 ... kn (the occurrence completing the n-th step)."""
    distinct = list(dict.fromkeys(steps))
    wanted = Counter(steps)
    if len({step.name for step in distinct}) == len(distinct):
        return _one_step_a_name(add, wanted, window, params)
    bit = {step: 1 << i for i, step in enumerate(distinct)}
    fits = " + ".join(f"CASE WHEN {step.sql(params)} THEN {bit[step]} ELSE 0 END" for step in distinct)
    add(
        "fitting",
        "SELECT entity_id, k, mask, row_number() OVER (PARTITION BY entity_id, mask ORDER BY k) AS n FROM "
        f"(SELECT entity_id, k, {fits} AS mask FROM log) WHERE mask <> 0",
        materialized=True,
    )
    # Of occurrences that fit the same steps only the first few after the entry can matter: as many as those steps.
    capacity = " + ".join(f"CASE WHEN mask & {bit[step]} <> 0 THEN {wanted[step]} ELSE 0 END" for step in distinct)
    add("masks", f"SELECT mask, {capacity} AS capacity FROM (SELECT DISTINCT mask FROM fitting)", materialized=True)
    add("asked", "SELECT s.entity_id, s.k1, m.mask, m.capacity FROM starts AS s CROSS JOIN masks AS m")
    add(
        "first_fitting",
        "SELECT a.*, f.n FROM asked AS a ASOF JOIN fitting AS f "
        "ON a.entity_id = f.entity_id AND a.mask = f.mask AND a.k1 <= f.k",
    )
    add("wanted", "SELECT entity_id, k1, mask, n + unnest(range(0, capacity)) AS n FROM first_fitting")
    add(
        "considered",
        "SELECT w.entity_id, w.k1, w.mask, f.k FROM wanted AS w "
        "JOIN fitting AS f ON w.entity_id = f.entity_id AND w.mask = f.mask AND w.n = f.n "
        f"WHERE f.k.at < w.k1.at + {window}",
    )
    add("running", f"SELECT entity_id, k1, k, {_steps_done(distinct, wanted, bit)} AS done FROM considered "
        "WINDOW so_far AS (PARTITION BY entity_id, k1 ORDER BY k ROWS UNBOUNDED PRECEDING)")
    completions = ", ".join(f"min(k) FILTER (done >= {n}) AS k{n}" for n in range(2, len(steps) + 1))
    return add(
        "completed",
        f"SELECT entity_id, k1{', ' + completions if completions else ''} FROM running GROUP BY entity_id, k1",
    )


def _one_step_a_name(
    add: Callable[..., str], wanted: Counter[Step], window: str, params: Parameters
) -> str:
    """No occurrence fits two steps: the next one, two ... of each name after the entry, put in order."""
    previous, found = "starts", []
    for i, (step, times) in enumerate(wanted.items()):
        for n in range(times):
            column = f"s{i}_{n}"
            after = "p.k1 <= n.k" if n == 0 else f"p.s{i}_{n - 1} < n.k"
            known = "TRUE" if n == 0 else f"p.s{i}_{n - 1} IS NOT NULL"
            previous = add(
                f"next{i}_{n}",
                f"SELECT p.*, CASE WHEN {known} AND n.k.at < p.k1.at + {window} THEN n.k END AS {column} "
                f"FROM {previous} AS p ASOF LEFT JOIN (SELECT entity_id, k FROM log WHERE {step.sql(params)}) AS n "
                f"ON p.entity_id = n.entity_id AND {after}",
            )
            found.append(column)
    add("completed_list", f"SELECT entity_id, k1, list_sort([{', '.join(found)}], 'ASC', 'NULLS LAST') AS ks FROM {previous}")
    later = "".join(f", ks[{n}] AS k{n}" for n in range(2, len(found) + 1))
    return add("completed", f"SELECT entity_id, k1{later} FROM completed_list")


def _steps_done(distinct: list[Step], wanted: Counter[Step], bit: dict[Step, int]) -> str:
    by_name: dict[str, list[Step]] = {}
    for step in distinct:
        by_name.setdefault(step.name, []).append(step)
    sums = []
    for name, group in by_name.items():
        if len(group) > MAX_SAME_NAME:
            raise UsageError(
                f"{len(group)} different steps on the name '{name}' in any order",
                remedy=f"Use at most {MAX_SAME_NAME}, or order sequential.",
            )
        total = sum(wanted[step] for step in group)
        bounds = [str(total)]
        for size in range(1, len(group) + 1):
            for chosen in combinations(group, size):
                mask = sum(bit[step] for step in chosen)
                rest = total - sum(wanted[step] for step in chosen)
                bounds.append(f"{rest} + count(*) FILTER (mask & {mask} <> 0) OVER so_far")
        sums.append(f"least({', '.join(bounds)})")
    return " + ".join(sums)
