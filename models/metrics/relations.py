"""Relations that engines compute for the periods of a request.

Belongs here: for each engine-fed semantic model, the SQL that gives its rows for any windows, in the columns of the monthly table
of the same name in the `metrics` schema. Does not belong here: what an engine computes, and how rows become a number (the YAML).
Adding an engine adds one function to `RELATIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import duckdb

from data_contracts.errors import RapportError
from models.engines import attribution, attribution_costs, attribution_credits, funnel, movements, movements_churn, retention, sales
from models.engines.funnel_logs import EventLog
from models.engines.funnel_range import Parameters
from models.engines.funnel_steps import Step
from models.engines.movements_periods import Periods
from models.metrics.calendar import Window, add_months
from models.metrics.context import Context
from models.metrics.context import read as read_context

STORED_MOVEMENTS = "metrics.mtr_revenue_movements"  # every whole period is in it, which spares a page the engine's run
SHARING_A_TABLE = ("attributed_cohorts",)
Bind = Callable[[Any], str]
_PLACEHOLDER = re.compile(r"\$([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Ask:
    """What a relation is asked for: windows, the workspace, a binder of values, and the raw dimension columns in use."""

    windows: tuple[Window, ...]
    context: Context
    bind: Bind
    grain: str | None = None
    dimensions: tuple[str, ...] = ()

    def setting(self, name: str, default: Any) -> Any:
        """A workspace setting, or the default the product ships with."""
        found = self.context.settings.get(name)
        return default if found is None else found

    @property
    def watermark(self) -> datetime:
        """The naive UTC instant up to which the engines may look."""
        return self.context.watermark or self.context.instant(self.context.data_end)

    def embed(self, text: str, values: dict[str, Any]) -> str:
        """An engine's SQL with its placeholders renamed, so that several engines fit into one statement."""
        names = {name: self.bind(value) for name, value in values.items()}
        return _PLACEHOLDER.sub(lambda found: names[found.group(1)], text)

    def labels(self) -> str:
        """Relation (window_start, window_end, period) of the request's windows."""
        columns = {"window_start": [w.start for w in self.windows], "window_end": [w.end for w in self.windows], "period": [w.label for w in self.windows]}
        return "select " + ", ".join(f"unnest(cast({self.bind(days)} as date[])) as {name}" for name, days in columns.items())

    def periods(self) -> Periods:
        """The windows as the movement engines take them."""
        return Periods.of_list([(window.start, window.end) for window in self.windows])


@dataclass(frozen=True)
class Relation:
    """`sql` writes the rows; `earliest` is SQL for the first local date that has any, for requests without a start; `dimensions`
    are the customer's columns that the stored table of an aggregating engine is broken down by."""

    sql: Callable[[Ask], str]
    earliest: str
    dimensions: tuple[str, ...] = ()


def sql(engine: str, windows: Sequence[Window], context: Context, bind: Bind, grain: str | None, dimensions: Sequence[str] = ()) -> str:
    """Rows of `engine` for `windows`: a column `period` (the window's label) and those of its stored table."""
    return RELATIONS[engine].sql(Ask(tuple(windows), context, bind, grain, tuple(dimensions)))


def stored(con: duckdb.DuckDBPyConnection, engine: str) -> duckdb.DuckDBPyRelation:
    """The same rows for every month up to the watermark: what the dbt model of the engine stores for other tools.

    They pass through a temporary table of `con`, so that a large result spills to disk instead of filling memory.
    """
    context = read_context(con)
    last_day = context.data_end - timedelta(days=1)
    found = con.execute(RELATIONS[engine].earliest).fetchone()
    first = min(found[0] or last_day, last_day) if found else last_day
    params: dict[str, Any] = {}

    def bind(value: Any) -> str:
        params[f"p{len(params) + 1}"] = value
        return f"$p{len(params)}"

    # the first month whole: costs of its days before the first customer belong to it
    windows = context.calendar.windows(context.calendar.floor(first, "month"), context.data_end, "month")
    text = sql(engine, windows, context, bind, "month", RELATIONS[engine].dimensions)
    con.execute(f"create or replace temporary table stored_{engine} as {text}", params)
    return con.table(f"stored_{engine}")


