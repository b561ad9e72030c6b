"""Event logs for the funnel: one SELECT for each kind of history the warehouse keeps.

Belongs here: how events, touchpoints, leads with orders, and deal stages become rows of one shape. Does not belong here:
steps, windows, counting.

Shape of a log: entity_id VARCHAR, name VARCHAR, occurred_at TIMESTAMP (naive UTC), sequence BIGINT (nullable), event_id
VARCHAR, then any number of attributes. One row per occurrence; (entity_id, occurred_at, sequence, event_id) orders it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from data_contracts.errors import UsageError
from models.engines.funnel_range import quoted, relation

# Attributes of the person that every log can break down by: they are constant per entity.
CUSTOMER_ATTRIBUTES = (
    "customer_type", "industry", "country_code", "region", "city", "language", "lifecycle_stage",
    "acquisition_channel", "acquisition_campaign_id", "owner_id", "segment",
)  # fmt: skip


@dataclass(frozen=True)
class EventLog:
    """A log: the SELECT that yields it, and what its steps and breakdowns may use.

    ``own_attributes`` are columns of ``select``; ``entity_attributes`` are columns of the table ``entities``, which has one
    row per ``entity_key`` and is joined only when one of them is used. An own attribute hides one of the entity.
    """

    select: str
    own_attributes: tuple[str, ...] = ()
    entities: str | None = None
    entity_key: str = "customer_id"
    entity_attributes: tuple[str, ...] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """Every name a condition or breakdown may use."""
        return self.own_attributes + tuple(n for n in self.entity_attributes if n not in self.own_attributes)

    def sql(self, used: Collection[str]) -> str:
        """The SELECT with those entity attributes among ``used``."""
        needed = [n for n in self.attributes if n in used and n not in self.own_attributes]
        if not needed or self.entities is None:
            return self.select
        columns = ", ".join(f"c.{quoted(name)}" for name in needed)
        return (
            f"SELECT l.*, {columns} FROM ({self.select}) AS l LEFT JOIN {relation(self.entities)} AS c "
            f"ON l.entity_id = c.{quoted(self.entity_key)}"
        )


def table_log(table: str, attributes: tuple[str, ...] = ()) -> EventLog:
    """A table or view that already has the shape of a log."""
    return EventLog(f"SELECT * FROM {relation(table)}", attributes)


def events_log(
    properties: tuple[str, ...] = (),
    events: str = "marts.fct_events",
    customers: str = "marts.dim_customers",
) -> EventLog:
    """Product and web events; a step is the event's name.

    ``properties`` are keys of the event's JSON properties to offer as attributes, beside those of the customer.
    """
    columns = _json_columns(properties, "properties")
    return EventLog(
        f"SELECT customer_id AS entity_id, name, occurred_at, sequence, event_id{columns} "
        f"FROM {relation(events)} WHERE customer_id IS NOT NULL",
        properties,
        entities=customers,
        entity_attributes=CUSTOMER_ATTRIBUTES,
    )


def touchpoints_log(
    touchpoints: str = "marts.fct_touchpoints", customers: str = "marts.dim_customers"
) -> EventLog:
    """Marketing touches; a step is the channel."""
    return EventLog(
        "SELECT customer_id AS entity_id, channel AS name, occurred_at, sequence, touchpoint_id AS event_id, "
        f"channel, medium, source_name, campaign_id FROM {relation(touchpoints)} WHERE customer_id IS NOT NULL",
        ("channel", "medium", "source_name", "campaign_id"),
        entities=customers,
        entity_attributes=CUSTOMER_ATTRIBUTES,
    )


def lead_lifecycle_log(
    leads: str = "marts.fct_leads",
    orders: str = "marts.fct_orders",
) -> EventLog:
    """From lead to buyer; steps ``lead_created``, ``lead_converted``, ``lead_disqualified``, ``first_order``, ``order``.

    The entity is the customer whom the lead became, else the lead itself. The first counted order occurs twice, as
    ``first_order`` and as ``order``, so that a funnel can ask for either. At one instant a lead comes before its
    conversion and both before an order.
    """
    lead = "coalesce(customer_id, 'lead:' || lead_id)"
    attributes = ("channel", "campaign_id", "owner_id", "country_code")
    shared = ", ".join(attributes)
    return EventLog(
        f"SELECT {lead} AS entity_id, 'lead_created' AS name, created_at AS occurred_at, 1::BIGINT AS sequence, "
        f"lead_id || ':created' AS event_id, {shared} FROM {relation(leads)} "
        f"UNION ALL BY NAME SELECT {lead} AS entity_id, 'lead_converted' AS name, converted_at AS occurred_at, "
        f"2::BIGINT AS sequence, lead_id || ':converted' AS event_id, {shared} FROM {relation(leads)} "
        "WHERE converted_at IS NOT NULL "
        f"UNION ALL BY NAME SELECT {lead} AS entity_id, 'lead_disqualified' AS name, disqualified_at AS occurred_at, "
        f"3::BIGINT AS sequence, lead_id || ':disqualified' AS event_id, {shared} FROM {relation(leads)} "
        "WHERE disqualified_at IS NOT NULL "
        "UNION ALL BY NAME SELECT customer_id AS entity_id, 'first_order' AS name, ordered_at AS occurred_at, "
        "4::BIGINT AS sequence, order_id || ':first' AS event_id, channel, country_code "
        f"FROM {relation(orders)} WHERE is_first_order AND is_counted AND customer_id IS NOT NULL "
        "UNION ALL BY NAME SELECT customer_id AS entity_id, 'order' AS name, ordered_at AS occurred_at, "
        "5::BIGINT AS sequence, order_id AS event_id, channel, country_code "
        f"FROM {relation(orders)} WHERE is_counted AND customer_id IS NOT NULL",
        attributes,
    )


def deal_stages_log(
    visits: str = "marts.fct_deal_stage_visits", deals: str = "marts.fct_deals"
) -> EventLog:
    """Deals through their stages; a step is the stage, an occurrence is one visit, the entity is the deal.

    ``visit_number`` counts a deal's visits in their order, so that two at one instant keep it.
    """
    attributes = ("pipeline", "channel", "campaign_id", "owner_id", "customer_id")
    return EventLog(
        "SELECT v.deal_id AS entity_id, v.stage AS name, v.entered_at AS occurred_at, v.visit_number AS sequence, "
        "v.deal_id || ':' || v.visit_number AS event_id, "
        "v.pipeline, d.channel, d.campaign_id, d.owner_id, d.customer_id "
        f"FROM {relation(visits)} AS v JOIN {relation(deals)} AS d USING (deal_id)",
        attributes,
    )


LOGS = {
    "events": events_log,
    "touchpoints": touchpoints_log,
    "leads": lead_lifecycle_log,
    "deals": deal_stages_log,
}


def log_named(name: str) -> EventLog:
    """The log over the marts called ``name``: events, touchpoints, leads or deals. UsageError for any other."""
    if name not in LOGS:
        raise UsageError(f"there is no log called '{name}'", remedy=f"Use one of: {', '.join(LOGS)}.")
    return LOGS[name]()


def _json_columns(keys: tuple[str, ...], column: str) -> str:
    found = []
    for key in keys:
        if not key.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise UsageError(
                f"'{key}' is not a property name", remedy="Use letters, digits, underscore, hyphen and dot."
            )
        found.append(f", json_extract_string({column}, '$.\"{key}\"') AS {quoted(key)}")
    return "".join(found)
