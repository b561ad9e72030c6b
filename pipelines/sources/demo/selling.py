"""Opportunities: who becomes one, the way through the stages, and every change on that way.

Belongs here: the sales process. What a won opportunity leads to (an order, a contract) is drawn elsewhere from `Won`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.calendar import DAY, NEVER, date_text, utc_text
from pipelines.sources.demo.company import Company
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, at_least, flags, ids, known, labels, logistic, money, positions_in_group, quota
from pipelines.sources.demo.people import Accounts, Leads, People, later

_WON, _LOST = 4, 5
# Ways through the stages (positions in world.STAGES) with their shares: straight, back to an earlier stage, skipping, revived.
_WAYS_WON = (
    ((0, 1, 2, 3, 4), 0.43),
    ((0, 1, 2, 1, 2, 3, 4), 0.12),
    ((0, 2, 4), 0.10),
    ((0, 1, 2, 4), 0.15),
    ((0, 1, 2, 3, 2, 3, 4), 0.07),
    ((0, 1, 3, 4), 0.05),
    ((0, 2, 3, 4), 0.05),
    ((0, 1, 5, 1, 2, 4), 0.03),
)
_WAYS_LOST = (
    ((0, 5), 0.18),
    ((0, 1, 5), 0.30),
    ((0, 1, 2, 5), 0.25),
    ((0, 1, 2, 1, 5), 0.07),
    ((0, 1, 2, 3, 5), 0.12),
    ((0, 2, 5), 0.05),
    ((0, 1, 2, 1, 2, 5), 0.03),
)
_LONGEST = 7
_STAGE_DAYS = np.array([6.0, 13.0, 17.0, 11.0, 0.0, 25.0])
_FORECASTS = ("pipeline", "pipeline", "best case", "commit", "closed", "omitted")
_STAGE, _AMOUNT, _CLOSE_DATE, _OWNER = range(4)
_FIELDS = ("stage", "amount", "expected_close_date", "owner_id")


@dataclass(frozen=True)
class Opportunities:
    """Opportunities of one block as they stand at the end; positions point into the block's people."""

    id: np.ndarray
    person: np.ndarray
    created: np.ndarray
    closed: np.ndarray  # NEVER while open
    is_won: np.ndarray
    euros: np.ndarray
    owner: np.ndarray


