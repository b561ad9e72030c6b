"""Who buys when and for how much, and the rows of orders, items and credit notes.

Belongs here: the purchase process (BG/NBD in operational time, gamma-gamma spend) and its bookkeeping. Why somebody was
contacted, and contracts, do not belong here.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.calendar import DAY, NEVER, utc_text
from pipelines.sources.demo.company import Company
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, at_least, flags, ids, labels, money, positions_in_group
from pipelines.sources.demo.people import Accounts, People, later

_WEEK = 7 * DAY
COMPLETED, SHIPPED, CANCELLED, DRAFT = range(4)
_STATES = ("completed", "shipped", "cancelled", "draft")
_SALES_CHANNELS = ("web", "app", "store", "phone", "marketplace")
_REASONS = ("damaged", "late delivery", "changed mind", "wrong item", "goodwill")


@dataclass(frozen=True)
class Buyers:
    """The truth about everybody as a buyer; times are epoch seconds."""

    is_buyer: np.ndarray
    rate: np.ndarray  # orders per operational week while alive
    dropout: np.ndarray  # probability of leaving after an order
    mean_value: np.ndarray  # euro an order
    responsiveness: np.ndarray  # extra orders a fully effective message causes, 0..1
    first: np.ndarray  # first order, NEVER for none
    left: np.ndarray  # instant of dropping out, NEVER while alive

    def active(self, instant: int) -> np.ndarray:
        """Who has begun and not left at an instant."""
        return (self.first >= 0) & (self.first < instant) & ((self.left < 0) | (self.left > instant))


@dataclass(frozen=True)
class Orders:
    """Orders before they are written; positions point into the block's people and accounts."""

    person: np.ndarray
    account: np.ndarray
    opportunity: np.ndarray  # id or NOBODY
    placed: np.ndarray
    euros: np.ndarray
    state: np.ndarray

    @classmethod
    def of(cls, person, placed, euros, account=None, opportunity=None, state=COMPLETED) -> "Orders":
        """Make a batch, filling what does not apply."""
        count = placed.size
        nobody = np.full(count, NOBODY)
        return cls(
            person=person,
            account=nobody if account is None else account,
            opportunity=nobody if opportunity is None else opportunity,
            placed=placed,
            euros=euros,
            state=np.full(count, state),
        )

    @classmethod
    def joined(cls, batches: list["Orders"]) -> "Orders":
        """Put batches together in order of time."""
        names = ("person", "account", "opportunity", "placed", "euros", "state")
        columns = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names}
        order = np.argsort(columns["placed"], kind="stable")
        return cls(**{name: values[order] for name, values in columns.items()})


def draw_buyers(rng: np.random.Generator, company: Company, people: People) -> tuple[Buyers, Orders]:
    """Draw each person's parameters and their orders until they leave or the data end."""
    clock = company.calendar.shop
    count = people.id.size
    probability = np.array([c.buyer_probability for c in world.CHANNELS])[people.channel]
    multiplier = np.array([c.value_multiplier for c in world.CHANNELS])[people.channel]
    is_buyer = (rng.random(count) < probability) & ~people.is_test
    rate = rng.gamma(world.PURCHASE_SHAPE, 1.0 / world.PURCHASE_WEEKS, count)
    dropout = rng.beta(world.DROPOUT_A, world.DROPOUT_B, count)
    nu = rng.gamma(world.SPEND_Q, 1.0 / world.SPEND_GAMMA, count) / multiplier
    # A third buys in the hour of signing up, the rest within weeks.
    wait = np.where(rng.random(count) < 0.35, rng.uniform(300, 3_600, count), rng.exponential(14 * DAY, count))
    begins = clock.operational(people.created) + wait
    person, moment, left = _purchases(rng, begins, rate / _WEEK, dropout, is_buyer, clock.length)
    placed = clock.instant(moment)
    euros = rng.gamma(world.SPEND_P, 1.0, person.size) / nu[person]
    first = np.full(count, NEVER)
    first_time = np.where(is_buyer & (begins < clock.length), begins, clock.length)
    first = clock.instant(first_time)
    buyers = Buyers(
        is_buyer=is_buyer,
        rate=rate,
        dropout=dropout,
        mean_value=world.SPEND_P / nu,
        responsiveness=np.where(is_buyer, rng.beta(1.5, 2.5, count), 0.0),
        first=first,
        left=np.where(np.isfinite(left), clock.instant(np.where(np.isfinite(left), left, 0.0)), NEVER),
    )
    return buyers, Orders.of(person, placed, euros)


