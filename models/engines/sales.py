"""The pipeline as it was on any day, what moved it between two days, and what it is worth weighted.

Belongs here: states of deals at an instant, movement, stage probabilities. Does not belong here: rates over closed deals
(`sales_rates`), stages as a funnel and their durations (`funnel_deals`).

Everything is read from ``deals_history`` (one row per deal and period [valid_from, valid_to)). As of an instant T a deal is what it
was just before T, so what happens at T belongs to the time after it; as of a day D is as of the end of that local day.
Amounts are in the reporting currency at each deal's one rate; a deal without an amount counts as 0 and is counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from data_contracts.errors import UsageError
from models.engines.funnel_range import Parameters, instant, relation

MOVEMENTS = (
    "start", "created", "reopened", "pulled_in", "pushed_out", "amount_up", "amount_down", "won", "lost", "removed", "end",
)  # fmt: skip
PRIOR_DEALS = 10.0  # pseudo-deals at the pipeline's own win rate behind each stage's; 0 trusts every stage alone


@dataclass(frozen=True)
class PipelineSpec:
    """Which deals: one pipeline or all, and optionally only those expected to close in the local days [close_from, close_to)."""

    pipeline: str | None = None
    close_from: date | None = None
    close_to: date | None = None
    time_zone: str = "UTC"
    history: str = "marts.deals_history"
    pipeline_stages: str = "marts.dim_pipeline_stages"
    learn_from: str | None = None  # history behind learned probabilities, where ``history`` is only a part of it

    def __post_init__(self) -> None:
        if (self.close_from is None) != (self.close_to is None):
            raise UsageError("a closing period needs both its ends", remedy="Give close_from and close_to, or neither.")
        if self.close_from is not None and self.close_to is not None and not self.close_from < self.close_to:
            raise UsageError("the closing period is empty", remedy="Give a close_to after close_from.")


def as_of_instant(day: date | datetime, time_zone: str) -> datetime:
    """A date means the end of that local day; a datetime is that instant."""
    if isinstance(day, datetime):
        return instant(day, time_zone)
    return instant(day + timedelta(days=1), time_zone)


def state_sql(spec: PipelineSpec, at: str, params: Parameters) -> str:
    """Every deal's row of the history just before the instant ``at`` (a placeholder), whether open or closed."""
    only = f" AND pipeline = {params.bind(spec.pipeline)}" if spec.pipeline is not None else ""
    window = "TRUE"
    if spec.close_from is not None:
        window = (
            f"coalesce(expected_close_date >= {params.bind(spec.close_from)} "
            f"AND expected_close_date < {params.bind(spec.close_to)}, FALSE)"
        )
    return (
        f"SELECT *, {window} AS is_in_window FROM {relation(spec.history)} "
        f"WHERE valid_from < {at} AND (valid_to IS NULL OR valid_to >= {at}){only}"
    )


def pipeline_as_of_sql(spec: PipelineSpec, day: date | datetime) -> tuple[str, dict[str, Any]]:
    """Every deal open as of ``day``, as it was then: one row per deal with deal_id, pipeline, stage, stage_position, amount,
    currency, amount_reporting, probability, expected_close_date, owner_id, created_at, age_days."""
    params = Parameters()
    at = params.bind(as_of_instant(day, spec.time_zone))
    return (
        "SELECT deal_id, pipeline, stage, stage_position, amount, currency, amount_reporting, probability, "
        f"expected_close_date, owner_id, created_at, (epoch_us({at}) - epoch_us(created_at)) / 86400e6 AS age_days "
        f"FROM ({state_sql(spec, at, params)}) WHERE is_open AND is_in_window ORDER BY deal_id",
        params.values,
    )


def pipeline_as_of(con: duckdb.DuckDBPyConnection, spec: PipelineSpec, day: date | datetime) -> pl.DataFrame:
    """The open pipeline as it was; see ``pipeline_as_of_sql``."""
    return con.execute(*pipeline_as_of_sql(spec, day)).pl()


