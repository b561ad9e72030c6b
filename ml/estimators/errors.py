"""Errors of the estimators: data from which a model cannot be learned.

Belongs here: exceptions that say what is missing in the data and what the caller can do.
Does not belong here: checks of one model (beside the model), refusals of a model that was fitted but is not good enough
(`ml.evaluation.gate`).
"""

from __future__ import annotations


class DegenerateDataError(ValueError):
    """The data are valid, but the model's parameters are not identified by them.

    Attributes
    ----------
    model : the model's name in the literature, e.g. ``"BG/NBD"``.
    missing : what the data lack, in one sentence.
    remedy : what the caller can do about it, in one sentence.
    """

    def __init__(self, model: str, missing: str, remedy: str) -> None:
        self.model = model
        self.missing = missing
        self.remedy = remedy
        super().__init__(f"{model} cannot be fitted: {missing} {remedy}")

    def __reduce__(self):
        return type(self), (self.model, self.missing, self.remedy)