def _purchases(rng, begins, rate, dropout, is_buyer, length) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run BG/NBD: after each repeat purchase a person leaves with probability `dropout`, else waits an exponential time.

    Nobody leaves after the first purchase: there the count of BG/NBD begins (Fader, Hardie & Lee 2005, section 3).
    Returns people, operational times of their purchases, and when each person left (NaN for not within the span).
    """
    left = np.full(begins.size, np.nan)
    now = begins.copy()
    still = np.flatnonzero(is_buyer & (begins < length))
    who, when = [], []
    while still.size:
        who.append(still)
        when.append(now[still])
        leaves = (rng.random(still.size) < dropout[still]) & (len(who) > 1)
        left[still[leaves]] = now[still[leaves]]
        still = still[~leaves]
        now[still] += rng.exponential(1.0, still.size) / rate[still]
        still = still[now[still] < length]
    return np.concatenate(who or [still]), np.concatenate(when or [now[:0]]), left


def draw_other_orders(rng: np.random.Generator, company: Company, people: People, accounts: Accounts, regular: Orders) -> list[Orders]:
    """Draw what is no plain purchase: cancelled carts, replacements for nothing, guests, firms without a person, tests."""
    calendar = company.calendar
    everything = np.arange(regular.placed.size)
    repeated = at_least(rng, everything, 0.03, 3)
    cancelled = Orders.of(
        regular.person[repeated],
        np.maximum(regular.placed[repeated] - rng.integers(180, 3_600, repeated.size), people.created[regular.person[repeated]]),
        regular.euros[repeated],
        state=CANCELLED,
    )
    replaced = at_least(rng, everything[regular.placed < calendar.end - 20 * DAY], 0.008, 3)
    free = Orders.of(regular.person[replaced], regular.placed[replaced] + rng.integers(3 * DAY, 15 * DAY, replaced.size), np.zeros(replaced.size))
    draft_from = at_least(rng, everything, 0.004)
    drafts = Orders.of(regular.person[draft_from], regular.placed[draft_from], regular.euros[draft_from], state=DRAFT)
    guests = max(5, round(everything.size * 0.02))
    guest = Orders.of(
        np.full(guests, NOBODY),
        calendar.shop.instant(rng.random(guests) * calendar.shop.length),
        rng.gamma(world.SPEND_P, 18.0, guests),
    )
    firms = max(4, round(everything.size * 0.006))
    which = rng.choice(np.flatnonzero(~accounts.is_test), firms)
    firm = Orders.of(
        np.full(firms, NOBODY),
        later(rng, accounts.created[which], calendar.end),
        rng.gamma(world.SPEND_P, 35.0, firms),
        account=which,
    )
    testers = np.flatnonzero(people.is_test).repeat(2)
    tests = Orders.of(testers, later(rng, people.created[testers], calendar.end), np.full(testers.size, 999.0))
    return [cancelled, free, drafts, guest, firm, tests]


def write_orders(rng: np.random.Generator, company: Company, crm: CrmFile, people: People, accounts: Accounts, orders: Orders) -> tuple[np.ndarray, np.ndarray]:
    """Write orders, their items and credit notes; returns the orders' ids and the record each belongs to (or NOBODY)."""
    calendar = company.calendar
    count = orders.placed.size
    number = crm.number("sales_orders", count)
    is_personal = orders.person >= 0
    own_country = np.where(is_personal, people.country[orders.person], NOBODY)
    country = np.where(is_personal, own_country, np.where(orders.account >= 0, accounts.country[orders.account], rng.integers(0, 5, count)))
    currency = np.array([world.CURRENCIES.index(c.currency) for c in world.COUNTRIES])[country]
    rate = company.rate(orders.placed, currency)
    account = np.where(orders.account >= 0, orders.account, np.where(is_personal, people.account[orders.person], NOBODY))
    rebated = rng.random(count) < 0.12
    rebate_share = np.where(rebated, rng.uniform(0.05, 0.2, count), 0.0)
    # The rebate comes on top, so that what is paid keeps the distribution drawn for it.
    goods = _write_items(rng, company, crm, number, orders.euros / (1 - rebate_share), rate)
    rebate = np.round(goods * rebate_share).astype(np.int64)
    net = goods - rebate
    vat = np.round(net * np.array([c.vat for c in world.COUNTRIES])[country]).astype(np.int64)
    freight = np.where((orders.euros > 0) & (orders.euros < 60), np.round(490 * rate), 0).astype(np.int64)

    record = people.record(orders.person, orders.placed, rng.random(count))
    regular = np.flatnonzero((orders.state == COMPLETED) & (orders.euros > 0))
    changed = np.minimum(orders.placed + rng.integers(600, 6 * DAY, count), calendar.end - 1)
    # Fairs and market stalls keep paper slips: their orders are typed in weeks after they happened.
    slips = at_least(rng, regular[orders.placed[regular] < calendar.end - 65 * DAY], 0.01, 3)
    changed[slips] = orders.placed[slips] + rng.integers(20 * DAY, 60 * DAY, slips.size)
    deleted = np.full(count, NEVER)
    gone = at_least(rng, regular, 0.003)
    deleted[gone] = np.minimum(orders.placed[gone] + rng.integers(DAY, 30 * DAY, gone.size), calendar.end - 1)
    state = np.where((orders.state == COMPLETED) & (orders.placed > calendar.end - 6 * DAY), SHIPPED, orders.state)
    sales_channel = rng.choice(len(_SALES_CHANNELS), count, p=[0.62, 0.2, 0.08, 0.04, 0.06])
    sales_channel[slips] = 2
    is_test = is_personal & people.is_flagged[orders.person]
    frame = pl.DataFrame(
        {
            "id": number,
            "order_no": "SO-" + pl.Series(number + 100_000).cast(pl.String),
            "person_id": ids(record),
            "account_id": ids(np.where(account >= 0, accounts.id[account], NOBODY)),
            "opportunity_id": ids(orders.opportunity),
            "placed_on": utc_text(orders.placed),
            "state": labels(_STATES, state),
            "currency": labels(world.CURRENCIES, currency),
            "goods_total": money(goods),
            "rebate": money(rebate),
            "vat": money(vat),
            "freight": money(freight),
            "net_total": money(net),
            "sales_channel": labels(_SALES_CHANNELS, sales_channel),
            "ship_country": labels([c.code for c in world.COUNTRIES], country),
            "is_test": flags(is_test),
            "modified_on": utc_text(np.maximum(changed, deleted)),
            "deleted_on": utc_text(deleted),
        }
    )
    crm.append("sales_orders", frame)
    refundable = regular[(net[regular] > 200) & (deleted[regular] < 0) & (orders.placed[regular] < calendar.end - 5 * DAY)]
    _write_credit_notes(rng, company, crm, number, orders.placed, record, net, currency, refundable)
    return number, record


