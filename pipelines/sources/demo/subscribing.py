"""Contracts: who signs one, what happens to it, and when it ends.

Belongs here: recurring revenue and every way it moves. One-off orders do not belong here.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.buying import Buyers
from pipelines.sources.demo.calendar import DAY, NEVER, add_months, utc_text
from pipelines.sources.demo.company import Company
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, at_least, ids, known, labels, money, quota
from pipelines.sources.demo.people import Accounts, People
from pipelines.sources.demo.selling import Opportunities

_MONTH = 30.44 * DAY
_HAZARD_SHAPE = 3.0
_HAZARD_MEAN = 0.028
"""Cancellations a month; drawn per holder, so that those who stay long were the loyal ones."""

# What happens to a contract beside being kept or cancelled, with its share.
_STORIES = (
    ("steady", 0.42),
    ("expansion", 0.13),
    ("seats only", 0.05),
    ("contraction", 0.07),
    ("upgrade", 0.05),
    ("downgrade", 0.03),
    ("interval change", 0.04),
    ("currency change", 0.01),
    ("pause", 0.03),
    ("reactivation", 0.06),
    ("second contract", 0.05),
    ("second contract cancelled", 0.02),
    ("cancelled in the month of signing", 0.02),
    ("trial not taken up", 0.02),
)
_NAMES = tuple(name for name, _ in _STORIES)
_NEEDED_ROOM_DAYS = 240  # a story needs this many days before the data end


@dataclass
class Contracts:
    """Contracts of one block as signed; positions point into the block's people. Prices are cents an interval."""

    person: np.ndarray
    start: np.ndarray
    plan: np.ndarray
    interval: np.ndarray
    seats: np.ndarray
    price: np.ndarray
    currency: np.ndarray
    trial_until: np.ndarray
    cancelled: np.ndarray
    ends: np.ndarray
    story: np.ndarray
    hazard: np.ndarray

    def take(self, rows: np.ndarray) -> "Contracts":
        """Pick contracts."""
        return Contracts(**{name: values[rows].copy() for name, values in vars(self).items()})

    @classmethod
    def joined(cls, batches: list["Contracts"]) -> "Contracts":
        """Put batches together."""
        return cls(**{name: np.concatenate([vars(batch)[name] for batch in batches]) for name in vars(batches[0])})


def subscribe(
    rng: np.random.Generator,
    company: Company,
    crm: CrmFile,
    truth: CrmFile,
    people: People,
    accounts: Accounts,
    buyers: Buyers,
    opportunities: Opportunities,
) -> Contracts:
    """Draw and write a block's contracts and amendments."""
    signed = _sign(rng, company, people, buyers, opportunities)
    _let_end(rng, company, signed)
    contracts = Contracts.joined([signed, *_further(rng, company, signed)])
    order = np.argsort(contracts.start, kind="stable")
    contracts = contracts.take(order)
    number = crm.number("contracts", contracts.person.size)
    last_change = _write_amendments(rng, company, crm, contracts, number)
    account = people.account[contracts.person]
    record = people.record(contracts.person, contracts.start, rng.random(number.size))
    seen = np.maximum(np.maximum(contracts.start, contracts.cancelled), last_change)
    # An end that has come by now touches the row; one that is only planned does not.
    seen = np.maximum(seen, np.where(contracts.ends < company.calendar.end, contracts.ends, 0))
    frame = pl.DataFrame(
        {
            "id": number,
            "person_id": record,
            "account_id": ids(np.where(account >= 0, accounts.id[account], NOBODY)),
            "plan": labels([name for name, _ in world.PLANS], contracts.plan),
            "billing_interval": labels(world.INTERVALS, contracts.interval),
            "seats": contracts.seats,
            "price": money(contracts.price),
            "currency": labels(world.CURRENCIES, contracts.currency),
            "starts_on": utc_text(contracts.start),
            "trial_until": utc_text(contracts.trial_until),
            "cancelled_on": utc_text(contracts.cancelled),
            "ends_on": utc_text(contracts.ends),
            "modified_on": utc_text(seen),
        }
    )
    crm.append("contracts", frame)
    known_story = pl.DataFrame({"contract_id": number, "story": labels(_NAMES, contracts.story), "cancellations_per_month": contracts.hazard})
    truth.append("contracts", known_story)
    return contracts