def store_predicted_values(con: duckdb.DuckDBPyConnection) -> None:
    """Store the customers' values again, with the scores of this run.

    dbt stores them before anything is scored, so with the scores of the run before: of a customer that was merged or parted since, those
    speak of somebody else or say nothing.
    """
    if con.execute("select count(*) from duckdb_tables() where schema_name = 'metrics' and table_name = 'mtr_customer_values__customer' and not temporary").fetchone()[0]:
        stored(con, "customer_values")
        con.execute("create or replace table metrics.mtr_customer_values__customer as from stored_customer_values")
        con.execute("drop table stored_customer_values")


def _local(instant: str, zone: str) -> str:
    return f"cast(timezone({zone}, {instant} at time zone 'UTC') as date)"


def _movement_spec(ask: Ask, churn_dated: str = "period_end") -> movements.MovementSpec:
    return movements.MovementSpec(ask.context.time_zone, str(ask.setting("reporting_currency", "USD")), ask.watermark, churn_dated)


def _stored_grain(ask: Ask) -> str | None:
    """The grain under which the stored movement table holds every window, the running one up to the newest data; else None."""
    if STORED_MOVEMENTS not in ask.context.tables:
        return None
    calendar = ask.context.calendar
    for grain in movements.TABLE_GRAINS:
        shifted = grain in ("quarter", "year") and ask.context.fiscal_year_start_month != 1  # the table has calendar quarters and years
        ends = [(w, calendar.add(w.start, grain, 1)) for w in ask.windows]
        if not shifted and all(w.start == calendar.floor(w.start, grain) and (w.end == end or ask.context.data_end <= w.end < end) for w, end in ends):
            return grain
    return None


def _movements(ask: Ask, churn_dated: str = "period_end") -> str:
    grain = _stored_grain(ask) if churn_dated == "period_end" else None
    if grain:
        return (f"select w.period, m.* exclude (period_grain) from {STORED_MOVEMENTS} as m join ({ask.labels()}) as w on m.period_start = w.window_start "
                f"where m.period_grain = {ask.bind(grain)}")
    query = movements.movements_query(_movement_spec(ask, churn_dated), ask.periods())
    return f"select w.period, m.* from ({ask.embed(*query)}) as m join ({ask.labels()}) as w on m.period_start = w.window_start"


def _transactional_churn(ask: Ask) -> str:
    spec = movements_churn.TransactionalChurnSpec(
        ask.context.time_zone, ask.watermark, int(ask.setting("churn_window_days", 90)),
        dimensions="marts.dim_customers" if ask.dimensions else None, breakdown=ask.dimensions,
    )
    query = movements_churn.transactional_churn_query(spec, ask.periods())
    return f"select w.period, m.* from ({ask.embed(*query)}) as m join ({ask.labels()}) as w on m.period_start = w.window_start"


# Every lead is an entry of its own, so that a month has the same number whatever range is asked for. A won deal makes a customer as
# an order does; the first of the two ends the funnel. A deal that is found by two of its three ways is one event twice, which changes nothing.
_LEAD_LOG = """
select lead_id as entity_id, 'lead_created' as name, created_at as occurred_at, cast(1 as bigint) as sequence, lead_id as event_id
from marts.fct_leads
union all
select lead_id, 'lead_converted', converted_at, 2, lead_id from marts.fct_leads where converted_at is not null
union all
select l.lead_id, 'became_customer', o.ordered_at, 3, o.order_id
from marts.fct_leads as l join marts.fct_orders as o on o.customer_id = l.customer_id
where o.is_first_order and o.is_counted
union all
select l.lead_id, 'became_customer', d.closed_at, 3, d.deal_id
from marts.fct_leads as l join marts.fct_deals as d on d.deal_id = l.converted_deal_id
where d.is_won and d.closed_at is not null
union all
select l.lead_id, 'became_customer', d.closed_at, 3, d.deal_id
from marts.fct_leads as l join marts.fct_deals as d on d.lead_id = l.lead_id
where d.is_won and d.closed_at is not null
union all
select l.lead_id, 'became_customer', d.closed_at, 3, d.deal_id
from marts.fct_leads as l join marts.fct_deals as d on d.customer_id = l.customer_id
where d.is_won and d.closed_at is not null
"""


