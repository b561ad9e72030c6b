"""Score tables: always there, honest when there is nothing to say, kept as history; artefacts are verified."""

from __future__ import annotations

import json
from datetime import datetime

import duckdb
import numpy as np
import pytest
from fixtures.feature_world import build_features, empty_world

from data_contracts.environment import Home
from data_contracts.errors import RapportError, UsageError
from ml import drift, registry, scoring

INSTANT = datetime(2026, 1, 1, 8)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def shop(customers: int, watermark: str = "2026-01-01", seed: int = 1):
    """Buyers with their own pace and life, who started over three years."""
    rng = np.random.default_rng(seed)
    con = empty_world(watermark)
    days = (datetime.fromisoformat(watermark) - datetime(2023, 1, 1)).days
    begin, pace, life = rng.integers(0, 900, customers), rng.gamma(1.2, 1 / 40, customers), rng.exponential(500, customers)
    rows = []
    for number in range(customers):
        at = float(begin[number])
        end = at + life[number]
        while at < min(days, end):
            rows.append((f"p{number}", int(at), round(float(rng.gamma(4, 20)), 2)))
            at += rng.exponential(1 / pace[number]) + 1
    con.execute("CREATE TEMP TABLE bought (who VARCHAR, d INTEGER, v DOUBLE)")
    con.executemany("INSERT INTO bought VALUES (?, ?, ?)", rows)
    con.execute("INSERT INTO marts.fct_orders SELECT who, TIMESTAMP '2023-01-01' + to_days(d), DATE '2023-01-01' + d, true, v, v, 0, v FROM bought")
    con.execute("INSERT INTO marts.dim_customers SELECT DISTINCT who, 'person', false, NULL, NULL, NULL FROM bought")
    build_features(con)
    return con


def count(con, table: str) -> int:
    return con.execute(f"SELECT count(*) FROM scores.{table}").fetchone()[0]


def test_a_company_without_any_data_gets_empty_tables_and_the_reason(home):
    con = empty_world("2026-01-01")
    build_features(con)
    report = scoring.score_all(con, home, "run", INSTANT)
    assert report.rows == dict.fromkeys(scoring.QUESTIONS, 0) and len(report.rows) >= 5
    assert all("no history" in text for text in report.verdicts.values())
    for table in (*scoring.QUESTIONS, "model_evaluations", "score_history"):
        assert count(con, table) == 0
    assert count(con, "model_cards") == len(scoring.QUESTIONS)


def test_three_customers_get_the_naive_value_labelled_and_what_is_missing(home):
    con = empty_world("2026-01-01")
    con.execute("INSERT INTO marts.dim_customers SELECT 'p' || i, 'person', false, NULL, NULL, NULL FROM range(3) AS t(i)")
    con.execute("INSERT INTO marts.fct_orders SELECT 'p' || i, TIMESTAMP '2025-11-01', DATE '2025-11-01', true, 10, 10, 0, 10 FROM range(3) AS t(i)")
    build_features(con)
    report = scoring.score_all(con, home, "run", INSTANT)
    assert "are needed" in report.verdicts["churn"] and "are needed" in report.verdicts["clv"]
    assert count(con, "churn") == 0
    assert con.execute("SELECT count(*), bool_and(is_fallback), count(lower), bool_and(score > 0) FROM scores.clv").fetchone() == (3, True, 0, True)
    assert con.execute("SELECT bool_or(is_published) FROM scores.model_evaluations").fetchone()[0] is False


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    place = Home(tmp_path_factory.mktemp("scored"))
    con = shop(700)
    return con, place, scoring.score_all(con, place, "run one", INSTANT)


def test_value_scores_lie_in_their_intervals_and_forecast_the_next_year(scored):
    con, _, report = scored
    assert report.rows["clv"] == con.execute("SELECT count(DISTINCT customer_id) FROM marts.fct_orders WHERE ordered_at < '2026-01-01'").fetchone()[0]
    assert con.execute("SELECT count(*) FROM scores.clv WHERE NOT is_fallback AND NOT (lower <= score AND score <= upper AND p_alive BETWEEN 0 AND 1)").fetchone()[0] == 0


