"""Attribution by brute force, in exact fractions, written from the definitions; no code or SQL of the engine.

A conversion is a dict with conversion_id, customer_id, converted_at, revenue, refunded, lead_created_at,
opportunity_created_at; a touch one with touchpoint_id, customer_id, occurred_at, channel, sequence.
"""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from itertools import combinations
from math import factorial


def ordered(touches: list[dict]) -> list[dict]:
    return sorted(
        touches,
        key=lambda t: (t["occurred_at"], t["sequence"] is None, t["sequence"] or 0, t["touchpoint_id"]),
    )


def journey(conversion: dict, touches: list[dict], lookback_days: float) -> list[dict]:
    earliest = conversion["converted_at"] - timedelta(days=lookback_days)
    return ordered(
        [
            t
            for t in touches
            if t["customer_id"] == conversion["customer_id"] and t["customer_id"] is not None
            and earliest <= t["occurred_at"] <= conversion["converted_at"]
        ]
    )


def touch_weights(model: str, path: list[dict], conversion: dict, half_life: float) -> list[float]:
    n = len(path)
    if model == "first":
        return [1.0] + [0.0] * (n - 1)
    if model == "last":
        return [0.0] * (n - 1) + [1.0]
    if model == "linear":
        return [1 / n] * n
    if model == "u_shaped":
        if n == 1:
            return [1.0]
        if n == 2:
            return [0.5, 0.5]
        return [0.4] + [0.2 / (n - 2)] * (n - 2) + [0.4]
    if model == "time_decay":
        ages = [(conversion["converted_at"] - t["occurred_at"]) / timedelta(days=1) for t in path]
        raw = [2.0 ** (-(age - min(ages)) / half_life) for age in ages]
        return [r / sum(raw) for r in raw]
    if model == "w_shaped":
        share = [0.0] * n
        share[0] += 30
        lead = conversion["lead_created_at"]
        before_lead = [i for i, t in enumerate(path) if lead is not None and t["occurred_at"] <= lead]
        if before_lead:
            share[before_lead[-1]] += 30
        opportunity = conversion["opportunity_created_at"] or conversion["converted_at"]
        before = [i for i, t in enumerate(path) if t["occurred_at"] <= opportunity]
        if before:
            share[before[-1]] += 30
        others = [i for i, s in enumerate(share) if s == 0]
        for i in others:
            share[i] = 10 / len(others)
        return [s / sum(share) for s in share]
    raise ValueError(model)


def shapley(sets: list[frozenset[str]]) -> dict[str, Fraction]:
    """Shapley values when a coalition is worth the number of conversions that need no other channel, over all coalitions."""
    players = sorted(set().union(*sets)) if sets else []
    values: dict[str, Fraction] = {}
    for player in players:
        rest = [p for p in players if p != player]
        value = Fraction(0)
        for size in range(len(rest) + 1):
            for coalition in combinations(rest, size):
                members = frozenset(coalition)
                gain = sum(s <= members | {player} for s in sets) - sum(s <= members for s in sets)
                weight = Fraction(factorial(size) * factorial(len(players) - size - 1), factorial(len(players)))
                value += weight * gain
        values[player] = value
    return values


def probability_to_convert(paths: list[tuple[list[str], bool]], removed: str | None) -> Fraction:
    """Solve the absorbing chain by elimination, with ``removed`` turned into a dead end."""
    counts: dict[str, dict[str, int]] = {}
    for path, converts in paths:
        states = ["(start)", *path, "(converted)" if converts else "(lost)"]
        for a, b in zip(states, states[1:], strict=False):
            counts.setdefault(a, {}).setdefault(b, 0)
            counts[a][b] += 1
    states = [s for s in counts if s != removed]
    n = len(states)
    rows = []
    for s in states:
        total = sum(counts[s].values())
        row = [Fraction(int(s == other)) - Fraction(counts[s].get(other, 0), total) for other in states]
        rows.append([*row, Fraction(counts[s].get("(converted)", 0), total)])
    for i in range(n):
        pivot = next(r for r in range(i, n) if rows[r][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for r in range(n):
            if r != i and rows[r][i] != 0:
                rows[r] = [a - rows[r][i] * b for a, b in zip(rows[r], rows[i], strict=True)]
    return rows[states.index("(start)")][n]


def removal_effects(paths: list[tuple[list[str], bool]]) -> dict[str, Fraction]:
    if not any(converts for _, converts in paths):
        return {}
    whole = probability_to_convert(paths, None)
    channels = sorted({c for path, _ in paths for c in path})
    return {c: 1 - probability_to_convert(paths, c) / whole for c in channels}


def attribute(
    conversions: list[dict], touches: list[dict], model: str, lookback_days: float, half_life: float = 7.0
) -> dict[str, tuple[float, float]]:
    """Credited conversions and net revenue by channel, as floats (the engine's rounding is tested apart)."""
    totals: dict[str, list[float]] = {}

    def give(channel: str, conversions_: float, revenue: float) -> None:
        cell = totals.setdefault(channel, [0.0, 0.0])
        cell[0] += conversions_
        cell[1] += revenue

    journeys = [(c, journey(c, touches, lookback_days)) for c in conversions]
    for c, path in journeys:
        if not path:
            give("no_touch", 1.0, float(c["revenue"] - c["refunded"]))
    journeys = [(c, path) for c, path in journeys if path]
    if model == "markov":
        converters = {c["customer_id"] for c in conversions}
        lost: dict[str, list[dict]] = {}
        for t in touches:
            if t["customer_id"] is not None and t["customer_id"] not in converters:
                lost.setdefault(t["customer_id"], []).append(t)
        paths = [([t["channel"] for t in path], True) for _, path in journeys]
        paths += [([t["channel"] for t in ordered(path)], False) for path in lost.values()]
        effects = removal_effects(paths)
        total = sum(effects.values())
        for channel, effect in effects.items():
            for c, _ in journeys:
                give(channel, float(effect / total), float(c["revenue"] - c["refunded"]) * float(effect / total))
        return {k: (a, b) for k, (a, b) in totals.items()}
    if model == "shapley":
        for channel, value in shapley([frozenset(t["channel"] for t in path) for _, path in journeys]).items():
            give(channel, float(value), 0.0)
        for c, path in journeys:
            for channel, value in shapley([frozenset(t["channel"] for t in path)]).items():
                give(channel, 0.0, float(value) * float(c["revenue"] - c["refunded"]))
        return {k: (a, b) for k, (a, b) in totals.items()}
    for c, path in journeys:
        for t, weight in zip(path, touch_weights(model, path, c, half_life), strict=True):
            give(t["channel"], weight, weight * float(c["revenue"] - c["refunded"]))
    return {k: (a, b) for k, (a, b) in totals.items()}
