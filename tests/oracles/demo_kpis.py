"""The ten headline KPIs once more, in Polars and plain Python, straight from canonical rows.

Written from the definitions, sharing no code or SQL with the warehouse. `frames` maps entity names to Polars frames with the
canonical columns: ids as text, timestamps as naive UTC `Datetime`, dates as `Date`, amounts as `Decimal` or `Float64`. Every KPI
is a function `kpi(frames, settings, start, end)` over local days `[start, end)`; None means a zero denominator or nothing that
may be shown yet. `by_month` applies one to each calendar month.

Assumptions where the definitions leave room:
 1. A fact belongs to the person of its contact, else to the organisation of its company, else to nobody. Facts of nobody count
    in sums of orders and answers, not in numbers of customers. `Settings.members` gives the resolved customers (columns
    node_type, source_id, customer_id); without it, records are joined by merges, reviewed links, e-mail address and phone.
 2. A fact is left out when it, its contact's or its company's customer is a test: any record marked, or any address in the
    workspace's domains. Deleted facts and merged losers are left out; facts of a deleted contact stay (they happened).
 3. Amounts convert at the latest rate on or before the local day of the flow: direct, inverse, or through a third currency,
    which must be quoted on one and the same lookup. A flow without a rate is left out.
 4. An order counts unless its status says it never happened. A refund converts at its order's day (restated).
 5. First acquired: the earliest of the first counted order with a positive net amount and the first paid moment of a
    subscription (trial over, amount positive, not ended before). A later refund does not undo an acquisition.
 6. A customer is in the opening book with a positive recurring amount at the opening instant; a contract paused at amount 0 is
    not paying. A subscription's row holds its first terms; a change holds what it names and inherits the rest.
 7. Leads mature W×24 hours after creation; "within W days" includes the exact instant.
 8. Answers belong to the day of the answer; members to the day of delivery.
 9. Interactions: facing the customer, no note or task, and either inbound or a call, meeting or chat that reached somebody.
    Active customers had a counted order or an interaction in the period. Elapsed days end at the watermark.
10. Funnel: leads created, converted, then the customer's first order ever or the lead's won deal, all within the window.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from statistics import median
from zoneinfo import ZoneInfo

import polars as pl

Frames = dict[str, pl.DataFrame]
_UTC = ZoneInfo("UTC")
_SHARED = {"info", "sales", "office", "admin", "contact", "hello", "support", "help", "team", "billing", "accounts", "noreply", "no-reply", "mail", "service", "marketing"}


@dataclass(frozen=True)
class Settings:
    """The workspace rules a number depends on. `watermark` is the naive UTC instant up to which the data are complete."""

    watermark: datetime
    time_zone: str = "Europe/Berlin"
    reporting_currency: str = "EUR"
    default_currency: str = "EUR"
    lead_conversion_window_days: int = 90
    response_window_days: int = 30
    test_email_domains: tuple[str, ...] = ()
    not_counted: frozenset[str] = frozenset({"draft", "quote", "quotation", "sent", "cancel", "cancelled", "canceled", "void", "voided", "failed", "expired", "rejected"})
    not_reached: frozenset[str] = frozenset({"no answer", "no_answer", "voicemail", "left voicemail", "left_voicemail", "busy", "not reached", "not_reached", "no reply"})
    gaps: tuple[tuple[datetime, datetime], ...] = ()
    members: pl.DataFrame | None = None

    def instant(self, day: date) -> datetime:
        """Naive UTC instant of a local midnight."""
        return datetime.combine(day, time(), ZoneInfo(self.time_zone)).astimezone(_UTC).replace(tzinfo=None)

    def local_day(self, moment: datetime) -> date:
        """Local day of a naive UTC instant."""
        return moment.replace(tzinfo=_UTC).astimezone(ZoneInfo(self.time_zone)).date()


def months(start: date, end: date) -> list[tuple[date, date]]:
    """The whole calendar months inside `[start, end)`."""
    found, first = [], start if start.day == 1 else _next_month(start)
    while _next_month(first) <= end:
        found.append((first, _next_month(first)))
        first = _next_month(first)
    return found


def by_month(kpi: Callable, frames: Frames, settings: Settings, start: date, end: date) -> dict[date, float | None]:
    """A KPI for each whole month of a range."""
    return {first: kpi(frames, settings, first, until) for first, until in months(start, end)}


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


# ---------------------------------------------------------------- who is who


class _People:
    """Customers by record, and which of them are tests."""

    def __init__(self, frames: Frames, settings: Settings) -> None:
        self.customer = dict(_given(settings.members) if settings.members is not None else _joined(frames))
        self.test: set[str] = set()
        for entity, kind, key in (("contacts", "contact", "contact_id"), ("companies", "company", "company_id"), ("leads", "lead", "lead_id")):
            for row in _rows(frames, entity):
                internal = _domain(row.get("email")) in settings.test_email_domains
                if (row.get("is_test") or internal) and (kind, row[key]) in self.customer:
                    self.test.add(self.customer[kind, row[key]])

    def of(self, row: dict) -> str | None:
        """Customer of a fact."""
        if row.get("contact_id") is not None:
            return self.customer.get(("contact", row["contact_id"]), f"contact {row['contact_id']}")
        if row.get("company_id") is not None:
            return self.customer.get(("company", row["company_id"]), f"company {row['company_id']}")
        return None

    def is_test(self, row: dict) -> bool:
        """Whether a fact belongs to a test."""
        named = (self.customer.get((kind, row.get(f"{kind}_id"))) for kind in ("contact", "company", "lead"))
        return bool(row.get("is_test")) or any(customer in self.test for customer in named if customer is not None)


def _given(members: pl.DataFrame):
    for row in members.iter_rows(named=True):
        yield (row["node_type"], row["source_id"]), row["customer_id"]


def _joined(frames: Frames):
    """Join records into customers; each is named after one of its records."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            node = parent[node]
        return node

    def join(left: tuple[str, str], right: tuple[str, str]) -> None:
        a, b = sorted((root(left), root(right)))
        parent[b] = a

    keys: dict[tuple[str, str], tuple[str, str]] = {}
    for entity, kind, key in (("contacts", "contact", "contact_id"), ("companies", "company", "company_id"), ("leads", "lead", "lead_id")):
        for row in _rows(frames, entity):
            node = (kind, row[key])
            root(node)
            if kind != "lead" and row.get("merged_into_id") is not None:
                join(node, (kind, row["merged_into_id"]))
            for reference in ("contact_id", "converted_contact_id") if kind == "lead" else ():
                if row.get(reference) is not None:
                    join(node, ("contact", row[reference]))
            for value in (_address(row.get("email")), _number(row.get("phone"))) if kind != "company" else ():
                if value is not None:
                    join(node, keys.setdefault(("key", value), node))
    for row in _rows(frames, "identity_links"):
        if row["decision"] == "same":
            join(("contact", row["left_id"]), ("contact", row["right_id"]))
    for node in list(parent):
        yield node, " ".join(root(node))


