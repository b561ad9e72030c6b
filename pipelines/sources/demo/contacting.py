"""What customers and staff do between purchases: app events, calls, mails, meetings, support cases and questionnaires.

Belongs here: behaviour that carries a signal about who is about to leave. Purchases and contracts do not belong here.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.buying import CANCELLED, Buyers, Orders
from pipelines.sources.demo.calendar import DAY, HOUR, NEVER, clear_of_repeated_hour, local_text, utc_text
from pipelines.sources.demo.company import Company
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, at_least, flags, ids, known, labels
from pipelines.sources.demo.people import Accounts, People, later
from pipelines.sources.demo.selling import Opportunities
from pipelines.sources.demo.subscribing import Contracts

_MONTH = 30 * DAY
_KINDS = ("call", "email", "meeting", "chat", "sms", "note", "task")
_KIND_SHARE = world.shares([0.2, 0.4, 0.08, 0.1, 0.03, 0.12, 0.07])
_OUTCOMES = ("reached", "no answer", "agreed next step", "not interested")
_SUBJECTS = ("Your question", "Offer", "Follow-up", "Invoice", "Delivery", "Check-in")
_CASE_STATES = ("open", "waiting", "solved", "closed")
_SATISFIED = 0.88


@dataclass(frozen=True)
class Relation:
    """For how long each person has something to do with the company; epoch seconds, `[begins, ends)`."""

    begins: np.ndarray
    ends: np.ndarray
    has_left: np.ndarray  # the end is a farewell, not the end of the data
    warmth: np.ndarray  # relative amount of activity


def relate(rng: np.random.Generator, company: Company, people: People, buyers: Buyers, contracts: Contracts) -> Relation:
    """Derive each person's span from the truth about purchases and contracts."""
    end = company.calendar.end
    count = people.id.size
    last = np.where(buyers.first >= 0, np.where(buyers.left >= 0, buyers.left, end), NEVER)
    ends = np.where(contracts.ends >= 0, np.minimum(contracts.ends, end), end)
    np.maximum.at(last, contracts.person, ends)
    # Whoever never bought looks around for a month.
    browsing = np.minimum(people.created + rng.exponential(20 * DAY, count).astype(np.int64) + HOUR, end)
    finish = np.maximum(np.where(last >= 0, last, browsing), people.created + 1)
    warmth = np.exp(rng.normal(-0.15, 0.5, count)) * np.where(last >= 0, 0.6 + 4.0 * np.sqrt(buyers.rate), 1.0)
    return Relation(people.created, np.minimum(finish, end), finish < end, warmth)


def _moments(rng, clock, begins, ends, expected) -> tuple[np.ndarray, np.ndarray]:
    """Draw a Poisson number of instants, uniform in a clock's time, for each span; returns rows and instants."""
    row = np.repeat(np.arange(begins.size), rng.poisson(np.maximum(expected, 0.0)))
    first, last = clock.operational(begins)[row], clock.operational(ends)[row]
    instant = clock.instant(np.minimum(first + rng.random(row.size) * (last - first), clock.length - 1))
    return row, np.clip(instant, begins[row], None)


