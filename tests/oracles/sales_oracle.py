"""The pipeline's past by brute force: every deal's changes are replayed up to an instant. No code or SQL of the engine.

A deal is a dict with deal_id, created_at, removed_at (or None), first (its state when created) and changes, a list of
(instant, field, value) in order; a state is a dict with stage, amount, expected_close_date, owner_id.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

WON, LOST = "Won", "Lost"


def state(deal: dict, at: datetime) -> dict | None:
    """The deal just before ``at``; None before it exists or after it was removed."""
    if deal["created_at"] >= at or (deal["removed_at"] is not None and deal["removed_at"] < at):
        return None
    now = dict(deal["first"])
    for instant, field, value in deal["changes"]:
        if instant < at:
            now[field] = value
    return now


def is_open(now: dict | None) -> bool:
    return now is not None and now["stage"] not in (WON, LOST)


def in_window(now: dict | None, window: tuple[date, date] | None) -> bool:
    if now is None:
        return False
    expected = now["expected_close_date"]
    return window is None or (expected is not None and window[0] <= expected < window[1])


def movement(deals: list[dict], t1: datetime, t2: datetime, window: tuple[date, date] | None) -> dict[str, list]:
    """[number of deals, amount] by movement, each deal told as a story from its state at t1 to its state at t2."""
    result: dict[str, list] = {}

    def note(name: str, amount: int) -> None:
        cell = result.setdefault(name, [0, 0])
        cell[0] += 1
        cell[1] += amount

    for deal in deals:
        a, b = state(deal, t1), state(deal, t2)
        old, new = (a["amount"] or 0) if a else 0, (b["amount"] or 0) if b else 0
        inside_then = is_open(a) and in_window(a, window)
        inside_now = is_open(b) and in_window(b, window)
        if inside_then:
            note("start", old)
        if inside_now:
            note("end", new)
        if inside_then and b is None:
            note("removed", -old)
            continue
        if inside_then and new != old:
            note("amount_up" if new > old else "amount_down", new - old)
        if inside_then and inside_now:
            if window is None and None not in (a["expected_close_date"], b["expected_close_date"]):
                if b["expected_close_date"] < a["expected_close_date"]:
                    note("pulled_in", 0)
                if b["expected_close_date"] > a["expected_close_date"]:
                    note("pushed_out", 0)
        elif inside_then:
            leaves = {WON: "won", LOST: "lost"}.get(b["stage"], "pushed_out")
            note(leaves, -new)
        else:
            closed_inside = b is not None and not is_open(b) and in_window(b, window)
            enters = inside_now or (closed_inside and (a is None or is_open(a)))
            if enters:
                note("created" if a is None else "pulled_in" if is_open(a) else "reopened", new)
                if not inside_now:
                    note("won" if b["stage"] == WON else "lost", -new)
    return result


def learned_probability(deals: list[dict], at: datetime, stage: str, prior: float) -> float | None:
    """Share of won among deals closed before ``at`` that had been in ``stage``, drawn towards the share of all."""
    closed = [d for d in deals if state(d, at) is not None and not is_open(state(d, at))]
    if not closed:
        return None

    def stages_seen(deal: dict) -> set[str]:
        """The open stages in which the deal stood for any length of time (two changes at one instant leave none between)."""
        instants = {deal["created_at"], *(t for t, _, _ in deal["changes"])}
        values = {state(deal, t + timedelta(microseconds=1))["stage"] for t in instants if t < at}
        return values - {WON, LOST}

    def won(some: list[dict]) -> int:
        return sum(state(d, at)["stage"] == WON for d in some)

    overall = won(closed) / len(closed)
    through = [d for d in closed if stages_seen(d)]
    pipeline = (won(through) + prior * overall) / (len(through) + prior)
    here = [d for d in closed if stage in stages_seen(d)]
    return (won(here) + prior * (pipeline if through else overall)) / (len(here) + prior)
