"""Removal effects of a first-order Markov chain, exactly, by linear algebra.

Belongs here: the chain's mathematics on a table of transition counts. Does not belong here: journeys, credits, SQL.

Source: Anderl, Becker, von Wangenheim & Schumann (2016), "Mapping the customer journey", International Journal of Research in
Marketing 33. The removal effect of channel c is the relative loss of the probability to convert when every transition into
c leads to no conversion instead. With N = (I - Q)^-1, s the start row and h = N r the probability to convert from each channel,
the probability ever to visit c is s N[:, c] / N[c, c], so the loss is visit(c) h(c) / (s h): one inverse gives every channel
(tested against rebuilding the chain without each channel).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from data_contracts.errors import UsageError

MAX_CHANNELS = 3_000  # a dense inverse of 3000 x 3000 takes 72 MB and seconds; channels are tens, campaigns hundreds


def shares(transitions: Iterable[tuple[str | None, str | None, bool | None, int]]) -> dict[str, float]:
    """Shares (summing to 1) by channel from rows (state_from, state_to, converts, n); empty when nothing converts.

    ``state_from`` None is the start; ``state_to`` None the end, with ``converts`` saying which end.
    Raises UsageError above 3,000 channels.
    """
    effects = removal_effects(transitions)
    total = sum(effects.values())
    return {channel: effect / total for channel, effect in effects.items()} if total > 0 else {}


def removal_effects(transitions: Iterable[tuple[str | None, str | None, bool | None, int]]) -> dict[str, float]:
    """Removal effect (0..1) of each channel, by name; empty when no journey converts."""
    rows = list(transitions)
    channels = sorted({state for row in rows for state in row[:2] if state is not None})
    if len(channels) > MAX_CHANNELS:
        raise UsageError(
            f"{len(channels)} channels are too many for the Markov model",
            remedy=f"Group them to at most {MAX_CHANNELS}.",
        )
    place = {channel: i for i, channel in enumerate(channels)}
    size = len(channels)
    start, converting = np.zeros(size), np.zeros(size)
    moves, leaving = np.zeros((size, size)), np.zeros(size)
    for state_from, state_to, converts, n in rows:
        if state_from is None:
            start[place[state_to]] += n
            continue
        i = place[state_from]
        leaving[i] += n
        if state_to is not None:
            moves[i, place[state_to]] += n
        elif converts:
            converting[i] += n
    if start.sum() == 0 or converting.sum() == 0:
        return {}
    moves /= leaving[:, None]
    fundamental = np.linalg.inv(np.eye(size) - moves)
    to_convert = fundamental @ (converting / leaving)
    visits = (start / start.sum()) @ fundamental / np.diag(fundamental)
    whole = (start / start.sum()) @ to_convert
    return {channel: float(visits[i] * to_convert[i] / whole) for channel, i in place.items()}
