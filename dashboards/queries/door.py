"""The pages' one way into a snapshot: which one this run of a page reads, who is looking, and what is remembered.

Belongs here: pinning, caching by snapshot and role, open snapshots. Does not belong here: any question (the modules beside).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import streamlit as st

from data_contracts.environment import Home, find_home
from data_contracts.errors import UsageError
from models import warehouse

CACHE_ENTRIES = 1000    # answers are small; a visitor changing filters makes a few dozen
SNAPSHOTS_HELD = 3      # a visitor may still be reading the former one when a new one is published

_pinned: ContextVar[str | None] = ContextVar("snapshot of this run of a page", default=None)
# Answers of this run of a page: the cache proper keeps them as bytes and makes a copy for each visitor, which a page that asks for the
# settings twenty times would wait for twenty times. Nobody changes an answer.
_answers: ContextVar[dict[Any, Any] | None] = ContextVar("answers of this run of a page", default=None)
_place: ContextVar[Home | None] = ContextVar("home of this run of a page", default=None)

R = TypeVar("R")


def home() -> Home:
    """The home these pages show."""
    return _place.get() or find_home()


def viewer() -> warehouse.Viewer:
    """Who is looking."""
    return warehouse.LOCAL


def sees_personal_data(role: str | None = None) -> bool:
    """Whether the viewer (or a role) may see names and contact data."""
    return (role or viewer().role) == "admin"


@contextmanager
def pinned() -> Iterator[warehouse.Snapshot | None]:
    """The current snapshot, held for one run of a page: a publish in between must not mix two states on one screen."""
    place = find_home()
    found = warehouse.current_id(place)
    tokens = ((_pinned, _pinned.set(found)), (_answers, _answers.set({})), (_place, _place.set(place)))
    try:
        yield warehouse.read_snapshot(place, found) if found else None
    finally:
        for variable, token in tokens:
            variable.reset(token)


def snapshot_id() -> str | None:
    """Id of the snapshot this run of the page reads."""
    return _pinned.get() or warehouse.current_id(home())


def last_run() -> dict[str, Any] | None:
    """What the last run said of itself; it may be newer than the snapshot, when it was blocked."""
    return warehouse.last_run(home())


class _Held:
    """An open snapshot that stays open from one visit to the next, so that DuckDB keeps its pages in memory.

    Visitors take turns on its one connection: a snapshot locks its configuration, after which DuckDB lets this process open no
    second connection to it with the settings of ours. Answers are cached, so the turns are short.
    """

    def __init__(self, place: str, snapshot: str) -> None:
        self._home, self._turn, self._open = Home(Path(place)), Lock(), ExitStack()
        self._reading = self._open.enter_context(warehouse.opened(self._home, viewer(), snapshot))

    @contextmanager
    def reading(self, role: str) -> Iterator[warehouse.Reading]:
        """The snapshot as a role may read it."""
        with self._turn, warehouse.explained(self._home, self._reading.snapshot):
            yield warehouse.Reading(self._reading.con, self._reading.snapshot, warehouse.Viewer(viewer().name, role))

    def close(self) -> None:
        """Give the file back, once nobody reads from it."""
        with self._turn:
            self._open.close()


@st.cache_resource(show_spinner=False, max_entries=SNAPSHOTS_HELD, on_release=_Held.close)
def _held(place: str, snapshot: str) -> _Held:
    return _Held(place, snapshot)


@st.cache_data(show_spinner=False, max_entries=CACHE_ENTRIES)
def _remembered(_function: Callable[..., R], name: str, place: str, snapshot: str, role: str, arguments: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> R:
    with _held(place, snapshot).reading(role) as reading:
        return _function(reading, *arguments, **dict(named))


def per_snapshot(function: Callable[..., R]) -> Callable[..., R]:
    """Cache a function of (reading, …) by home, snapshot, role and arguments: an answer is never shown to another role or beside another snapshot's."""
    @wraps(function)
    def call(*arguments: Any, **named: Any) -> R:
        snapshot = snapshot_id()
        if snapshot is None:
            raise UsageError("nothing has been published yet", remedy="Run `rapport run` first.")
        name, rest = f"{function.__module__}.{function.__qualname__}", tuple(sorted(named.items()))
        asked = (name, snapshot, viewer().role, arguments, rest)
        known = _answers.get()
        if known is not None and asked in known:
            return known[asked]
        answer = _remembered(function, name, str(home().root), snapshot, viewer().role, arguments, rest)
        if known is not None:
            known[asked] = answer
        return answer
    return call


def has(reading: warehouse.Reading, table: str) -> bool:
    """Whether the snapshot carries a table, named with its schema."""
    return table in reading.snapshot.tables
