"""What the company does to be noticed: message campaigns with control groups, visits before and after, advertising costs.

Belongs here: contacts made by marketing, their true effect and their price. The regular purchase process does not belong here.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.buying import Buyers, Orders
from pipelines.sources.demo.calendar import DAY, HOUR, NEVER, utc_text
from pipelines.sources.demo.company import Company, monthly_instants
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, flags, ids, known, labels, money, positions_in_group
from pipelines.sources.demo.people import Leads, People

_REACH = 0.10  # share of those who could be asked that a message campaign asks
_LEAD_REACH = 0.02
_CONTROL_SHARE = 0.2
_BOT_SHARE = 0.02
_RESPONSE_DAYS = 30  # how long the CRM still notes an order on a recipient
_CLOSING = world.shares([c.closing_share for c in world.CHANNELS])


@dataclass
class Tally:
    """Sums over blocks that are written once at the end."""

    drawn: np.ndarray  # (days, channels) people and leads that came
    members: np.ndarray  # per message campaign
    effect: np.ndarray  # summed true individual effects
    extra: np.ndarray  # orders that would not have been
    people: np.ndarray = field(default_factory=lambda: np.zeros(len(world.CHANNELS), dtype=np.int64))
    buyers: np.ndarray = field(default_factory=lambda: np.zeros(len(world.CHANNELS), dtype=np.int64))
    order_value: np.ndarray = field(default_factory=lambda: np.zeros(len(world.CHANNELS)))

    @classmethod
    def empty(cls, company: Company) -> "Tally":
        """Start at zero."""
        campaigns = company.messages.campaign_id.size
        return cls(
            np.zeros((len(company.calendar.days), len(world.CHANNELS))),
            np.zeros(campaigns, dtype=np.int64),
            np.zeros(campaigns),
            np.zeros(campaigns, dtype=np.int64),
        )

    def count_arrivals(self, company: Company, channel: np.ndarray, created: np.ndarray) -> None:
        """Count people drawn per day and channel."""
        np.add.at(self.drawn, (company.calendar.day_index(created), channel), 1)


@dataclass(frozen=True)
class Recipients:
    """Members of message campaigns before they are written."""

    campaign: np.ndarray  # position in Messages
    person: np.ndarray  # position, or NOBODY for prospects
    lead: np.ndarray
    sent: np.ndarray
    is_control: np.ndarray
    is_bot: np.ndarray


def choose_recipients(rng: np.random.Generator, company: Company, people: People, leads: Leads, buyers: Buyers, tally: Tally) -> tuple[Recipients, Orders]:
    """Draw who is asked, who is held back at random, and the orders that only the messages caused."""
    parts: list[tuple[np.ndarray, ...]] = []
    caused: list[tuple[np.ndarray, ...]] = []
    for position, (sent, effect) in enumerate(zip(company.messages.sent, company.messages.effect, strict=True)):
        eligible = np.flatnonzero((people.created < sent) & ~people.is_test)
        chosen = eligible[rng.random(eligible.size) < _REACH]
        open_leads = np.flatnonzero((leads.created < sent) & ((leads.converted < 0) | (leads.converted > sent)))
        asked = open_leads[rng.random(open_leads.size) < _LEAD_REACH]
        person = np.concatenate([chosen, np.full(asked.size, NOBODY)])
        lead = np.concatenate([np.full(chosen.size, NOBODY), asked])
        # The coin is thrown for everybody alike: this is what makes the comparison causal.
        is_control = rng.random(person.size) < _CONTROL_SHARE
        is_bot = rng.random(person.size) < _BOT_SHARE
        instant = np.full(person.size, sent) + rng.integers(0, 2 * HOUR, person.size)
        parts.append((np.full(person.size, position), person, lead, instant, is_control, is_bot))

        own_effect = effect * buyers.responsiveness[chosen] * buyers.active(sent)[chosen]
        tally.members[position] += person.size
        tally.effect[position] += own_effect.sum()
        treated = ~is_control[: chosen.size]
        buys = treated & (rng.random(chosen.size) < own_effect)
        who = chosen[buys]
        when = sent + 3 * HOUR + rng.exponential(3 * DAY, who.size).astype(np.int64)
        inside = when < company.calendar.end
        caused.append((who[inside], when[inside]))
        tally.extra[position] += int(inside.sum())
    campaign, person, lead, sent, is_control, is_bot = (np.concatenate(column) for column in zip(*parts, strict=True))
    who, when = (np.concatenate(column) for column in zip(*caused, strict=True))
    euros = rng.gamma(world.SPEND_P, 1.0, who.size) / world.SPEND_P * buyers.mean_value[who]
    return Recipients(campaign, person, lead, sent, is_control, is_bot), Orders.of(who, when, euros)


def write_recipients(rng: np.random.Generator, company: Company, crm: CrmFile, people: People, leads: Leads, orders: Orders, recipients: Recipients) -> None:
    """Write campaign members with what the mail system saw of them."""
    end = company.calendar.end
    count = recipients.sent.size
    treated = ~recipients.is_control
    bounced = treated & (rng.random(count) < 0.025)
    delivered_at = recipients.sent + rng.integers(5, 900, count)
    reached = treated & ~bounced & (delivered_at < end)
    bot = recipients.is_bot & reached
    opened_at = delivered_at + np.where(bot, rng.integers(1, 15, count), rng.exponential(9 * HOUR, count).astype(np.int64) + 30)
    opened = reached & (bot | (rng.random(count) < 0.34)) & (opened_at < end)
    clicked_at = opened_at + np.where(bot, rng.integers(0, 5, count), rng.exponential(900, count).astype(np.int64) + 3)
    clicked = opened & (bot | (rng.random(count) < 0.2)) & (clicked_at < end)
    replied_at = opened_at + rng.exponential(DAY, count).astype(np.int64) + 60
    replied = opened & ~bot & (rng.random(count) < 0.05) & (replied_at < end)
    filled_at = clicked_at + rng.integers(30, 1_200, count)
    filled = clicked & ~bot & (rng.random(count) < 0.15) & (filled_at < end)
    left_at = opened_at + rng.integers(20, 3_000, count)
    unsubscribed = opened & ~bot & (rng.random(count) < 0.015) & (left_at < end)
    ordered = _next_order(orders, recipients)
    ordered = np.where((ordered >= 0) & (ordered - recipients.sent <= _RESPONSE_DAYS * DAY) & ~bounced, ordered, NEVER)
    person = recipients.person
    variant = np.where(recipients.is_control, 2, rng.integers(0, 2, count))
    frame = pl.DataFrame(
        {
            "id": crm.number("campaign_recipients", count),
            "campaign_id": company.messages.campaign_id[recipients.campaign],
            "person_id": ids(np.where(person >= 0, people.id[person], NOBODY)),
            "prospect_id": ids(np.where(recipients.lead >= 0, leads.id[recipients.lead], NOBODY)),
            "variant": labels(("A", "B", "control"), variant),
            "in_control_group": flags(recipients.is_control),
            "sent_on": utc_text(np.where(treated, recipients.sent, NEVER)),
            "delivered_on": utc_text(np.where(reached, delivered_at, NEVER)),
            "bounced_on": utc_text(np.where(bounced, delivered_at, NEVER)),
            "opened_on": utc_text(np.where(opened, opened_at, NEVER)),
            "clicked_on": utc_text(np.where(clicked, clicked_at, NEVER)),
            "replied_on": utc_text(np.where(replied, replied_at, NEVER)),
            "form_filled_on": utc_text(np.where(filled, filled_at, NEVER)),
            "ordered_on": utc_text(ordered),
            "unsubscribed_on": utc_text(np.where(unsubscribed, left_at, NEVER)),
            "looks_automated": flags(bot),
        }
    )
    crm.append("campaign_recipients", frame)


def _next_order(orders: Orders, recipients: Recipients) -> np.ndarray:
    """Instant of each member's first completed order after sending, NEVER for none."""
    counted = np.flatnonzero((orders.person >= 0) & (orders.euros > 0) & (orders.state < 2))
    order = counted[np.lexsort((orders.placed[counted], orders.person[counted]))]
    # One sortable number for (person, instant): instants stay below 2^33 until the year 2242.
    keys = (orders.person[order].astype(np.int64) << 33) + orders.placed[order]
    wanted = (np.maximum(recipients.person, 0).astype(np.int64) << 33) + recipients.sent
    found = np.searchsorted(keys, wanted, side="right")
    inside = np.minimum(found, max(order.size - 1, 0))
    same = (found < order.size) & (recipients.person >= 0) & (orders.person[order[inside]] == recipients.person)
    return np.where(same, orders.placed[order[inside]], NEVER)


