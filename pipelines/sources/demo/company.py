"""The company before its first customer: staff, catalogue, pipeline stages, exchange rates, campaigns and targets.

Belongs here: what exists once, however many customers are simulated. Customers and what they do do not belong here.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.calendar import DAY, Calendar, utc_text
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, flags, ids, labels, money, quota

_RATE_LEAD_DAYS = 10  # rates begin before the data, so that the first weekend already has a latest rate
_MESSAGE_EVERY_DAYS = 14
_EFFECTS = (0.0, 0.12, 0.30, 0.0, 0.20, 0.06)
"""Extra orders per responsive member of successive message campaigns; some campaigns truly do nothing."""
_MESSAGE_KINDS = ("promotion", "newsletter", "winback")


@dataclass(frozen=True)
class Messages:
    """The message campaigns, which have members; advertising campaigns have none."""

    campaign_id: np.ndarray
    sent: np.ndarray  # epoch seconds
    effect: np.ndarray  # extra orders per responsive member


@dataclass(frozen=True)
class Company:
    """What the rest of the simulation looks up."""

    calendar: Calendar
    rates: np.ndarray  # (days, currencies), units of the currency for one euro, latest known on each day
    sellers: np.ndarray  # staff ids
    agents: np.ndarray  # staff ids of the helpdesk
    skill: np.ndarray  # log-odds a seller adds to winning, by position in `sellers`
    quarter: np.ndarray  # number of the calendar quarter of each day
    advertising: np.ndarray  # (channels, quarters) campaign ids, NOBODY where a channel has none
    messages: Messages
    prices: np.ndarray  # list prices in cents, ascending
    costs: np.ndarray  # cents
    companions: np.ndarray  # for each product the one it is often bought with

    def rate(self, instants: np.ndarray, currency: np.ndarray) -> np.ndarray:
        """Units of each currency for one euro at each instant."""
        return self.rates[self.calendar.day_index(instants), currency]

    def campaign_of(self, channel: np.ndarray, instants: np.ndarray) -> np.ndarray:
        """Advertising campaign that ran on a channel at each instant."""
        return self.advertising[channel, self.quarter[self.calendar.day_index(instants)]]


def found(rng: np.random.Generator, crm: CrmFile, calendar: Calendar, customers: int) -> Company:
    """Draw the company's fixed part and write its tables."""
    sellers, agents = _hire(rng, crm, calendar, customers)
    prices, costs = _stock(rng, crm, calendar)
    _lay_out_stages(crm, calendar)
    rates = _quote_rates(rng, crm, calendar)
    quarter, advertising, messages = _plan_campaigns(rng, crm, calendar, customers)
    _set_targets(crm, calendar, customers, sellers)
    return Company(
        calendar=calendar,
        rates=rates,
        sellers=sellers,
        agents=agents,
        skill=rng.normal(0.0, 0.35, sellers.size),
        quarter=quarter,
        advertising=advertising,
        messages=messages,
        prices=prices,
        costs=costs,
        companions=rng.permutation(world.PRODUCTS),
    )