def _lead_funnel(ask: Ask) -> str:
    spec = funnel.FunnelSpec(
        log=EventLog(_LEAD_LOG), steps=(Step("lead_created"), Step("lead_converted"), Step("became_customer")),
        window=timedelta(days=int(ask.setting("lead_conversion_window_days", 90))), start=ask.windows[0].start, end=ask.windows[-1].end,
        time_zone=ask.context.time_zone, watermark=ask.context.watermark,
    )
    entries = ask.embed(*funnel.entries_sql(spec))
    day = _local("e.entered_at", ask.bind(ask.context.time_zone))
    return (f"select w.period, e.entry_event_id as lead_id, l.customer_id, {day} as entered_date, e.reached, e.is_converted, e.is_maturing "
            f"from ({entries}) as e join marts.fct_leads as l on l.lead_id = e.entry_event_id "
            f"join ({ask.labels()}) as w on {day} >= w.window_start and {day} < w.window_end")


def _pipeline(ask: Ask, basis: str) -> str:
    """Deals open at the close of each window (at the newest data in the running one), as their history has them then, with the
    probability of their stage. A deal's own probability is not used: few sources log its changes, so the past would show
    today's value. A deal deleted since is left out, as everywhere."""
    closes = [ask.context.instant(min(window.end, ask.context.data_end)) for window in ask.windows]
    columns = {"period": ("date", [window.label for window in ask.windows]), "closed_at": ("timestamp", closes)}
    labels = ", ".join(f"unnest(cast({ask.bind(values)} as {kind}[])) as {name}" for name, (kind, values) in columns.items())
    if basis == "crm":
        stages = """select w.closed_at, s.pipeline, s.stage,
            coalesce(arg_max(s.probability, coalesce(s.valid_from, timestamp '0001-01-01')) filter (s.valid_from is null or s.valid_from < w.closed_at),
                     arg_min(s.probability, s.valid_from)) as probability
            from w cross join marts.dim_pipeline_stages as s group by all"""
    else:
        stages = " union all ".join(
            f"select cast({ask.bind(close)} as timestamp) as closed_at, pipeline, stage, probability from ({_learned(ask, close)})" for close in sorted(set(closes)))
    return f"""
with w as (select {labels}), stages as ({stages}),
firsts as (select pipeline, min(position) as first_position from marts.dim_pipeline_stages group by pipeline)
select w.period, h.deal_id, h.customer_id, d.channel, d.campaign_id, h.pipeline, h.stage, h.owner_id, h.currency, h.amount_reporting,
       s.probability, h.stage_position > coalesce(f.first_position, 0) as is_qualified
from w join marts.deals_history as h on h.valid_from < w.closed_at and (h.valid_to is null or h.valid_to >= w.closed_at) and h.is_open
join marts.fct_deals as d on d.deal_id = h.deal_id
left join stages as s on s.closed_at = w.closed_at and s.pipeline is not distinct from h.pipeline and s.stage = h.stage
left join firsts as f on f.pipeline is not distinct from h.pipeline
"""


def _learned(ask: Ask, close: datetime) -> str:
    params = Parameters()
    text = sales.stage_probabilities_cte(sales.PipelineSpec(time_zone=ask.context.time_zone), params.bind(close), sales.PRIOR_DEALS, params)
    # as many digits as the CRM's own: a sum of floats would depend on the order of the rows
    return ask.embed(f"with {text} select pipeline, stage, cast(probability as decimal(18, 8)) as probability from learned", params.values)


