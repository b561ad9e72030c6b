"""Numbers, money and dates as people read them. The only place where anything is rounded."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

NOTHING = "–"
_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "CNY": "CN¥"}
_SUFFIXES = {"days": " days", "hours": " h", "ratio": "×", "score": "", "points": " pts", "months": " months", "per_customer_and_30_days": " /30 d"}


def number(value: Any, unit: str, currency: str = "") -> str:
    """A value with its unit; `–` when there is none."""
    if value is None:
        return NOTHING
    amount = float(value)
    if unit == "share":
        return f"{amount * 100:,.1f} %"
    if unit.startswith("currency"):
        return money(value, currency) + (" /day" if unit == "currency_per_day" else "")
    if unit == "count":
        return f"{amount:,.0f}"
    digits = 2 if abs(amount) < 100 else 1
    return f"{amount:,.{digits}f}{_SUFFIXES.get(unit, '')}"


def money(value: Any, currency: str) -> str:
    """An amount with its currency; thousands and millions are shortened."""
    if value is None:
        return NOTHING
    amount = float(value)
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    symbol = _SYMBOLS.get(currency, f"{currency} ")
    if size >= 1_000_000:
        return f"{sign}{symbol}{size / 1_000_000:,.2f} m"
    return f"{sign}{symbol}{size:,.0f}" if size >= 10_000 else f"{sign}{symbol}{size:,.2f}"


def change(value: Any, unit: str, currency: str = "") -> str | None:
    """A difference with its sign; shares change by points."""
    if value is None:
        return None
    amount = float(value)
    if unit == "share":
        return f"{amount * 100:+,.1f} pts"
    text = number(abs(Decimal(str(value))), unit, currency)
    return f"{'-' if amount < 0 else '+'}{text}"


def day(value: date | datetime | None) -> str:
    """A date."""
    return f"{value:%Y-%m-%d}" if value else NOTHING


def instant(value: datetime | None) -> str:
    """A point in time, UTC."""
    return f"{value:%Y-%m-%d %H:%M} UTC" if value else NOTHING


def words(name: str) -> str:
    """A name as a person reads it."""
    return name.replace("_", " ").capitalize()
