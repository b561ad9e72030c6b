"""Runs the simulated company block by block and writes its CRM and, apart from it, the truth.

Belongs here: the order of the steps, seeds and progress. What each step draws stands in the module it is imported from.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.sources.demo import world
from pipelines.sources.demo.buying import Buyers, Orders, draw_buyers, draw_other_orders, write_orders
from pipelines.sources.demo.calendar import Calendar, utc_text
from pipelines.sources.demo.company import Company, found
from pipelines.sources.demo.contacting import relate, write_activities, write_events, write_service
from pipelines.sources.demo.crm_file import CrmFile
from pipelines.sources.demo.draws import at_least, flags, labels
from pipelines.sources.demo.marketing import Tally, choose_recipients, write_ad_costs, write_recipients, write_visits
from pipelines.sources.demo.people import People, draw_accounts, draw_leads, draw_people
from pipelines.sources.demo.records import write_consents, write_leads, write_people
from pipelines.sources.demo.selling import Opportunities, sell
from pipelines.sources.demo.subscribing import subscribe

_HERE = Path(__file__).parent
MAPPING_FILE = _HERE / "mapping.yml"
"""How the CRM's tables become canonical entities: the same kind of file a user writes for their own database."""

BLOCK = 20_000
"""Contacts simulated at a time; a block keeps the process near 200 MB, whatever the whole company's size."""

FEWEST_CUSTOMERS = 50
"""Below this the world is too small to draw at all; from 300 on practically every phenomenon occurs at least once."""


