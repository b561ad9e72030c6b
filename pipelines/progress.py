"""Progress of long work, told line by line on the terminal. Holds no work of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Numbered stages with their duration; details are indented. Quiet when `enabled` is false."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.started = time.monotonic()
        self._number = 0

    def line(self, text: str) -> None:
        if self.enabled:
            print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        self.line(f"      {text}")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One stage; its duration is printed at the end, or that it failed."""
        self._number += 1
        begun = time.monotonic()
        self.line(f"[{self._number:>2}] {name} …")
        try:
            yield
        except BaseException:
            self.line(f"     {name}: failed after {time.monotonic() - begun:.1f} s")
            raise
        self.line(f"     {name}: done in {time.monotonic() - begun:.1f} s")


PROGRESS = Progress()
