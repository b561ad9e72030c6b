"""Models: what each score means, how right it was, where it is weak, what moves it, and whether the world has moved."""

import polars as pl
import streamlit as st

from dashboards import queries
from dashboards.components import filters, frame, model_charts, tables, text
from dashboards.components import format as shown
from dashboards.components.tables import Column

MEASURED = {"label": Column("Measure"), "candidate": Column("Candidate", "words"), "value": Column("Value", "ratio3"), "lower": Column("95 % from", "ratio3"), "upper": Column("to", "ratio3"), "n": Column("Rows", "count"),
            "is_published": Column("Published", "flag")}
SUBGROUPS = {"measure": Column("Measure"), "dimension": Column("Divided by", "words"), "subgroup": Column("Group"), "value": Column("Value", "ratio3"), "lower": Column("95 % from", "ratio3"), "upper": Column("to", "ratio3"),
             "n": Column("Rows", "count"), "is_small": Column("Few rows", "flag"), "reason": Column("Remark")}
DECILES = {"bin": Column("Tenth, best first", "count"), "n": Column("Rows", "count"), "lowest_score": Column("Lowest score", "decimal"), "outcome_mean": Column("Happened, mean", "decimal"), "lift": Column("Lift", "decimal"),
           "lift_lower": Column("Lift, 95 % from", "decimal"), "lift_upper": Column("Lift, to", "decimal"), "cumulative_gain": Column("Reached so far", "share"), "gain_lower": Column("Reached, 95 % from", "share"),
           "gain_upper": Column("Reached, to", "share"), "bias_lower": Column("Error, 95 % from", "change"), "bias_upper": Column("Error, to", "change"), "predicted_total": Column("Predicted", "decimal"), "outcome_total": Column("Happened", "decimal"), "bias": Column("Error", "change")}
DRIFT = {"kind": Column("Of", "words"), "label": Column("What", "words"), "value": Column("Moved by", "decimal"), "threshold": Column("Too much from", "decimal"), "is_drifted": Column("Drifted", "flag"),
         "against": Column("Compared with", "date"), "n": Column("Rows", "count")}
COMPARED = {"compared_on": Column("On", "date"), "metric": Column("Measure", "words"), "champion": Column("Champion", "decimal"), "challenger": Column("Challenger", "decimal"), "difference": Column("Difference", "decimal"),
            "lower": Column("95 % from", "decimal"), "upper": Column("to", "decimal"), "n": Column("Rows", "count"), "is_promoted": Column("Promoted", "flag"), "reason": Column("Reason")}
FIELDS = {"field": Column("Field"), "value": Column("Value")}
SCALE = {"probability": "A score is a chance between 0 and 100 %: of 100 people with a score of 30 %, about 30 are expected to do it. Contributions add up on the scale of log-odds.",
         "days": "A score is the expected number of days, within a year, for which somebody stays a customer. Contributions add up on the scale of the log-odds of stopping in the third month.",
         "effect": "A score is how much contact raises the chance of an order: +2 points are 20 more orders from 1,000 people. Contributions add up on the scale of log-odds with contact less those without.",
         "value": "A score is an amount of money expected over the next 365 days. Contributions add up on the scale of its logarithm: +0.10 is about 10 % more."}
NOT_CAUSAL = "What a score rests on is what went along with the outcome before. It does not say that changing it would change the outcome: only a test with a control group shows that."


def body() -> None:
    names = queries.judged_models()
    if not names:
        frame.empty("No score has been judged yet.", "“rapport model list” says what is missing.")
        return
    model = filters.choice("Model", "model", tuple(names), next(iter(names)), names, width=340)
    found = queries.model_verdict(model)
    if found["is_published"]:
        text.notice("success", f"Published. {found['verdict']}")
    else:
        text.notice("warning", f"Not published: a simple rule or the average is shown instead, labelled as such, or nothing. {found['verdict']}")
    card = queries.model_card(model)
    if card:
        text.line(card["question"])
    text.line(SCALE[found["kind"]])
    if found["cut_off"] is None:
        frame.empty("There is no past cut-off to judge this model at yet.", "It needs more history.")
    else:
        with frame.explained():
            judged(model, found, card)
        with frame.explained():
            subgroups(model)
        with frame.explained():
            what_counts(model)
    with frame.explained():
        drift(model)
    with frame.explained():
        about(model, card)


def effect() -> None:
    st.subheader("Whom contact changes", anchor=False)
    text.line("Extra orders if only this share is contacted, those first who are changed most; the band is the 95 % interval, the broken line contacts as many people by lot. Where the band holds the broken line, "
              "no order of contacting is known to be better than another.")
    curve = queries.qini_curve()
    if curve.is_empty():
        frame.empty("No curve was kept for this model.")
    else:
        model_charts.qini(curve)


