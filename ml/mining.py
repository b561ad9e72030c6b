"""Patterns into tables: basket rules, next products and customer clusters, each with the verdict whether it stands.

Belongs here: the order of work, the tables, when clusters are refitted, what is said when there is nothing to mine. Does not belong
here: how a rule or a cluster is found (`ml.associations`, `ml.clusters`), opening the warehouse (the caller gives the connection).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from data_contracts.environment import Home
from ml import registry
from ml.associations import baskets, recommend
from ml.associations import rules as basket_rules
from ml.clusters import definition, fit
from models import patterns
from models.frames import append

# Consequents kept for each antecedent: a shop of four thousand products has more than a hundred thousand rules, of which the weaker ones are never read.
RULES_KEPT = 25
# Clusters older than this many days of data are fitted again; a run in between only assigns, so that nobody changes group because the borders moved. Valid: 1 to 365.
REFIT_DAYS = 30
# Raise it when axes, scaling or what is kept change: kept clusters of before are then fitted again.
METHOD = 1

_RULE_TYPES = {pl.Int64: "BIGINT", pl.Float64: "DOUBLE"}
TABLES = {
    "product_rules": "basket VARCHAR, level VARCHAR, antecedent VARCHAR, antecedent_name VARCHAR, consequent VARCHAR, consequent_name VARCHAR, place INTEGER, "
                     + ", ".join(f"{name} {_RULE_TYPES[kind]}" for name, kind in basket_rules.MEASURES.items()) + ", as_of DATE",
    "next_products": "customer_id VARCHAR, place INTEGER, product_id VARCHAR, product_name VARCHAR, because_product_id VARCHAR, because_product_name VARCHAR, confidence DOUBLE, lift DOUBLE, as_of DATE",
    "customer_clusters": "customer_id VARCHAR, cluster_id INTEGER, cluster VARCHAR, distance DOUBLE, model_id VARCHAR, as_of DATE",
    "cluster_profiles": "cluster_id INTEGER, cluster VARCHAR, customers BIGINT, customer_share DOUBLE, stability DOUBLE, feature VARCHAR, label VARCHAR, unit VARCHAR, typical DOUBLE, "
                        "typical_of_all DOUBLE, difference DOUBLE, model_id VARCHAR, as_of DATE",
    "pattern_verdicts": "pattern VARCHAR, is_published BOOLEAN, verdict VARCHAR, n BIGINT, tested BIGINT, found BIGINT, as_of DATE",
}  # fmt: skip


@dataclass
class MiningReport:
    """What was mined: `rows` by table, `verdicts` by pattern in plain words."""

    rows: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)


def mine_all(con: Any, home: Home, say: Callable[[str], None] = lambda text: None) -> MiningReport:
    """Fill the pattern tables of the `scores` schema from marts and features. `con` is open for writing; nothing is changed when it fails."""
    report = MiningReport()
    watermark, as_of, horizon = con.execute("SELECT watermark, CAST(timezone(time_zone, timezone('UTC', watermark)) AS DATE), churn_window_days FROM ops.settings").fetchone()
    con.execute("BEGIN")
    try:
        con.execute("CREATE SCHEMA IF NOT EXISTS scores")
        for table, columns in TABLES.items():
            con.execute(f"CREATE OR REPLACE TABLE scores.{table} ({columns})")
        _mine_baskets(con, watermark, as_of, horizon, report)
        _mine_clusters(con, home, as_of, report)
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise
    for table in TABLES:
        report.rows[table] = con.execute(f"SELECT count(*) FROM scores.{table}").fetchone()[0]
    for pattern, verdict in report.verdicts.items():
        say(f"{pattern}: {verdict}")
    return report


def _mine_baskets(con: Any, watermark: datetime, as_of: date, horizon: int, report: MiningReport) -> None:
    end = watermark + timedelta(microseconds=1)      # up to and including the watermark
    for unit in baskets.UNITS:
        for level in baskets.LEVELS:
            counts = baskets.count(con, unit, level, end)
            rules = basket_rules.found(counts)
            kept = rules.group_by("antecedent", maintain_order=True).head(RULES_KEPT)
            kept = kept.with_columns(place=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("antecedent"), basket=pl.lit(unit), level=pl.lit(level), as_of=pl.lit(as_of))
            names = "SELECT product_id AS item, name FROM marts.dim_products" if level == "product" else "SELECT DISTINCT category AS item, category AS name FROM marts.fct_order_lines"
            append(con, "scores.product_rules", kept, f"SELECT appended.*, a.name AS antecedent_name, b.name AS consequent_name FROM appended LEFT JOIN ({names}) AS a ON a.item = appended.antecedent "
                                                f"LEFT JOIN ({names}) AS b ON b.item = appended.consequent")
            _say(con, report, patterns.named(level, unit), rules.height > 0, _told(counts, rules.height, level), counts.basket_count, basket_rules.tested_pairs(counts), rules.height, as_of)
            if (unit, level) == ("customer", "product"):
                _next_products(con, rules, end, as_of, horizon, report)


def _told(counts: baskets.BasketCounts, found: int, level: str) -> str:
    if not counts.basket_count:
        return f"nothing to mine: no order line names a {level}"
    if counts.items.height < 2:
        return f"nothing to mine: fewer than two of them are in {baskets.FEWEST_BASKETS_PER_ITEM} or more of {counts.basket_count:,} baskets"
    told = f"{found:,} rules among {basket_rules.tested_pairs(counts):,} pairs of {counts.items.height:,} frequent ones in {counts.basket_count:,} baskets, at most {basket_rules.FALSE_DISCOVERY_RATE:.0%} of them by chance"
    return "; ".join(p for p in (told if found else told.replace("0 rules", "no rule", 1), counts.left_out) if p)


def _next_products(con: Any, rules: pl.DataFrame, end: datetime, as_of: date, horizon: int, report: MiningReport) -> None:
    judgement, rows = None, 0
    if rules.height:
        cut_off = end - timedelta(days=horizon)
        judgement = recommend.judge(con, basket_rules.found(baskets.count(con, "customer", "product", cut_off)), cut_off, end)
        if judgement.is_better:
            picks = recommend.pick(con, rules, end).with_columns(as_of=pl.lit(as_of))
            rows = picks.height
            append(con, "scores.next_products", picks, "SELECT appended.*, a.name AS product_name, b.name AS because_product_name FROM appended LEFT JOIN marts.dim_products AS a ON a.product_id = appended.product_id "
                                                 "LEFT JOIN marts.dim_products AS b ON b.product_id = appended.because_product_id")
    verdict = judgement.verdict + f", over the last {horizon} days" if judgement else "nothing to pick from: there is no rule between products of one customer"
    _say(con, report, "next products", rows > 0, verdict, judgement.n if judgement else 0, None, rows, as_of)


# -- clusters


def _mine_clusters(con: Any, home: Home, as_of: date, report: MiningReport) -> None:
    frame = definition.read(con)
    axes = definition.usable(frame) if frame.height else []
    state, model_id = _current(home, axes, as_of)
    if state is None:
        state, model_id = _refit(home, frame, axes, as_of)
    if state["ids"]:
        axes = [a for a in definition.AXES if a.feature in state["axes"]]
        raw = frame.select(a.feature for a in axes).to_numpy().astype(float)
        scaled = _scaling(state).apply(raw)
        nearest, distance = fit.assign(scaled, np.asarray(state["centres"]))
        members = pl.DataFrame({"customer_id": frame["customer_id"], "cluster_id": pl.Series(np.asarray(state["ids"])[nearest], dtype=pl.Int32),
                                "cluster": pl.Series([state["names"][n] for n in range(len(state["names"]))]).gather(nearest), "distance": distance})  # fmt: skip
        lineage = {"model_id": pl.lit(model_id), "as_of": pl.lit(as_of)}
        append(con, "scores.customer_clusters", members.with_columns(**lineage))
        append(con, "scores.cluster_profiles", _profiles(state, axes, raw, scaled, nearest).with_columns(**lineage))
    _say(con, report, "customer clusters", bool(state["ids"]), state["verdict"], frame.height, None, len(state["ids"]), as_of)


def _scaling(state: dict[str, Any]) -> fit.Scaling:
    return fit.Scaling(**state["scaling"])


def _current(home: Home, axes: list[definition.Axis], as_of: date) -> tuple[dict[str, Any] | None, str | None]:
    """The kept clusters, while they are young and the data still have their axes; clusters of the future of these data must not group them."""
    model_id = registry.champion(home, "clusters")
    if model_id is None:
        return None, None
    state, manifest = registry.load(home, "clusters", model_id)
    age = (as_of - date.fromisoformat(manifest["trained_on"])).days
    fits = state["method"] == METHOD and 0 <= age < REFIT_DAYS and bool(state["ids"]) and set(state["axes"]) <= {a.feature for a in axes}
    return (state, model_id) if fits else (None, model_id)


def _refit(home: Home, frame: pl.DataFrame, axes: list[definition.Axis], as_of: date) -> tuple[dict[str, Any], str | None]:
    raw = frame.select(a.feature for a in axes).to_numpy().astype(float).reshape(frame.height, len(axes))
    scaling = fit.Scaling([a.is_logarithmic for a in axes])
    scaled = scaling.learn(raw).apply(raw) if raw.size else raw
    found = fit.find(scaled)
    state = {"method": METHOD, "axes": [a.feature for a in axes], "scaling": scaling.__dict__, "centres": found.centres.tolist(), "stability": found.stability, "ids": [], "names": [],
             "next_id": 1, "verdict": found.reason}
    if found.reason:
        return state, None          # what was kept before stays kept: groups that come back later get their ids back
    former = _former(home, frame)
    nearest = fit.assign(scaled, found.centres)[0]
    state["ids"], state["next_id"] = fit.kept_ids(nearest, former[0] if former else None, len(found.centres), former[1] if former else [], former[2] if former else 1)
    state["names"] = definition.names(axes, (found.centres - scaled.mean(0)).tolist())
    state["verdict"] = (f"{len(found.centres)} groups; the weakest comes back at {min(found.stability):.2f} of 1 in {fit.REFITS} refits on half of the customers, silhouette {found.silhouette:.2f} "
                        f"against {found.reference:.2f} of a cloud without groups")
    manifest = {"question": definition.SAYS, "verdict": state["verdict"], "inputs": state["axes"], "tried": found.tried}
    return state, registry.save(home, "clusters", state, manifest, as_of)


def _former(home: Home, frame: pl.DataFrame) -> tuple[np.ndarray, list[int], int] | None:
    """Groups that the kept clusters give the customers of today: (places, ids, next id); None when none are kept or an axis of theirs is gone."""
    model_id = registry.champion(home, "clusters")
    if model_id is None:
        return None
    state, _ = registry.load(home, "clusters", model_id)
    if not set(state["axes"]) <= set(frame.columns):
        return None
    scaled = _scaling(state).apply(frame.select(state["axes"]).to_numpy().astype(float))
    return fit.assign(scaled, np.asarray(state["centres"]))[0], state["ids"], state["next_id"]


def _profiles(state: dict[str, Any], axes: list[definition.Axis], raw: np.ndarray, scaled: np.ndarray, nearest: np.ndarray) -> pl.DataFrame:
    """One row per cluster and axis: the mean of its members beside that of all in units people know, and the difference of both in robust units."""
    of_all = np.nanmean(raw, axis=0)
    rows = []
    for place, cluster_id in enumerate(state["ids"]):
        mine = nearest == place
        count = int(mine.sum())
        for column, axis in enumerate(axes):
            known = raw[mine, column][~np.isnan(raw[mine, column])]
            rows.append({"cluster_id": cluster_id, "cluster": state["names"][place], "customers": count, "customer_share": count / len(nearest), "stability": state["stability"][place],
                         "feature": axis.feature, "label": axis.label, "unit": axis.unit, "typical": float(known.mean()) if len(known) else None, "typical_of_all": float(of_all[column]),
                         "difference": float(scaled[mine, column].mean() - scaled[:, column].mean()) if count else None})  # fmt: skip
    return pl.DataFrame(rows).with_columns(pl.col("cluster_id").cast(pl.Int32)).sort("cluster_id", maintain_order=True)


# -- tables


def _say(con: Any, report: MiningReport, pattern: str, is_published: bool, verdict: str, n: int, tested: int | None, found: int, as_of: date) -> None:
    report.verdicts[pattern] = verdict
    con.execute("INSERT INTO scores.pattern_verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", [pattern, is_published, verdict, n, tested, found, as_of])