def _address(email: str | None) -> str | None:
    if not email or "@" not in email:
        return None
    local, _, domain = email.strip().lower().rpartition("@")
    local = local.split("+")[0]
    return None if local in _SHARED else f"{local}@{domain}"


def _domain(email: str | None) -> str | None:
    return email.strip().lower().rpartition("@")[2] if email else None


def _number(phone: str | None) -> str | None:
    digits = "".join(c for c in phone or "" if c.isdigit())
    digits = digits.removeprefix("00")
    return digits if len(digits) >= 7 else None


# ---------------------------------------------------------------- rows and money


def _rows(frames: Frames, entity: str):
    return frames[entity].iter_rows(named=True) if entity in frames else iter(())


def _facts(frames: Frames, entity: str, people: _People):
    """Rows that are neither deleted, merged away nor tests."""
    for row in _rows(frames, entity):
        if row.get("deleted_at") is None and row.get("merged_into_id") is None and not people.is_test(row):
            yield row


class _Money:
    """Converts into the reporting currency."""

    def __init__(self, frames: Frames, settings: Settings) -> None:
        self.settings = settings
        self.rates: dict[tuple[str, str], list[tuple[date, Decimal]]] = defaultdict(list)
        for row in _rows(frames, "exchange_rates"):
            self.rates[row["base_currency"], row["quote_currency"]].append((row["rate_date"], Decimal(str(row["rate"]))))
        for quotes in self.rates.values():
            quotes.sort()
        self.currencies = {currency for pair in self.rates for currency in pair}
        self._known: dict[tuple[str, date], Decimal | None] = {}

    def convert(self, amount, currency: str | None, day: date) -> Decimal | None:
        """Amount in the reporting currency, None without a rate."""
        currency = currency or self.settings.default_currency
        if (currency, day) not in self._known:
            self._known[currency, day] = self._factor(currency, self.settings.reporting_currency, day)
        factor = self._known[currency, day]
        return None if factor is None or amount is None else Decimal(str(amount)) * factor

    def _factor(self, base: str, quote: str, day: date) -> Decimal | None:
        if base == quote:
            return Decimal(1)
        direct = self._quoted(base, quote, day)
        if direct is not None:
            return direct
        for third in sorted(self.currencies - {base, quote}):
            first, second = self._quoted(base, third, day), self._quoted(third, quote, day)
            if first is not None and second is not None:
                return first * second
        return None

    def _quoted(self, base: str, quote: str, day: date) -> Decimal | None:
        for pair, inverse in (((base, quote), False), ((quote, base), True)):
            until = [rate for rate_day, rate in self.rates.get(pair, ()) if rate_day <= day]
            if until:
                return 1 / until[-1] if inverse else until[-1]
        return None