def _hire(rng: np.random.Generator, crm: CrmFile, calendar: Calendar, customers: int) -> tuple[np.ndarray, np.ndarray]:
    count = int(np.clip(14 + customers // 1_500, 14, 240))
    number = crm.number("staff", count)
    team = np.where(number <= len(world.TEAMS), number - 1, rng.choice(len(world.TEAMS), count, p=[0.25, 0.25, 0.2, 0.22, 0.08]))
    leads = number <= len(world.TEAMS)
    given = labels(world.GIVEN_NAMES, rng.integers(0, len(world.GIVEN_NAMES), count))
    family = labels(world.FAMILY_NAMES, rng.integers(0, len(world.FAMILY_NAMES), count))
    # Somebody has left, and the records they own stay behind.
    active = leads | (rng.random(count) > 0.1)
    active[-1] = False
    frame = pl.DataFrame(
        {
            "id": number,
            "full_name": given + " " + family,
            "mail": "staff" + pl.Series(number).cast(pl.String) + "@" + world.INTERNAL_DOMAIN,
            "team": labels(world.TEAMS, team),
            "job_title": labels(("team lead", "account manager", "agent"), np.where(leads, 0, np.where(team == 3, 2, 1))),
            "territory": labels(("DACH", "West", "International"), team % 3),
            "reports_to": ids(np.where(leads, NOBODY, team + 1)),
            "active": flags(active),
            "modified_on": utc_text(np.full(count, calendar.start)),
        }
    )
    crm.append("staff", frame)
    return number[(team <= 2) & ~leads], number[team == 3]


def _stock(rng: np.random.Generator, crm: CrmFile, calendar: Calendar) -> tuple[np.ndarray, np.ndarray]:
    prices = np.sort(np.round(np.exp(rng.normal(3.1, 0.75, world.PRODUCTS)) * 100).astype(np.int64) + 199)
    costs = np.round(prices * rng.uniform(0.32, 0.58, world.PRODUCTS)).astype(np.int64)
    number = np.arange(world.PRODUCTS)
    category = rng.integers(0, len(world.CATEGORIES), world.PRODUCTS)
    kind = rng.integers(0, 3, world.PRODUCTS)
    subcategories = [name for _, names in world.CATEGORIES for name in names]
    subcategory = labels(subcategories, category * 3 + kind)
    frame = pl.DataFrame(
        {
            "sku": "SKU-" + pl.Series(number + 1).cast(pl.String).str.zfill(4),
            "title": subcategory + " No. " + pl.Series(number + 1).cast(pl.String),
            "category": labels([name for name, _ in world.CATEGORIES], category),
            "subcategory": subcategory,
            "list_price": money(prices),
            "cost_price": money(costs),
            "currency": [world.REPORTING_CURRENCY] * world.PRODUCTS,
            "active": flags(number % 17 != 16),
            "modified_on": utc_text(np.full(world.PRODUCTS, calendar.start)),
        }
    )
    crm.append("catalog", frame)
    return prices, costs


def _lay_out_stages(crm: CrmFile, calendar: Calendar) -> None:
    count = len(world.STAGES)
    for pipeline in world.PIPELINES:
        frame = pl.DataFrame(
            {
                "pipeline": [pipeline] * count,
                "code": list(world.STAGES),
                "sort_order": np.arange(1, count + 1),
                "win_percent": world.STAGE_PERCENT,
                "closes_as": [None] * (count - 2) + ["won", "lost"],
                "introduced_on": utc_text(np.full(count, calendar.start)),
            }
        )
        crm.append("stages", frame)


def _quote_rates(rng: np.random.Generator, crm: CrmFile, calendar: Calendar) -> np.ndarray:
    days = [calendar.first_day + timedelta(days=d) for d in range(-_RATE_LEAD_DAYS, len(calendar.days))]
    quoted = np.array([day.weekday() < 5 for day in days])
    daily = world.YEARLY_RATE_VOLATILITY / np.sqrt(365)
    walk = np.cumsum(rng.normal(0.0, 1.0, (len(days), len(world.CURRENCIES))) * daily, axis=0)
    rates = np.round(world.STARTING_RATES * np.exp(walk), 6)
    for position, currency in enumerate(world.CURRENCIES[1:], start=1):
        frame = pl.DataFrame(
            {
                "day": [day.isoformat() for day, business in zip(days, quoted, strict=True) if business],
                "base": world.REPORTING_CURRENCY,
                "quote": currency,
                "rate": rates[quoted, position],
            }
        )
        crm.append("fx_rates", frame)
    latest = np.maximum.accumulate(np.where(quoted, np.arange(len(days)), 0))
    return rates[latest][_RATE_LEAD_DAYS:]


def _plan_campaigns(rng: np.random.Generator, crm: CrmFile, calendar: Calendar, customers: int) -> tuple[np.ndarray, np.ndarray, Messages]:
    quarter = np.array([day.year * 4 + (day.month - 1) // 3 for day in calendar.days])
    first_quarter = quarter[0]
    quarter = quarter - first_quarter
    years = sorted({day.year for day in calendar.days})
    year_ids = crm.number("campaigns", len(years))
    _write_campaigns(
        crm,
        year_ids,
        [f"Programme {year}" for year in years],
        ["mixed"] * len(years),
        ["programme"] * len(years),
        [date(year, 1, 1) for year in years],
        [date(year + 1, 1, 1) for year in years],
        np.full(len(years), customers * 1_500),
        np.full(len(years), NOBODY),
    )
    programme = dict(zip(years, year_ids.tolist(), strict=True))

    paid = np.flatnonzero(world.PAID)
    advertising = np.full((len(world.CHANNELS), quarter[-1] + 1), NOBODY, dtype=np.int64)
    starts = [date((first_quarter + q) // 4, (first_quarter + q) % 4 * 3 + 1, 1) for q in range(quarter[-1] + 2)]
    for channel in paid:
        numbers = crm.number("campaigns", quarter[-1] + 1)
        advertising[channel] = numbers
        name = world.CHANNEL_NAMES[channel]
        _write_campaigns(
            crm,
            numbers,
            [f"{name.replace('_', ' ').title()} {day.year} Q{(day.month + 2) // 3}" for day in starts[:-1]],
            [name] * numbers.size,
            ["advertising"] * numbers.size,
            starts[:-1],
            starts[1:],
            np.full(numbers.size, int(customers * world.CHANNELS[channel].cost * 10)),
            np.array([programme[day.year] for day in starts[:-1]]),
        )

    offsets = np.arange(45, len(calendar.days) - 2, _MESSAGE_EVERY_DAYS)
    numbers = crm.number("campaigns", offsets.size)
    days = [calendar.days[d] for d in offsets]
    kind = quota(rng, [0.5, 0.3, 0.2], offsets.size)
    by_sms = quota(rng, [0.85, 0.15], offsets.size) == 1
    _write_campaigns(
        crm,
        numbers,
        [f"{_MESSAGE_KINDS[k].title()} {day.isoformat()}" for k, day in zip(kind, days, strict=True)],
        ["sms" if sms else "email" for sms in by_sms],
        [_MESSAGE_KINDS[k] for k in kind],
        days,
        [day + timedelta(days=10) for day in days],
        np.full(offsets.size, max(customers * 2, 5_000)),
        np.array([programme[day.year] for day in days]),
    )
    effect = np.resize(np.array(_EFFECTS), offsets.size)
    sent = calendar.day_starts[offsets] + 9 * 3_600
    return quarter, advertising, Messages(numbers, sent, effect)


def _write_campaigns(crm: CrmFile, numbers, names, channels, kinds, starts, ends, budget, parents) -> None:
    frame = pl.DataFrame(
        {
            "id": numbers,
            "name": names,
            "channel": channels,
            "kind": kinds,
            "starts_on": [f"{day.isoformat()}T07:00:00Z" for day in starts],
            "ends_on": [f"{day.isoformat()}T07:00:00Z" for day in ends],
            "budget": money(budget),
            "currency": [world.REPORTING_CURRENCY] * len(names),
            "parent_id": ids(parents),
        }
    )
    crm.append("campaigns", frame)


def _set_targets(crm: CrmFile, calendar: Calendar, customers: int, sellers: np.ndarray) -> None:
    months = sorted({day.replace(day=1) for day in calendar.days})
    months.append((months[-1] + timedelta(days=32)).replace(day=1))
    until = [(month + timedelta(days=32)).replace(day=1) for month in months]
    grown = np.linspace(0.8, 1.2, len(months))
    wanted = (
        ("net_revenue", np.array([NOBODY]), customers * 900),
        ("new_customers", np.array([NOBODY]), customers * 2),
        ("won_amount", sellers, customers * 260 // max(sellers.size, 1)),
    )
    for metric, owners, level in wanted:
        owner = np.repeat(owners, len(months))
        count = owner.size
        value = np.tile(np.round(level * grown).astype(np.int64), owners.size)
        is_money = metric != "new_customers"
        frame = pl.DataFrame(
            {
                "id": crm.number("targets", count),
                "metric": [metric] * count,
                "from_day": [month.isoformat() for month in months] * owners.size,
                "to_day": [month.isoformat() for month in until] * owners.size,
                "staff_id": ids(owner),
                "value": money(value) if is_money else pl.Series(np.ceil(value / 100)),
                "currency": [world.REPORTING_CURRENCY if is_money else None] * count,
            },
            schema_overrides={"currency": pl.String},
        )
        crm.append("targets", frame)


def monthly_instants(calendar: Calendar) -> np.ndarray:
    """Noon of the first day of each month in the span, epoch seconds."""
    firsts = [d for d, day in enumerate(calendar.days) if day.day == 1]
    return calendar.day_starts[firsts] + DAY // 2
