"""Companies whose truth is known: what models say of them is right, adds up, and does not depend on who stands beside whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from fixtures.feature_world import build_features, empty_world
from fixtures.leaving_customers import SCORING, TASK, customers, trained
from scipy.special import logit

from ml import challenge, drift, evaluation, probability, scoring
from ml.clv.purchases import PurchaseForecast
from ml.clv.refinement import FEWEST_ROWS, Refinement
from ml.estimators import BetaGeoNBD
from ml.published import Published

YEAR = date(2025, 1, 1)


def test_the_chance_of_still_being_a_customer_is_right_within_three_points_in_every_tenth():
    rng = np.random.default_rng(4)
    n, weeks = 40_000, 78.0
    T, rate, leaves = rng.uniform(20, weeks, n), rng.gamma(0.8, 1 / 6, n), rng.beta(0.9, 3.0, n)
    x, last, alive, now = np.zeros(n), np.zeros(n), np.ones(n, bool), np.zeros(n)
    for _ in range(400):
        now = np.where(alive, now + rng.exponential(size=n) / rate, np.inf)
        bought = now <= T
        if not bought.any():
            break
        x, last = x + bought, np.where(bought, now, last)
        gone = bought & (rng.random(n) < leaves)
        alive &= ~gone
    said = BetaGeoNBD().fit(np.column_stack([x, last, T])).probability_alive(x, last, T)
    tenth = np.digitize(said, np.quantile(said, np.arange(1, 10) / 10))
    gaps = [abs(said[tenth == t].mean() - alive[tenth == t].mean()) for t in np.unique(tenth)]
    assert max(gaps) <= 0.03, gaps


@pytest.fixture(scope="module")
def company():
    """Buyers who go on buying and dropping out for a year after the watermark; nobody but the test looks at that year."""
    rng = np.random.default_rng(11)
    n, con, days = 900, empty_world(str(YEAR)), (date(2026, 1, 1) - date(2022, 1, 1)).days
    begin, rate, leaves, worth = rng.integers(0, 1_000, n), rng.gamma(1.5, 1 / 60, n), rng.beta(1.0, 12.0, n), 20 / rng.gamma(4, 1 / 3, n)
    rows = []
    for number in range(n):
        at = float(begin[number])
        while at < days:
            rows.append((f"p{number}", int(at), round(float(rng.gamma(4, worth[number])), 2)))
            if rng.random() < leaves[number]:
                break
            at += rng.exponential(1 / rate[number]) + 1
    con.register("bought", pl.DataFrame(rows, schema=["who", "d", "v"], orient="row").to_arrow())
    con.execute("INSERT INTO marts.fct_orders SELECT who, TIMESTAMP '2022-01-01' + to_days(CAST(d AS INTEGER)), DATE '2022-01-01' + CAST(d AS INTEGER), true, v, v, 0, v FROM bought")
    con.execute("INSERT INTO marts.dim_customers SELECT DISTINCT who, 'person', false, NULL, NULL, NULL FROM bought")
    build_features(con)
    truth = con.execute("SELECT customer_id, CAST(sum(net_revenue_reporting) AS DOUBLE) AS actual FROM marts.fct_orders WHERE ordered_date >= ? AND ordered_date < ? GROUP BY 1", [YEAR, YEAR + timedelta(days=365)]).pl()
    frames = scoring.open_frames(con)
    question = scoring.QUESTIONS["clv"]
    return frames, scoring.train(question, frames), truth


def test_four_of_five_value_intervals_hold_what_came_in_a_year_no_model_has_seen(company):
    frames, model, truth = company
    assert not model.is_fallback, model.verdict
    scored = scoring.QUESTIONS["clv"].score(frames, model).join(truth, on="customer_id", how="left").with_columns(pl.col("actual").fill_null(0.0))
    buyers = frames.customers.filter((pl.col("as_of_date") == YEAR) & (pl.col("purchase_days_365d_count") > 0)).select("customer_id")
    scored = scored.join(buyers, on="customer_id", how="semi")    # of those gone for a year nearly all bring nothing, which every interval from 0 holds
    covered = scored.select(((pl.col("lower") <= pl.col("actual")) & (pl.col("actual") <= pl.col("upper"))).mean()).item()
    assert 0.75 <= covered <= 0.85, covered
    assert abs(scored["score"].sum() / scored["actual"].sum() - 1) < 0.15


def test_contributions_to_a_value_add_up_to_its_logarithm(company):
    frames, model, _ = company
    as_of = frames.customer_calendar.scoring_date
    rows = frames.customers.filter((pl.col("as_of_date") == as_of) & (pl.col("purchase_day_count") > 0))
    base, parts = model.contributions(rows, as_of)
    assert np.allclose(base + sum(parts.values()), np.log(model.score(rows, as_of)["score"].to_numpy()), atol=1e-9)
    found = scoring.explain(scoring.QUESTIONS["clv"], frames, model, rows.filter(pl.col("purchase_days_365d_count") > 0)["customer_id"][0])
    assert found["contribution"][:-1].sum() == pytest.approx(found["contribution"][-1])


def test_a_refined_forecast_adds_up_keeps_its_total_and_comes_back_from_its_state(company):
    frames, _, _ = company
    calendar = frames.customer_calendar
    last = calendar.cut_offs[-1]
    rows = frames.customers.filter((pl.col("as_of_date") == last) & (pl.col("purchase_days_365d_count") > 0))
    forecast = frames.forecasts([last], False)[last]
    found, truth = forecast.predict(rows, last, 90), rows["horizon_value_amount"].cast(pl.Float64).to_numpy()
    assert Refinement.fit([(rows.head(FEWEST_ROWS - 1), found.head(FEWEST_ROWS - 1), truth[: FEWEST_ROWS - 1])]) is None
    learned = Refinement.fit([(rows, found, truth)])
    learned.keeps_total(rows, found, 90)
    refined = PurchaseForecast(forecast.clock, forecast.buying, forecast.spending, forecast.mean_value, refinement=learned)
    value = refined.predict(rows, last, 90)["value"].to_numpy()
    base, parts = refined.explained(rows, last, 90)
    assert np.allclose(base + sum(parts.values()), np.log(value), atol=1e-9)
    assert value.sum() == pytest.approx(found["value"].sum())
    assert np.array_equal(PurchaseForecast.from_state(refined.state()).predict(rows, last, 90)["value"].to_numpy(), value)
    alone = [refined.predict(rows[i], last, 90)["value"][0] for i in range(5)]
    assert np.allclose(alone, value[:5], rtol=1e-12)


@pytest.fixture(scope="module")
def strong():
    frame = customers(1.5)
    return frame, trained(frame)


def test_shuffled_outcomes_leave_nothing_to_rank():
    frame = customers(1.5, rows=1_500)
    rng = np.random.default_rng(1)
    known = frame["label"].to_numpy().copy()
    there = np.flatnonzero(~np.isnan(known.astype(float)))
    known[there] = rng.permutation(known[there])
    result = trained(frame.with_columns(pl.Series("label", known).cast(pl.Float64).fill_nan(None).cast(pl.Int64)))
    auc = [row["value"] for row in result.evaluations if row["metric"] == "roc_auc" and row["candidate"] != "naive_rule"]
    assert len(auc) >= 9 and max(abs(value - 0.5) for value in auc) <= 0.05 and not result.verdict.published, auc


@pytest.mark.parametrize("kind", ["logistic", "trees", "blend", "naive_rule"])
def test_rows_scored_alone_are_those_scored_together_whatever_is_missing_or_new(strong, kind):
    frame, result = strong
    known = frame.filter(pl.col("label").is_not_null())
    fitted = probability.fit_candidates(TASK, known, known["label"].to_numpy().astype(float))
    answer = Published.of(result)
    answer.model = fitted[kind]
    rows = frame.filter(pl.col("as_of_date") == SCORING).head(6).with_columns(
        pl.Series("spent_amount", [None, float("nan"), 1.0, 0.2, -3.0, 900.0]), pl.Series("plan", ["a", "b", "never seen", None, "a", ""]), pl.Series("pause_days", [1.0, None, 1e9, 0.0, 5.0, 7.0]))
    together = answer.score(rows, "raises", "lowers")
    alone = pl.concat([answer.score(rows[i], "raises", "lowers") for i in range(rows.height)])
    assert together.drop("score", "lower", "upper").equals(alone.drop("score", "lower", "upper"))
    for column in ("score", "lower", "upper"):
        assert np.allclose(together[column], alone[column], rtol=1e-12) and together[column].is_finite().all()
    base, parts = answer.contributions(rows, SCORING)
    assert np.allclose(base + sum(parts.values()), logit(together["score"].to_numpy()), atol=1e-6)


def test_what_is_shown_of_a_model_is_kept_withheld_where_small_and_free_of_nan(strong):
    _, result = strong
    kept = Published.from_state(Published.of(result).state()).diagnostics
    reliability = pl.DataFrame(kept["model_reliability"])
    assert reliability.group_by("cut_off").agg(pl.col("n").sum())["n"].unique().to_list() == [500]
    assert {row["feature"] for row in kept["model_importance"]} <= {*TASK.numeric, *TASK.categorical} and sum(row["share"] for row in kept["model_importance"]) == pytest.approx(1)
    curve = [row["mean_contribution"] for row in kept["model_dependence"] if row["feature"] == "spent_amount" and row["level"] != "unknown"]
    assert curve == sorted(curve)


def test_a_small_subgroup_is_withheld_with_the_reason():
    from ml import diagnostics
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"country_code": ["DE"] * 300 + ["FR"] * 20})
    score = rng.random(320)
    rows = diagnostics.judged("probability", [("2025-01-01", (rng.random(320) < score).astype(float), score)], frame, ("country_code",))["model_subgroups"]
    small = [row for row in rows if row["subgroup"] == "FR"]
    assert all(row["value"] is None and row["reason"].startswith("withheld: 20 rows") for row in small) and len(small) == len(diagnostics.SUBGROUP_MEASURES["probability"])
    assert all(row["lower"] < row["value"] < row["upper"] for row in rows if row["subgroup"] == "DE")


# -- a challenger, and a world that moves


def published(frame: pl.DataFrame) -> Published:
    return Published.of(trained(frame))


def test_a_training_that_learned_nothing_does_not_take_the_champions_place(strong):
    frame, result = strong
    champion = {"": Published.of(result)}
    nothing = frame.filter(pl.col("label").is_null())
    one_class = frame.with_columns(pl.when(pl.col("label").is_not_null()).then(1).alias("label"))
    for degenerate in (nothing, one_class):
        decision = challenge.decide(champion, date(2025, 6, 1), {"": published(degenerate)})
        assert not decision.promoted and decision.reason.startswith("kept the champion") and "50 are needed" in decision.reason
    assert challenge.decide({}, None, {"": published(nothing)}).promoted


def test_a_worse_challenger_is_refused_on_the_same_people_and_an_equal_one_is_not(strong):
    _, result = strong
    champion, equal, worse = (Published.of(result) for _ in range(3))
    scores, rng = result.latest.scores, np.random.default_rng(0)
    worse.candidate = "guessing"
    worse.latest = replace(worse.latest, scores={**scores, "guessing": rng.permutation(scores["naive_rule"])})
    after = result.latest.cut_off + timedelta(days=60)
    refused = challenge.decide({"": champion}, after, {"": worse})
    assert not refused.promoted and "on the same 500 people" in refused.reason and refused.comparisons[0]["lower"] > 0
    same = challenge.decide({"": champion}, after, {"": equal})
    assert same.promoted and same.comparisons[0]["difference"] == 0, "a champion that has seen part of the outcome is stood for by its method"
    # one from before the cut-off is asked itself
    itself = challenge.decide({"": champion}, result.latest.cut_off, {"": equal}).comparisons[0]
    assert itself["champion"] == pytest.approx(evaluation.log_loss(result.latest.truth, champion.predicted(result.latest.rows, result.latest.cut_off)))


def test_a_moved_feature_and_outcomes_that_came_otherwise_are_noticed():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"age_days": rng.exponential(30, 3_000), "channel": rng.choice(["email", "web"], 3_000)}).with_columns(pl.when(pl.col("age_days") > 5).then(pl.col("age_days")).alias("age_days"))
    kept = drift.remember(frame, ("age_days", "channel"))
    assert not any(row["is_drifted"] for row in drift.of_features(kept, frame.sample(1_000, seed=1)))
    moved = frame.with_columns(pl.col("age_days") * 3, pl.lit("fax").alias("channel"))
    assert {row["subject"] for row in drift.of_features(kept, moved) if row["is_drifted"]} == {"age_days", "channel"}
    gone = drift.of_features(kept, frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("age_days")))
    assert next(row for row in gone if row["subject"] == "age_days")["is_drifted"]
    chance = rng.random(2_000) * 0.4
    happened = (rng.random(2_000) < chance).astype(float)
    assert not drift.of_outcomes("probability", chance, happened)["is_drifted"]
    assert drift.of_outcomes("probability", chance, (rng.random(2_000) < chance + 0.1).astype(float))["is_drifted"]
    assert drift.of_outcomes("value", np.full(500, 100.0), np.full(500, 70.0))["value"] == pytest.approx(-0.3)
    assert drift.of_outcomes("probability", chance[:50], happened[:50]) is None
