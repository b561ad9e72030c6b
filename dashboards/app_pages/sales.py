"""Sales: the open pipeline of any day, what moved it, and how fast and how well deals close."""

import streamlit as st

from dashboards import queries
from dashboards.components import cards, charts, filters, frame, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

OWNERS = {"at_event": "Owner at the event", "current": "Owner of today"}
MOVEMENTS = {"start": "Open at the start", "created": "Created", "reopened": "Reopened", "pulled_in": "Closing date earlier", "pushed_out": "Closing date later", "amount_up": "Amount raised",
             "amount_down": "Amount lowered", "won": "Won", "lost": "Lost", "removed": "Deleted or merged", "end": "Open at the end"}
OPEN = {"pipeline": Column("Pipeline", "words"), "stage": Column("Stage", "words"), "owner": Column("Owner"), "deals": Column("Deals", "count"), "amount": Column("Amount", "currency"), "weighted_crm": Column("Weighted, CRM", "currency"),
        "weighted_learned": Column("Weighted, learned", "currency"), "probability_crm": Column("Chance, CRM", "share"), "probability_learned": Column("Chance, learned", "share")}
FORECASTS = {"period_start": Column("Month", "month"), "made_on": Column("Forecast on", "date"), "open_deals": Column("Deals due", "count"), "crm": Column("By CRM", "currency"), "learned": Column("By own history", "currency"),
             "actual": Column("What came", "currency"), "learned_error_rate": Column("Error, own history", "change")}
STAYS = {"pipeline": Column("Pipeline", "words"), "stage": Column("Stage", "words"), "first_visits": Column("Deals", "count"), "first_median_days": Column("First visit, median", "days"), "all_visits": Column("Visits", "count"),
         "all_median_days": Column("All visits, median", "days"), "all_open_visits": Column("Still inside", "count")}
SELLERS = {"owner": Column("Owner"), "won": Column("Won", "count"), "lost": Column("Lost", "count"), "win_rate": Column("Win rate", "share"), "won_amount": Column("Amount won", "currency"),
           "sales_cycle_days": Column("Cycle, median", "days"), "open_qualified_deals": Column("Open, qualified", "count"), "velocity_per_day": Column("Velocity a day", "currency")}
TARGETS = {"owner": Column("Owner"), "target": Column("Target", "measured"), "actual": Column("Actual", "measured"), "attainment": Column("Attained", "share"), "is_complete": Column("Over", "flag"), "reason": Column("Remark")}


def the_pipeline(day, pipeline, where, currency) -> None:
    whole = queries.pipeline_on(day, None, pipeline, where)
    if whole.is_empty():
        frame.empty(f"No deal was open at the end of {shown.day(day)}.", "Choose another day or fewer filters.")
        return
    row = whole.row(0, named=True)
    cards.plain([("Open deals", shown.number(row["deals"], "count"), "as they were then", "Deals that were open at the end of the day, with the stage, amount and owner of that day."),
                 ("Open amount", shown.money(row["amount"], currency), f"{shown.plural(row['deals_without_amount'], 'deal')} without an amount" if row["deals_without_amount"] else "every deal has an amount", "Their amounts in the reporting currency. A deal without an amount counts as 0."),
                 ("Weighted by the CRM", shown.money(row["weighted_crm"], currency), "its chance of each stage", "Amount times the probability that the CRM gave the deal's stage at that time."),
                 ("Weighted by own history", shown.money(row["weighted_learned"], currency), "learned by that day", "Amount times the share of deals won among those that had visited the stage and were closed by that day, drawn towards the pipeline's share where they are few.")])


def the_parts(day, by, pipeline, where, currency) -> None:
    rows = queries.pipeline_on(day, by, pipeline, where)
    if not rows.is_empty():
        charts.grouped(rows, by, {"amount": "Amount", "weighted_crm": "Weighted, CRM", "weighted_learned": "Weighted, own history"}, "currency")
        text.line(f"Open at the end of {shown.day(day)}, in {currency}. The table below holds the numbers.")


def the_table(day, by, pipeline, where, currency) -> None:
    rows = queries.pipeline_on(day, by, pipeline, where)
    if not rows.is_empty():
        tables.table(rows, OPEN, currency)
        tables.download("Open pipeline as CSV", rows, "open_pipeline", queries.snapshot_id())


def the_movement(first, last, pipeline, where, currency) -> None:
    rows = queries.movement(first, last, pipeline, where)
    charts.waterfall(rows, "movement", "amount", "deals", MOVEMENTS, "currency")
    text.line(f"From the end of {shown.day(first)} to the end of {shown.day(last)}, in {currency}. Start and movements add up to the end; moved closing dates count deals and no amount.")
    tables.download("Movement as CSV", rows, "pipeline_movement", queries.snapshot_id())


def the_forecasts(pipeline, where, currency) -> None:
    rows = queries.forecasts(pipeline, where)
    charts.against(rows, "period_start", "actual", {"crm": "By the CRM", "learned": "By own history"}, "currency")
    text.line(f"In {currency}. Each forecast was made on the eve of its month: the weighted amount of the deals open then and expected to close in it. Deals created later are not in it, so quick sales come on top. The running month shows what has come so far.")
    tables.table(rows, FORECASTS, currency)


