"""Why a score is what it is: the strongest contributions in plain words. Holds no model."""

from __future__ import annotations

import numpy as np
import polars as pl

from ml.features import written

REASONS = 3
# A contribution below this changes a chance by less than about one point: no reason.
SMALLEST_CONTRIBUTION = 0.05


def reasons(frame: pl.DataFrame, contributions: dict[str, np.ndarray], raises: str, lowers: str, slope: float = 1.0, usual: dict[str, float] | None = None) -> pl.Series:
    """The up to three strongest contributions of each row, strongest first, as a list of sentences.

    Parameters
    ----------
    frame : the features, n rows.
    contributions : log-odds by feature, shape [n] each.
    usual : mean contribution by feature among rows learned from; what is shown is the distance from it (from 0 where there is none), so that
        a row's reasons do not depend on the rows beside it.
    raises, lowers : what a positive and a negative contribution does, e.g. "raises the risk".
    slope : factor by which calibration stretches contributions.
    """
    contributions = {name: values - (usual or {}).get(name, 0.0) for name, values in contributions.items()}
    grouped = {"season": [n for n in contributions if n.startswith("season_")]}
    merged = {n: v for n, v in contributions.items() if not n.startswith("season_")}
    if grouped["season"]:
        merged["season_sine"] = np.sum([contributions[n] for n in grouped["season"]], axis=0)
    names = list(merged)
    if not names or frame.height == 0:
        return pl.Series("reasons", [[] for _ in range(frame.height)], dtype=pl.List(pl.String))
    matrix = np.column_stack([slope * values for values in merged.values()])
    kept = min(REASONS, len(names))
    order = np.argsort(-np.abs(matrix), axis=1)[:, :kept]
    strength = np.take_along_axis(matrix, order, axis=1)
    columns = []
    for place in range(kept):
        # only the rows a feature is a reason of are put into words
        chosen = [np.flatnonzero(order[:, place] == number) for number in range(len(names))]
        words = pl.concat([_words(frame, names[number], rows) for number, rows in enumerate(chosen) if len(rows)])
        back = np.empty(frame.height, dtype=np.int64)
        back[np.concatenate(chosen)] = np.arange(frame.height)
        effect = pl.Series(np.where(strength[:, place] > 0, f" ({raises})", f" ({lowers})"))
        told = pl.DataFrame({"words": words.gather(pl.Series(back)), "effect": effect, "counts": np.abs(strength[:, place]) >= SMALLEST_CONTRIBUTION})
        columns.append(told.select(pl.when("counts").then(pl.col("words") + pl.col("effect")).alias(f"r{place}")).to_series())
    return pl.DataFrame(columns).select(pl.concat_list(pl.all()).list.drop_nulls().alias("reasons"))["reasons"]


def _words(frame: pl.DataFrame, name: str, rows: np.ndarray) -> pl.Series:
    return written(name, frame[name].gather(pl.Series(rows))).alias("words") if name in frame.columns else pl.Series("words", [name.replace("_", " ")] * len(rows), dtype=pl.String)