def sell(rng: np.random.Generator, company: Company, crm: CrmFile, truth: CrmFile, people: People, accounts: Accounts, leads: Leads) -> tuple[Opportunities, np.ndarray]:
    """Draw and write the opportunities; returns them and the opportunity id of each lead (or NOBODY)."""
    calendar = company.calendar
    by_lead = np.flatnonzero((people.lead >= 0) & (people.account >= 0) & (rng.random(people.id.size) < 0.8))
    by_firm = np.flatnonzero((people.lead < 0) & (people.account >= 0) & ~people.is_test)
    by_firm = at_least(rng, by_firm, 0.45, 12)
    person = np.concatenate([by_lead, by_firm, at_least(rng, by_firm, 0.15, 4)])
    count = person.size
    pipeline = np.where(np.arange(count) >= by_lead.size + by_firm.size, 1, 0)
    pause = np.where(pipeline == 1, rng.exponential(120 * DAY, count), rng.exponential(12 * DAY, count))
    pause[: by_lead.size] = 0
    created = np.where(
        pause == 0,
        people.created[person],
        calendar.office.instant(calendar.office.operational(people.created[person]) + pause + 600),
    )
    usable = created >= 0
    person, pipeline, created = person[usable], pipeline[usable], np.minimum(created[usable], calendar.end - 3_600)
    count = person.size
    number = crm.number("opportunities", count)

    quality = np.array([c.quality for c in world.CHANNELS])[people.channel[person]]
    headcount = accounts.headcount[people.account[person]]
    size = (np.log(headcount) - 3.4) / 1.3
    engagement = np.where(people.lead[person] >= 0, leads.engagement[people.lead[person]], 0.0)
    owner = people.owner[person]
    probability = logistic(-0.55 + 1.8 * (quality - 0.6) + 0.3 * size + 0.35 * engagement + company.skill[owner])
    wins = rng.random(count) < probability
    # Every way is walked by somebody, however small the world.
    way = np.zeros(count, dtype=np.int64)
    way[wins] = quota(rng, [share for _, share in _WAYS_WON], int(wins.sum()))
    way[~wins] = len(_WAYS_WON) + quota(rng, [share for _, share in _WAYS_LOST], int((~wins).sum()))
    ways = np.full((len(_WAYS_WON) + len(_WAYS_LOST), _LONGEST), NOBODY)
    for row, (stages, _) in enumerate(_WAYS_WON + _WAYS_LOST):
        ways[row, : len(stages)] = stages

    path = ways[way]  # (opportunities, visits)
    days = _STAGE_DAYS[np.maximum(path, 0)] * np.exp(rng.normal(-0.3, 0.8, path.shape)) * np.where(wins, 1.0, 1.4)[:, None]
    # Somebody dragging a card over two columns makes two changes within one second.
    days = np.where(rng.random(path.shape) < 0.03, 0.0, days)
    begun = calendar.office.operational(created)[:, None] + np.cumsum(np.concatenate([np.zeros((count, 1)), days[:, :-1] * DAY], axis=1), axis=1)
    entered = calendar.office.instant(begun)
    entered[:, 0] = created
    pending = at_least(rng, np.flatnonzero((people.lead[person] < 0) & (people.created[person] < calendar.end - 60 * DAY)), 0.04, 8)
    _keep_pending(rng, calendar, pending, created, path, entered)
    happened = (path >= 0) & (entered >= 0)
    visits = happened.sum(axis=1)
    last = visits - 1
    stage = path[np.arange(count), last]
    closed = np.where(stage >= _WON, entered[np.arange(count), last], NEVER)

    currency = np.array([world.CURRENCIES.index(c.currency) for c in world.COUNTRIES])[people.country[person]]
    rate = company.rate(created, currency)
    euros = np.exp(rng.normal(6.6, 0.6, count) + 0.25 * size)
    amount = np.round(euros * rate / 10).astype(np.int64) * 1_000  # cents; sellers think in tens
    expected = created + (rng.lognormal(3.8, 0.4, count) * DAY).astype(np.int64)
    changes, amount, expected, new_owner = _draw_changes(rng, company, number, created, path, entered, happened, visits, closed, amount, expected, owner)
    _write_changes(crm, company, changes)

    account = people.account[person]
    lost = stage == _LOST
    merged, deleted = _removed(rng, calendar.end, number, account, created, stage)
    last_change = np.where(deleted >= 0, deleted, np.where(closed >= 0, closed, entered[np.arange(count), last]))
    open_seen = later(rng, last_change, calendar.end)
    channel = people.channel[person]
    frame = pl.DataFrame(
        {
            "id": number,
            "title": pl.Series(labels(("New business ", "Expansion "), pipeline)) + pl.Series(number).cast(pl.String),
            "person_id": people.id[person],
            "account_id": accounts.id[account],
            "pipeline": labels(world.PIPELINES, pipeline),
            "stage": labels(world.STAGES, stage),
            "value": money(amount),
            "currency": labels(world.CURRENCIES, currency),
            "win_percent": world.STAGE_PERCENT[stage],
            "forecast": labels(_FORECASTS, stage),
            "channel": labels(world.CHANNEL_NAMES, np.where(pipeline == 0, channel, NOBODY)),
            "campaign_id": ids(np.where(pipeline == 0, company.campaign_of(channel, created), NOBODY)),
            "owner_id": company.sellers[new_owner],
            "created_on": utc_text(created),
            "expected_close": date_text(expected),
            "closed_on": utc_text(closed),
            "outcome": labels(("open", "won", "lost"), np.where(stage == _WON, 1, np.where(lost, 2, 0))),
            "lost_reason": known(labels(world.LOST_REASONS, rng.integers(0, len(world.LOST_REASONS), count)), lost),
            "is_test": flags(people.is_flagged[person]),
            "modified_on": utc_text(np.where(closed >= 0, np.maximum(closed, last_change), open_seen)),
            "deleted_on": utc_text(deleted),
            "merged_into": ids(merged),
        }
    )
    crm.append("opportunities", frame)
    truth.append("opportunities", pl.DataFrame({"opportunity_id": number, "win_probability": probability}))

    of_lead = np.full(leads.id.size, NOBODY)
    first = np.flatnonzero((people.lead[person] >= 0) & (pipeline == 0) & (merged < 0))
    of_lead[people.lead[person[first]]] = number[first]
    standing = (deleted < 0) & (merged < 0)
    result = Opportunities(number, person, created, closed, (stage == _WON) & standing, euros, new_owner)
    return result, of_lead


def _keep_pending(rng, calendar, rows: np.ndarray, created: np.ndarray, path: np.ndarray, entered: np.ndarray) -> None:
    """Let some opportunities be young and under way when the data end, in every open stage; modifies the arrays."""
    created[rows] = calendar.office.instant(calendar.office.operational(np.full(rows.size, calendar.end - 35 * DAY)) + rng.random(rows.size) * 10 * DAY)
    path[rows] = np.where(np.arange(_LONGEST) <= (np.arange(rows.size) % _WON)[:, None], np.arange(_LONGEST), NOBODY)
    entered[rows] = created[rows][:, None] + np.arange(_LONGEST) * 5 * DAY + np.where(np.arange(_LONGEST) > 0, rng.integers(0, DAY, (rows.size, _LONGEST)), 0)


