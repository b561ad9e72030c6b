"""What the models reach on real companies' data: Online Retail II, Telco, Bank Marketing; and that Maven's deals hold no signal."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from fixtures import online_retail_marts
from fixtures.shared_data import given
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import RepeatedStratifiedKFold

from ml import evaluation, leakage, probability, scoring
from ml.probability import Blend, Logistic, Task, Trees

CUT_OFF = date(2011, 3, 13)


@pytest.fixture(scope="module")
def shop():
    frames = scoring.open_frames(online_retail_marts.online_retail())
    answers = {}
    for name in ("churn", "clv"):
        question = scoring.QUESTIONS[name]
        model = scoring.train(question, frames)
        answers[name] = question.parts(model), scoring.evaluation_frame(question, model)
    return answers


def measured(frame: pl.DataFrame, candidate: str) -> dict[str, float]:
    """Measures at the cut-off of the claim."""
    return dict(frame.filter((pl.col("cut_off") == CUT_OFF) & (pl.col("candidate") == candidate)).select("metric", "value").iter_rows())


def test_churn_of_a_real_shop_is_ranked_and_calibrated(shop):
    parts, frame = shop["churn"]
    answer = parts["orders"]
    assert not answer.is_fallback, answer.verdict
    found = measured(frame, answer.candidate)
    assert found["roc_auc"] >= 0.777 and found["brier_score"] <= 0.179 and found["expected_calibration_error"] <= 0.04, found


def test_value_of_a_real_shop_is_ranked_and_sums_up(shop):
    parts, frame = shop["clv"]
    answer = parts[""]
    assert not answer.is_fallback, answer.verdict
    found = measured(frame, answer.candidate)
    assert found["normalised_gini"] >= 0.795 and found["spearman"] >= 0.515, found
    assert abs(found["total_bias"]) <= 0.10 and found["decile_error"] <= 0.15, found


def test_what_behaviour_adds_shares_the_value_out_better_at_every_cut_off(shop):
    _, frame = shop["clv"]
    spearman = frame.filter(metric="spearman").pivot(on="candidate", index="cut_off", values="value").drop_nulls()
    assert spearman.height >= 4
    assert (spearman["refined_by_behaviour"] > spearman["seasonal_bg_nbd_gamma_gamma"] + 0.004).all(), spearman


def test_the_season_takes_most_of_the_bias_of_the_plain_model(shop):
    _, frame = shop["clv"]
    plain, seasonal = (abs(measured(frame, name)["total_bias"]) for name in ("bg_nbd_gamma_gamma", "seasonal_bg_nbd_gamma_gamma"))
    assert seasonal < plain / 2


def folds(task: Task, frame: pl.DataFrame, repeats: int, candidates=(Logistic, Trees)) -> tuple[float, float]:
    """Mean AUC and Brier score of the blend over repeated stratified folds."""
    label = frame["label"].to_numpy().astype(float)
    auc, brier = [], []
    for learn, judge in RepeatedStratifiedKFold(n_splits=5, n_repeats=repeats, random_state=42).split(label, label):
        blend = Blend([kind().fit(task, frame[learn], label[learn]) for kind in candidates])
        chance = probability.Line().probability(blend.log_odds(frame[judge]))
        auc.append(evaluation.roc_auc(label[judge], chance))
        brier.append(evaluation.brier_score(label[judge], chance))
    return float(np.mean(auc)), float(np.mean(brier))


def test_contract_churn_of_a_telephone_company_is_as_good_as_known_and_no_better():
    frame = pl.read_csv(given("data/telco_churn.csv"), null_values=[" ", ""]).with_columns((pl.col("Churn") == "Yes").cast(pl.Int64).alias("label"))
    numeric = ("tenure", "MonthlyCharges", "TotalCharges", "SeniorCitizen")
    text = tuple(c for c in frame.columns if frame[c].dtype == pl.String and c not in ("customerID", "Churn"))
    auc, brier = folds(Task("telco", "label", "tenure", "tenure", numeric, text), frame, repeats=1)
    assert 0.845 <= auc < 0.86 and brier <= 0.1365, (auc, brier)


def test_the_guard_against_late_entries_is_quiet_on_honest_columns_of_a_telephone_company_and_catches_a_planted_one():
    frame = pl.read_csv(given("data/telco_churn.csv"), null_values=[" ", ""]).with_columns((pl.col("Churn") == "Yes").cast(pl.Int64).alias("label"), pl.col("tenure").replace(0, None))
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    past, today = shuffled[:5_000], shuffled[5_000:]
    label = past["label"].cast(pl.Float64).to_numpy()
    columns = tuple(c for c in frame.columns if c not in ("customerID", "Churn", "label"))
    assert leakage.warnings(columns, past, label, today) == []
    # the reason of leaving is asked of two in three, when they have left
    asked = (past["label"] == 1) & (pl.int_range(past.height, eager=True) % 3 > 0)
    planted = past.with_columns(pl.when(asked).then(pl.lit("price")).alias("reason"))
    found = leakage.warnings((*columns, "reason"), planted, label, today.with_columns(pl.lit(None, dtype=pl.String).alias("reason")))
    assert len(found) == 1 and found[0].startswith("reason is filled for 6"), found


def bank() -> tuple[Task, pl.DataFrame]:
    frame = pl.read_csv(given("data/bank_additional_rows_0_28831.csv")).with_columns((pl.col("y") == "yes").cast(pl.Int64).alias("label"))
    numeric = tuple(c for c in frame.columns if frame[c].dtype.is_numeric() and c not in ("duration", "label"))   # duration is known only after the call
    text = tuple(c for c in frame.columns if frame[c].dtype == pl.String and c != "y")
    return Task("bank", "label", "campaign", "the number of calls", numeric, text), frame


def test_bank_calls_are_ranked_as_well_as_the_library_ranks_them():
    """These rows, the earliest of the published set, hold little without the duration of the call.

    Over all 28,831 rows and five folds: logistic .644, trees .661, blend .656, the library's boosting with its own categories .658. Published
    figures of .80 rest on the rows after these, when contacts from before (`poutcome`, absent from the first 21,000 rows) begin to tell.
    Windows of 12,000 rows to learn from and the next 4,000 to judge give .45 to .54 whatever the model: months and rates of the
    past do not rank the next month's calls.
    """
    task, frame = bank()
    sample = frame.sample(5_000, seed=0)
    label = sample["label"].to_numpy().astype(float)
    auc, _ = folds(task, sample, repeats=1)
    plain = []
    for learn, judge in RepeatedStratifiedKFold(n_splits=5, n_repeats=1, random_state=42).split(label, label):
        model = HistGradientBoostingClassifier(random_state=0).fit(sample[learn].select(task.numeric).to_numpy(), label[learn])
        plain.append(evaluation.roc_auc(label[judge], model.predict_proba(sample[judge].select(task.numeric).to_numpy())[:, 1]))
    assert auc >= np.mean(plain) - 0.01, (auc, np.mean(plain))


def test_the_gate_finds_no_signal_in_deals_that_hold_none():
    deals = pl.read_csv(given("data/maven_sales_pipeline.csv")).filter(pl.col("deal_stage").is_in(["Won", "Lost"]))
    prices = pl.read_csv(given("data/maven_products.csv"))
    frame = deals.with_columns((pl.col("deal_stage") == "Won").cast(pl.Int64).alias("label"), pl.col("product").replace("GTXPro", "GTX Pro"))
    frame = frame.join(prices, on="product", how="left", maintain_order="left").sort(pl.col("engage_date").str.to_date("%m/%d/%Y"), "opportunity_id")
    task = Task("deals", "label", "product", "the product's past rate", ("sales_price",), ("sales_agent", "product", "account"), naive_is_text=True)
    half = frame.height // 2
    label = frame["label"].to_numpy().astype(float)
    fitted = probability.fit_candidates(task, frame[:half], label[:half])
    chances = {name: probability.Line().probability(fitted[name].log_odds(frame[half:])) for name in ("blend", "naive_rule")}
    verdict = evaluation.gate(label[half:], chances["blend"], chances["naive_rule"], kind="probability")
    assert not verdict.published and "no signal" in verdict.reason, verdict.reason