def _cohorts(ask: Ask, choices: dict[str, Any]) -> str:
    """Cohorts of buyers and their next period; of a range without grain, the monthly cohorts that start in it."""
    grain = ask.grain or "month"
    spec = retention.RetentionSpec(
        ask.context.time_zone, ask.watermark, grain=grain, week_start=ask.context.week_start, cohorts_from=ask.windows[0].start,
        cohorts_to=ask.windows[-1].end, max_periods=1, dimensions="marts.dim_customers" if ask.dimensions else None,
        breakdown=ask.dimensions, gaps="ops.ingestion_gaps" if "ops.ingestion_gaps" in ask.context.tables else None, **choices,
    )
    cells = ask.embed(*retention.cells_query(spec))
    columns = "".join(f", c.{name}" for name in ask.dimensions)
    joined = "cross join (select cast(null as date) as period) as w"
    if ask.grain:
        starts = {"period": [w.label for w in ask.windows], "cohort_period": [ask.context.calendar.floor(w.start, grain) for w in ask.windows]}
        labels = ", ".join(f"unnest(cast({ask.bind(days)} as date[])) as {name}" for name, days in starts.items())
        joined = f"join (select {labels}) as w on w.cohort_period = c.cohort_period"
    value = "c.revenue" if choices.get("measure") == "revenue" else "c.active"
    base = f"b.{'revenue' if choices.get('measure') == 'revenue' else 'cohort_size'}"
    same = "".join(f" and b.{name} is not distinct from c.{name}" for name in ask.dimensions)
    return (f"select w.period, c.cohort_period, c.is_complete, {value} as returned, {base} as started, c.cohort_size{columns} "
            f"from (with cells as ({cells}) select * from cells where period_number = 1) as c "
            f"join ({ask.embed(*retention.cells_query(spec))}) as b on b.cohort_period = c.cohort_period and b.period_number = 0{same} {joined}")


def _attributed(ask: Ask, day: str) -> str:
    """Credit for new customers by channel under the workspace's model; who has no touch stands under `unattributed`."""
    model = str(ask.setting("attribution_model", "linear"))
    if attribution_credits.TABLE in ask.context.tables:
        credits = f"select * from {attribution_credits.TABLE} where conversion_kind = 'new_customer' and model = {ask.bind(model)}"
    elif model == "markov":
        raise RapportError("Markov attribution has not been computed for this snapshot", remedy="Run `rapport run`, or choose another attribution_model.")
    else:
        spec = attribution_credits.spec_for("new_customer", attribution.AttributionSpec(
            models=(model,), lookback_days=float(ask.setting("attribution_lookback_days", 90)), time_zone=ask.context.time_zone))
        credits = f"select * from ({ask.embed(*attribution.credits_sql(spec))}) where weight > 0"
    return f"""
select w.period, n.customer_id, n.acquired_date, n.cohort_date, cast(coalesce(c.conversions, 1) as decimal(18, 9)) as credit,
       case when c.channel is null or c.channel = 'no_touch' then 'unattributed' else c.channel end as channel
from metrics.mtr_acquisitions__customer as n join ({ask.labels()}) as w on n.{day} >= w.window_start and n.{day} < w.window_end
left join ({credits}) as c on c.conversion_id = n.customer_id
"""


def _observed_payback(ask: Ask) -> str:
    margin = float(ask.setting("gross_margin", 0.7))
    if margin <= 0:
        return "select cast(null as date) as period, cast(null as integer) as payback_months, 0 as new_customers, 0 as spend where false"
    parts = []
    for window in ask.windows:
        spec = attribution_costs.CostSpec(window.start, window.end, time_zone=ask.context.time_zone)
        cohort = ask.embed(*attribution_costs.observed_payback_sql(spec, margin, ask.context.complete_until))
        parts.append(f"select cast({ask.bind(window.label)} as date) as period, o.* from ({cohort}) as o")
    return " union all ".join(parts)


