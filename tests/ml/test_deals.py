"""Open deals: known as they were logged, won or not, judged against the rate of their stage; a source without a log gives no signal."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from fixtures.feature_world import build_features, empty_world, rendered
from fixtures.shared_data import given

from ml import leakage, scoring
from ml.deals import definition
from models.engines import sales

WATERMARK = datetime(2026, 1, 1)
STAGES = ("new", "talk", "offer")


def sell(con, deals: int = 1_600, seed: int = 0, skill: float = 1.5, logged: bool = True) -> None:
    """Deals of two years through three stages; who owns a deal decides by `skill` whether it is won."""
    rng = np.random.default_rng(seed)
    start = WATERMARK - timedelta(days=730)
    facts, history, changes, visits, activities = [], [], [], [], []
    for number in range(deals):
        name, owner = f"d{number}", int(rng.integers(0, 6))
        created = start + timedelta(days=float(rng.uniform(0, 728)))
        wins = rng.random() < 1 / (1 + np.exp(-skill * (owner - 2.5) / 1.7))
        reach = 3 if wins else int(rng.integers(1, 4))
        entered = [created + timedelta(days=float(d)) for d in np.concatenate([[0], np.cumsum(rng.exponential(12, reach))])]
        happened = [t for t in entered[:-1] if t < WATERMARK]
        closed = entered[-1] if entered[-1] < WATERMARK else None
        final = ("won" if wins else "lost") if closed else STAGES[len(happened) - 1]
        facts.append((name, None, closed, bool(closed and wins), bool(closed and not wins), closed is None, f"c{number % 400}", "sales", "web", created, created.date(), closed.date() if closed else None))
        steps = [*zip(happened, STAGES, range(1, 4), strict=False), *([(closed, final, 4)] if closed else [])]
        for place, (at, stage, position) in enumerate(steps):
            ends = steps[place + 1][0] if place + 1 < len(steps) else None
            history.append((name, at, ends, "sales", stage if logged else final, position if logged else None, 100 + number, None, f"o{owner}",
                            stage == "won" or (not logged and final == "won"), stage == "lost" or (not logged and final == "lost"), stage in STAGES if logged else final in STAGES))  # fmt: skip
            visits.append((name, position, place + 1, at))
            if logged:
                changes.append((name, "stage", steps[place - 1][1] if place else None, stage, at, at.date(), "source"))
        if logged:
            changes.append((name, "owner_id", None, f"o{owner}", created, created.date(), "source"))
        for at in happened:
            activities.append((f"c{number % 400}", at.date(), True, name))
    for table, rows in (("fct_deals", facts), ("deals_history", history), ("fct_deal_changes", changes), ("fct_deal_stage_visits", visits), ("fct_activities", activities)):
        if rows:
            columns = [c[0] for c in con.execute(f"DESCRIBE marts.{table}").fetchall()]
            con.register("drawn", pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None).to_arrow())
            con.execute(f"INSERT INTO marts.{table} SELECT * FROM drawn")


@pytest.fixture(scope="module")
def company():
    con = empty_world(WATERMARK.isoformat())
    sell(con)
    build_features(con)
    return con


def looks_ahead(con) -> int:
    return con.execute("SELECT count(*) FROM features.ftr_deals__state WHERE NOT coalesce(latest_evidence_date < as_of_date, false)").fetchone()[0]


def test_a_signal_of_the_owners_is_found_and_every_open_deal_is_scored(company):
    question, frames = scoring.QUESTIONS["deals"], scoring.open_frames(company)
    model = scoring.train(question, frames)
    answer = question.parts(model)[""]
    assert not answer.is_fallback and "the win rate of the deal's stage" in answer.verdict, answer.verdict
    assert list(answer.importance)[0] == "owner_win_rate", answer.importance
    scores = question.score(frames, model)
    assert scores.height == company.execute("SELECT count(*) FROM marts.fct_deals WHERE is_open AND created_date < '2026-01-01'").fetchone()[0] > 20
    assert scores["score"].is_between(0, 1).all() and scores["reasons"].list.len().max() == 3
    assert question.restore(model.state()).score(definition.population(frames.of(definition.read_deals)).tail(5), "up", "down")["score"].len() == 5


def test_a_planted_feature_of_the_future_warns(company):
    frames = scoring.open_frames(company)
    rows = definition.population(frames.of(definition.read_deals)).filter(pl.col("label").is_not_null())
    planted = rows.with_columns(pl.when(pl.col("label") == 1).then(5.0).otherwise(1.0).alias("activity_count"))
    label = planted["label"].cast(pl.Float64).to_numpy()
    assert any("activity_count alone tells the outcome" in text for text in leakage.warnings(definition.TASK.numeric, planted, label))
    assert not leakage.warnings(definition.TASK.numeric, rows, label)


@pytest.mark.parametrize("column, otherwise", [
    ("changes.changed_date < open_deals.as_of_date", "changes.changed_date <= open_deals.as_of_date"), ("closed.closed_date < dates.as_of_date", "closed.closed_date <= dates.as_of_date"),
    ("activities.occurred_date < open_deals.as_of_date", "activities.occurred_date <= open_deals.as_of_date"), ("entries.entered_at < open_deals.starts_at", "entries.entered_at < open_deals.starts_at + interval 1 day"),
    ("history.valid_from < dates.starts_at", "history.valid_from < dates.starts_at + interval 1 day"),
])  # fmt: skip
def test_a_block_shifted_one_day_into_the_future_is_found_out(company, column, otherwise):
    def shifted(text: str) -> str:
        assert column in text, f"the template no longer holds {column}"
        return text.replace(column, otherwise)

    assert looks_ahead(company) == 0
    company.execute(f"CREATE OR REPLACE TEMP TABLE shifted AS {rendered('ftr_deals__state', shifted)}")
    assert company.execute("SELECT count(*) FROM shifted WHERE latest_evidence_date >= as_of_date").fetchone()[0] > 0


def test_what_was_known_of_deals_is_the_same_when_later_facts_are_deleted(company):
    cut_off, instant = company.execute("SELECT as_of_date, starts_at FROM features.ftr_as_of_dates WHERE subject = 'deal' AND is_complete ORDER BY 1 DESC LIMIT 1").fetchone()
    query = f"SELECT * FROM features.ftr_deals__state WHERE as_of_date = DATE '{cut_off}' ORDER BY deal_id"
    before = company.execute(query).pl()
    world = empty_world(WATERMARK.isoformat())
    sell(world)
    world.execute("DELETE FROM marts.fct_deals WHERE created_date >= ?", [cut_off])
    world.execute("UPDATE marts.fct_deals SET closed_at = NULL, closed_date = NULL, is_won = false, is_lost = false, is_open = true WHERE closed_date >= ?", [cut_off])
    world.execute("DELETE FROM marts.deals_history WHERE valid_from >= ?", [instant])
    world.execute("UPDATE marts.deals_history SET valid_to = NULL WHERE valid_to >= ?", [instant])
    for table, column in (("fct_deal_changes", "changed_at"), ("fct_deal_stage_visits", "entered_at"), ("fct_activities", "occurred_date")):
        world.execute(f"DELETE FROM marts.{table} WHERE {column} >= ?", [instant])
    build_features(world)
    assert before.height > 30 and before.equals(world.execute(query).pl())


def test_the_stage_is_worth_what_the_pipeline_engine_says_it_was(company):
    day, instant = company.execute("SELECT as_of_date, starts_at FROM features.ftr_as_of_dates WHERE subject = 'deal' ORDER BY 1 LIMIT 1 OFFSET 9").fetchone()
    engine = sales.stage_probabilities(company, sales.PipelineSpec(), instant)
    told = dict(zip(engine["stage"], engine["probability"], strict=True))
    rows = company.execute("SELECT DISTINCT stage, stage_win_rate FROM features.ftr_deals__state WHERE as_of_date = ?", [day]).fetchall()
    assert {stage: pytest.approx(rate) for stage, rate in rows} == {stage: told[stage] for stage, _ in rows} and len(rows) == 3


def test_counts_of_moves_and_days_equal_a_recount(company):
    moves = company.execute("SELECT deal_id, entered_at FROM marts.fct_deal_stage_visits").fetchall()
    for row in company.execute("SELECT * FROM features.ftr_deals__state").pl().sample(30, seed=1).iter_rows(named=True):
        mine = sorted(at for name, at in moves if name == row["deal_id"] and at < datetime.combine(row["as_of_date"], datetime.min.time()))
        assert row["stage_move_count"] == len(mine) - 1 and row["days_in_stage"] == (row["as_of_date"] - mine[-1].date()).days
        assert row["stage"] == STAGES[len(mine) - 1]


def test_a_source_that_logs_no_changes_tells_nothing_of_stage_amount_or_owner():
    """Its history holds today's stage throughout: won deals would seem to have been won when they were created."""
    con = empty_world(WATERMARK.isoformat())
    sell(con, deals=300, logged=False)
    build_features(con)
    frame = con.execute("SELECT * FROM features.ftr_deals__state").pl()
    assert frame.height > 100
    for column in ("stage", "stage_position", "deal_amount", "owner_win_rate", "days_in_stage", "stage_move_count"):
        assert frame[column].null_count() == frame.height, column


