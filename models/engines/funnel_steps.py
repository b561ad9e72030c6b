"""What a step of a funnel is, and how people write one.

Belongs here: the step (an event name with optional conditions on attributes), its text form, its SQL condition.
Does not belong here: windows, order, counting.

    page                       the event called page
    page[path=/pricing]        ... whose attribute path is /pricing
    page[path!=/, lang=de]     several conditions, all of which must hold
    "a; b"[plan="pro, year"]   double quotes keep ; [ ] , = ! and spaces; a quote inside is written twice
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_contracts.errors import UsageError
from models.engines.funnel_range import Parameters, quoted

MAX_STEPS = 20  # each step is one join; beyond this a funnel is a mistake in the text rather than a question


HOW_TO_WRITE = 'Write steps as "name; name[attribute=value]", with double quotes around text that holds ; , [ ] or =.'


class StepError(UsageError):
    """A step text that cannot be read; the message names the place, the remedy what to write instead."""

    def __init__(self, message: str, *, remedy: str = HOW_TO_WRITE) -> None:
        super().__init__(message, remedy=remedy, field="steps")


@dataclass(frozen=True)
class Condition:
    """``attribute = value`` or, with ``negated``, ``attribute != value`` (true for a missing attribute too)."""

    attribute: str
    value: str
    negated: bool = False


@dataclass(frozen=True)
class Step:
    """An event name with the conditions its attributes must meet, all of them."""

    name: str
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise StepError("a step needs an event name")

    @property
    def label(self) -> str:
        """The step as a person writes it."""
        if not self.conditions:
            return self.name
        inner = ", ".join(f"{c.attribute}{'!=' if c.negated else '='}{c.value}" for c in self.conditions)
        return f"{self.name}[{inner}]"

    def sql(self, params: Parameters) -> str:
        """The condition a row of the event log must meet to be this step."""
        parts = [f"name = {params.bind(self.name)}"]
        for condition in self.conditions:
            operator = "IS DISTINCT FROM" if condition.negated else "="
            column = f"CAST({quoted(condition.attribute)} AS VARCHAR)"
            parts.append(f"{column} {operator} {params.bind(condition.value)}")
        return "(" + " AND ".join(parts) + ")"


def parse_steps(text: str, attributes: Sequence[str] | None = None) -> tuple[Step, ...]:
    """Read ``"name; name[attr=value]; ..."`` into steps.

    ``attributes``, when given, are the columns a condition may use. Raises StepError with the position of the fault.
    """
    reader = _Reader(text)
    steps: list[Step] = []
    while True:
        steps.append(reader.step(len(steps) + 1))
        if reader.at_end():
            break
        reader.take(";", "between two steps")
        if reader.at_end():  # a trailing semicolon ends the list
            break
    if len(steps) > MAX_STEPS:
        raise StepError(f"{len(steps)} steps given; at most {MAX_STEPS} are possible")
    if attributes is not None:
        check_attributes(steps, attributes)
    return tuple(steps)


def parse_step(text: str, attributes: Sequence[str] | None = None) -> Step:
    """Read exactly one step."""
    steps = parse_steps(text, attributes)
    if len(steps) != 1:
        raise StepError(f"one step expected in '{text}', found {len(steps)}")
    return steps[0]


def check_attributes(steps: Sequence[Step], attributes: Sequence[str]) -> None:
    """Raise StepError when a condition uses an attribute the log does not have."""
    for step in steps:
        for condition in step.conditions:
            if condition.attribute not in attributes:
                known = ", ".join(sorted(attributes)) or "none"
                raise StepError(
                    f"step '{step.label}': the log has no attribute '{condition.attribute}' (it has: {known})"
                )


class _Reader:
    """A cursor over the text; every complaint carries the column where it arose (counted from 1)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def fail(self, message: str) -> StepError:
        return StepError(f"{message} (at character {self.position + 1} of '{self.text}')")

    def skip_space(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def at_end(self) -> bool:
        self.skip_space()
        return self.position >= len(self.text)

    def peek(self) -> str:
        self.skip_space()
        return self.text[self.position] if self.position < len(self.text) else ""

    def take(self, symbol: str, place: str) -> None:
        if self.peek() != symbol:
            found = f"'{self.peek()}'" if self.peek() else "the end"
            raise self.fail(f"'{symbol}' expected {place}, found {found}")
        self.position += 1

    def word(self, stops: str, what: str) -> str:
        """A quoted text, or everything up to one of ``stops``."""
        if self.peek() == '"':
            return self.quoted_word(what)
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in stops:
            if self.text[self.position] == '"':
                raise self.fail(f"a quote may only stand at the beginning of {what}")
            self.position += 1
        found = self.text[start : self.position].strip()
        if not found:
            raise self.fail(f"{what} is missing")
        return found

    def quoted_word(self, what: str) -> str:
        opened = self.position
        self.position += 1
        found: list[str] = []
        while self.position < len(self.text):
            symbol = self.text[self.position]
            if symbol == '"' and self.text[self.position + 1 : self.position + 2] == '"':
                found.append('"')
                self.position += 2
            elif symbol == '"':
                self.position += 1
                return "".join(found)
            else:
                found.append(symbol)
                self.position += 1
        self.position = opened
        raise self.fail(f"the quote of {what} is never closed")

    def step(self, number: int) -> Step:
        name = self.word(";[]", f"the event name of step {number}")
        if not name:
            raise self.fail(f"the event name of step {number} is empty")
        conditions: list[Condition] = []
        if self.peek() == "[":
            self.position += 1
            conditions.append(self.condition(number))
            while self.peek() == ",":
                self.position += 1
                conditions.append(self.condition(number))
            self.take("]", f"after the conditions of step {number}")
        elif self.peek() == "]":
            raise self.fail(f"step {number} has ']' without '['")
        return Step(name, tuple(conditions))

    def condition(self, number: int) -> Condition:
        attribute = self.word("=!,;[]", f"an attribute name of step {number}")
        negated = self.peek() == "!"
        if negated:
            self.position += 1
        self.take("=", f"after attribute '{attribute}' of step {number}")
        value = self.word(",;[]", f"the value of '{attribute}' of step {number}")
        return Condition(attribute, value, negated)