@dataclass(frozen=True)
class _Order:
    customer: str | None
    at: datetime
    day: date
    net: Decimal  # reporting currency
    refunded: Decimal

    @property
    def is_valued(self) -> bool:
        return self.net > 0 and self.net - self.refunded > Decimal("0.005")   # several conversions of parts may leave a rest below half a cent


def _orders(frames: Frames, settings: Settings, people: _People, money: _Money) -> list[_Order]:
    """Counted orders with what came back of them."""
    lines: dict[str, Decimal] = defaultdict(Decimal)
    for row in _rows(frames, "order_lines"):
        lines[row["order_id"]] += Decimal(str(row["quantity"])) * Decimal(str(row["unit_price"])) - Decimal(str(row.get("discount_amount") or 0))
    refunds: dict[str, list[dict]] = defaultdict(list)
    for row in _rows(frames, "refunds"):
        refunds[row.get("order_id")].append(row)
    found = []
    for row in _facts(frames, "orders", people):
        if (row.get("status") or "").lower() in settings.not_counted:
            continue
        day = settings.local_day(row["ordered_at"])
        net = row.get("net_amount")
        if net is None:
            net = lines[row["order_id"]] - Decimal(str(row.get("discount_amount") or 0))
        net = money.convert(net, row.get("currency"), day)
        back = [money.convert(r["amount"], r.get("currency") or row.get("currency"), day) for r in refunds[row["order_id"]]]
        if net is not None:
            found.append(_Order(people.of(row), row["ordered_at"], day, net, sum((b for b in back if b is not None), Decimal(0))))
    return found


# ---------------------------------------------------------------- recurring revenue