def test_deals_of_a_real_sales_team_without_signal_get_no_model():
    """Maven Analytics' CRM sample: synthetic, nothing in it tells won from lost. It has no log, and its amount is 0 for lost deals."""
    deals = pl.read_csv(given("data/maven_sales_pipeline.csv")).with_columns(pl.col("engage_date", "close_date").str.to_datetime("%m/%d/%Y", time_unit="us")).filter(pl.col("engage_date").is_not_null())
    con = empty_world("2018-01-01", lead_window_days=30)
    con.register("deals", deals.to_arrow())
    con.execute("INSERT INTO marts.fct_deals SELECT opportunity_id, NULL, close_date, deal_stage = 'Won', deal_stage = 'Lost', close_date IS NULL, account, 'sales', product, engage_date, "
                "CAST(engage_date AS DATE), CAST(close_date AS DATE) FROM deals")
    con.execute("INSERT INTO marts.deals_history SELECT opportunity_id, engage_date, NULL, 'sales', deal_stage, NULL, close_value, NULL, sales_agent, deal_stage = 'Won', deal_stage = 'Lost', "
                "close_date IS NULL FROM deals")
    con.execute("INSERT INTO marts.dim_customers SELECT DISTINCT account, 'organisation', false, NULL, NULL, NULL FROM deals WHERE account IS NOT NULL")
    build_features(con)
    question, frames = scoring.QUESTIONS["deals"], scoring.open_frames(con)
    model = scoring.train(question, frames)
    answer = question.parts(model)[""]
    assert answer.is_fallback and answer.training_rows > 3_000
    print(answer.verdict)
    assert "no signal" in answer.verdict or "not better than" in answer.verdict, answer.verdict
    scores = question.score(frames, model)
    assert scores.height == con.execute("SELECT count(*) FROM marts.fct_deals WHERE is_open").fetchone()[0] and scores["is_fallback"].all()