def _sign(rng, company: Company, people: People, buyers: Buyers, opportunities: Opportunities) -> Contracts:
    calendar = company.calendar
    from_sales = np.flatnonzero(opportunities.is_won & (rng.random(opportunities.id.size) < 0.75))
    with_sales = np.isin(np.arange(people.id.size), opportunities.person[from_sales])
    by_themselves = np.flatnonzero(buyers.is_buyer & (people.account < 0) & ~with_sales)
    by_themselves = at_least(rng, by_themselves, 0.14, 40)
    wait = rng.exponential(45 * DAY, by_themselves.size)
    began = calendar.shop.instant(calendar.shop.operational(people.created[by_themselves]) + wait)
    person = np.concatenate([opportunities.person[from_sales], by_themselves])
    start = np.concatenate([opportunities.closed[from_sales], began])
    is_firm = np.arange(person.size) < from_sales.size
    usable = (start >= 0) & (start < calendar.end - 2 * DAY)
    # One first contract a person: a second won opportunity of theirs is an order.
    _, first_row = np.unique(person, return_index=True)
    usable &= np.isin(np.arange(person.size), first_row)
    person, start, is_firm = person[usable], start[usable], is_firm[usable]
    count = person.size
    roomy = start < calendar.end - _NEEDED_ROOM_DAYS * DAY
    story = np.zeros(count, dtype=np.int64)
    story[roomy] = quota(rng, [share for _, share in _STORIES], int(roomy.sum()))
    plan = np.where(is_firm, rng.integers(1, 4, count), rng.integers(0, 2, count))
    # There must be a plan above to go up to, and one below to go down to.
    plan = np.where(story == _NAMES.index("upgrade"), np.minimum(plan, len(world.PLANS) - 2), plan)
    plan = np.where(story == _NAMES.index("downgrade"), np.maximum(plan, 1), plan)
    seats = np.where(is_firm, rng.integers(2, 9, count), 1)
    # Those who will be seen to pause or return bill by the month, so that it shows.
    short = np.isin(story, [_NAMES.index(n) for n in ("pause", "reactivation", "cancelled in the month of signing")])
    interval = np.zeros(count, dtype=np.int64)
    interval[~short] = quota(rng, world.INTERVAL_SHARE, int((~short).sum()))
    currency = np.array([world.CURRENCIES.index(c.currency) for c in world.COUNTRIES])[people.country[person]]
    price = _price(company, plan, interval, seats, currency, start)
    unlucky = story == _NAMES.index("trial not taken up")
    has_trial = unlucky | (rng.random(count) < 0.3)
    # Signing and cancelling within one calendar month needs a month's first days, and no trial in between.
    hasty = story == _NAMES.index("cancelled in the month of signing")
    month_start = add_months(start, np.ones(count, dtype=np.int64)).astype("datetime64[s]").astype("datetime64[M]")
    month_start = month_start.astype("datetime64[s]").astype(np.int64)
    start = np.where(hasty, month_start + rng.integers(2 * DAY, 6 * DAY, count), start)
    trial_until = np.where(has_trial & ~hasty, start + np.where(rng.random(count) < 0.7, 14, 30) * DAY, NEVER)
    return Contracts(
        person=person,
        start=start,
        plan=plan,
        interval=interval,
        seats=seats,
        price=price,
        currency=currency,
        trial_until=trial_until,
        cancelled=np.full(count, NEVER),
        ends=np.full(count, NEVER),
        story=story,
        hazard=rng.gamma(_HAZARD_SHAPE, _HAZARD_MEAN / _HAZARD_SHAPE, count),
    )


def _price(company: Company, plan, interval, seats, currency, start) -> np.ndarray:
    monthly = np.array([price for _, price in world.PLANS])[plan] * seats
    euros = monthly * world.INTERVAL_FACTOR[interval]
    # The list in another currency is the euro list at the first day's rate: prices do not move with the market.
    return np.round(euros * company.rates[0, currency] * 100).astype(np.int64)


