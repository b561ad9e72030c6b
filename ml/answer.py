"""What every trained answer keeps beside the model itself: whether it may be shown, how it was judged, what counts.

Belongs here: the fields that every question's answer has, and their plain state. Does not belong here: scoring (each question's `model.py`),
judging (`ml.evaluation`), the tables made of these fields (`ml.scoring`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ml.challenge import Latest


@dataclass(kw_only=True)
class Answer:
    """One trained answer. `is_fallback`: the naive rule, the curve of all or the average is shown in its place, for `fallback_reason`.

    `evaluations` rows: candidate, cut_off, metric, value, lower, upper, n. `importance` is the mean absolute contribution by feature,
    `diagnostics` rows by table of `ml.diagnostics`, `baseline` the distribution of features that drift is measured against. `latest` is known
    only right after training.
    """

    is_fallback: bool
    fallback_reason: str | None
    verdict: str = ""
    candidate: str = "none"
    training_rows: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    diagnostics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    baseline: dict[str, dict[str, Any]] = field(default_factory=dict)
    latest: Latest | None = None

    # what a score is, as `ml.drift` and `ml.challenge` compare it
    measured_as: ClassVar[str] = "probability"

    def plain(self, **changed: Any) -> dict[str, Any]:
        """Every field as plain values but `latest`; `changed` replaces those that are not plain by themselves."""
        kept = {name: value for name, value in self.__dict__.items() if name != "latest"}
        return {**kept, "evaluations": [{**row, "cut_off": str(row["cut_off"])} for row in self.evaluations], **changed}