def write_events(rng: np.random.Generator, company: Company, crm: CrmFile, people: People, orders: Orders, relation: Relation) -> None:
    """Write the app's log: signing up, using it while the relation lasts, ever less after it, and the way to some orders."""
    end = company.calendar.end
    clock = company.calendar.shop
    span = relation.ends - relation.begins
    rows, instants, names, payload = [], [], [], []

    def note(row: np.ndarray, instant: np.ndarray, name: np.ndarray | str, extra: np.ndarray | None = None) -> None:
        inside = instant < end
        names.append(pl.Series([name] * row.size, dtype=pl.String).filter(inside) if isinstance(name, str) else name.filter(inside))
        rows.append(row[inside])
        instants.append(instant[inside])
        payload.append((np.full(row.size, NOBODY) if extra is None else extra)[inside])

    everybody = np.arange(people.id.size)
    note(everybody, people.created, "sign_up")
    onboarded = at_least(rng, everybody, 0.6)
    done = people.created[onboarded] + rng.exponential(2 * HOUR, onboarded.size).astype(np.int64) + 60
    note(onboarded, done, "onboarding_done")
    # The browser fires page views twice in one instant: only the order of writing tells them apart.
    note(onboarded, done, "page")
    note(onboarded, done, "page")
    # Before leaving, people use it less: the last two months of a relation count a third.
    fading = np.where(relation.has_left, np.minimum(span, 2 * _MONTH), 0)
    row, instant = _moments(rng, clock, relation.begins, relation.ends - fading, 0.65 * relation.warmth * (span - fading) / _MONTH)
    note(row, instant, labels(world.EVENT_NAMES, rng.integers(0, len(world.EVENT_NAMES), row.size)))
    row, instant = _moments(rng, clock, relation.ends - fading, relation.ends, 0.22 * relation.warmth * fading / _MONTH)
    note(row, instant, labels(world.EVENT_NAMES, rng.integers(0, len(world.EVENT_NAMES), row.size)))
    after = np.minimum(end - relation.ends, 6 * _MONTH)
    row, instant = _moments(rng, clock, relation.ends, relation.ends + after, 0.06 * relation.warmth * after / _MONTH)
    note(row, instant, labels(world.EVENT_NAMES, rng.integers(0, len(world.EVENT_NAMES), row.size)))

    shopping = np.flatnonzero((orders.person >= 0) & (orders.euros > 0) & (rng.random(orders.placed.size) < 0.22))
    who, placed = orders.person[shopping], orders.placed[shopping]
    basket = np.round(orders.euros[shopping]).astype(np.int64)
    for name, ago in (("view_product", 1_200), ("add_to_cart", 600), ("checkout_started", 180)):
        note(who, np.maximum(placed - ago, people.created[who]), name, basket)
    note(who, placed, "order_placed", basket)
    # Carts that were left standing.
    row, instant = _moments(rng, clock, relation.begins, relation.ends, 0.05 * relation.warmth * span / _MONTH)
    note(row, instant, "add_to_cart")
    note(row, instant + 240, "checkout_started")

    row, instant, extra = np.concatenate(rows), np.concatenate(instants), np.concatenate(payload)
    name = pl.concat(names)
    order = np.argsort(instant, kind="stable")
    row, instant, extra, name = row[order], instant[order], extra[order], name.gather(order)
    count = row.size
    record = people.record(row, instant, rng.random(count))
    is_anonymous = rng.random(count) < 0.08
    value = pl.Series(extra).cast(pl.String)
    frame = pl.DataFrame(
        {
            "id": crm.number("app_events", count),
            "person_id": known(ids(record), ~is_anonymous),
            "cookie": "c" + pl.Series(people.id[row]).cast(pl.String),
            "event": name,
            "happened_on": utc_text(instant),
            "seq": np.arange(1, count + 1),
            "payload": known('{"basket_eur": ' + value + "}", extra >= 0),
        }
    )
    crm.append("app_events", frame)


def write_activities(
    rng: np.random.Generator,
    company: Company,
    crm: CrmFile,
    people: People,
    accounts: Accounts,
    relation: Relation,
    opportunities: Opportunities,
) -> None:
    """Write calls, mails, meetings, notes and tasks: around opportunities, and now and then while a relation lasts."""
    end = company.calendar.end
    clock = company.calendar.office
    monthly = np.where(people.account >= 0, 0.3, 0.07) * relation.warmth
    fading = np.where(relation.has_left, np.minimum(relation.ends - relation.begins, 2 * _MONTH), 0)
    calm = relation.ends - fading
    row, instant = _moments(rng, clock, relation.begins, calm, monthly * (calm - relation.begins) / _MONTH)
    row2, instant2 = _moments(rng, clock, calm, relation.ends, 0.35 * monthly * fading / _MONTH)
    until = np.where(opportunities.closed >= 0, opportunities.closed, np.minimum(opportunities.created + 60 * DAY, end))
    deal, instant3 = _moments(rng, clock, opportunities.created, until, np.full(until.size, 4.5))
    person = np.concatenate([row, row2, opportunities.person[deal]])
    instant = np.concatenate([instant, instant2, instant3])
    opportunity = np.concatenate([np.full(row.size + row2.size, NOBODY), opportunities.id[deal]])
    staff = np.concatenate([people.owner[row], people.owner[row2], opportunities.owner[deal]])
    order = np.argsort(instant, kind="stable")
    person, instant, opportunity, staff = person[order], instant[order], opportunity[order], staff[order]
    count = person.size
    kind = rng.choice(len(_KINDS), count, p=_KIND_SHARE)
    internal = kind >= 5
    inbound = rng.random(count) < 0.42
    account = people.account[person]
    talk = (kind == 0) | (kind == 2)
    frame = pl.DataFrame(
        {
            "id": crm.number("calls_mails_meetings", count),
            "kind": labels(_KINDS, kind),
            "direction": labels(("inbound", "outbound"), np.where(internal, NOBODY, np.where(inbound, 0, 1))),
            "with_customer": flags(~internal),
            "person_id": people.record(person, instant, rng.random(count)),
            "account_id": ids(np.where(account >= 0, accounts.id[account], NOBODY)),
            "opportunity_id": ids(opportunity),
            "staff_id": company.sellers[staff],
            "happened_local": local_text(np.minimum(clear_of_repeated_hour(instant), end - 1)),
            "seconds": known(np.where(kind == 2, 1_800, 60) + rng.exponential(400, count).astype(np.int64), talk),
            "subject": labels(_SUBJECTS, rng.integers(0, len(_SUBJECTS), count)),
            "body": known(labels(("Asked about prices.", "Sent the catalogue.", "Wants to be called back."), kind % 3), kind == 5),
            "outcome": known(labels(_OUTCOMES, rng.integers(0, len(_OUTCOMES), count)), talk),
        }
    )
    crm.append("calls_mails_meetings", frame)


