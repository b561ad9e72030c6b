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
    today = local_day(watermark, zone)
    result = {}
    for customer in {t.customer_id for t in terms}:
        own = [t for t in terms if t.customer_id == customer]
        currencies = sorted({t.currency for t in own})

        def balances(started, ended):
            return {
                c: sum((t.mrr for t in own if t.currency == c and started(t) and not ended(t)), Decimal(0))
                for c in currencies
            }

        def has_ended(t):
            return t.valid_to is not None and t.valid_to <= watermark

        def value(amount, currency, day):
            if not amount:
                return Decimal(0)
            return (amount * rate_on(log, currency, day, reporting)).quantize(CENT_OF_CENT, ROUND_HALF_UP)

        instants = sorted({t.valid_from for t in own} | {t.valid_to for t in own if has_ended(t)})
        ever_paid = False
        kinds = []
        for instant in instants:
            before = balances(lambda t: t.valid_from < instant, lambda t: has_ended(t) and t.valid_to < instant)
            after = balances(lambda t: t.valid_from <= instant, lambda t: has_ended(t) and t.valid_to <= instant)
            day = local_day(instant, zone)
            was, now = any(b > 0 for b in before.values()), any(b > 0 for b in after.values())
            net = sum(value(after[c], c, day) - value(before[c], c, day) for c in currencies)
            if before == after:
                continue
            if not was and now:
                kind = "reactivation" if ever_paid else "new"
            elif was and not now:
                kind = "churn"
            else:
                kind = "expansion" if net >= 0 else "contraction"
            ever_paid = ever_paid or now
            kinds.append((instant, day, kind, before, after))

        for start, end in periods:
            if start > today:
                continue
            last_day = min(end - timedelta(days=1), today)
            opening = balances(
                lambda t: local_day(t.valid_from, zone) < start,
                lambda t: has_ended(t) and local_day(t.valid_to, zone) < start,
            )
            closing = balances(
                lambda t: local_day(t.valid_from, zone) < end,
                lambda t: has_ended(t) and local_day(t.valid_to, zone) < end,
            )
            inside = [k for k in kinds if start <= k[1] < end]
            rows = {}
            for c in currencies:
                row = {name: Decimal(0) for name in FLOWS}
                row["opening_mrr"] = value(opening[c], c, start - timedelta(days=1))
                row["closing_mrr"] = value(closing[c], c, last_day)
                fx, held = Decimal(0), row["opening_mrr"]
                for _, day, kind, before, after in inside:
                    low, high = value(before[c], c, day), value(after[c], c, day)
                    fx += low - held
                    held = high
                    row[kind] += (low - high) if kind in ("contraction", "churn") else (high - low)
                row["fx"] = fx + row["closing_mrr"] - held
                rows[c] = row
            total_open = sum(r["opening_mrr"] for r in rows.values())
            total_close = sum(r["closing_mrr"] for r in rows.values())
            is_opening, is_closing = any(b > 0 for b in opening.values()), any(b > 0 for b in closing.values())
            has_new = any(k[2] == "new" for k in inside)
            has_churn = any(k[2] == "churn" for k in inside)
            for c, row in rows.items():
                still = not any(k[3][c] != k[4][c] for k in inside)
                if not opening[c] and not closing[c] and still:
                    continue
                if not any(row.values()) and not is_opening and not is_closing:
                    continue
                row["retained_mrr"] = row["opening_mrr"] if total_open <= total_close else row["closing_mrr"]
                row["is_opening"], row["is_closing"] = is_opening, is_closing
                row["is_churned_logo"] = is_opening and not is_closing
                row["is_new_logo"], row["same_period"] = has_new, has_new and has_churn
                row["is_complete"] = end <= today
                result[start, customer, c] = row
    return result


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
