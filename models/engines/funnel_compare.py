"""Whether a funnel got better or worse than in another range, and how sure that is.

Belongs here: the comparison of two runs of one funnel and the test of two proportions. Does not belong here: counting
(`funnel`), choosing which range is like for like (`funnel_range.previous_range` offers equal length).

Only entries with closed windows are compared, on both sides. The p-value is two-sided: the pooled two-proportion z-test, or
Fisher's exact test when an expected count is below 5 (Cochran's rule). The 95 % interval of the difference is Newcombe's
hybrid of two Wilson intervals (Newcombe 1998, Statistics in Medicine 17, method 10), which stays inside [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from math import erfc, exp, lgamma, sqrt

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines import funnel
from models.engines.funnel import FunnelSpec
from models.engines.funnel_range import previous_range

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Difference:
    """Difference of two proportions (now - before) with its 95 % interval and two-sided p-value; null without both."""

    difference: float | None
    lower: float | None
    upper: float | None
    p_value: float | None
    test: str | None


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927); ``n`` above 0."""
    p, z2 = successes / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def fisher(x1: int, n1: int, x2: int, n2: int) -> float:
    """Two-sided p-value of Fisher's exact test: all tables at most as probable as the one observed."""
    total, hits = n1 + n2, x1 + x2

    def log_choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    def log_probability(k: int) -> float:
        return log_choose(n1, k) + log_choose(n2, hits - k) - log_choose(total, hits)

    observed = log_probability(x1) + 1e-7  # equal tables differ in the last digits of lgamma
    support = range(max(0, hits - n2), min(hits, n1) + 1)
    return min(1.0, sum(exp(p) for p in map(log_probability, support) if p <= observed))


def two_proportions(x1: int, n1: int, x2: int, n2: int) -> Difference:
    """Compare ``x1`` of ``n1`` (now) with ``x2`` of ``n2`` (before)."""
    if n1 == 0 or n2 == 0:
        return Difference(None, None, None, None, None)
    p1, p2 = x1 / n1, x2 / n2
    (low1, high1), (low2, high2) = wilson(x1, n1), wilson(x2, n2)
    d = p1 - p2
    lower = d - sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2)
    upper = d + sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2)
    pooled = (x1 + x2) / (n1 + n2)
    if min(n1, n2) * min(pooled, 1 - pooled) < 5:
        return Difference(d, lower, upper, fisher(x1, n1, x2, n2), "fisher")
    z = d / sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    return Difference(d, lower, upper, erfc(abs(z) / sqrt(2)), "z")


def compare(
    con: duckdb.DuckDBPyConnection,
    spec: FunnelSpec,
    before: tuple[date | datetime, date | datetime] | None = None,
) -> pl.DataFrame:
    """The funnel of ``spec`` beside the same funnel over ``before`` (the range of equal length just before, by default).

    Columns: the breakdown when asked for, step, step_name, entries, before_entries, from_start, before_from_start,
    difference, lower, upper, p_value, test. A breakdown value seen in one range only has 0 entries in the other.
    Raises UsageError when the funnel has no range or is split by period.
    """
    if spec.start is None or spec.end is None:
        raise UsageError("a comparison needs a range", remedy="Give a start and an end.")
    if spec.grain is not None:
        raise UsageError("a comparison cannot be split by period", remedy="Compare without a grain.")
    start, end = before or previous_range(spec.start, spec.end)
    keys = ["breakdown"] if spec.breakdown else []
    wanted = [*keys, "step", "step_name", "entries"]
    now = funnel.run(con, spec).select(wanted)
    then = funnel.run(con, replace(spec, start=start, end=end)).select(wanted).rename({"entries": "before_entries"})
    both = now.join(then, on=[*keys, "step", "step_name"], how="full", coalesce=True, nulls_equal=True)
    both = both.with_columns(pl.col("entries", "before_entries").fill_null(0)).sort([*keys, "step"])
    first = {row.get("breakdown"): row for row in both.iter_rows(named=True) if row["step"] == 1}
    rows = []
    for row in both.iter_rows(named=True):
        top = first[row.get("breakdown")]
        n1, n2 = top["entries"], top["before_entries"]
        # Everybody who enters did step 1: there is nothing to test.
        tested = row["step"] > 1
        found = two_proportions(row["entries"], n1, row["before_entries"], n2) if tested else Difference(*[None] * 5)
        rows.append(
            row
            | {
                "from_start": row["entries"] / n1 if n1 else None,
                "before_from_start": row["before_entries"] / n2 if n2 else None,
            }
            | found.__dict__
        )
    floats = ("from_start", "before_from_start", "difference", "lower", "upper", "p_value")
    schema = {**both.schema, **dict.fromkeys(floats, pl.Float64), "test": pl.String}
    return pl.DataFrame(rows, schema=schema)