def _customer_values(ask: Ask) -> str:
    """Acquired customers with the net revenue they brought and, where scores are published, what they will bring in 365 days."""
    column = ask.context.predicted_value
    scores = "select cast(null as varchar) as customer_id, cast(null as double) as predicted_value where false"
    if column:
        horizon = " where horizon_days = 365" if "horizon_days" in ask.context.score_columns else ""
        scores = f"select customer_id, {column} as predicted_value from scores.clv{horizon}"
    return f"""
select w.period, c.customer_id, c.first_paid_date, c.net_revenue_reporting as historic_value, s.predicted_value
from marts.dim_customers as c join ({ask.labels()}) as w on c.first_paid_date >= w.window_start and c.first_paid_date < w.window_end
left join ({scores}) as s on s.customer_id = c.customer_id
"""


def _recent_churn(ask: Ask) -> str:
    """Opening and churned customers of the six complete months before the close of each window."""
    months, pairs = {}, []
    for window in ask.windows:
        last = ask.context.calendar.floor(min(window.end, ask.context.complete_until), "month")
        for back in range(1, 7):
            start = add_months(last, -back)
            months[start] = (start, add_months(start, 1))
            pairs.append((window.label, start))
    query = movements.movements_query(_movement_spec(ask), Periods.of_list(list(months.values())), by_currency=False)
    labels, starts = ask.bind([label for label, _ in pairs]), ask.bind([start for _, start in pairs])
    return f"""
select p.period, p.month_start, count(*) filter (where m.is_main_row and m.is_opening) as opening_customers,
       count(*) filter (where m.is_main_row and m.is_churned_logo) as churned_customers
from (select unnest(cast({labels} as date[])) as period, unnest(cast({starts} as date[])) as month_start) as p
left join ({ask.embed(*query)}) as m on m.period_start = p.month_start
group by p.period, p.month_start
"""


_CUSTOMER = ("country_code", "segment", "acquisition_channel", "acquisition_campaign_id", "customer_type", "industry")
_FIRST_TERM = "select cast(min(valid_from) as date) from marts.fct_subscription_terms"
_FIRST_ORDER = "select min(ordered_date) from marts.fct_orders where is_counted"
_FIRST_DEAL = "select min(created_date) from marts.fct_deals"
_FIRST_CUSTOMER = "select min(first_paid_date) from marts.dim_customers"

RELATIONS: dict[str, Relation] = {
    "movements": Relation(_movements, _FIRST_TERM),
    "movements_by_request": Relation(partial(_movements, churn_dated="cancel_request"), _FIRST_TERM),
    "transactional_churn": Relation(_transactional_churn, _FIRST_ORDER, (*_CUSTOMER, "owner_id")),
    "recent_churn": Relation(_recent_churn, _FIRST_TERM),
    "pipeline": Relation(partial(_pipeline, basis="crm"), _FIRST_DEAL),
    "pipeline_learned": Relation(partial(_pipeline, basis="learned"), _FIRST_DEAL),
    "lead_funnel": Relation(_lead_funnel, "select min(created_date) from marts.fct_leads"),
    "retention": Relation(partial(_cohorts, choices={}), _FIRST_ORDER, _CUSTOMER),
    "retention_unbounded": Relation(partial(_cohorts, choices={"bound": "unbounded"}), _FIRST_ORDER, _CUSTOMER),
    "retention_recurring": Relation(partial(_cohorts, choices={"cohorts": "recurring"}), _FIRST_ORDER, _CUSTOMER),
    "retention_revenue": Relation(partial(_cohorts, choices={"measure": "revenue"}), _FIRST_ORDER, _CUSTOMER),
    "customer_values": Relation(_customer_values, _FIRST_CUSTOMER),
    "attributed_customers": Relation(partial(_attributed, day="acquired_date"), _FIRST_CUSTOMER),
    "attributed_cohorts": Relation(partial(_attributed, day="cohort_date"), _FIRST_CUSTOMER),
    "observed_payback": Relation(_observed_payback, _FIRST_CUSTOMER),
}
