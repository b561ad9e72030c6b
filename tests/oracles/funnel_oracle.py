"""Funnels by brute force: each entity's log is walked occurrence by occurrence, exactly as the definition tells it.

Belongs here: plain Python written from the definitions. It shares no code and no SQL with the engine.
An occurrence is a dict with entity_id, name, occurred_at, sequence, event_id and attributes; a step is a tuple
(name, ((attribute, value, negated), ...)).
"""

from __future__ import annotations

from datetime import datetime, timedelta


def fits(occurrence: dict, step: tuple) -> bool:
    name, conditions = step
    if occurrence["name"] != name:
        return False
    for attribute, value, negated in conditions:
        found = occurrence[attribute]
        if (found == value) == negated:
            return False
    return True


def in_order(log: list[dict]) -> list[dict]:
    def key(o: dict) -> tuple:
        missing = o["sequence"] is None
        return (o["occurred_at"], missing, 0 if missing else o["sequence"], o["event_id"])

    return sorted(log, key=key)


def steps_done(occurrences: list[dict], steps: list[tuple]) -> int:
    """The largest number of steps that can each be given an occurrence of its own, by trying everything."""

    def best(position: int, free: frozenset[int]) -> int:
        if position == len(occurrences) or not free:
            return 0
        found = best(position + 1, free)
        for i in free:
            if fits(occurrences[position], steps[i]):
                found = max(found, 1 + best(position + 1, free - {i}))
        return found

    return best(0, frozenset(range(len(steps))))


def attempt(
    log: list[dict], at: int, steps: list[tuple], window: timedelta, order: str, step_windows: list, exclusions: list
) -> tuple[list[dict], tuple]:
    """Walk on from the entry at index ``at``. Returns the occurrences that took a step, and how it ended:
    ("converted", index), ("ended", index) or ("time", instant)."""
    taken = [log[at]]
    taken_at = at
    useful = [log[at]]
    if len(steps) == 1:
        return taken, ("converted", at)

    def deadline() -> datetime:
        limit = log[at]["occurred_at"] + window
        if step_windows and step_windows[len(taken) - 1] is not None:
            limit = min(limit, taken[-1]["occurred_at"] + step_windows[len(taken) - 1])
        return limit

    for i in range(at + 1, len(log)):
        here = log[i]
        if here["occurred_at"] >= deadline():
            return taken, ("time", deadline())
        if order == "any_order":
            goes_on = steps_done([*useful, here], steps) > len(taken)
        else:
            goes_on = fits(here, steps[len(taken)])
        if goes_on:
            taken.append(here)
            useful.append(here)
            taken_at = i
            if len(taken) == len(steps):
                return taken, ("converted", taken_at)
            continue
        if order == "any_order" and any(fits(here, step) for step in steps):
            useful.append(here)
        for step, after, before in exclusions:
            if after <= len(taken) < before and fits(here, step):
                return taken, ("ended", i)
        if order == "strict":
            return taken, ("ended", i)
    return taken, ("time", deadline())


def funnel(
    occurrences: list[dict],
    steps: list[tuple],
    window: timedelta,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    order: str = "sequential",
    reentry: str = "first_entry",
    entry_kind: str = "first_matching",
    step_windows: list | None = None,
    exclusions: list | None = None,
    breakdown: tuple | None = None,
    watermark: datetime | None = None,
) -> list[tuple]:
    """One tuple per counted entry: entity, entry's id, entered_at, instants of the steps taken, maturing, breakdown value."""
    logs: dict[str, list[dict]] = {}
    for occurrence in occurrences:
        logs.setdefault(occurrence["entity_id"], []).append(occurrence)
    entry_steps = steps if order == "any_order" else steps[:1]
    result = []
    for entity, unordered in logs.items():
        log = in_order(unordered)
        doors = [i for i, o in enumerate(log) if any(fits(o, s) for s in entry_steps)]

        def inside(i: int, log: list[dict] = log) -> bool:
            instant = log[i]["occurred_at"]
            return (start is None or instant >= start) and (end is None or instant < end)

        if entry_kind == "first_ever" and doors and not inside(doors[0]):
            continue
        doors = [i for i in doors if inside(i)]
        if not doors:
            continue

        def walk(i: int, log: list[dict] = log) -> tuple[list[dict], tuple]:
            return attempt(log, i, steps, window, order, step_windows or [], exclusions or [])

        def is_open(i: int, log: list[dict] = log) -> bool:
            return watermark is not None and log[i]["occurred_at"] + window > watermark

        counted: list[tuple[int, list[dict], bool]] = []
        if reentry == "first_entry":
            counted.append((doors[0], walk(doors[0])[0], is_open(doors[0])))
        elif reentry == "best_entry":
            walks = [(i, walk(i)[0]) for i in doors]
            furthest = max(len(taken) for _, taken in walks)
            i, taken = next((i, taken) for i, taken in walks if len(taken) == furthest)
            settled = len(taken) == len(steps) and not is_open(i)
            counted.append((i, taken, not settled and any(is_open(j) for j in doors)))
        else:
            door = doors[0]
            while door is not None:
                taken, (how, where) = walk(door)
                counted.append((door, taken, is_open(door)))
                if how == "converted":
                    later = [i for i in doors if i > where]
                elif how == "ended":
                    later = [i for i in doors if i >= where]
                else:
                    later = [i for i in doors if log[i]["occurred_at"] >= where]
                door = later[0] if later else None
        for i, taken, maturing in counted:
            value = None
            if breakdown is not None:
                attribute, at = breakdown
                values = [o[attribute] for o in taken]
                if at == "first":
                    value = next((v for v in values if v is not None), None)
                elif at == "last":
                    value = next((v for v in reversed(values) if v is not None), None)
                elif at <= len(values):
                    value = values[at - 1]
            result.append(
                (entity, log[i]["event_id"], log[i]["occurred_at"], [o["occurred_at"] for o in taken], maturing, value)
            )
    return result