def write_service(
    rng: np.random.Generator,
    company: Company,
    crm: CrmFile,
    people: People,
    accounts: Accounts,
    relation: Relation,
    orders: Orders,
    order_id: np.ndarray,
    order_record: np.ndarray,
) -> None:
    """Write support cases, more of them in the weeks before somebody leaves, and the questionnaires sent out."""
    end = company.calendar.end
    clock = company.calendar.shop
    span = relation.ends - relation.begins
    row, instant = _moments(rng, clock, relation.begins, relation.ends, 0.022 * relation.warmth * span / _MONTH)
    trouble = np.where(relation.has_left, np.minimum(span, 45 * DAY), 0)
    row2, instant2 = _moments(rng, clock, relation.ends - trouble, relation.ends, np.where(trouble > 10 * DAY, 0.4, 0.0))
    person, opened = np.concatenate([row, row2]), np.concatenate([instant, instant2])
    is_trouble = np.arange(person.size) >= row.size
    order = np.argsort(opened, kind="stable")
    person, is_trouble = person[order], is_trouble[order]
    opened = clear_of_repeated_hour(opened[order])
    count = person.size
    number = crm.number("support_cases", count)
    replied = clear_of_repeated_hour(opened + (rng.lognormal(0.9, 1.0, count) * HOUR).astype(np.int64) + 60)
    hours = rng.lognormal(2.6, 1.0, count) * np.where(is_trouble, 2.0, 1.0)
    solved_first = clear_of_repeated_hour(replied + (hours * HOUR).astype(np.int64) + 60)
    again = np.zeros(count, dtype=np.int64)
    reopened = at_least(rng, np.arange(count), 0.08, 3)
    again[reopened] = 1 + rng.integers(0, 3, reopened.size) // 2
    solved = np.where(again > 0, clear_of_repeated_hour(solved_first + (rng.lognormal(3.4, 0.7, count) * HOUR).astype(np.int64)), solved_first)
    abandoned = np.isin(np.arange(count), at_least(rng, np.flatnonzero(again == 0), 0.02))
    has_reply = (replied < end) & ~abandoned
    was_solved = has_reply & (solved_first < end) & ~abandoned
    is_solved = was_solved & (solved < end)
    state = np.where(is_solved, rng.integers(2, 4, count), np.where(has_reply, 1, 0))
    deleted = np.full(count, NEVER)
    gone = at_least(rng, np.flatnonzero(is_solved & (solved < end - DAY)), 0.006, 1)
    deleted[gone] = later(rng, solved[gone], end)
    account = people.account[person]
    record = people.record(person, opened, rng.random(count))
    complaint = np.array(world.COMPLAINT_CATEGORIES)[rng.integers(0, len(world.COMPLAINT_CATEGORIES), count)]
    category = np.where(is_trouble, complaint, rng.integers(0, len(world.CASE_CATEGORIES), count))
    last = np.max([opened, np.where(has_reply, replied, 0), np.where(was_solved, solved_first, 0), np.where(is_solved, solved, 0), deleted], axis=0)
    frame = pl.DataFrame(
        {
            "id": number,
            "person_id": record,
            "account_id": ids(np.where(account >= 0, accounts.id[account], NOBODY)),
            "channel": labels(("email", "phone", "chat", "web"), rng.choice(4, count, p=[0.45, 0.2, 0.2, 0.15])),
            "category": labels(world.CASE_CATEGORIES, category),
            "priority": labels(("low", "normal", "high", "urgent"), np.minimum(rng.choice(4, count, p=[0.3, 0.5, 0.15, 0.05]) + is_trouble, 3)),
            "state": labels(_CASE_STATES, state),
            "subject": labels(world.CASE_CATEGORIES, category) + " " + pl.Series(number).cast(pl.String),
            "opened_local": local_text(opened),
            "first_reply_local": local_text(np.where(has_reply, replied, NEVER)),
            "first_solved_local": local_text(np.where(was_solved, solved_first, NEVER)),
            "solved_local": local_text(np.where(is_solved, solved, NEVER)),
            "reopened": np.where(was_solved, again, 0),
            "agent_id": rng.choice(company.agents, count),
            "modified_local": local_text(last),
            "deleted_local": local_text(deleted),
        }
    )  # fmt: skip
    crm.append("support_cases", frame)
    asked = np.flatnonzero(is_solved & (deleted < 0) & (rng.random(count) < 0.85))
    waited = np.log1p((solved - opened)[asked] / HOUR) - 3.0
    happy = _SATISFIED - 0.05 * waited - 0.18 * (again[asked] > 0) - 0.12 * is_trouble[asked]
    satisfied = rng.random(asked.size) < np.clip(happy, 0.05, 0.98)
    score = np.where(satisfied, rng.choice([4, 5, 5], asked.size), rng.choice([1, 2, 3, 3], asked.size))
    _write_answers(rng, company, crm, "csat", record[asked], number[asked], None, solved[asked] + HOUR, score, 0.42)
    _ask_others(rng, company, crm, people, relation, orders, order_id, order_record)


