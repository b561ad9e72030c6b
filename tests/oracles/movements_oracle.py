"""Brute-force revenue movements, summary and transactional churn in plain Python, straight from the written definitions.

Belongs here: slow, obvious recomputation that tests compare the engines with. It shares no code and no SQL with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from zoneinfo import ZoneInfo

CENT_OF_CENT = Decimal("0.0001")
FLOWS = ("new", "expansion", "contraction", "churn", "reactivation")


@dataclass
class Term:
    subscription_id: str
    customer_id: str
    valid_from: datetime
    valid_to: datetime | None
    mrr: Decimal
    currency: str


@dataclass
class Log:
    terms: list[Term]
    rates: dict[str, list[tuple[date, Decimal]]] = field(default_factory=dict)
    cancel_requests: dict[str, datetime] = field(default_factory=dict)


@cache
def local_day(instant: datetime, zone: str) -> date:
    return instant.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()


def rate_on(log: Log, currency: str, day: date, reporting: str) -> Decimal | None:
    if currency == reporting:
        return Decimal(1)
    known = [(rate_day, rate) for rate_day, rate in log.rates.get(currency, []) if rate_day <= day]
    return max(known)[1] if known else None


def cut_at_requests(log: Log) -> list[Term]:
    """Terms as they stand when churn is dated by the cancellation request."""
    kept = []
    for subscription_id in {term.subscription_id for term in log.terms}:
        terms = sorted(
            (t for t in log.terms if t.subscription_id == subscription_id and t.mrr), key=lambda t: t.valid_from
        )
        request = log.cancel_requests.get(subscription_id)
        runs: list[list[Term]] = []
        for term in terms:
            if runs and runs[-1][-1].valid_to is not None and runs[-1][-1].valid_to >= term.valid_from:
                runs[-1].append(term)
            else:
                runs.append([term])
        for run in runs:
            end = run[-1].valid_to
            hit = request is not None and run[0].valid_from <= request and (end is None or request < end)
            for term in run:
                if not hit or term.valid_to is not None and term.valid_to <= request:
                    kept.append(term)
                elif term.valid_from < request:
                    kept.append(
                        Term(term.subscription_id, term.customer_id, term.valid_from, request, term.mrr, term.currency)
                    )
    return kept


def movements(
    log: Log,
    periods: list[tuple[date, date]],
    zone: str,
    reporting: str,
    watermark: datetime,
    churn_dated: str = "period_end",
) -> dict[tuple[date, str, str], dict]:
    """(period start, customer, currency) -> amounts and flags; rows that are nothing but 0 are absent."""
    # A term without a rate leaves as a whole, before anything else is read.
    log = Log(
        [t for t in log.terms if rate_on(log, t.currency, local_day(t.valid_from, zone), reporting) is not None],
        log.rates,
        log.cancel_requests,
    )
    terms = cut_at_requests(log) if churn_dated == "cancel_request" else log.terms
    terms = [t for t in terms if t.mrr and t.valid_from <= watermark and (t.valid_to is None or t.valid_to > t.valid_from)]
    result = {}
    for customer in {t.customer_id for t in terms}:
        book = Book([t for t in terms if t.customer_id == customer], log, zone, reporting, watermark)
        result |= {(start, customer, c): row for (start, c), row in book.rows(periods).items()}
    return result


@dataclass
class Book:
    """One customer's terms, asked for balances again and again."""

    terms: list[Term]
    log: Log
    zone: str
    reporting: str
    watermark: datetime

    def sums(self, running: list[Term]) -> dict[str, Decimal]:
        totals = {term.currency: Decimal(0) for term in self.terms}
        for term in running:
            totals[term.currency] += term.mrr
        return totals

    def has_ended(self, term: Term) -> bool:
        return term.valid_to is not None and term.valid_to <= self.watermark

    def just_before(self, instant: datetime) -> dict[str, Decimal]:
        started = [t for t in self.terms if t.valid_from < instant]
        return self.sums([t for t in started if not (self.has_ended(t) and t.valid_to < instant)])

    def just_after(self, instant: datetime) -> dict[str, Decimal]:
        started = [t for t in self.terms if t.valid_from <= instant]
        return self.sums([t for t in started if not (self.has_ended(t) and t.valid_to <= instant)])

    def as_the_day_begins(self, day: date) -> dict[str, Decimal]:
        started = [t for t in self.terms if local_day(t.valid_from, self.zone) < day]
        return self.sums([t for t in started if not (self.has_ended(t) and local_day(t.valid_to, self.zone) < day)])

    def value(self, amount: Decimal, currency: str, day: date) -> Decimal:
        if not amount:
            return Decimal(0)
        return (amount * rate_on(self.log, currency, day, self.reporting)).quantize(CENT_OF_CENT, ROUND_HALF_UP)

    def changes(self) -> list[tuple[date, str, dict, dict]]:
        """(local day, kind, balances before, balances after) of every instant that changes anything."""
        instants = {t.valid_from for t in self.terms} | {t.valid_to for t in self.terms if self.has_ended(t)}
        found, ever_paid = [], False
        for instant in sorted(instants):
            before, after, day = self.just_before(instant), self.just_after(instant), local_day(instant, self.zone)
            if before == after:
                continue
            was, now = any(b > 0 for b in before.values()), any(b > 0 for b in after.values())
            if not was and now:
                kind = "reactivation" if ever_paid else "new"
            elif was and not now:
                kind = "churn"
            else:
                net = sum(self.value(after[c], c, day) - self.value(before[c], c, day) for c in after)
                kind = "expansion" if net >= 0 else "contraction"
            ever_paid = ever_paid or now
            found.append((day, kind, before, after))
        return found

    def rows(self, periods: list[tuple[date, date]]) -> dict[tuple[date, str], dict]:
        today, changes, result = local_day(self.watermark, self.zone), self.changes(), {}
        for start, end in periods:
            if start <= today:
                inside = [change for change in changes if start <= change[0] < end]
                closed_on = min(end - timedelta(days=1), today)
                for currency, row in self.period(start, end, closed_on, inside).items():
                    row["is_complete"] = end <= today
                    result[start, currency] = row
        return result

    def period(self, start: date, end: date, closed_on: date, inside: list) -> dict[str, dict]:
        opening, closing = self.as_the_day_begins(start), self.as_the_day_begins(end)
        rows = {}
        for c in opening:
            row = {name: Decimal(0) for name in FLOWS}
            row["opening_mrr"] = self.value(opening[c], c, start - timedelta(days=1))
            row["closing_mrr"] = self.value(closing[c], c, closed_on)
            fx, held = Decimal(0), row["opening_mrr"]
            for day, kind, before, after in inside:
                low, high = self.value(before[c], c, day), self.value(after[c], c, day)
                fx += low - held
                held = high
                row[kind] += (low - high) if kind in ("contraction", "churn") else (high - low)
            row["fx"] = fx + row["closing_mrr"] - held
            rows[c] = row
        total_open = sum(r["opening_mrr"] for r in rows.values())
        total_close = sum(r["closing_mrr"] for r in rows.values())
        is_opening, is_closing = any(b > 0 for b in opening.values()), any(b > 0 for b in closing.values())
        kinds = {change[1] for change in inside}
        shown = {}
        for c, row in rows.items():
            touched = opening[c] or closing[c] or any(before[c] != after[c] for _, _, before, after in inside)
            if touched and (any(row.values()) or is_opening or is_closing):
                row["retained_mrr"] = row["opening_mrr"] if total_open <= total_close else row["closing_mrr"]
                row["is_opening"], row["is_closing"] = is_opening, is_closing
                row["is_churned_logo"] = is_opening and not is_closing
                row["is_new_logo"], row["same_period"] = "new" in kinds, {"new", "churn"} <= kinds
                shown[c] = row
        return shown


