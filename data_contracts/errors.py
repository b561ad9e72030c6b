"""Errors that people can act on. Holds the one base class; rooms raise it or subclasses of it, the CLI and the pages print it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

# as the system and SQLite say it, and DuckDB of rows that it wanted to spill
_FULL_DISK = ("No space left on device", "disk is full", "Disk quota exceeded", "failed to offload data block")


class RapportError(Exception):
    """A fault in what was asked or delivered, told so that its reader can mend it.

    `message` says what is wrong, `remedy` what to do; `source`, `file`, `row` and `field` say where. Never put a secret or
    personal data into any of them: they are printed and logged.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str, source: str | None = None, file: str | None = None,
                 row: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy
        self.source, self.file, self.row, self.field = source, file, row, field

    @property
    def place(self) -> str:
        """Where it happened, e.g. `source shop, file orders.csv, row 12, field amount`; empty when nowhere in particular."""
        parts = [("source", self.source), ("file", self.file), ("row", self.row), ("field", self.field)]
        return ", ".join(f"{name} {value}" for name, value in parts if value is not None)

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        return f"{self.message}{where}. {self.remedy}"


class SourceError(RapportError):
    """A source cannot be read or does not hold what its declaration promises."""


class UsageError(RapportError):
    """A command, page or function was asked for something that does not exist or does not fit."""

    exit_code = 2


class BusyError(RapportError):
    """Another process holds the warehouse; code 75 is the standard exit status for "try again later"."""

    exit_code = 75


class PublishBlocked(RapportError):
    """A blocking check failed; the former snapshot stays current."""

    exit_code = 3


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came of, each once: the chain of one that Dagster raised again closes on itself."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def full_disk(error: BaseException) -> RapportError | None:
    """What to tell of an error that comes of a full disk, wherever in its chain that is said; None for any other."""
    if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in str(cause) for text in _FULL_DISK) for cause in chain(error)):
        return RapportError("the disk is full", remedy="Make room and run again. What was published is served as before, and nothing half-done counts.")
    return None