def judged(model: str, found: dict, card: dict | None) -> None:
    if found["kind"] == "effect":
        effect()
        rows = queries.model_measures(model)
        tables.table(rows, {name: MEASURED[name] for name in ("label", "value", "lower", "upper", "n")})
        tables.download("All measures as CSV", rows, f"evaluation_{model}", queries.snapshot_id())
        return
    lift, reliability = queries.model_rows("lift", model), queries.model_rows("reliability", model)
    left, right = st.columns(2, gap="medium")
    with left:
        if found["kind"] != "value":
            st.subheader("Is a chance what it says?", anchor=False)
            if found["kind"] == "days":
                text.line("The chance to have stopped within the churn window, as read from the curves.")
            text.line(f"Judged on {shown.day(found['cut_off'])} by what happened after. On the broken line predicted and observed are equal; bars are 95 % intervals.")
            if reliability.is_empty():
                frame.empty("No reliability was kept for this model.")
            else:
                model_charts.reliability(reliability)
        else:
            st.subheader("Tenths of customers, best first", anchor=False)
            text.line("Predicted and actual totals at the latest cut-off; an error of +10% is a tenth too much.")
            tables.table(lift, there(lift, "bin", "n", "predicted_total", "outcome_total", "bias", "bias_lower", "bias_upper"))
    with right:
        st.subheader("What a short list reaches", anchor=False)
        text.line("Contacting the best-scored part reaches this share of everything that happens (or of all money); the broken line is a list drawn by lot.")
        if lift.is_empty():
            frame.empty("No lift was kept for this model.")
        else:
            model_charts.gain(lift)
    measures = queries.model_measures(model)
    leading = queries.LEADING[found["kind"]]
    st.subheader("At every cut-off, beside common sense", anchor=False)
    text.line("Each time, only what was known at that day was used. Beside the model stands the naive rule, which anybody could use.")
    rows, shown_names = queries.against_naive(measures, leading, queries.chosen_candidate(card, model))
    model_charts.by_cut_off(rows, queries.MEASURES[leading], shown_names)
    with st.expander("All measures of all candidates at the latest cut-off"):
        tables.table(measures.filter(pl.col("cut_off") == found["cut_off"]), MEASURED)
    if not lift.is_empty():
        with st.expander("Lift and gain by tenths"):
            tables.table(lift, there(lift, "bin", "n", "lowest_score", "outcome_mean", "lift", "lift_lower", "lift_upper", "cumulative_gain", "gain_lower", "gain_upper"))
    tables.download("All measures as CSV", measures, f"evaluation_{model}", queries.snapshot_id())


def there(rows: pl.DataFrame, *names: str) -> dict[str, Column]:
    """Columns of tenths; a snapshot of before holds no intervals."""
    return {name: DECILES[name] for name in names if name in rows.columns}


def subgroups(model: str) -> None:
    st.subheader("For whom is it right?", anchor=False)
    rows = queries.model_rows("subgroups", model)
    if rows.is_empty():
        frame.empty("No group has enough people to be looked at alone.")
        return
    text.line("Measured within each group at the latest cut-off. Groups of few rows are marked; below 30 rows or 10 outcomes nothing is said.")
    measures = rows["measure"].unique().sort().to_list()
    measure = filters.choice("Measure", f"{model}_measure", tuple(measures), measures[0], {name: name.replace("_", " ") for name in measures}, width=300)
    tables.table(rows.filter(pl.col("measure") == measure).drop("measure"), SUBGROUPS)


def what_counts(model: str) -> None:
    st.subheader("What moves the score", anchor=False)
    importance, dependence = queries.model_rows("importance", model), queries.model_rows("dependence", model)
    if importance.is_empty():
        frame.empty("Nothing moves it: nothing was learned, or everybody has the same score.")
        return
    text.line(NOT_CAUSAL)
    model_charts.importance(importance.head(12))
    features = [name for name in importance["feature"].to_list() if name in dependence["feature"]][:6]
    places = [*st.columns(3, gap="medium"), *st.columns(3, gap="medium")]
    for column, feature in zip(places, features, strict=False):
        with column:
            part = dependence.filter(pl.col("feature") == feature)
            text.line(shown.words(part["label"][0]))
            model_charts.dependence(part)


def drift(model: str) -> None:
    st.subheader("Has the world moved since?", anchor=False)
    rows = queries.model_drift(model)
    if rows.is_empty():
        frame.empty("Nothing to compare with yet.", "Features are compared with those learned from, scores with the scoring before, outcomes with what was foreseen once their time has passed.")
        return
    moved = rows.filter("is_drifted").height
    text.notice("warning" if moved else "success", f"{moved} of {rows.height} things looked at have moved too far." if moved else f"None of {rows.height} things looked at has moved too far.")
    tables.table(rows.head(12), DRIFT)


def about(model: str, card: dict | None) -> None:
    st.subheader("The model that scores", anchor=False)
    if not card or not card["model_id"]:
        frame.empty("No model has been trained.")
        return
    tables.table(queries.card_fields(card), FIELDS)
    compared = queries.model_comparisons(model)
    if not compared.is_empty():
        text.line("When a newly trained model wanted its place: both on the same people.")
        tables.table(compared, COMPARED)


frame.page("Models", "What each score means, how right it was, and where it is weak.", body)