def _write_items(rng, company: Company, crm: CrmFile, number: np.ndarray, euros: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Split each order over products; returns the goods value in cents of the order's currency."""
    lines = 1 + np.minimum(rng.poisson(1.1, number.size), 5)
    order = np.repeat(np.arange(number.size), lines)
    line = positions_in_group(order)
    weight = rng.gamma(2.0, 1.0, order.size) + 0.2
    share = weight / np.bincount(order, weights=weight)[order]
    target = euros[order] * share * 100
    # Something that costs about what is to be spent, in ones or a few, or what usually goes with the first item.
    product = np.searchsorted(company.prices, target * rng.uniform(0.35, 1.0, order.size))
    product = np.clip(product + rng.integers(-2, 3, order.size), 0, world.PRODUCTS - 1)
    first = product[np.cumsum(lines) - lines][order]
    together = (line == 1) & (rng.random(order.size) < 0.4)
    product = np.where(together, company.companions[first], product)
    quantity = np.clip(np.round(target / company.prices[product]), 1, 40).astype(np.int64)
    unit_price = np.round(target / quantity * rate[order]).astype(np.int64)
    unit_price = np.where(euros[order] > 0, np.maximum(unit_price, 1), 0)
    value = quantity * unit_price
    line_rebate = np.where((rng.random(order.size) < 0.04) & (value > 1_000), value // 10, 0)
    frame = pl.DataFrame(
        {
            "order_id": number[order],
            "line_no": line + 1,
            "sku": "SKU-" + pl.Series(product + 1).cast(pl.String).str.zfill(4),
            "quantity": quantity,
            "unit_price": money(unit_price),
            "rebate": money(line_rebate),
            "unit_cost": money(np.round(company.costs[product] * rate[order])),
        }
    )
    crm.append("sales_order_items", frame)
    return np.bincount(order, weights=value - line_rebate, minlength=number.size).astype(np.int64)


def _write_credit_notes(rng, company: Company, crm: CrmFile, number, placed, record, net, currency, refundable) -> None:
    end = company.calendar.end
    full = at_least(rng, refundable, 0.02, 3)
    part = at_least(rng, np.setdiff1d(refundable, full), 0.03, 3)
    twice = at_least(rng, full, 0.15, 1)
    once = np.setdiff1d(full, twice)
    half = net[twice] // 2
    order = np.concatenate([once, part, twice, twice])
    amount = np.concatenate([net[once], np.maximum((net[part] * rng.uniform(0.1, 0.7, part.size)).astype(np.int64), 1), half, net[twice] - half])
    delay = rng.integers(2 * DAY, 45 * DAY, order.size)
    # What is sent back by the end of the data was sent back sooner than the average.
    issued = placed[order] + np.minimum(delay, (end - placed[order]) * 9 // 10)
    sort = np.argsort(issued, kind="stable")
    order, amount, issued = order[sort], amount[sort], issued[sort]
    frame = pl.DataFrame(
        {
            "id": crm.number("credit_notes", order.size),
            "order_id": number[order],
            "person_id": ids(record[order]),
            "issued_on": utc_text(issued),
            "amount": money(amount),
            "currency": labels(world.CURRENCIES, currency[order]),
            "reason": labels(_REASONS, rng.integers(0, len(_REASONS), order.size)),
        }
    )
    crm.append("credit_notes", frame)
