"""What the CRM wrote down about people: contact and prospect records, doubles of one human, consents and reviewers' words.

Belongs here: turning identities into rows, with the inconsistencies of real data entry. Who exists is decided in `people`.
"""

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.calendar import DAY, NEVER, date_text, utc_text
from pipelines.sources.demo.company import Company
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import NOBODY, at_least, flags, ids, known, labels, quota
from pipelines.sources.demo.people import Leads, People, later, places

_DOUBLE_SHARES = (0.3, 0.25, 0.2, 0.15, 0.1)
"""How a second record differs: letter case, plus tag, phone spelling only, same address, nothing in common."""
_CASE, _PLUS, _PHONE, _SAME, _OTHER = range(5)


def write_people(rng: np.random.Generator, company: Company, crm: CrmFile, truth: CrmFile, people: People, accounts_id: np.ndarray, buyers: np.ndarray) -> None:
    """Write one row per human and one more per doubled human; `buyers` marks humans who ever ordered."""
    end = company.calendar.end
    count = people.id.size
    region, city = places(rng, people.country)
    doubled = np.flatnonzero(people.second_id >= 0)
    how = quota(rng, _DOUBLE_SHARES, doubled.size)
    merged_at = np.full(doubled.size, NEVER)
    mergeable = np.flatnonzero(how != _OTHER)
    merged = at_least(rng, mergeable, 0.4, 5)
    merged_at[merged] = later(rng, people.second_since[doubled[merged]], end)
    mail, phone = _second_spelling(people, doubled, how)

    deleted = np.full(count, NEVER)
    gone = at_least(rng, np.flatnonzero((people.second_id < 0) & ~people.is_test & (people.created < end - 2 * DAY)), 0.008)
    deleted[gone] = later(rng, people.created[gone], end)
    changed = later(rng, people.created, end)
    source = np.where(rng.random(count) < 0.86, people.channel, NOBODY)
    campaign = np.where(source >= 0, company.campaign_of(people.channel, people.created), NOBODY)
    born = (rng.uniform(-7_000, 13_000, count) * DAY).astype(np.int64)  # 1950 to 2005; before 1970 is negative
    frame = pl.DataFrame(
        {
            "id": people.id,
            "account_id": ids(np.where(people.account >= 0, accounts_id[people.account], NOBODY)),
            "mail": people.mail,
            "phone": people.phone,
            "given_name": labels(world.GIVEN_NAMES, people.given),
            "family_name": labels(world.FAMILY_NAMES, people.family),
            "born_on": known(pl.from_epoch(pl.Series(born), time_unit="s").dt.strftime("%Y-%m-%d"), rng.random(count) < 0.55),
            "gender": known(labels(("f", "m"), (people.given >= len(world.FEMALE_NAMES)).astype(np.int64)), rng.random(count) < 0.8),
            "country": labels([c.code for c in world.COUNTRIES], people.country),
            "state": region,
            "city": city,
            "zip": pl.Series(rng.integers(10_000, 99_999, count)).cast(pl.String),
            "lang": labels([c.language for c in world.COUNTRIES], people.country),
            "stage": labels(("contact", "customer"), buyers.astype(np.int64)),
            "source_channel": labels(world.CHANNEL_NAMES, source),
            "source_campaign_id": ids(campaign),
            "owner_id": company.sellers[people.owner],
            "is_test": flags(people.is_flagged),
            "created_on": utc_text(people.created),
            "modified_on": utc_text(np.maximum(changed, deleted)),
            "deleted_on": utc_text(deleted),
            "merged_into": ids(np.full(count, NOBODY)),
        }
    )
    crm.append("people", frame)
    number = people.second_id[doubled]
    second = frame[doubled].with_columns(
        pl.Series("id", number),
        mail.alias("mail"),
        phone.alias("phone"),
        pl.lit(None, dtype=pl.String).alias("source_channel"),
        pl.lit(None, dtype=pl.Int64).alias("source_campaign_id"),
        utc_text(people.second_since[doubled]).alias("created_on"),
        utc_text(np.maximum(merged_at, people.second_since[doubled])).alias("modified_on"),
        ids(np.where(merged_at >= 0, people.id[doubled], NOBODY)).alias("merged_into"),
    )
    crm.append("people", second)
    _write_reviews(rng, company, crm, people, doubled[how == _OTHER])
    clusters = pl.DataFrame(
        {
            "cluster_id": np.concatenate([people.id[doubled], people.id[doubled]]),
            "kind": ["person"] * (2 * doubled.size),
            "record_id": np.concatenate([people.id[doubled], number]),
        }
    )
    truth.append("duplicates", clusters)


