"""How each score was judged: verdicts, measures by cut-off, reliability, lift, subgroups, what counts, drift, cards.

Reads the published `scores` tables as they are; a snapshot without one of them shows nothing there.
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from dashboards.queries.door import has, per_snapshot
from models import warehouse

# What leads the charts of each kind of score, and what each measure is called.
LEADING = {"probability": "roc_auc", "value": "normalised_gini", "days": "concordance", "effect": "qini_per_1000"}
MEASURES = {
    "roc_auc": "Ranking (AUC)", "average_precision": "Average precision", "area_under_lift_curve": "Area under the gain curve", "brier_score": "Brier score", "log_loss": "Log loss",
    "expected_calibration_error": "Calibration error", "normalised_gini": "Normalised Gini", "spearman": "Rank correlation (Spearman)", "total_bias": "Error of the total",
    "decile_error": "Error of the deciles", "share_at_top_05": "Share in the top 5 %", "share_at_top_10": "Share in the top 10 %", "share_at_top_20": "Share in the top 20 %",
    "calibration_gap": "Predicted minus observed", "concordance": "Concordance", "integrated_brier_score": "Integrated Brier score", "qini_per_1000": "Qini coefficient (extra orders per 1,000 customers)",
    "average_effect_per_1000": "Average effect (extra orders per 1,000 contacted)", **{f"effect_at_top_{top}_per_1000": f"Effect among the first {top} % (extra orders per 1,000 contacted)" for top in (10, 20, 30)},
    **{f"miscalibration_{day}d": f"Predicted minus observed after {day} days" for day in (30, 60, 90, 180, 365)},
}


@per_snapshot
def judged_models(reading: warehouse.Reading) -> dict[str, str]:
    """Models by name, with the words people use, those with an evaluation only."""
    if not has(reading, "scores.model_evaluations"):
        return {}
    names = [name for (name,) in reading.con.execute("SELECT DISTINCT model FROM scores.model_evaluations ORDER BY model").fetchall()]
    return {name: name.replace("_", " ").capitalize() if name != "clv" else "Lifetime value" for name in names}


@per_snapshot
def model_verdict(reading: warehouse.Reading, model: str) -> dict[str, Any]:
    """Verdict, whether it is published, kind of score (a key of LEADING) and latest cut-off."""
    verdict, published, cut_off, metrics = reading.con.execute("SELECT verdict, bool_or(is_published), max(cut_off), list(DISTINCT metric) FROM scores.model_evaluations WHERE model = ? GROUP BY verdict", [model]).fetchone()
    names = {"clv": "value", "churn_timing": "days", "uplift": "effect"}
    kind = next((kind for kind, metric in LEADING.items() if metric in metrics), next((kind for name, kind in names.items() if model.startswith(name)), "probability"))
    return {"verdict": verdict[:1].upper() + verdict[1:], "is_published": published, "cut_off": cut_off, "kind": kind}


@per_snapshot
def model_measures(reading: warehouse.Reading, model: str) -> pl.DataFrame:
    """Measures of every candidate at every cut-off: label, candidate, cut_off, value, lower, upper, n, is_published, is_naive."""
    frame = reading.con.execute("SELECT metric, candidate, cut_off, value, lower, upper, n, is_published, candidate = 'naive_rule' AS is_naive FROM scores.model_evaluations "
                                "WHERE model = ? AND cut_off IS NOT NULL ORDER BY cut_off DESC, metric, is_published DESC, candidate", [model]).pl()
    return frame.with_columns(pl.col("metric").replace_strict(MEASURES, default=pl.col("metric").str.replace_all("_", " ")).alias("label"))


@per_snapshot
def model_rows(reading: warehouse.Reading, table: str, model: str) -> pl.DataFrame:
    """The rows of one of the tables beside the measures (`reliability`, `lift`, `subgroups`, `importance`, `dependence`) for a model."""
    if table not in ("reliability", "lift", "subgroups", "importance", "dependence") or not has(reading, f"scores.model_{table}"):
        return pl.DataFrame()
    frame = reading.con.execute(f"SELECT * FROM scores.model_{table} WHERE model = ?", [model]).pl()
    if frame.is_empty():
        return frame
    if table in ("reliability", "lift"):
        return frame.filter(pl.col("cut_off") == frame["cut_off"].max()).sort("bin")
    if table == "subgroups":
        return frame.with_columns(pl.col("metric").replace_strict(MEASURES, default=pl.col("metric")).alias("measure")).sort("measure", "dimension", "subgroup")
    return frame.sort("importance", "feature", descending=[True, False]) if table == "importance" else frame.sort("feature", "bin")


@per_snapshot
def qini_curve(reading: warehouse.Reading) -> pl.DataFrame:
    """Extra orders per 1,000 customers by the share of customers contacted, best first: share, gain, lower, upper, random."""
    if not has(reading, "scores.uplift_curve"):
        return pl.DataFrame()
    return reading.con.execute("SELECT share, 1000 * gain AS gain, 1000 * lower AS lower, 1000 * upper AS upper, 1000 * random AS random FROM scores.uplift_curve ORDER BY share").pl()


@per_snapshot
def model_drift(reading: warehouse.Reading, model: str) -> pl.DataFrame:
    """What was compared with before: kind, label, value, threshold, is_drifted, against; what moved most comes first."""
    if not has(reading, "scores.model_drift"):
        return pl.DataFrame()
    return reading.con.execute("SELECT kind, label, value, threshold, is_drifted, against, n FROM scores.model_drift WHERE model = ? OR (model = part AND starts_with(?, model || '_')) "
                               "ORDER BY is_drifted DESC, abs(value) DESC, label", [model, model]).pl()


@per_snapshot
def model_card(reading: warehouse.Reading, model: str) -> dict[str, Any] | None:
    """What is written about the model that scores: id, trained_on, question, inputs, cut_offs, fingerprints, window."""
    if not has(reading, "scores.model_cards"):
        return None
    found = reading.con.execute("SELECT model_id, trained_on, question, card FROM scores.model_cards WHERE model = ? OR starts_with(?, model || '_') ORDER BY length(model) DESC LIMIT 1", [model, model]).fetchone()
    if found is None:
        return None
    return {**json.loads(found[3]), "model_id": found[0], "trained_on": found[1], "question": found[2]}


@per_snapshot
def model_comparisons(reading: warehouse.Reading, model: str) -> pl.DataFrame:
    """Challengers and champions on the same people, newest first."""
    if not has(reading, "scores.model_comparisons"):
        return pl.DataFrame()
    return reading.con.execute("SELECT compared_on, metric, champion, challenger, difference, lower, upper, n, is_promoted, reason FROM scores.model_comparisons WHERE model = ? ORDER BY compared_on DESC LIMIT 20", [model]).pl()


def chosen_candidate(card: dict[str, Any] | None, model: str) -> str | None:
    """Candidate that was chosen and judged, published or not; `model` names a part as in `judged_models`. None when the card does not say."""
    parts = (card or {}).get("parts") or {}
    part = parts.get(model) or parts.get(model.removeprefix(f"{(card or {}).get('model')}_"))
    return part["candidate"] if part else None


def against_naive(measures: pl.DataFrame, metric: str, chosen: str | None) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The leading measure of the chosen candidate and of the naive rule over the cut-offs, and what they are called."""
    there = measures.filter(pl.col("metric") == metric)
    published = there.filter("is_published")["candidate"].unique().to_list()
    shown = published or [name for name in [chosen] if name in there["candidate"] and name != "naive_rule"]
    names = {**{name: "published model" if published else f"chosen candidate ({name.replace('_', ' ')}), not published" for name in shown}, "naive_rule": "naive rule"}
    rows = there.filter(pl.col("candidate").is_in(list(names))).with_columns(pl.col("candidate").replace_strict(names, default=None, return_dtype=pl.String).alias("shown")).sort("cut_off")
    return rows, tuple(dict.fromkeys(names.values()))


def card_fields(card: dict[str, Any]) -> pl.DataFrame:
    """A card as rows of field and value, in plain words."""
    parts = card.get("parts") or {}
    told = {
        "Model": card["model_id"], "Trained on data up to": str(card["trained_on"]), "Window asked about": card.get("window") or "not kept", "Cut-offs learned from": ", ".join(card.get("cut_offs") or []),
        "Method": "; ".join(f"{name}: {part['candidate'].replace('_', ' ')} ({part['training_rows']:,} rows)" for name, part in parts.items()),
        "Fields used": ", ".join(card.get("inputs") or []), "Fingerprint of the data": card.get("data_fingerprint") or "not kept", "Fingerprint of the artefact": str(card.get("sha256", ""))[:16],
        "Warnings": "; ".join(text for part in parts.values() for text in part.get("warnings") or []) or "none",
        "Limits": "Learned from the past of this company: a new price, product or market is not in it. Scores rank and foresee; they do not say what would change if you act.",
    }
    return pl.DataFrame({"field": list(told), "value": [str(v) for v in told.values()]})