def write_visits(rng: np.random.Generator, company: Company, crm: CrmFile, people: People, leads: Leads, orders: Orders) -> None:
    """Write the touches before somebody came, and some before later orders.

    The first touch is mostly the channel that truly drew the person; later ones come from the channels that collect people
    who come anyway, which is why crediting the last touch misjudges the channels.
    """
    own = np.flatnonzero(people.lead < 0)
    _write_paths(rng, company, crm, people.id[own], NOBODY, people.channel[own], people.created[own], people.id[own])
    # Cookies of prospects and people must differ unless they are the same human.
    cookie = np.where(leads.person >= 0, people.id[np.maximum(leads.person, 0)], -leads.id)
    _write_paths(rng, company, crm, NOBODY, leads.id, leads.channel, leads.created, cookie)

    before = np.flatnonzero((orders.person >= 0) & (orders.euros > 0) & (rng.random(orders.placed.size) < 0.22))
    who = orders.person[before]
    when = np.maximum(orders.placed[before] - rng.integers(120, 3 * DAY, before.size), people.created[who])
    channel = rng.choice(len(world.CHANNELS), before.size, p=_CLOSING)
    _write_touches(rng, company, crm, people.id[who], np.full(who.size, NOBODY), people.id[who], when, channel, np.full(who.size, True))