def movement_sql(spec: PipelineSpec, first: date | datetime, last: date | datetime) -> tuple[str, dict[str, Any]]:
    """What happened to the open pipeline between ``first`` and ``last``: movement, deals, amount, in the order of MOVEMENTS.

    start + all movements = end, exactly, in amount. A deal of the start first changes its amount and then leaves with the
    amount it has at the end (won, lost, pushed_out); one that comes in (created, reopened, pulled_in) enters with its
    amount at the end; one created and closed in between does both. ``removed`` are deals deleted or merged away.
    With a closing period, pulled_in and pushed_out are open deals whose expected date moved into or out of it.
    Without one they count open deals whose expected date moved earlier or later, which moves no amount.
    """
    params = Parameters()
    t1, t2 = (as_of_instant(day, spec.time_zone) for day in (first, last))
    if t2 < t1:
        raise UsageError("the movement ends before it begins", remedy="Give the earlier day first.")
    begin, finish = params.bind(t1), params.bind(t2)
    windowed = "FALSE" if spec.close_from is None else "TRUE"
    text = f"""WITH before AS ({state_sql(spec, begin, params)}),
after AS ({state_sql(spec, finish, params)}),
both_states AS (
    SELECT coalesce(s.deal_id, e.deal_id) AS deal_id,
        s.deal_id IS NOT NULL AS had, e.deal_id IS NOT NULL AS has,
        coalesce(s.is_open, FALSE) AS was_open, coalesce(s.is_open AND s.is_in_window, FALSE) AS is_in_start,
        coalesce(e.is_open AND e.is_in_window, FALSE) AS is_in_end, coalesce(e.is_open, FALSE) AS is_open,
        coalesce(e.is_in_window, FALSE) AS ends_in_window,
        coalesce(e.is_won, FALSE) AS is_won, coalesce(e.is_lost, FALSE) AS is_lost,
        e.created_at >= {begin} AS is_new,
        s.expected_close_date AS old_date, e.expected_close_date AS new_date,
        CAST(coalesce(s.amount_reporting, 0) AS DECIMAL(18,4)) AS old_amount,
        CAST(coalesce(e.amount_reporting, 0) AS DECIMAL(18,4)) AS new_amount
    FROM before AS s FULL JOIN after AS e ON s.deal_id = e.deal_id
),
-- comes_in: not in the start, and in the end or closed since; goes_out: the other way round.
judged AS (
    SELECT *, NOT is_in_start AND (is_in_end OR (ends_in_window AND NOT is_open AND has
            AND (was_open OR (NOT had AND is_new)))) AS comes_in,
        NOT is_in_end AND (is_in_start OR (ends_in_window AND NOT is_open AND has
            AND (was_open OR (NOT had AND is_new)))) AS goes_out
    FROM both_states
),
moves AS (
    SELECT deal_id, 'start' AS movement, old_amount AS amount FROM judged WHERE is_in_start
    UNION ALL SELECT deal_id, 'end', new_amount FROM judged WHERE is_in_end
    UNION ALL SELECT deal_id, CASE WHEN NOT had AND is_new THEN 'created' WHEN was_open THEN 'pulled_in' ELSE 'reopened' END,
        new_amount FROM judged WHERE comes_in
    UNION ALL SELECT deal_id, CASE WHEN new_amount > old_amount THEN 'amount_up' ELSE 'amount_down' END, new_amount - old_amount
        FROM judged WHERE is_in_start AND has AND new_amount <> old_amount
    UNION ALL SELECT deal_id, CASE WHEN NOT has THEN 'removed' WHEN is_won THEN 'won' WHEN is_lost THEN 'lost' ELSE 'pushed_out' END,
        CASE WHEN has THEN -new_amount ELSE -old_amount END FROM judged WHERE goes_out
    UNION ALL SELECT deal_id, CASE WHEN new_date < old_date THEN 'pulled_in' ELSE 'pushed_out' END, 0 FROM judged
        WHERE NOT {windowed} AND is_in_start AND is_in_end AND new_date <> old_date
),
names AS (
    SELECT unnest({params.bind(list(MOVEMENTS))}::VARCHAR[]) AS movement, unnest(range({len(MOVEMENTS)})) AS place
)
SELECT n.movement, count(m.deal_id) AS deals, CAST(coalesce(sum(m.amount), 0) AS DECIMAL(18,4)) AS amount
FROM names AS n LEFT JOIN moves AS m USING (movement) GROUP BY n.movement, n.place ORDER BY n.place"""
    return text, params.values