def _let_end(rng, company: Company, contracts: Contracts) -> None:
    """Draw cancellations and move them to the end of the period paid for; modifies `contracts`."""
    end = company.calendar.end
    paid_from = np.maximum(contracts.start, contracts.trial_until)
    asked = paid_from + (rng.exponential(1.0, paid_from.size) / contracts.hazard * _MONTH).astype(np.int64)
    story = contracts.story
    returning = story == _NAMES.index("reactivation")
    room = np.maximum(end - paid_from, 0)
    asked = np.where(returning, paid_from + (room * rng.uniform(0.1, 0.4, asked.size)).astype(np.int64), asked)
    # Stories that need an open contract keep it long enough to be told.
    kept = np.isin(story, [_NAMES.index(n) for n in ("pause", "second contract cancelled", "currency change")])
    asked = np.where(kept, np.maximum(asked, paid_from + (room * 0.8).astype(np.int64)), asked)
    # Nobody changes a contract in the month in which they leave it.
    asked = np.where(story > 0, np.maximum(asked, paid_from + 60 * DAY), asked)
    over = _period_end(contracts, paid_from, asked)
    hasty = story == _NAMES.index("cancelled in the month of signing")
    asked = np.where(hasty, contracts.start + rng.integers(DAY, 8 * DAY, asked.size), asked)
    over = np.where(hasty, asked + rng.integers(DAY, 8 * DAY, asked.size), over)
    unlucky = story == _NAMES.index("trial not taken up")
    asked = np.where(unlucky, contracts.trial_until - rng.integers(3_600, 5 * DAY, asked.size), asked)
    over = np.where(unlucky, contracts.trial_until, over)
    happens = asked < end
    contracts.cancelled[:] = np.where(happens, asked, NEVER)
    contracts.ends[:] = np.where(happens, over, NEVER)


