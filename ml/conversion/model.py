"""The conversion model's plain state. Holds no fitting (`train.py`) and no tables (`score.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml.published import Published


@dataclass
class ConversionModel:
    """The published answer."""

    answer: Published

    def state(self) -> dict[str, Any]:
        """Plain values from which `from_state` gives the same model."""
        return {"answer": self.answer.state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ConversionModel:
        """The model kept by `state`."""
        return cls(Published.from_state(state["answer"]))