def movement(
    con: duckdb.DuckDBPyConnection, spec: PipelineSpec, first: date | datetime, last: date | datetime
) -> pl.DataFrame:
    """Movement of the pipeline; see ``movement_sql``."""
    return con.execute(*movement_sql(spec, first, last)).pl()


def stage_probabilities_cte(spec: PipelineSpec, at: str, prior_deals: float, params: Parameters) -> str:
    """Expressions ending in ``learned`` (pipeline, stage, closed_deals, won_deals, probability).

    Only what was known before ``at`` counts: deals closed by then, and the open stages they had visited. A stage's share of
    won deals is drawn towards its pipeline's, and that towards the share of all, each by ``prior_deals`` pseudo-deals (the
    posterior mean of a beta-binomial); null when no deal had closed yet. A stage that nobody told is one of its own.
    """
    prior = params.bind(float(prior_deals))
    return f"""closed_before AS (
    SELECT deal_id, is_won FROM {relation(spec.learn_from or spec.history)}
    WHERE valid_from < {at} AND (valid_to IS NULL OR valid_to >= {at}) AND NOT is_open
),
visited AS (
    SELECT DISTINCT h.pipeline, h.stage, h.deal_id, c.is_won
    FROM {relation(spec.learn_from or spec.history)} AS h JOIN closed_before AS c ON c.deal_id = h.deal_id
    WHERE h.valid_from < {at} AND h.is_open
),
overall AS (SELECT count(*) FILTER (is_won) / nullif(count(*), 0) AS share FROM closed_before),
by_pipeline AS (
    SELECT v.pipeline, (count(DISTINCT v.deal_id) FILTER (v.is_won) + {prior} * any_value(o.share))
        / nullif(count(DISTINCT v.deal_id) + {prior}, 0) AS share
    FROM visited AS v CROSS JOIN overall AS o GROUP BY v.pipeline
),
every_stage AS (SELECT DISTINCT pipeline, stage FROM {relation(spec.learn_from or spec.history)} WHERE is_open AND valid_from < {at}),
learned AS (
    SELECT e.pipeline, e.stage, count(v.deal_id) AS closed_deals, count(v.deal_id) FILTER (v.is_won) AS won_deals,
        (count(v.deal_id) FILTER (v.is_won) + {prior} * coalesce(any_value(p.share), any_value(o.share)))
            / nullif(count(v.deal_id) + {prior}, 0) AS probability
    FROM every_stage AS e
    CROSS JOIN overall AS o
    LEFT JOIN by_pipeline AS p ON p.pipeline IS NOT DISTINCT FROM e.pipeline
    LEFT JOIN visited AS v ON v.pipeline IS NOT DISTINCT FROM e.pipeline AND v.stage IS NOT DISTINCT FROM e.stage
    GROUP BY e.pipeline, e.stage
)"""


def crm_probabilities_cte(spec: PipelineSpec, at: str) -> str:
    """An expression ``crm`` (pipeline, stage, probability): what the CRM said of each stage just before ``at``."""
    return (
        "crm AS (SELECT pipeline, stage, coalesce(arg_max(probability, coalesce(valid_from, '-infinity'::TIMESTAMP)) "
        f"FILTER (valid_from IS NULL OR valid_from < {at}), arg_min(probability, valid_from)) AS probability "
        f"FROM {relation(spec.pipeline_stages)} GROUP BY pipeline, stage)"
    )