def _second_spelling(people: People, doubled: np.ndarray, how: np.ndarray) -> tuple[pl.Series, pl.Series]:
    frame = pl.DataFrame(
        {
            "mail": people.mail.gather(doubled),
            "phone": people.phone.gather(doubled),
            "how": how,
            "number": pl.Series(people.second_id[doubled]).cast(pl.String),
        }
    )
    local, domain = pl.col("mail").str.split("@").list.get(0), pl.col("mail").str.split("@").list.get(1)
    spelled = frame.select(
        pl.when(pl.col("how") == _CASE)
        .then(local.str.to_uppercase() + "@" + domain.str.to_titlecase())
        .when(pl.col("how") == _PLUS)
        .then(local + "+shop@" + domain)
        .when(pl.col("how") == _SAME)
        .then(pl.col("mail"))
        .otherwise("new" + pl.col("number") + "@example.net")
        .alias("mail"),
        # The same number with 00 for the plus sign, an area code in brackets and dashes.
        pl.when(pl.col("how") == _PHONE).then(pl.col("phone").str.replace(r"^\+(\d+) (\d+) (\d{3})(\d+)$", "00$1 ($2) $3-$4")).otherwise(None).alias("phone"),
    )
    return spelled["mail"], spelled["phone"]


def _write_reviews(rng: np.random.Generator, company: Company, crm: CrmFile, people: People, moved: np.ndarray) -> None:
    """Write what a person decided about pairs that no rule can decide: a new address, and two people behind one inbox."""
    inbox = people.mail.fill_null("").str.starts_with("info@").to_numpy()
    sharing = np.flatnonzero(inbox & (people.account >= 0))
    sharing = sharing[np.argsort(people.account[sharing], kind="stable")]
    neighbours = np.flatnonzero(people.account[sharing][1:] == people.account[sharing][:-1])[:20]
    left = np.concatenate([people.id[moved], people.id[sharing[neighbours]]])
    right = np.concatenate([people.second_id[moved], people.id[sharing[neighbours + 1]]])
    count = left.size
    since = np.concatenate([people.second_since[moved], np.maximum(people.created[sharing[neighbours]], people.created[sharing[neighbours + 1]])])
    frame = pl.DataFrame(
        {
            "id": crm.number("duplicate_reviews", count),
            "left_kind": ["person"] * count,
            "left_id": left,
            "right_kind": ["person"] * count,
            "right_id": right,
            "verdict": labels(("same", "different"), np.repeat([0, 1], [moved.size, neighbours.size])),
            "reviewed_on": utc_text(later(rng, since, company.calendar.end)),
            "reviewer_id": rng.choice(company.agents, count),
        }
    )
    crm.append("duplicate_reviews", frame)