def _write_paths(rng, company, crm, person, lead, channel, created, cookie) -> None:
    count = channel.size
    touches = np.where(rng.random(count) < 0.07, 0, 1 + np.minimum(rng.poisson(1.4, count), 7))
    row = np.repeat(np.arange(count), touches)
    place = positions_in_group(row)
    is_first, is_last = place == 0, place == touches[row] - 1
    truly = is_first & (rng.random(row.size) < 0.92)
    via = np.where(truly, channel[row], rng.choice(len(world.CHANNELS), row.size, p=_CLOSING))
    # Touches lie in order on the 40 days before; the last one is the visit itself.
    span = rng.exponential(12 * DAY, count)[row]
    age = np.where(is_last, rng.integers(30, 1_800, row.size), (span * (1 - place / touches[row])).astype(np.int64) + 1_800)
    when = created[row] - age
    seen = when >= company.calendar.start
    row, via, when, is_last = row[seen], via[seen], when[seen], is_last[seen]
    people = np.broadcast_to(person, (count,))[row]
    leads = np.broadcast_to(lead, (count,))[row]
    # Early visits are anonymous; only the cookie ties them to the person they turned out to be.
    is_known = is_last | (rng.random(row.size) < 0.75)
    _write_touches(rng, company, crm, people, leads, cookie[row], when, via, is_known)


def _write_touches(rng, company, crm, person, lead, cookie, when, channel, is_known) -> None:
    count = when.size
    order = np.argsort(when, kind="stable")
    person, lead, cookie, when, channel, is_known = (values[order] for values in (person, lead, cookie, when, channel, is_known))
    frame = pl.DataFrame(
        {
            "id": crm.number("web_visits", count),
            "person_id": ids(np.where(is_known, person, NOBODY)),
            "prospect_id": ids(np.where(is_known, lead, NOBODY)),
            "cookie": labels(("c", "p"), (cookie < 0).astype(np.int64)) + pl.Series(np.abs(cookie)).cast(pl.String),
            "visited_on": utc_text(when),
            "channel": labels(world.CHANNEL_NAMES, channel),
            "medium": labels([c.medium for c in world.CHANNELS], channel),
            "referrer": labels(("search.example", "social.example", "news.example", "none"), rng.integers(0, 4, count)),
            "campaign_id": ids(company.campaign_of(channel, when)),
            "seq": np.arange(1, count + 1),
        }
    )
    crm.append("web_visits", frame)


def write_ad_costs(rng: np.random.Generator, company: Company, crm: CrmFile, tally: Tally) -> None:
    """Write what advertising cost per day and campaign, and the sales and marketing costs that belong to no channel."""
    calendar = company.calendar
    # Budgets move by the week, not with each visitor.
    days = tally.drawn.shape[0]
    week = np.arange(days) // 7
    smooth = np.stack([np.bincount(week, weights=column)[week] for column in tally.drawn.T], axis=1)
    smooth /= np.bincount(week)[week][:, None]
    cost = np.array([c.cost for c in world.CHANNELS])
    cents = np.round(smooth * cost * np.exp(rng.normal(-0.02, 0.2, smooth.shape)) * 100).astype(np.int64)
    day, channel = np.nonzero(cents)
    amount = cents[day, channel]
    instant = calendar.day_starts[day]
    # One network bills in dollars.
    in_dollars = channel == world.CHANNEL_NAMES.index("paid_social")
    currency = np.where(in_dollars, 1, 0)
    billed = np.round(amount * company.rate(instant, currency)).astype(np.int64)
    clicks = np.maximum(np.round(amount / 100 / rng.uniform(0.6, 1.6, amount.size)), 1).astype(np.int64)
    text_day = pl.Series(calendar.days).cast(pl.String)
    frame = pl.DataFrame(
        {
            "id": crm.number("ad_costs", amount.size),
            "day": text_day.gather(day),
            "channel": labels(world.CHANNEL_NAMES, channel),
            "campaign_id": ids(company.campaign_of(channel, instant)),
            "kind": ["ad"] * amount.size,
            "amount": money(billed),
            "currency": labels(world.CURRENCIES, currency),
            "impressions": known(clicks * rng.integers(30, 90, amount.size), channel != world.CHANNEL_NAMES.index("events")),
            "clicks": known(clicks, channel != world.CHANNEL_NAMES.index("events")),
        }
    )
    crm.append("ad_costs", frame)
    months = calendar.day_index(monthly_instants(calendar))
    monthly_people = tally.drawn.sum() / max(len(months), 1)
    for kind, euros in (("salary", 9.0), ("tool", 2.0), ("commission", 1.5), ("other", 0.8)):
        amount = np.round(monthly_people * euros * 100 * rng.uniform(0.95, 1.05, months.size)).astype(np.int64)
        frame = pl.DataFrame(
            {
                "id": crm.number("ad_costs", months.size),
                "day": text_day.gather(months),
                "channel": [None] * months.size,
                "campaign_id": [None] * months.size,
                "kind": [kind] * months.size,
                "amount": money(amount),
                "currency": [world.REPORTING_CURRENCY] * months.size,
            },
            schema_overrides={"channel": pl.String, "campaign_id": pl.Int64},
        )
        crm.append("ad_costs", frame)