def summary(rows: dict[tuple[date, str, str], dict], start: date) -> dict[str, object]:
    """Totals and rates of one period, customer by customer."""
    mine = {(customer, c): row for (period, customer, c), row in rows.items() if period == start}
    total = {name: sum((r[name] for r in mine.values()), Decimal(0)) for name in (*FLOWS, "opening_mrr", "closing_mrr")}
    customers = {customer for customer, _ in mine}

    def of(customer, name):
        return sum(r[name] for (who, _), r in mine.items() if who == customer)

    def flag(customer, name):
        return any(r[name] for (who, _), r in mine.items() if who == customer)

    book = [c for c in customers if flag(c, "is_opening")]
    opening = total["opening_mrr"]

    def ratio(top, bottom):
        return None if bottom == 0 else float(top) / float(bottom)

    lost = total["churn"] + total["contraction"]
    net = lost - total["expansion"] - total["reactivation"]
    return {
        "mrr": total["closing_mrr"],
        "opening_customers": len(book),
        "gross_mrr_churn_rate": ratio(lost, opening),
        "net_mrr_churn_rate": ratio(net, opening),
        "grr": ratio(sum(min(of(c, "opening_mrr"), of(c, "closing_mrr")) for c in book), opening),
        "nrr": ratio(sum(of(c, "closing_mrr") for c in book), opening),
        "nrr__net_churn_complement": None if opening == 0 else 1 - ratio(net, opening),
        "nrr__net_of_expansion": None if opening == 0 else 1 - ratio(total["churn"] - total["expansion"], opening),
        "churn_rate": ratio(sum(not flag(c, "is_closing") for c in book), len(book)),
        "quick_ratio": ratio(total["new"] + total["expansion"], lost),
        "arpa": ratio(total["closing_mrr"], sum(flag(c, "is_closing") for c in customers)),
    }


def transactional_churn(
    order_days: list[tuple[str, date]], closes: list[date], window: int
) -> dict[date, tuple[int, int]]:
    """Close -> (customers active in the window before, of these without an order in the window)."""
    result = {}
    for close in closes:
        near, far = close - timedelta(days=window), close - timedelta(days=2 * window)
        base = {customer for customer, day in order_days if far <= day < near}
        recent = {customer for customer, day in order_days if near <= day < close}
        result[close] = (len(base), len(base - recent))
    return result
