"""RFM in plain Python, from the definition: recency in days since the last non-refunded order at the as-of date, frequency = distinct orders,
monetary = net revenue in the window; scores 1..5 by value quantile. Shares nothing with the engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo


def local_day(instant: datetime, zone: str):
    return instant.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone)).date()


def quantile(values: Sequence[Fraction], share: Fraction) -> Fraction:
    """Linear interpolation between neighbours, exactly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = place.numerator // place.denominator
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def rfm(orders: list[dict], refunds: list[dict], as_of: datetime, zone: str, window_days: int | None) -> dict[str, tuple]:
    """customer → (recency_days, orders, net revenue, R, F, M)."""
    measured: dict[str, tuple[int, int, Decimal]] = {}
    for customer in {o["customer_id"] for o in orders if o["customer_id"]}:
        mine = [o for o in orders if o["customer_id"] == customer and o["is_counted"] and o["ordered_at"] <= as_of
                and (window_days is None or o["ordered_at"] > as_of - timedelta(days=window_days))]
        back = {o["order_id"]: sum((r["amount"] for r in refunds if r["order_id"] == o["order_id"] and r["refunded_at"] <= as_of), Decimal(0)) for o in mine}
        kept = [o for o in mine if not (o["amount"] > 0 and o["amount"] - back[o["order_id"]] < Decimal("0.005"))]
        if kept:
            newest = max(local_day(o["ordered_at"], zone) for o in kept)
            measured[customer] = ((local_day(as_of, zone) - newest).days, len(mine), sum((o["amount"] - back[o["order_id"]] for o in mine), Decimal(0)))
    borders = [[quantile([Fraction(m[column]) for m in measured.values()], Fraction(k, 5)) for k in range(1, 5)] if measured else [] for column in range(3)]
    scored = {}
    for customer, values in measured.items():
        above = [sum(Fraction(value) > border for border in of) for value, of in zip(values, borders, strict=True)]
        scored[customer] = (*values, 5 - above[0], 1 + above[1], 1 + above[2])
    return scored