def _draw_changes(rng, company, number, created, path, entered, happened, visits, closed, amount, expected, owner):
    """Collect the changes of stage, amount, close date and owner, and the values they end with.

    A change is (opportunity position, field, order within an instant, instant, old, new); old is NOBODY for a first value.
    """
    row, visit = np.nonzero(happened)
    before = np.where(visit > 0, path[row, np.maximum(visit - 1, 0)], NOBODY)
    batches = [(row, np.full(row.size, _STAGE), visit, entered[row, visit], before, path[row, visit])]

    # Amounts move when a proposal is discussed: at the same instant as a stage change.
    discussed = at_least(rng, np.flatnonzero(visits > 2), 0.4, 4)
    at = np.minimum(1 + (rng.random(discussed.size) * (visits[discussed] - 1)).astype(np.int64), visits[discussed] - 1)
    factor = np.round(rng.choice([0.7, 0.8, 0.9, 1.1, 1.25, 1.5], discussed.size), 2)
    new_amount = amount.copy()
    new_amount[discussed] = np.maximum(np.round(amount[discussed] * factor / 1_000).astype(np.int64) * 1_000, 1_000)
    batches.append((discussed, np.full(discussed.size, _AMOUNT), at + 50, entered[discussed, at], amount[discussed], new_amount[discussed]))

    until = np.where(closed >= 0, closed, company.calendar.end)
    room = np.flatnonzero(until - created > 10 * DAY)
    moved = at_least(rng, room, 0.4, 4)
    when = created[moved] + (rng.uniform(0.3, 0.9, moved.size) * (until - created)[moved]).astype(np.int64)
    push = np.where(rng.random(moved.size) < 0.75, rng.integers(7, 60, moved.size), -rng.integers(3, 20, moved.size))
    new_expected = expected.copy()
    new_expected[moved] = np.maximum(expected[moved] + push * DAY, when + DAY)
    batches.append((moved, np.full(moved.size, _CLOSE_DATE), np.full(moved.size, 60), when, expected[moved], new_expected[moved]))

    handed = at_least(rng, room, 0.12, 3)
    when = created[handed] + (rng.uniform(0.1, 0.9, handed.size) * (until - created)[handed]).astype(np.int64)
    new_owner = owner.copy()
    new_owner[handed] = (owner[handed] + 1 + rng.integers(0, company.sellers.size - 1, handed.size)) % company.sellers.size
    batches.append((handed, np.full(handed.size, _OWNER), np.full(handed.size, 70), when, owner[handed], new_owner[handed]))

    row, field, rank, instant, old, new = (np.concatenate(columns) for columns in zip(*batches, strict=True))
    order = np.lexsort((rank, instant, row))
    columns = tuple(column[order] for column in (row, field, instant, old, new))
    actor = np.where(columns[1] == _OWNER, owner[columns[0]], new_owner[columns[0]])
    return (number[columns[0]], *columns[1:], actor), new_amount, new_expected, new_owner


def _write_changes(crm: CrmFile, company: Company, changes: tuple[np.ndarray, ...]) -> None:
    opportunity, field, instant, old, new, actor = changes

    def words(values: np.ndarray) -> pl.Series:
        frame = pl.DataFrame(
            {
                "field": field,
                "stage": labels(world.STAGES, np.where(field == _STAGE, values, NOBODY)),
                "amount": (pl.Series(values) / 100).round(2).cast(pl.String),
                "day": date_text(np.where(field == _CLOSE_DATE, values, NEVER)),
                "owner": pl.Series(company.sellers[np.where(field == _OWNER, values, 0)]).cast(pl.String),
            }
        )
        return frame.select(
            pl.when(pl.col("field") == _STAGE).then("stage").when(pl.col("field") == _AMOUNT).then("amount").when(pl.col("field") == _CLOSE_DATE).then("day").otherwise("owner")
        ).to_series()

    frame = pl.DataFrame(
        {
            "id": crm.number("opportunity_history", opportunity.size),
            "opportunity_id": opportunity,
            "field": labels(_FIELDS, field),
            "old_value": words(old),
            "new_value": words(new),
            "changed_on": utc_text(instant),
            "seq": positions_in_group(opportunity) + 1,
            "changed_by": company.sellers[actor],
        }
    )
    crm.append("opportunity_history", frame)


def _removed(rng, end, number, account, created, stage) -> tuple[np.ndarray, np.ndarray]:
    """Choose opportunities entered twice and merged into the other one of their firm, and others deleted."""
    merged = np.full(number.size, NOBODY)
    order = np.lexsort((created, account))
    follows = np.flatnonzero(account[order][1:] == account[order][:-1]) + 1
    # Every other pair at most, so that no survivor is itself merged away.
    losers = at_least(rng, follows[follows % 2 == 1], 0.03, 1)
    merged[order[losers]] = number[order[losers - 1]]
    deleted = np.full(number.size, NEVER)
    free = np.setdiff1d(np.flatnonzero((merged < 0) & (created < end - DAY)), order[np.maximum(losers - 1, 0)])
    gone = at_least(rng, free[stage[free] != _WON], 0.01)
    deleted[gone] = later(rng, np.maximum(created[gone], end - 2 * DAY), end)
    return merged, deleted