def _paying_spans(frames: Frames, people: _People) -> dict[str, list[tuple[datetime, datetime]]]:
    """Half-open spans in which each customer pays something recurring."""
    changes: dict[str, list[dict]] = defaultdict(list)
    for row in _rows(frames, "subscription_changes"):
        changes[row["subscription_id"]].append(row)
    spans: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for row in _facts(frames, "subscriptions", people):
        customer = people.of(row)
        if customer is None:
            continue
        ended = row.get("ended_at") or datetime.max
        paid_from = max(row["started_at"], row.get("trial_ends_at") or row["started_at"])
        amount, quantity, since = row["amount"], row.get("quantity"), row["started_at"]
        terms = []
        for change in sorted(changes[row["subscription_id"]], key=lambda c: c["changed_at"]):
            terms.append((since, change["changed_at"], amount))
            if change.get("amount") is not None:
                amount = change["amount"]
            elif change.get("quantity") is not None and quantity:
                amount = amount * change["quantity"] / quantity
            quantity, since = change.get("quantity") or quantity, change["changed_at"]
        terms.append((since, datetime.max, amount))
        for begin, until, value in terms:
            begin, until = max(begin, paid_from), min(until, ended)
            if begin < until and value > 0:
                spans[customer].append((begin, until))
    return spans


def _pays_at(spans: list[tuple[datetime, datetime]], moment: datetime) -> bool:
    return any(begin <= moment < until for begin, until in spans)


class _Context:
    """What several KPIs need of one warehouse's worth of rows, worked out once."""

    def __init__(self, frames: Frames, settings: Settings) -> None:
        self.frames, self.settings = frames, settings
        self.people, self.money = _People(frames, settings), _Money(frames, settings)

    @cached_property
    def orders(self) -> list[_Order]:
        return _orders(self.frames, self.settings, self.people, self.money)

    @cached_property
    def spans(self) -> dict[str, list[tuple[datetime, datetime]]]:
        return _paying_spans(self.frames, self.people)

    @cached_property
    def first_order(self) -> dict[str, datetime]:
        first: dict[str, datetime] = {}
        for order in self.orders:
            if order.customer is not None:
                first[order.customer] = min(first.get(order.customer, order.at), order.at)
        return first

    @cached_property
    def acquired(self) -> dict[str, date]:
        first: dict[str, datetime] = {}
        for order in self.orders:
            if order.customer is not None and order.net > 0:
                first[order.customer] = min(first.get(order.customer, order.at), order.at)
        for customer, spans in self.spans.items():
            moment = min(begin for begin, _ in spans)
            if moment < self.settings.watermark:
                first[customer] = min(first.get(customer, moment), moment)
        return {customer: self.settings.local_day(moment) for customer, moment in first.items()}

    @cached_property
    def _by_day(self) -> dict[tuple[str, str], list[tuple[date, dict]]]:
        return {}

    def dated(self, entity: str, column: str, start: date, end: date) -> list[dict]:
        """Facts of an entity whose instant in `column` lies on the local days `[start, end)`."""
        if (entity, column) not in self._by_day:
            rows = (row for row in _facts(self.frames, entity, self.people) if row.get(column) is not None)
            self._by_day[entity, column] = [(self.settings.local_day(row[column]), row) for row in rows]
        return [row for day, row in self._by_day[entity, column] if start <= day < end]


_last: list[_Context] = []


def _context(frames: Frames, settings: Settings) -> _Context:
    """The context of the last call if it was about the same objects: KPIs are asked month by month."""
    if not _last or _last[0].frames is not frames or _last[0].settings is not settings:
        _last[:] = [_Context(frames, settings)]
    return _last[0]


# ---------------------------------------------------------------- the ten


def first_acquired(frames: Frames, settings: Settings) -> dict[str, date]:
    """Local day on which each customer first paid."""
    return _context(frames, settings).acquired


