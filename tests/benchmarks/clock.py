"""The clock of the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def cpu_seconds(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """CPU seconds over all threads, and the answer: a shared machine stretches the wall clock, not these."""
    started = time.process_time()
    answer = work()
    return time.process_time() - started, answer
