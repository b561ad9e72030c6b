"""Numbers, money and dates as people read them. The only place where anything is rounded.

Belongs here: values to text. Does not belong here: where the text stands (`cards`, `tables`) or what a number means.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

NOTHING = "–"
MINUS = "−"
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "CNY": "CN¥", "INR": "₹", "CHF": "CHF "}
_SUFFIXES = {"days": " days", "hours": " h", "ratio": "×", "score": "", "points": " pts", "months": " months", "per_customer_and_30_days": " / 30 d"}
_SPOKEN = {"share": "share of the observations, in percent", "currency": "money", "currency_per_day": "money per day", "count": "count", "per_customer_and_30_days": "per customer and 30 days",
           "ratio": "ratio", "days": "days", "hours": "hours", "points": "points, from −100 to 100", "score": "average score", "months": "months"}


def number(value: Any, unit: str, currency: str = "") -> str:
    """A value with its unit; `–` when there is none. Units are those of the metric registry."""
    if value is None:
        return NOTHING
    amount = float(value)
    if unit == "share":
        return _signed(amount, f"{abs(amount) * 100:,.1f}%")
    if unit.startswith("currency"):
        return money(value, currency) + (" / day" if unit == "currency_per_day" else "")
    if unit == "count":
        return _signed(amount, f"{abs(amount):,.0f}")
    digits = 1 if unit == "days" and abs(amount) >= 0.05 else 3 if abs(amount) < 1 else 2 if abs(amount) < 10 else 1
    return _signed(amount, f"{abs(amount):,.{digits}f}{_SUFFIXES.get(unit, '')}")


def _signed(amount: float, text: str) -> str:
    return f"{MINUS}{text}" if amount < 0 and any(c in "123456789" for c in text) else text


def money(value: Any, currency: str) -> str:
    """An amount with its currency; millions are shortened, cents shown below ten thousand."""
    if value is None:
        return NOTHING
    size = abs(float(value))
    symbol = SYMBOLS.get(currency, f"{currency} " if currency else "")
    if size >= 1_000_000:
        return _signed(float(value), f"{symbol}{size / 1_000_000:,.2f} m")
    return _signed(float(value), f"{symbol}{size:,.0f}" if size >= 10_000 else f"{symbol}{size:,.2f}")


def change(value: Any, unit: str, currency: str = "", rate: Any = None) -> str | None:
    """A difference with its sign: shares by percentage points, amounts and counts by their relative change when it is known."""
    if value is None:
        return None
    if unit == "share":
        return _plus(float(value), f"{abs(float(value)) * 100:,.1f} pts")
    if rate is not None:
        return _plus(float(rate), f"{abs(float(rate)) * 100:,.1f}%")
    return _plus(float(value), brief(abs(Decimal(str(value))), unit, currency))


def brief(value: Any, unit: str, currency: str = "") -> str:
    """A value beside another one that carries the unit already."""
    text = number(value, unit, currency)
    return text.removesuffix(_SUFFIXES["per_customer_and_30_days"]) if unit == "per_customer_and_30_days" else text


def _plus(amount: float, text: str) -> str:
    if not any(c in "123456789" for c in text):
        return "±0"
    return f"{MINUS if amount < 0 else '+'}{text}"


def interval(lower: Any, upper: Any, unit: str, currency: str = "") -> str:
    """Both ends of an interval."""
    return f"{number(lower, unit, currency)} to {number(upper, unit, currency)}"


def day(value: date | datetime | None) -> str:
    """A date."""
    return f"{value:%Y-%m-%d}" if value else NOTHING


def month(value: date | datetime | None) -> str:
    """A month."""
    return f"{value:%Y-%m}" if value else NOTHING


def period(value: date | None, grain: str) -> str:
    """The name of a period by its first day."""
    if value is None:
        return NOTHING
    if grain == "month":
        return month(value)
    if grain == "quarter":
        return f"{value.year} Q{(value.month + 2) // 3}"
    return str(value.year) if grain == "year" else day(value)


def span(start: date | None, end: date) -> str:
    """A half-open range of days, said with its last day: `2026-01-01 to 2026-01-31`."""
    last = end - timedelta(days=1)
    return f"{day(start)} to {day(last)}" if start else f"everything up to {day(last)}"


def instant(value: datetime | None) -> str:
    """A point in time, UTC."""
    return f"{value:%Y-%m-%d %H:%M} UTC" if value else NOTHING


def seconds(value: Any) -> str:
    """A length of time given in seconds, in its most telling unit."""
    if value is None:
        return NOTHING
    amount = float(value)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if amount >= size:
            return f"{amount / size:,.1f} {unit}"
    return f"{amount:,.0f} s"


def words(name: str) -> str:
    """A name as a person reads it."""
    return name.replace("_", " ").capitalize()


def unit_words(unit: str, currency: str) -> str:
    """A unit spelled out."""
    spoken = _SPOKEN.get(unit, unit.replace("_", " "))
    return f"{spoken} ({currency})" if unit.startswith("currency") else spoken


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def range_sentence(start: date | None, end: date) -> str:
    """Which days a page shows."""
    return f"{span(start, end)}, whole days, against the period of the same length before." if start else f"{span(start, end)[:1].upper()}{span(start, end)[1:]}; there is no period before it to compare with."


def share_of(part: int, whole: int) -> str:
    """A part of a whole in percent; `–` of nothing."""
    return number(part / whole, "share") if whole else NOTHING