def stage_probabilities(
    con: duckdb.DuckDBPyConnection, spec: PipelineSpec, day: date | datetime, prior_deals: float = PRIOR_DEALS
) -> pl.DataFrame:
    """Learned probability to win by stage as of ``day``; see ``stage_probabilities_cte``."""
    params = Parameters()
    at = params.bind(as_of_instant(day, spec.time_zone))
    only = f"WHERE pipeline = {params.bind(spec.pipeline)} " if spec.pipeline is not None else ""
    text = f"WITH {stage_probabilities_cte(spec, at, prior_deals, params)} SELECT * FROM learned {only}ORDER BY pipeline, stage"
    return con.execute(text, params.values).pl()


def stage_probabilities_of_days(
    con: duckdb.DuckDBPyConnection, spec: PipelineSpec, days: list[tuple[date, datetime]], prior_deals: float = PRIOR_DEALS
) -> duckdb.DuckDBPyRelation:
    """``stage_probabilities`` just before each of several instants, given with the day that names it: one temporary table with as_of_date,
    pipeline, stage, closed_deals, won_deals, probability."""
    con.execute(
        "CREATE OR REPLACE TEMPORARY TABLE stage_probabilities_of_days (as_of_date DATE, pipeline VARCHAR, stage VARCHAR, "
        "closed_deals BIGINT, won_deals BIGINT, probability DOUBLE)"
    )
    for day, moment in days:
        params = Parameters()
        text = stage_probabilities_cte(spec, params.bind(moment), prior_deals, params)
        named = params.bind(day)
        con.execute(f"INSERT INTO stage_probabilities_of_days WITH {text} SELECT {named}, * FROM learned", params.values)
    return con.table("stage_probabilities_of_days")


def weighted_pipeline_sql(
    spec: PipelineSpec, day: date | datetime, basis: str = "learned", prior_deals: float = PRIOR_DEALS
) -> tuple[str, dict[str, Any]]:
    """The open pipeline as of ``day`` times the probability to win, one row per pipeline and stage.

    ``basis``: ``learned`` from own history before the day, or ``crm``, what the CRM's pipeline said of the stage then. (A deal's
    own probability is not used: few sources log its changes, so the past would show today's value, 1 for every deal won
    since.) Columns: pipeline, stage, deals, deals_without_amount, deals_without_probability, amount, weighted_amount (null
    when no deal has a probability).
    """
    if basis not in ("learned", "crm"):
        raise UsageError(f"there is no probability '{basis}'", remedy="Use learned or crm.")
    if prior_deals < 0:
        raise UsageError(f"{prior_deals} pseudo-deals are not possible", remedy="Give 0 or more.")
    params = Parameters()
    at = params.bind(as_of_instant(day, spec.time_zone))
    if basis == "crm":
        known = crm_probabilities_cte(spec, at)
    else:
        known = stage_probabilities_cte(spec, at, prior_deals, params)
    text = f"""WITH {known},
deals AS (SELECT * FROM ({state_sql(spec, at, params)}) WHERE is_open AND is_in_window)
SELECT d.pipeline, d.stage, count(*) AS deals, count(*) FILTER (d.amount_reporting IS NULL) AS deals_without_amount,
    count(*) FILTER (l.probability IS NULL) AS deals_without_probability,
    CAST(coalesce(sum(d.amount_reporting), 0) AS DECIMAL(18,4)) AS amount,
    sum(CAST(coalesce(d.amount_reporting, 0) AS DOUBLE) * l.probability) AS weighted_amount
FROM deals AS d LEFT JOIN {basis} AS l ON l.pipeline IS NOT DISTINCT FROM d.pipeline AND l.stage IS NOT DISTINCT FROM d.stage
GROUP BY d.pipeline, d.stage, d.stage_position ORDER BY d.pipeline, d.stage_position, d.stage"""
    return text, params.values


def weighted_pipeline(
    con: duckdb.DuckDBPyConnection,
    spec: PipelineSpec,
    day: date | datetime,
    basis: str = "learned",
    prior_deals: float = PRIOR_DEALS,
) -> pl.DataFrame:
    """The weighted pipeline by stage; see ``weighted_pipeline_sql``."""
    return con.execute(*weighted_pipeline_sql(spec, day, basis, prior_deals)).pl()