def _period_end(contracts: Contracts, paid_from: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """End of the billing period in which somebody asked to cancel."""
    days = np.where(contracts.interval == 4, DAY, 7 * DAY)
    by_days = paid_from + ((asked - paid_from) // days + 1) * days
    length = np.array([1, 12, 3, 1, 1])[contracts.interval]
    periods = ((asked - paid_from) / (length * _MONTH)).astype(np.int64) + 1
    by_months = add_months(paid_from, periods * length)
    # Months differ in length, so the estimate may fall one period short.
    by_months = np.where(by_months <= asked, add_months(paid_from, (periods + 1) * length), by_months)
    return np.where(contracts.interval >= 3, by_days, by_months)


def _further(rng, company: Company, first: Contracts) -> list[Contracts]:
    """Contracts signed later by the same holders: after a gap, or beside the first one."""
    end = company.calendar.end
    back = np.flatnonzero((first.story == _NAMES.index("reactivation")) & (first.ends >= 0) & (first.ends < end - 50 * DAY))
    again = first.take(back)
    gap = np.minimum(rng.integers(35, 200, back.size) * DAY, end - first.ends[back] - 5 * DAY)
    again.start[:] = first.ends[back] + gap
    again.cancelled[:], again.ends[:], again.trial_until[:] = NEVER, NEVER, NEVER

    doubled = np.flatnonzero(np.isin(first.story, [_NAMES.index("second contract"), _NAMES.index("second contract cancelled")]))
    still = (first.ends[doubled] < 0) | (first.ends[doubled] > first.start[doubled] + 120 * DAY)
    doubled = doubled[still]
    beside = first.take(doubled)
    beside.start[:] = first.start[doubled] + rng.integers(20, 90, doubled.size) * DAY
    beside.plan[:] = 0
    beside.seats[:] = 1
    beside.interval[:] = 0
    beside.price[:] = _price(company, beside.plan, beside.interval, beside.seats, beside.currency, beside.start)
    beside.cancelled[:], beside.ends[:], beside.trial_until[:] = NEVER, NEVER, NEVER
    dropped = beside.story == _NAMES.index("second contract cancelled")
    asked = beside.start + rng.integers(35, 100, doubled.size) * DAY
    beside.cancelled[:] = np.where(dropped, asked, NEVER)
    beside.ends[:] = np.where(dropped, _period_end(beside, beside.start, asked), NEVER)
    # What a holder has beside the first contract does not outlive the data silently: it ends with the first one.
    first_ends = first.ends[doubled]
    follows = ~dropped & (first_ends >= 0)
    beside.cancelled[:] = np.where(follows, first.cancelled[doubled], beside.cancelled)
    beside.ends[:] = np.where(follows, first_ends, beside.ends)
    return [again, beside]


def _write_amendments(rng, company: Company, crm: CrmFile, contracts: Contracts, number: np.ndarray) -> np.ndarray:
    """Write what changed, version 0 being the terms as signed; returns each contract's last change (0 for none)."""
    end = company.calendar.end
    paid_from = np.maximum(contracts.start, contracts.trial_until)
    until = np.where(contracts.ends >= 0, np.minimum(contracts.ends, end), end)
    room = until - paid_from
    is_first = np.zeros(number.size, dtype=bool)
    is_first[np.unique(contracts.person, return_index=True)[1]] = True
    rows = []

    def change(mask: np.ndarray, at: float | np.ndarray, order: int, **new: np.ndarray) -> None:
        which = np.flatnonzero(mask & is_first & (room > 20 * DAY))
        instant = paid_from[which] + (np.broadcast_to(at, mask.shape)[which] * room[which]).astype(np.int64)
        terms = {name: np.broadcast_to(new.get(name, getattr(contracts, name)), mask.shape)[which] for name in ("plan", "interval", "seats", "price", "currency")}
        rows.append({"contract": which, "order": np.full(which.size, order), "instant": instant, **terms})

    def told(name: str) -> np.ndarray:
        return contracts.story == _NAMES.index(name)

    early, late = rng.uniform(0.1, 0.4, number.size), rng.uniform(0.5, 0.9, number.size)
    per_seat = contracts.price // contracts.seats
    more = contracts.seats + rng.integers(1, 4, number.size)
    change(told("expansion"), early, 1, seats=more, price=per_seat * more)
    change(told("expansion") & (more > 4), late, 2, seats=more + 1, price=per_seat * (more + 1))
    # Some systems note the new number of seats and leave the price to arithmetic.
    change(told("seats only"), early, 1, seats=more, price=np.array(NOBODY))
    fewer = np.maximum(contracts.seats // 2, 1)
    smaller = np.where(fewer < contracts.seats, per_seat * fewer, contracts.price * 3 // 4)
    change(told("contraction"), early, 1, seats=fewer, price=smaller)
    arguments = (contracts.interval, contracts.seats, contracts.currency, contracts.start)
    up = np.minimum(contracts.plan + 1, len(world.PLANS) - 1)
    dearer = np.maximum(_price(company, up, *arguments), contracts.price * 11 // 10)
    change(told("upgrade"), early, 1, plan=up, price=dearer)
    down = np.maximum(contracts.plan - 1, 0)
    cheaper = np.minimum(_price(company, down, *arguments), contracts.price * 9 // 10)
    change(told("downgrade"), early, 1, plan=down, price=cheaper)
    yearly = np.where(contracts.interval == 1, 0, 1)
    yearly_price = _price(company, contracts.plan, yearly, contracts.seats, contracts.currency, contracts.start)
    change(told("interval change"), early, 1, interval=yearly, price=yearly_price)
    other = np.where(contracts.currency == 0, 1, 0)
    converted = np.round(contracts.price * company.rates[0, other] / company.rates[0, contracts.currency]).astype(np.int64)
    change(told("currency change"), early, 1, currency=other, price=converted)
    change(told("pause"), 0.3, 1, price=np.array(0))
    change(told("pause"), 0.6, 2)

    later_terms = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    touched = np.unique(later_terms["contract"])
    signed = {
        "contract": touched,
        "order": np.zeros(touched.size, dtype=np.int64),
        "instant": contracts.start[touched],
        **{name: getattr(contracts, name)[touched] for name in ("plan", "interval", "seats", "price", "currency")},
    }
    terms = {name: np.concatenate([signed[name], later_terms[name]]) for name in signed}
    order = np.lexsort((terms["order"], terms["contract"]))
    terms = {name: values[order] for name, values in terms.items()}
    frame = pl.DataFrame(
        {
            "contract_id": number[terms["contract"]],
            "version": terms["order"],
            "effective_on": utc_text(terms["instant"]),
            "plan": labels([name for name, _ in world.PLANS], terms["plan"]),
            "billing_interval": labels(world.INTERVALS, terms["interval"]),
            "seats": terms["seats"],
            "price": known(money(terms["price"]), terms["price"] >= 0),
            "currency": labels(world.CURRENCIES, terms["currency"]),
        }
    )
    crm.append("contract_amendments", frame)
    last = np.zeros(number.size, dtype=np.int64)
    np.maximum.at(last, later_terms["contract"], later_terms["instant"])
    return last
