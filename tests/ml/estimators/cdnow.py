"""The CDNOW 1/10 sample (Fader & Hardie) as purchase histories; shared by the estimator tests."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import numpy as np

CALIBRATION_END = date(1997, 9, 30)


def load(sample: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the file of the sample: histories [2357, 3] in weeks, mean value of repeat purchases [2357], purchases in the 39 weeks after [2357].

    Purchases on one day are one purchase.
    """
    spent: dict[str, dict[date, float]] = {}
    for line in sample.read_text().splitlines():
        _, customer, day, _, dollars = line.split()
        days = spent.setdefault(customer, {})
        bought_on = datetime.strptime(day, "%Y%m%d").date()
        days[bought_on] = days.get(bought_on, 0.0) + float(dollars)
    histories, values, later = [], [], []
    for days in spent.values():
        known = sorted(day for day in days if day <= CALIBRATION_END)
        repeats = known[1:]
        histories.append((
            len(repeats),
            (known[-1] - known[0]).days / 7,
            (CALIBRATION_END - known[0]).days / 7,
        ))  # fmt: skip
        values.append(sum(days[day] for day in repeats) / len(repeats) if repeats else 0.0)
        later.append(len(days) - len(known))
    return np.array(histories), np.array(values), np.array(later)