def test_churn_is_asked_of_buyers_of_the_last_year_only(scored):
    con, _, _ = scored
    wanted = con.execute("SELECT count(*) FROM features.ftr_customers__behaviour JOIN features.ftr_as_of_dates USING (as_of_date) "
                         "WHERE subject = 'customer' AND is_scoring AND purchase_days_365d_count > 0").fetchone()[0]
    assert count(con, "churn") == wanted > 0


def test_a_second_run_of_the_day_scores_without_training_and_changes_nothing(scored):
    con, place, _ = scored
    before = con.execute("SELECT customer_id, score, lower, upper, reasons FROM scores.churn ORDER BY 1").fetchall()
    value = con.execute("SELECT customer_id, score, lower, upper FROM scores.clv ORDER BY 1").fetchall()
    history = count(con, "score_history")
    report = scoring.score_all(con, place, "run two", INSTANT)
    assert report.trained == []
    assert con.execute("SELECT customer_id, score, lower, upper, reasons FROM scores.churn ORDER BY 1").fetchall() == before
    assert con.execute("SELECT customer_id, score, lower, upper FROM scores.clv ORDER BY 1").fetchall() == value
    assert count(con, "score_history") == history


def test_training_twice_on_the_same_data_gives_the_same_model(scored):
    con, place, _ = scored
    before = {m: registry.champion(place, m) for m in ("churn", "clv")}
    scoring.score_all(con, place, "run three", INSTANT, force_training=True)
    assert {m: registry.champion(place, m) for m in ("churn", "clv")} == before


def test_a_changed_artefact_is_refused(scored, tmp_path):
    _, place, _ = scored
    model_id = registry.champion(place, "clv")
    file = registry.folder(place, "clv") / model_id / "state.skops"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(RapportError, match="checksum"):
            registry.load(place, "clv", model_id)
    finally:
        file.write_bytes(content)


def test_promote_and_rollback_move_the_champion(home):
    from datetime import date
    first = registry.save(home, "churn", {"a": 1}, {"parts": {}}, date(2026, 1, 1))
    second = registry.save(home, "churn", {"a": 2}, {"parts": {}}, date(2026, 2, 1))
    assert registry.champion(home, "churn") == second
    assert registry.rollback(home, "churn") == first == registry.champion(home, "churn")
    registry.promote(home, "churn", second)
    assert registry.champion(home, "churn") == second
    with pytest.raises(UsageError):
        registry.promote(home, "churn", "churn-20260101-nothere1")
    with pytest.raises(UsageError):
        registry.folder(home, "../../etc")


def test_the_card_tells_inputs_cut_offs_and_verdict(scored):
    _, place, _ = scored
    manifest = registry.read_manifest(place, "churn", registry.champion(place, "churn"))
    assert manifest["inputs"] and manifest["cut_offs"] and manifest["horizon_days"] == 90 and "orders" in manifest["parts"]
    assert json.dumps(manifest)


def test_moved_scores_are_noticed_and_steady_ones_are_not():
    rng = np.random.default_rng(0)
    assert drift.stability_index(rng.random(2_000), rng.random(2_000)) < 0.05
    assert drift.stability_index(rng.random(2_000), rng.random(2_000) ** 4) > drift.DRIFTED
    assert drift.stability_index(rng.random(50), rng.random(50)) is None


def test_verdicts_of_several_parts_read_as_sentences():
    from ml import evaluation
    rng = np.random.default_rng(0)
    chance = rng.random(600)
    verdict = evaluation.gate((rng.random(600) < chance).astype(float), chance, rng.random(600), kind="probability", naive_name="recency").reason
    said = registry.spoken({"orders": verdict, "contract": verdict})
    assert verdict.count(", 95 % interval)") == 1 and said == f"Orders: {verdict} Contract: {verdict}"
    assert registry.spoken({"": verdict}) == verdict and not any(wrong in said for wrong in (".;", ") (", "95%", "..")), said


