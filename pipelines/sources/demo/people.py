"""Who there is: accounts, prospects, and the people behind one or several records.

Belongs here: identities, how and when they came. The records the CRM keeps of them are written in `records`; what people buy
or do later does not belong here.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.calendar import DAY, NEVER, utc_text
from pipelines.sources.demo.company import Company
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, at_least, flags, ids, known, labels, logistic, money

_DUPLICATE_SHARE = 0.03
_LEADS_PER_PERSON = 0.9
_BUSINESS_SHARE = 0.22
_BUSINESS_LEAD_SHARE = 0.5


@dataclass
class Accounts:
    """Companies of one block."""

    id: np.ndarray
    country: np.ndarray
    headcount: np.ndarray
    created: np.ndarray
    is_test: np.ndarray


@dataclass
class Leads:
    """Prospects of one block; `person` is the position of the person they became, or NOBODY."""

    id: np.ndarray
    channel: np.ndarray
    created: np.ndarray
    is_business: np.ndarray
    headcount: np.ndarray
    engagement: np.ndarray  # standard normal
    country: np.ndarray
    probability: np.ndarray
    converted: np.ndarray  # epoch seconds or NEVER
    person: np.ndarray
    owner: np.ndarray


@dataclass
class People:
    """Human beings of one block, each with the id of the first record the CRM made of them.

    `second_id` is the id of a second record of the same human, used from `second_since` on.
    """

    id: np.ndarray
    channel: np.ndarray
    created: np.ndarray
    country: np.ndarray
    account: np.ndarray  # position in Accounts, or NOBODY
    lead: np.ndarray  # position in Leads, or NOBODY
    owner: np.ndarray
    is_test: np.ndarray
    is_flagged: np.ndarray  # test accounts that somebody marked as such; the others have an internal address only
    second_id: np.ndarray
    second_since: np.ndarray
    mail: pl.Series
    phone: pl.Series
    given: np.ndarray
    family: np.ndarray

    def record(self, person: np.ndarray, instants: np.ndarray, coin: np.ndarray) -> np.ndarray:
        """Id of the record a fact was written to; half of the later facts of a doubled person go to the second record."""
        second = (self.second_id[person] >= 0) & (instants > self.second_since[person]) & (coin < 0.5)
        return np.where(person < 0, NOBODY, np.where(second, self.second_id[person], self.id[person]))


def draw_accounts(rng: np.random.Generator, company: Company, crm: CrmFile, people: int) -> Accounts:
    """Draw and write the companies of a block of `people` contacts."""
    count = max(8, round(people * 0.08))
    number = crm.number("accounts", count)
    calendar = company.calendar
    headcount = np.maximum(np.round(np.exp(rng.normal(3.4, 1.3, count))).astype(np.int64), 1)
    country = rng.choice(len(world.COUNTRIES), count, p=world.shares([c.share for c in world.COUNTRIES]))
    created = calendar.start + (rng.random(count) ** 1.6 * 0.5 * (calendar.end - calendar.start)).astype(np.int64)
    is_test = np.zeros(count, dtype=bool)
    is_test[at_least(rng, np.arange(count), 0.003, 1)] = True
    plain = np.flatnonzero(~is_test)
    parent = np.full(count, NOBODY)
    daughters = at_least(rng, plain[1:], 0.1)
    # A parent stands earlier in the list than its daughters, so the hierarchy has no circle.
    parent[daughters] = number[(rng.random(daughters.size) * daughters).astype(np.int64)]
    merged = np.full(count, NOBODY)
    losers = at_least(rng, np.setdiff1d(plain[1:], daughters), 0.01, 1)
    merged[losers] = number[plain[0]]
    deleted = np.full(count, NEVER)
    gone = at_least(rng, np.setdiff1d(plain[1:], np.concatenate([daughters, losers])), 0.008, 1)
    deleted[gone] = later(rng, created[gone], calendar.end)
    word = rng.integers(0, len(world.COMPANY_WORDS), count)
    ending = rng.integers(0, len(world.COMPANY_ENDINGS), count)
    legal = rng.integers(0, len(world.LEGAL_FORMS), count)
    name = labels(world.COMPANY_WORDS, word) + " " + labels(world.COMPANY_ENDINGS, ending) + " " + labels(world.LEGAL_FORMS, legal)
    text_number = pl.Series(number).cast(pl.String)
    region, city = places(rng, country)
    frame = pl.DataFrame(
        {
            "id": number,
            "name": pl.select(pl.when(pl.Series(is_test)).then(pl.lit("TEST ") + name).otherwise(name)).to_series(),
            "website_domain": labels(world.COMPANY_WORDS, word).str.to_lowercase() + text_number + ".example",
            "industry": labels(world.INDUSTRIES, rng.integers(0, len(world.INDUSTRIES), count)),
            "headcount": headcount,
            "yearly_revenue": money(headcount * rng.integers(4_000_000, 16_000_000, count)),
            "currency": labels([c.currency for c in world.COUNTRIES], country),
            "country": labels([c.code for c in world.COUNTRIES], country),
            "state": region,
            "city": city,
            "parent_id": ids(parent),
            "owner_id": rng.choice(company.sellers, count),
            "is_test": flags(is_test),
            "created_on": utc_text(created),
            "modified_on": utc_text(np.maximum(later(rng, created, calendar.end), deleted)),
            "deleted_on": utc_text(deleted),
            "merged_into": ids(merged),
        }
    )
    crm.append("accounts", frame)
    return Accounts(number, country, headcount, created, is_test)


def draw_leads(rng: np.random.Generator, company: Company, crm: CrmFile, people: int) -> Leads:
    """Draw the prospects of a block and which of them convert; `write_leads` writes them once their people exist."""
    count = round(people * _LEADS_PER_PERSON)
    calendar = company.calendar
    channel = rng.choice(len(world.CHANNELS), count, p=world.shares([c.lead_share for c in world.CHANNELS]))
    created = calendar.shop.instant(_arrivals(rng, count) * calendar.shop.length)
    headcount = np.maximum(np.round(np.exp(rng.normal(3.2, 1.4, count))).astype(np.int64), 1)
    engagement = rng.normal(0.0, 1.0, count)
    is_business = rng.random(count) < _BUSINESS_LEAD_SHARE
    size = np.where(is_business, (np.log(headcount) - 3.2) / 1.4, 0.0)
    lead_logit = np.array([c.lead_logit for c in world.CHANNELS])
    probability = logistic(lead_logit[channel] + 0.85 * engagement + 0.4 * size)
    lag_days = np.array([c.lag_days for c in world.CHANNELS])[channel] * np.exp(rng.normal(0.0, 0.8, count))
    converted = calendar.office.instant(calendar.office.operational(created) + lag_days * DAY)
    converted = np.where(rng.random(count) < probability, np.maximum(converted, NEVER), NEVER)
    return Leads(
        id=crm.number("prospects", count),
        channel=channel,
        created=created,
        is_business=is_business,
        headcount=headcount,
        engagement=engagement,
        country=rng.choice(len(world.COUNTRIES), count, p=world.shares([c.share for c in world.COUNTRIES])),
        probability=probability,
        converted=converted,
        person=np.full(count, NOBODY),
        owner=rng.integers(0, company.sellers.size, count),
    )


def draw_people(rng: np.random.Generator, company: Company, crm: CrmFile, count: int, accounts: Accounts, leads: Leads) -> People:
    """Draw the humans behind `count` contact records: those who were leads, those who came by themselves, and doubles."""
    calendar = company.calendar
    doubles = max(min(12, count // 5), round(count * _DUPLICATE_SHARE))
    humans = count - doubles
    won = np.flatnonzero(leads.converted >= 0)[: humans * 2 // 3]
    leads.converted[np.setdiff1d(np.flatnonzero(leads.converted >= 0), won)] = NEVER
    direct = humans - won.size
    leads.person[won] = np.arange(won.size)
    lead = np.concatenate([won, np.full(direct, NOBODY)])
    channel = np.concatenate([leads.channel[won], rng.choice(len(world.CHANNELS), direct, p=world.shares([c.share for c in world.CHANNELS]))])
    signed_up = calendar.shop.instant(_arrivals(rng, direct) * calendar.shop.length)
    created = np.concatenate([leads.converted[won], signed_up])
    in_business = np.concatenate([leads.is_business[won], rng.random(direct) < _BUSINESS_SHARE])
    usable = np.flatnonzero(~accounts.is_test)
    weight = world.shares(np.sqrt(accounts.headcount[usable]))
    account = np.where(in_business, rng.choice(usable, humans, p=weight), NOBODY)
    own_country = rng.choice(len(world.COUNTRIES), humans, p=world.shares([c.share for c in world.COUNTRIES]))
    own_country[: won.size] = leads.country[won]
    country = np.where(account >= 0, accounts.country[account], own_country)
    is_test = np.zeros(humans, dtype=bool)
    is_test[at_least(rng, np.arange(won.size, humans), 0.004, 3)] = True

    number = crm.number("people", count)
    person_id, second_record = number[:humans], number[humans:]
    given = rng.integers(0, len(world.GIVEN_NAMES), humans)
    family = rng.integers(0, len(world.FAMILY_NAMES), humans)
    is_flagged = is_test.copy()
    is_flagged[np.flatnonzero(is_test)[::2]] = False
    unmarked = is_test & ~is_flagged
    mail, phone = _addresses(rng, accounts, given, family, account, unmarked, country, person_id)

    has_own_mail = mail.is_not_null().to_numpy() & ~mail.fill_null("").str.starts_with("info@").to_numpy()
    plain = np.flatnonzero(~is_test & has_own_mail & (created < calendar.end - 90 * DAY))
    doubled = np.sort(rng.choice(plain, min(doubles, plain.size), replace=False))
    second_id = np.full(humans, NOBODY)
    second_id[doubled] = second_record[: doubled.size]
    second_since = np.full(humans, NEVER)
    second_since[doubled] = later(rng, created[doubled], calendar.end)
    people = People(
        id=person_id,
        channel=channel,
        created=created,
        country=country,
        account=account,
        lead=lead,
        owner=rng.integers(0, company.sellers.size, humans),
        is_test=is_test,
        is_flagged=is_flagged,
        second_id=second_id,
        second_since=second_since,
        mail=mail,
        phone=phone,
        given=given,
        family=family,
    )
    people.owner[: won.size] = leads.owner[won]
    return people


def _addresses(rng, accounts, given, family, account, unmarked, country, person_id) -> tuple[pl.Series, pl.Series]:
    humans = given.size
    plain = (
        pl.Series(
            labels(world.GIVEN_NAMES, given).str.to_lowercase() + "." + labels(world.FAMILY_NAMES, family).str.to_lowercase()
        )
        .str.replace_all("[^a-z.]", "")
    )  # fmt: skip
    text_number = pl.Series(person_id).cast(pl.String)
    domain = labels(world.MAIL_DOMAINS, rng.integers(0, len(world.MAIL_DOMAINS), humans))
    mail = plain + text_number + "@" + domain
    account_number = ids(np.where(account >= 0, accounts.id[account], NOBODY)).cast(pl.String)
    at_work = plain + text_number + "@firm" + account_number + ".example"
    shared_inbox = "info@firm" + account_number + ".example"
    # Several colleagues of one firm write from one inbox: equal addresses, different people.
    busiest = np.argsort(-np.bincount(account[account >= 0], minlength=accounts.id.size), kind="stable")
    sharing = np.isin(account, busiest[: max(2, accounts.id.size // 50)]) & (rng.random(humans) < 0.7)
    frame = pl.DataFrame(
        {
            "mail": mail,
            "at_work": at_work,
            "inbox": shared_inbox,
            "internal": "qa" + text_number + "@" + world.INTERNAL_DOMAIN,
            "is_sharing": sharing,
            "in_firm": account >= 0,
            "is_unmarked": unmarked,
        }
    )
    chosen = frame.select(pl.when("is_unmarked").then("internal").when("is_sharing").then("inbox").when("in_firm").then("at_work").otherwise("mail")).to_series()
    missing = rng.random(humans) < 0.02
    chosen = known(chosen, ~missing | unmarked)
    code = labels([c.dialling_code for c in world.COUNTRIES], country)
    phone = code + " 30 " + (pl.Series(person_id) + 1_000_000).cast(pl.String)
    return chosen, known(phone, rng.random(humans) > 0.15)


def later(rng: np.random.Generator, since: np.ndarray, end: int) -> np.ndarray:
    """Draw an instant strictly between `since` and `end`, more likely soon."""
    return since + 1 + (rng.random(since.size) ** 2 * np.maximum(end - since - 2, 0)).astype(np.int64)


def _arrivals(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw arrival times on 0..1 with the density rising by half over the span: the company grows."""
    u = rng.random(count)
    return (-1.0 + np.sqrt(1.0 + 1.25 * u)) / 0.5 if count else u


def places(rng: np.random.Generator, country: np.ndarray) -> tuple[pl.Series, pl.Series]:
    flat = [(region, city) for c in world.COUNTRIES for region, city in c.cities]
    lengths = np.array([len(c.cities) for c in world.COUNTRIES])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    place = first[country] + (rng.random(country.size) ** 1.5 * lengths[country]).astype(np.int64)
    return labels([region for region, _ in flat], place), labels([city for _, city in flat], place)