def simulate(
    path: Path,
    truth_path: Path,
    customers: int = 20_000,
    seed: int = 7,
    end: date | None = None,
    years: int = 3,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Write a simulated company's operational CRM to the SQLite file `path` and the truth behind it to `truth_path`.

    `customers` is the number of contact records; `end` the local day (exclusive) up to which there are data, today if not
    given; `years` how far they reach back. The same arguments give the same rows. `progress` is called with the name of a
    step and the share of the work done (0..1). Planned things (an expected close date, the end of a cancelled contract, a
    target) may lie after `end`, as in a real CRM; nothing that has happened does.

    Both files appear only when complete. Raises ValueError for fewer than 50 customers or less than one year.
    """
    if customers < FEWEST_CUSTOMERS:
        raise ValueError(f"customers must be at least {FEWEST_CUSTOMERS}, not {customers}: a smaller company is none")
    if years < 1:
        raise ValueError(f"years must be at least 1, not {years}")
    if Path(path).resolve() == Path(truth_path).resolve():
        raise ValueError(f"the CRM and the truth must be two files, not both {path}: no pipeline may read the truth")
    last_day = end or date.today()
    calendar = Calendar(_years_before(last_day, years), last_day)
    report = progress or (lambda step, share: None)
    blocks = -(-customers // BLOCK)
    sizes = [customers // blocks + (block < customers % blocks) for block in range(blocks)]
    with CrmFile(path, _HERE / "operational.sql") as crm, CrmFile(truth_path, _HERE / "truth.sql") as truth:
        report("company", 0.0)
        company = found(np.random.default_rng([seed, 0]), crm, calendar, customers)
        tally = Tally.empty(company)
        for block, size in enumerate(sizes):
            # A seed of its own makes a block independent of how many draws the ones before took.
            rng = np.random.default_rng([seed, 1, block])

            def step(name: str, share: float, block: int = block) -> None:
                report(name, (block + share) / blocks * 0.98)

            _simulate_block(rng, company, crm, truth, size, tally, step)
        report("advertising costs", 0.98)
        write_ad_costs(np.random.default_rng([seed, 2]), company, crm, tally)
        _write_company_truth(truth, company, tally)
    report("done", 1.0)


def _simulate_block(rng: np.random.Generator, company: Company, crm: CrmFile, truth: CrmFile, size: int, tally: Tally, step: Callable[[str, float], None]) -> None:
    step("people", 0.0)
    accounts = draw_accounts(rng, company, crm, size)
    leads = draw_leads(rng, company, crm, size)
    people = draw_people(rng, company, crm, size, accounts, leads)
    step("opportunities", 0.08)
    opportunities, opportunity_of_lead = sell(rng, company, crm, truth, people, accounts, leads)
    step("contacts and prospects", 0.14)
    buyers, purchases = draw_buyers(rng, company, people)
    write_people(rng, company, crm, truth, people, accounts.id, buyers.first >= 0)
    write_leads(rng, company, crm, truth, leads, people, opportunity_of_lead)
    write_consents(rng, company, crm, people)
    step("orders", 0.24)
    recipients, caused = choose_recipients(rng, company, people, leads, buyers, tally)
    others = draw_other_orders(rng, company, people, accounts, purchases)
    orders = Orders.joined([purchases, caused, _orders_from_sales(rng, opportunities), *others])
    order_id, order_record = write_orders(rng, company, crm, people, accounts, orders)
    step("contracts", 0.48)
    contracts = subscribe(rng, company, crm, truth, people, accounts, buyers, opportunities)
    step("campaigns and visits", 0.52)
    write_recipients(rng, company, crm, people, leads, orders, recipients)
    write_visits(rng, company, crm, people, leads, orders)
    step("app events", 0.7)
    relation = relate(rng, company, people, buyers, contracts)
    write_events(rng, company, crm, people, orders, relation)
    step("activities and support", 0.86)
    write_activities(rng, company, crm, people, accounts, relation, opportunities)
    write_service(rng, company, crm, people, accounts, relation, orders, order_id, order_record)

    is_direct = people.lead < 0
    tally.count_arrivals(company, people.channel[is_direct], people.created[is_direct])
    tally.count_arrivals(company, leads.channel, leads.created)
    _add_up_channels(tally, people, buyers, purchases)
    _write_people_truth(truth, people, buyers, purchases)


def _orders_from_sales(rng: np.random.Generator, opportunities: Opportunities) -> Orders:
    """Draw a first delivery for a fifth of the won opportunities."""
    won = at_least(rng, np.flatnonzero(opportunities.is_won), 0.2, 3)
    return Orders.of(
        opportunities.person[won],
        opportunities.closed[won],
        np.minimum(opportunities.euros[won] * 0.3, 900.0),
        opportunity=opportunities.id[won],
    )


def _add_up_channels(tally: Tally, people: People, buyers: Buyers, purchases: Orders) -> None:
    count = len(world.CHANNELS)
    tally.people += np.bincount(people.channel, minlength=count)
    tally.buyers += np.bincount(people.channel[buyers.first >= 0], minlength=count)
    tally.order_value += np.bincount(people.channel[purchases.person], weights=purchases.euros, minlength=count)


def _write_people_truth(truth: CrmFile, people: People, buyers: Buyers, purchases: Orders) -> None:
    frame = pl.DataFrame(
        {
            "person_id": people.id,
            "channel": labels(world.CHANNEL_NAMES, people.channel),
            "is_buyer": flags(buyers.is_buyer),
            "purchase_rate_per_week": buyers.rate,
            "dropout_probability": buyers.dropout,
            "mean_order_value": buyers.mean_value,
            "responsiveness": buyers.responsiveness,
            "orders": np.bincount(purchases.person, minlength=people.id.size),
            "dropped_out_on": utc_text(buyers.left),
            "is_alive": flags((buyers.first >= 0) & (buyers.left < 0)),
        }
    )
    truth.append("people", frame)


def _write_company_truth(truth: CrmFile, company: Company, tally: Tally) -> None:
    parameters = (
        ("purchase_shape", world.PURCHASE_SHAPE, "r of BG/NBD"),
        ("purchase_scale_weeks", world.PURCHASE_WEEKS, "alpha of BG/NBD in weeks of operational time"),
        ("dropout_a", world.DROPOUT_A, "a of BG/NBD"),
        ("dropout_b", world.DROPOUT_B, "b of BG/NBD"),
        ("spend_p", world.SPEND_P, "p of gamma-gamma"),
        ("spend_q", world.SPEND_Q, "q of gamma-gamma"),
        ("spend_gamma", world.SPEND_GAMMA, "gamma of gamma-gamma in euro, for a channel with value multiplier 1"),
    )
    truth.append("parameters", pl.DataFrame(parameters, schema=["name", "value", "meaning"], orient="row"))
    channels = pl.DataFrame(
        {
            "channel": list(world.CHANNEL_NAMES),
            "quality": [c.quality for c in world.CHANNELS],
            "buyer_probability": [c.buyer_probability for c in world.CHANNELS],
            "value_multiplier": [c.value_multiplier for c in world.CHANNELS],
            "cost_per_person": [c.cost for c in world.CHANNELS],
            "people": tally.people,
            "buyers": tally.buyers,
            "order_value": tally.order_value,
        }
    )
    truth.append("channels", channels)
    campaigns = pl.DataFrame(
        {
            "campaign_id": company.messages.campaign_id,
            "effect_on_responsive": company.messages.effect,
            "members": tally.members,
            "average_effect": tally.effect / np.maximum(tally.members, 1),
            "extra_orders": tally.extra,
        }
    )
    truth.append("campaigns", campaigns)


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February has no counterpart in most years
        return day.replace(year=day.year - years, day=28)