def test_a_backtest_holds_every_cut_off_subgroup_tenth_and_class_of_chance_with_intervals(scored):
    con, place, _ = scored
    models = {name: scoring.champion(place, scoring.QUESTIONS[name], scoring.open_frames(con))[0] for name in ("clv", "churn")}
    value, chance = (scoring.backtest_frame(scoring.QUESTIONS[name], model) for name, model in models.items())
    assert {"all rows", "tenth of scores", "days with an order in the last 365 days"} <= set(value["dimension"])
    assert {"all rows", "tenth of scores", "predicted chance"} <= set(chance["dimension"]) and chance["cut_off"].n_unique() >= 3
    for wanted, found in (({"normalised_gini", "spearman", "total_bias", "decile_error", "share_at_top_10"}, value),
                          ({"roc_auc", "average_precision", "brier_score", "log_loss", "expected_calibration_error", "share_at_top_10"}, chance)):
        for dimension in ("all rows", "days with an order in the last 365 days"):
            assert wanted <= set(found.filter(dimension=dimension)["metric"]), (dimension, wanted)
        known = found.filter(found["value"].is_not_null() & (found["metric"] != "mean_predicted"))
        assert known["lower"].null_count() == 0 and (known["lower"] <= known["upper"]).all()
    titles = [title for title, _ in scoring.backtest_tables(scoring.QUESTIONS["churn"], models["churn"], chance)]
    assert any("beside the naive rule" in title for title in titles) and any("by predicted chance" in title for title in titles)


def test_a_model_of_other_features_is_known_as_one_that_cannot_score(scored):
    _, place, _ = scored
    manifest = registry.read_manifest(place, "churn", registry.champion(place, "churn"))
    assert scoring.can_score("churn", manifest) and not scoring.can_score("churn", {**manifest, "inputs_fingerprint": "of before"})
    told = {row["field"]: row["value"] for row in registry.readable(manifest)}
    uplift = registry.readable(registry.read_manifest(place, "uplift", registry.champion(place, "uplift")))
    assert {"field": "window asked about", "value": "30 days"} in uplift, "the response window, not the churn window"
    assert told["window asked about"] == "90 days" and told["orders: verdict"] and "cut-offs learned from" in told


def test_a_score_is_explained_for_everybody_who_has_one_and_refused_with_the_reason_where_all_have_the_same(scored):
    con, place, _ = scored
    question, frames = scoring.QUESTIONS["clv"], scoring.open_frames(con)
    model = scoring.champion(place, question, frames)[0]
    gone = con.execute("SELECT customer_id FROM scores.clv ANTI JOIN scores.churn USING (customer_id) ORDER BY 1 LIMIT 1").fetchone()[0]
    found = scoring.explain(question, frames, model, gone)
    assert found["feature"].to_list()[-1] == "sum" and found["contribution"][:-1].sum() == pytest.approx(found["contribution"][-1])
    uplift = scoring.QUESTIONS["uplift"]
    with pytest.raises(UsageError, match="has no score of its own by uplift: refused: no campaign"):
        scoring.explain(uplift, frames, scoring.champion(place, uplift, frames)[0], gone)


def test_the_history_keeps_the_scores_of_a_question_that_comes_after_one_without_any():
    """DuckDB 1.5.5 loses the rows of a large INSERT that follows one of none into the same table in the same transaction."""
    first, second, *_ = scoring.QUESTIONS.values()
    with duckdb.connect(config={"threads": 2}) as con:
        con.execute("CREATE SCHEMA scores")
        con.begin()
        scoring.prepare(con)
        con.execute(f"""INSERT INTO scores.{second.name} BY NAME SELECT 'p' || i AS {second.entity}, 'm' AS model_id, DATE '2026-01-01' AS as_of, 0.5 AS score, false AS is_fallback FROM range(150000) AS t(i)""")
        for question in (first, second):
            scoring._remember(con, question, "r1", INSTANT)
        con.commit()
        assert con.execute("SELECT model, count(*) FROM scores.score_history GROUP BY ALL").fetchall() == [(second.name, 150_000)]