def cac(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Blended: ad spend and all other sales and marketing cost of the period per customer first acquired in it."""
    money = _context(frames, settings).money
    amounts = [money.convert(r["amount"], r.get("currency"), r["spend_date"]) for r in _rows(frames, "marketing_spend") if start <= r["spend_date"] < end]
    new = sum(start <= day < end for day in first_acquired(frames, settings).values())
    return float(sum(a for a in amounts if a is not None)) / new if new else None


def historic_value(frames: Frames, settings: Settings, end: date) -> dict[str, float]:
    """Net revenue (restated) of each customer's counted orders before `end`."""
    value: dict[str, Decimal] = defaultdict(Decimal)
    for order in _context(frames, settings).orders:
        if order.customer is not None and order.day < end:
            value[order.customer] += order.net - order.refunded
    return {customer: float(total) for customer, total in value.items()}


def clv_historic(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Historic part of CLV: mean value up to `end` of the customers who ordered in `[start, end)` for the first time."""
    value = historic_value(frames, settings, end)
    first = _context(frames, settings).first_order
    cohort = [value[customer] for customer, moment in first.items() if start <= settings.local_day(moment) < end]
    return sum(cohort) / len(cohort) if cohort else None


def clv_historic_of_acquired(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Historic part of CLV as asked today: mean value up to the watermark of the customers first acquired in `[start, end)`."""
    value = historic_value(frames, settings, _day_after(settings))
    cohort = [value.get(customer, 0.0) for customer, day in first_acquired(frames, settings).items() if start <= day < end]
    return sum(cohort) / len(cohort) if cohort else None


def churn_rate(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Logo: customers of the opening book with nothing active at the close; the close of a running period is the watermark."""
    opening, closing = settings.instant(start), min(settings.instant(end), settings.watermark)
    if opening >= closing:
        return None
    book = [spans for spans in _context(frames, settings).spans.values() if _pays_at(spans, opening)]
    return sum(not _pays_at(spans, closing) for spans in book) / len(book) if book else None


def sales_conversion_rate(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Mature leads created in the period that converted within the window, of all mature leads created in it."""
    window = timedelta(days=settings.lead_conversion_window_days)
    created = _context(frames, settings).dated("leads", "created_at", start, end)
    mature = [row for row in created if row["created_at"] + window <= settings.watermark]
    won = sum(row["converted_at"] is not None and row["converted_at"] <= row["created_at"] + window for row in mature)
    return won / len(mature) if mature else None


def average_order_value(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Restated: net revenue of orders, less what ever came back of them, per order; fully refunded and zero-value orders out."""
    orders = _context(frames, settings).orders
    valued = [order.net - order.refunded for order in orders if start <= order.day < end and order.is_valued]
    return float(sum(valued)) / len(valued) if valued else None


def csat(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Answers of 4 or 5 per answer."""
    answered = _context(frames, settings).dated("survey_responses", "responded_at", start, end)
    scores = [row["score"] for row in answered if row["kind"] == "csat" and row["score"] is not None]
    return sum(score >= 4 for score in scores) / len(scores) if scores else None


def interaction_frequency(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Customer-initiated or two-way interactions per active customer per 30 elapsed days."""
    context = _context(frames, settings)
    elapsed = (min(end, _day_after(settings)) - start).days
    talked = []
    for row in context.dated("activities", "occurred_at", start, end):
        customer = context.people.of(row)
        if customer is None or row["kind"] in ("note", "task") or row.get("is_customer_facing") is False:
            continue
        reached = (row.get("outcome") or "").strip().lower() not in settings.not_reached
        if row.get("direction") == "inbound" or (row["kind"] in ("call", "meeting", "chat") and reached):
            talked.append(customer)
    active = set(talked) | {order.customer for order in context.orders if order.customer is not None and start <= order.day < end}
    return len(talked) / len(active) / elapsed * 30 if active and elapsed > 0 else None


def _day_after(settings: Settings) -> date:
    """First local day of which the data know nothing."""
    day = settings.local_day(settings.watermark)
    return day if settings.instant(day) == settings.watermark else day + timedelta(days=1)


def funnel_conversion_rate(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Leads created in the period that converted and then ordered first or won a deal, all within the window; maturing ones apart."""
    context = _context(frames, settings)
    window = timedelta(days=settings.lead_conversion_window_days)
    won = {row["deal_id"]: row["closed_at"] for row in _facts(frames, "deals", context.people) if row.get("is_won")}
    entries = converted = 0
    for row in context.dated("leads", "created_at", start, end):
        limit = row["created_at"] + window
        if limit > settings.watermark:
            continue
        entries += 1
        if row["converted_at"] is None or row["converted_at"] > limit:
            continue
        customer = context.people.customer.get(("lead", row["lead_id"])) or context.people.of({"contact_id": row.get("converted_contact_id")})
        moments = [context.first_order.get(customer), won.get(row.get("converted_deal_id"))]
        converted += any(moment is not None and row["converted_at"] <= moment <= limit for moment in moments)
    return converted / entries if entries else None


def retention_cells(frames: Frames, settings: Settings, start: date, end: date) -> dict[tuple[date, int], tuple[int, int] | None]:
    """Bounded monthly retention of cohorts by first order: (cohort month, N) -> (active, size), None where incomplete."""
    active: dict[str, set[date]] = defaultdict(set)
    for order in _context(frames, settings).orders:
        if order.customer is not None:
            active[order.customer].add(order.day.replace(day=1))
    cohorts: dict[date, list[str]] = defaultdict(list)
    for customer, seen in active.items():
        cohorts[min(seen)].append(customer)
    cells: dict[tuple[date, int], tuple[int, int] | None] = {}
    for first, _ in months(start, end):
        month, number = first, 0
        while cohorts[first] and settings.instant(month) < settings.watermark:
            began, over = settings.instant(month), settings.instant(_next_month(month))
            whole = over <= settings.watermark and not any(gap < over and until > began for gap, until in settings.gaps)
            cells[first, number] = (sum(month in active[c] for c in cohorts[first]), len(cohorts[first])) if whole else None
            month, number = _next_month(month), number + 1
    return cells


def retention_rate(frames: Frames, settings: Settings, start: date, end: date, period: int = 1) -> float | None:
    """Mean of period N over the cohorts that began in `[start, end)`, weighted by size, complete cells only."""
    cells = [cell for (_, number), cell in retention_cells(frames, settings, start, end).items() if number == period and cell is not None]
    size = sum(n for _, n in cells)
    return sum(k for k, _ in cells) / size if size else None


def _responses(frames: Frames, settings: Settings, start: date, end: date) -> list[float | None]:
    """Days to the first response within the window of each member delivered in the period, None for none."""
    window = timedelta(days=settings.response_window_days)
    found = []
    for row in _context(frames, settings).dated("campaign_members", "delivered_at", start, end):
        if row.get("is_suspected_bot"):
            continue
        delivered = row["delivered_at"]
        moments = [row.get(name) for name in ("first_replied_at", "responded_at", "first_clicked_at", "converted_at")]
        inside = [moment for moment in moments if moment is not None and delivered <= moment <= delivered + window]
        found.append((min(inside) - delivered) / timedelta(days=1) if inside else None)
    return found


def campaign_response_rate(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Members with a reply, form, click or order within the window, of the members delivered; suspected bots out."""
    members = _responses(frames, settings, start, end)
    return sum(days is not None for days in members) / len(members) if members else None


def campaign_response_time(frames: Frames, settings: Settings, start: date, end: date) -> float | None:
    """Median days from delivery to the first response of those who responded."""
    answered = [days for days in _responses(frames, settings, start, end) if days is not None]
    return median(answered) if answered else None


KPIS: dict[str, Callable] = {
    "cac": cac,
    "clv_historic": clv_historic,
    "churn_rate": churn_rate,
    "sales_conversion_rate": sales_conversion_rate,
    "average_order_value": average_order_value,
    "csat": csat,
    "interaction_frequency": interaction_frequency,
    "funnel_conversion_rate": funnel_conversion_rate,
    "retention_rate": retention_rate,
    "campaign_response_rate": campaign_response_rate,
}
