"""Uplift as a question of the score layer. Holds no formula."""

from __future__ import annotations

from datetime import date

import polars as pl

from ml.question import Frames, Question
from ml.uplift.definition import FEATURES, SAYS, effects_since, over_response_window, read_customers, read_members, read_windows
from ml.uplift.model import UpliftModel
from ml.uplift.train import train


def _observed(frames: Frames, model: UpliftModel, since: date) -> pl.DataFrame:
    late = effects_since(frames.of(read_members), since)
    predicted = model.score(late)
    return pl.DataFrame({"score": predicted["score"], "label": late["label"].head(predicted.height)})


QUESTION = Question(
    name="uplift",
    says=SAYS,
    entity="customer_id",
    columns="customer_id VARCHAR, model_id VARCHAR, as_of DATE, score DOUBLE, lower DOUBLE, upper DOUBLE, chance_without_contact DOUBLE, reasons VARCHAR[], is_fallback BOOLEAN, "
            "fallback_reason VARCHAR",
    inputs=FEATURES,
    calendar=lambda frames: over_response_window(frames.customer_calendar, frames.of(read_windows)),
    train=lambda frames: train(frames.of(read_members), frames.of(read_customers)),
    score=lambda frames, model: model.score(frames.of(read_customers)),
    restore=UpliftModel.from_state, parts=lambda model: {"": model},
    rows=lambda frames, as_of: {"": frames.of(read_customers).filter(pl.col("as_of_date") == as_of)}, observed=_observed,
    more={"uplift_curve": ("model_id VARCHAR, as_of DATE, share DOUBLE, gain DOUBLE, lower DOUBLE, upper DOUBLE, random DOUBLE", lambda model: model.curve_frame())},
)  # fmt: skip