def write_leads(
    rng: np.random.Generator,
    company: Company,
    crm: CrmFile,
    truth: CrmFile,
    leads: Leads,
    people: People,
    opportunity: np.ndarray,
) -> None:
    """Write the prospects; `opportunity` is the id of the opportunity each converted into, or NOBODY."""
    end = company.calendar.end
    count = leads.id.size
    converted = leads.converted >= 0
    open_or_lost = np.flatnonzero(~converted)
    # Some prospects are people the CRM knows already: half of those are linked, the others only share an address.
    again = at_least(rng, open_or_lost, 0.04, 4)
    known_person = leads.person.copy()
    addressed = np.flatnonzero(people.mail.is_not_null().to_numpy() & ~people.is_test)
    addressed = addressed[np.argsort(people.created[addressed], kind="stable")]
    earlier = np.searchsorted(people.created[addressed], leads.created[again])
    known_person[again] = np.where(earlier > 0, addressed[(rng.random(again.size) * earlier).astype(np.int64)], NOBODY)
    linked = np.zeros(count, dtype=bool)
    linked[again[earlier > 0][::2]] = True

    rejected = np.full(count, NEVER)
    stale = open_or_lost[leads.created[open_or_lost] < end - 30 * DAY]
    thrown = at_least(rng, stale, 0.55)
    rejected[thrown] = np.minimum(leads.created[thrown] + rng.integers(2 * DAY, 30 * DAY, thrown.size), end - 1)
    deleted = np.full(count, NEVER)
    gone = at_least(rng, np.setdiff1d(open_or_lost, again), 0.01)
    deleted[gone] = later(rng, np.maximum(leads.created[gone], rejected[gone]), end)
    heat = leads.engagement + rng.normal(0.0, 0.7, count)
    rating = np.where(heat > 0.9, 0, np.where(heat > -0.5, 1, 2))
    state = np.where(converted, 4, np.where(rejected >= 0, 5, rng.integers(0, 4, count)))
    is_known = known_person >= 0
    given = np.where(is_known, people.given[known_person], rng.integers(0, len(world.GIVEN_NAMES), count))
    family = np.where(is_known, people.family[known_person], rng.integers(0, len(world.FAMILY_NAMES), count))
    number = pl.Series(leads.id).cast(pl.String)
    spelling = pl.DataFrame(
        {
            "theirs": people.mail.gather(np.where(is_known, known_person, 0)),
            "own": "lead" + number + "@" + labels(world.MAIL_DOMAINS, leads.id % len(world.MAIL_DOMAINS)),
            "is_known": is_known,
            "in_capitals": rng.random(count) < 0.2,
        }
    )
    mail = spelling.select(pl.when(~pl.col("is_known")).then("own").when("in_capitals").then(pl.col("theirs").str.to_uppercase()).otherwise("theirs")).to_series()
    firm = labels(world.COMPANY_WORDS, leads.id % len(world.COMPANY_WORDS)) + " " + labels(world.COMPANY_ENDINGS, leads.id % len(world.COMPANY_ENDINGS))
    last = np.maximum(np.maximum(leads.converted, rejected), np.maximum(leads.created, deleted))
    became = np.where(converted, people.id[leads.person], NOBODY)
    frame = pl.DataFrame(
        {
            "id": leads.id,
            "person_id": ids(np.where(linked & is_known, people.id[known_person], NOBODY)),
            "mail": mail,
            "phone": known(people.phone.gather(np.where(is_known, known_person, 0)), is_known & (rng.random(count) < 0.6)),
            "given_name": labels(world.GIVEN_NAMES, given),
            "family_name": labels(world.FAMILY_NAMES, family),
            "company": known(firm, leads.is_business),
            "headcount": known(leads.headcount, leads.is_business),
            "engagement": np.clip(np.round(50 + 18 * leads.engagement), 0, 100).astype(np.int64),
            "country": labels([c.code for c in world.COUNTRIES], leads.country),
            "channel": labels(world.CHANNEL_NAMES, leads.channel),
            "campaign_id": ids(company.campaign_of(leads.channel, leads.created)),
            "state": labels(("new", "working", "nurturing", "qualified", "converted", "disqualified"), state),
            "rating": labels(("hot", "warm", "cold"), rating),
            "owner_id": company.sellers[leads.owner],
            "created_on": utc_text(leads.created),
            "modified_on": utc_text(last),
            "converted_on": utc_text(leads.converted),
            "converted_person_id": ids(became),
            "converted_opportunity_id": ids(opportunity),
            "rejected_on": utc_text(rejected),
            "rejected_reason": known(labels(world.DISQUALIFIED_REASONS, rng.integers(0, len(world.DISQUALIFIED_REASONS), count)), rejected >= 0),
            "deleted_on": utc_text(deleted),
        }
    )
    crm.append("prospects", frame)
    behind = np.where(is_known, people.id[known_person], NOBODY)
    truth.append(
        "prospects",
        pl.DataFrame(
            {
                "prospect_id": leads.id,
                "channel": labels(world.CHANNEL_NAMES, leads.channel),
                "conversion_probability": leads.probability,
                "is_person_id": ids(behind),
            }
        ),
    )
    same = np.flatnonzero(is_known)
    records = pl.DataFrame({"cluster_id": behind[same], "kind": ["prospect"] * same.size, "record_id": leads.id[same]})
    truth.append("duplicates", records)
    # The person such a prospect is belongs to the cluster too, unless a double has put it there already.
    alone = np.unique(known_person[same])
    alone = alone[people.second_id[alone] < 0]
    own = pl.DataFrame({"cluster_id": people.id[alone], "kind": ["person"] * alone.size, "record_id": people.id[alone]})
    truth.append("duplicates", own)


def write_consents(rng: np.random.Generator, company: Company, crm: CrmFile, people: People) -> None:
    """Write what people agreed to when they came, and what some of them took back."""
    end = company.calendar.end
    everybody = np.arange(people.id.size)
    asked_sms = at_least(rng, everybody, 0.35)
    newsletter = np.where(rng.random(everybody.size) < 0.72, 0, 1)
    withdrawn = at_least(rng, everybody[(newsletter == 0) & (people.created < end - 30 * DAY)], 0.07)
    rows = (
        (everybody, "email", "newsletter", newsletter, people.created, "sign-up form"),
        (asked_sms, "sms", "offers", np.where(rng.random(asked_sms.size) < 0.4, 0, 1), people.created[asked_sms] + 60, "app dialogue"),
        (withdrawn, "email", "newsletter", np.full(withdrawn.size, 2), later(rng, people.created[withdrawn], end), "unsubscribe link"),
    )  # fmt: skip
    for who, channel, purpose, status, instant, evidence in rows:
        instant = np.minimum(instant, end - 1)
        frame = pl.DataFrame(
            {
                "id": crm.number("consents", who.size),
                "person_id": people.id[who],
                "channel": [channel] * who.size,
                "purpose": [purpose] * who.size,
                "status": labels(("granted", "denied", "withdrawn"), status),
                "recorded_on": utc_text(instant),
                "expires_on": date_text(np.where(status == 0, instant + 3 * 365 * DAY, NEVER)).cast(pl.String) + "T00:00:00Z",
                "evidence": [evidence] * who.size,
            }
        )
        crm.append("consents", frame)