def _ask_others(rng, company, crm, people, relation, orders, order_id, order_record) -> None:
    """Ask some buyers how easy it was and, every quarter, a sample how likely they would recommend us."""
    end = company.calendar.end
    bought = np.flatnonzero((order_record >= 0) & (orders.euros > 0) & (orders.state < CANCELLED) & (rng.random(order_id.size) < 0.05))
    ease = np.clip(np.round(rng.normal(5.4, 1.3, bought.size)), 1, 7).astype(np.int64)
    _write_answers(rng, company, crm, "ces", order_record[bought], None, order_id[bought], orders.placed[bought] + 3 * DAY, ease, 0.35)
    quarters = np.arange(company.calendar.start + 60 * DAY, end - 10 * DAY, 91 * DAY)
    asked = [np.flatnonzero((relation.begins < at) & (relation.ends > at) & (rng.random(people.id.size) < 0.12)) for at in quarters]
    person = np.concatenate(asked)
    offered = np.repeat(quarters, [who.size for who in asked]) + rng.integers(0, 8 * HOUR, person.size)
    # People about to leave do not recommend.
    leaving = relation.has_left[person] & (relation.ends[person] - offered < 90 * DAY)
    mood = rng.normal(8.1, 1.9, person.size) - 2.2 * leaving
    score = np.clip(np.round(mood), 0, 10).astype(np.int64)
    _write_answers(rng, company, crm, "nps", people.id[person], None, None, offered, score, 0.3)


def _write_answers(rng, company, crm, kind, person, case, order, offered, score, response) -> None:
    end = company.calendar.end
    kept = offered < end
    person, offered, score = person[kept], offered[kept], score[kept]
    count = person.size
    answered = offered + (rng.exponential(1.2 * DAY, count)).astype(np.int64) + 30
    responds = (rng.random(count) < response) & (answered < end)
    frame = pl.DataFrame(
        {
            "id": crm.number("questionnaires", count),
            "kind": [kind] * count,
            "person_id": ids(person),
            "case_id": ids(np.full(count, NOBODY) if case is None else case[kept]),
            "order_id": ids(np.full(count, NOBODY) if order is None else order[kept]),
            "offered_on": utc_text(offered),
            "answered_on": utc_text(np.where(responds, answered, NEVER)),
            "score": known(score, responds),
            "remark": known(labels(("Thanks!", "Took too long.", "All fine."), score % 3), responds & (rng.random(count) < 0.15)),
        }
    )
    crm.append("questionnaires", frame)