def the_speed(chosen, pipeline, where, currency) -> None:
    row = queries.performance(chosen.start, chosen.end, None, "at_event", pipeline, where).row(0, named=True)
    cards.plain([("Velocity", shown.number(row["velocity_per_day"], "currency_per_day", currency), "the four beside it, multiplied", "Open qualified deals × win rate × average amount won ÷ cycle: what the pipeline is expected to bring a day. All four from the same filter and period."),
                 ("Open qualified deals", shown.number(row["open_qualified_deals"], "count"), "at the end of the period", "Open deals past the first stage of their pipeline."),
                 ("Win rate", shown.number(row["win_rate"], "share"), f"{shown.plural(row['won'], 'deal')} won, {row['lost']:,} lost", "Won ÷ (won + lost), by count, closed in the period."),
                 ("Average amount won", shown.money(row["average_won_amount"], currency), f"{shown.money(row['won_amount'], currency)} in all", "Amount won ÷ deals won in the period."),
                 ("Sales cycle", shown.number(row["sales_cycle_days"], "days"), "median, created to won", "Median days from creation to closing of the deals won in the period.")])


def the_stays(chosen, pipeline, where) -> None:
    rows = queries.durations(chosen.start, chosen.end, pipeline, where)
    if rows.is_empty():
        frame.empty("No deal was created in this period.", "Choose a longer one.")
        return
    tables.table(rows, STAYS)
    text.line("Deals created in the period. Visits still open count as lasting at least until now (Kaplan–Meier median); “–” where more than half are still inside.")


def the_owners(chosen, pipeline, where, currency) -> None:
    owner = filters.choice("A deal counts for", "owner_basis", tuple(OWNERS), "at_event", OWNERS, width=220)
    rows = queries.performance(chosen.start, chosen.end, "owner", owner, pipeline, where)
    if rows.is_empty():
        frame.empty("No deal was closed or open in this period.", "Choose a longer one.")
        return
    tables.table(rows, SELLERS, currency)
    tables.download("Owners as CSV", rows, "sales_by_owner", queries.snapshot_id())
    the_targets(chosen, owner, currency)


def the_targets(chosen, owner, currency) -> None:
    st.subheader("Targets", anchor=False)
    known = queries.target_metrics()
    if not known:
        frame.empty("There are no targets.", "Declare a source with targets: metric, period, owner, value.")
        return
    with st.container(horizontal=True, gap="small"):
        metric = filters.choice("Metric", "target", tuple(known), known[0])
        by = filters.choice("Sum by", "targets", ("period", "owner"), "period")
    reached = queries.targets(chosen.start, chosen.end, metric, by, owner)
    if reached.is_empty():
        frame.empty("No target of this metric begins in this period.", "Choose a longer one.")
        return
    when = {"period_start": Column("From", "date")} if by == "period" else {}
    tables.table(reached, {**when, **{name: column for name, column in TARGETS.items() if reached[name].drop_nulls().len() and (name != "owner" or reached[name].n_unique() > 1)}}, currency)
    text.line("The actual value is the metric itself; for a person, their deals. A period that is not over counts what has come so far. Pipeline, channel and country do not filter targets.")


def body() -> None:
    if not queries.has_deals():
        frame.empty("There are no deals, so there is no pipeline to show.", "Declare a source with deals, and pipeline_stages and deal_changes for their history; the source type “odoo” brings all three.")
        return
    chosen = filters.bar(dimensions=("channel", "country"))
    names, newest, currency = queries.pipelines(), queries.newest_day(), queries.settings()["reporting_currency"]
    with st.container(horizontal=True, gap="small"):
        picked = filters.choice("Pipeline", "pipeline", (filters.ALL, *names), filters.ALL, {n: n for n in names})
        day = filters.day("As of the end of", "as_of", newest)
        first = filters.day("Movement since the end of", "since", filters.month_before(day), latest=day)
        by = filters.choice("Split by", "split", ("stage", "owner"), "stage")
    pipeline, where = (None if picked == filters.ALL else picked), queries.filterable("deals", chosen.values)[0]
    with frame.explained():
        the_pipeline(day, pipeline, where, currency)
    left, right = st.columns(2, gap="medium")
    with left, frame.explained():
        st.subheader("What is open", anchor=False)
        the_parts(day, by, pipeline, where, currency)
    with right, frame.explained():
        st.subheader("What moved it", anchor=False)
        the_movement(first, day, pipeline, where, currency)
    with frame.explained():
        the_table(day, by, pipeline, where, currency)
    st.subheader("Velocity", anchor=False)
    text.line(f"Deals closed {shown.span(chosen.start, chosen.end)}.")
    with frame.explained():
        the_speed(chosen, pipeline, where, currency)
    with frame.explained():
        st.subheader("Forecast against what came", anchor=False)
        the_forecasts(pipeline, where, currency)
    with frame.explained():
        st.subheader("Time in each stage", anchor=False)
        the_stays(chosen, pipeline, where)
    with frame.explained():
        st.subheader("By owner", anchor=False)
        the_owners(chosen, pipeline, where, currency)


frame.page("Sales", "The open pipeline as it was on any day, what moved it, and how well deals close.", body)
