"""How a segment is written down: a YAML file with a label and a tree of conditions, read into checked objects.

    label: Lapsed big spenders
    description: Bought for 500 or more, nothing in the last 90 days.
    all:
      - {attribute: net_revenue, at_least: 500}
      - {did_not: order, within_days: 90}
      - any:
          - {attribute: country, in: [DE, AT]}
          - {did: ticket, at_least: 2, where: {channel: email}}

`all`, `any` and `none` nest. A condition speaks of an attribute or of a behaviour of `catalogue.yml`, and of nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Union

import yaml

from data_contracts.errors import UsageError

ROOM = Path(__file__).parent
LIBRARY = ROOM / "library"
NAME = re.compile(r"^[a-z][a-z0-9_]{0,63}$")
MAX_CONDITIONS = 200      # more is a list of people, which belongs in a column
MAX_DEPTH = 12

# operator of a file → (types it fits, how it is said)
OPERATORS = {
    "is": (("text", "number", "money", "share", "date", "flag"), "is"),
    "is_not": (("text", "number", "money", "share", "date", "flag"), "is not"),
    "in": (("text", "number"), "is one of"),
    "not_in": (("text", "number"), "is none of"),
    "at_least": (("number", "money", "share", "date"), "is at least"),
    "at_most": (("number", "money", "share", "date"), "is at most"),
    "above": (("number", "money", "share", "date"), "is above"),
    "below": (("number", "money", "share", "date"), "is below"),
    "contains": (("text",), "contains"),
    "starts_with": (("text",), "starts with"),
    "is_known": (("text", "number", "money", "share", "date", "flag"), "is known"),
}
_COUNTS = ("at_least", "at_most", "exactly")
_SUMS = ("amount_at_least", "amount_at_most")


@dataclass(frozen=True)
class AttributeCondition:
    """A value of the customer compared with a constant."""

    attribute: str
    operator: str
    value: Any


@dataclass(frozen=True)
class BehaviourCondition:
    """How often something happened. `did_not` is `at_most` 0 and holds for people who never did anything."""

    behaviour: str
    at_least: int | None = 1
    at_most: int | None = None
    within_days: int | None = None       # back from the watermark; None: ever
    since: date | None = None
    before: date | None = None
    amount_at_least: Decimal | None = None
    amount_at_most: Decimal | None = None
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Group:
    """Conditions joined: `all` of them, `any` of them, `none` of them."""

    mode: str
    members: tuple[Condition, ...]


Condition = Union[AttributeCondition, BehaviourCondition, Group]


@dataclass(frozen=True)
class Segment:
    """A named description of customers."""

    name: str
    label: str
    description: str
    condition: Group
    owner: str = ""
    file: Path | None = field(default=None, compare=False)


@cache
def catalogue() -> dict[str, Any]:
    """What conditions may speak of (`catalogue.yml`)."""
    return yaml.safe_load((ROOM / "catalogue.yml").read_text(encoding="utf-8"))


def _unknown(what: str, name: Any, known: Any, file: str) -> UsageError:
    near = get_close_matches(str(name), list(known), 1)
    return UsageError(f"{what} {name!r} is not known", file=file, remedy=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}.")


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.count = 0

    def fail(self, message: str, remedy: str) -> UsageError:
        return UsageError(message, file=self.file, remedy=remedy)

    def group(self, mode: str, items: Any, depth: int) -> Group:
        if depth > MAX_DEPTH:
            raise self.fail(f"conditions nest deeper than {MAX_DEPTH}", "Flatten them.")
        if not isinstance(items, list) or not items:
            raise self.fail(f"`{mode}` must hold a list of conditions", f"Write `{mode}:` and one `- {{…}}` line per condition.")
        return Group(mode, tuple(self.condition(i, depth + 1) for i in items))

    def condition(self, item: Any, depth: int) -> Condition:
        self.count += 1
        if self.count > MAX_CONDITIONS:
            raise self.fail(f"there are more than {MAX_CONDITIONS} conditions", "Use `in: […]`, or split the segment.")
        if not isinstance(item, dict):
            raise self.fail(f"{item!r} is no condition", "Write {attribute: NAME, at_least: 5}, {did: NAME} or a group.")
        groups = [k for k in ("all", "any", "none") if k in item]
        if groups:
            if len(item) > 1:
                raise self.fail(f"`{groups[0]}` stands beside {', '.join(k for k in item if k != groups[0])}", "Give each group a list entry of its own.")
            return self.group(groups[0], item[groups[0]], depth)
        if "attribute" in item:
            return self.attribute(item)
        if "did" in item or "did_not" in item:
            return self.behaviour(item)
        raise self.fail(f"the condition {sorted(item)} names neither attribute, did nor did_not", "Start it with one of them, or with all, any, none.")

    def attribute(self, item: dict[str, Any]) -> AttributeCondition:
        known = catalogue()["attributes"]
        name = item["attribute"]
        if name not in known:
            raise _unknown("attribute", name, known, self.file)
        chosen = [k for k in item if k != "attribute"]
        if len(chosen) != 1 or chosen[0] not in OPERATORS:
            raise self.fail(f"the condition on {name} needs exactly one comparison", f"Use one of {', '.join(OPERATORS)}.")
        operator, kind = chosen[0], known[name]["type"]
        if kind not in OPERATORS[operator][0]:
            raise self.fail(f"`{operator}` does not fit {name}, which is a {kind}", f"Fitting: {', '.join(o for o, (t, _) in OPERATORS.items() if kind in t)}.")
        value = item[operator]
        if operator == "is_known":
            value = self.typed(value, "flag", name)
        elif operator in ("in", "not_in"):
            if not isinstance(value, list) or not value:
                raise self.fail(f"`{operator}` on {name} needs a list", f"Write {operator}: [a, b].")
            value = tuple(self.typed(v, kind, name) for v in value)
        else:
            value = self.typed(value, kind, name)
        return AttributeCondition(name, operator, value)

    def typed(self, value: Any, kind: str, name: str) -> Any:
        try:
            if kind == "text" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
                return str(value)
            if kind in ("number", "money", "share") and isinstance(value, (int, float, str)) and not isinstance(value, bool):
                number = Decimal(str(value))
                if number.is_finite() and abs(number) < Decimal(10) ** 14:
                    return number
            if kind == "date":
                return value if isinstance(value, date) else date.fromisoformat(str(value))
            if kind == "flag" and isinstance(value, bool):
                return value
        except (InvalidOperation, ValueError):
            pass   # told below, together with values of a wrong type
        raise self.fail(f"{value!r} is no {kind} for {name}", {"date": "Write YYYY-MM-DD.", "flag": "Write true or false."}.get(kind, f"Give a {kind}."))

    def whole(self, value: Any, name: str, least: int = 0) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1_000_000:
            raise self.fail(f"{name} is {value!r}", f"Give a whole number from {least} on.")
        return value

    def behaviour(self, item: dict[str, Any]) -> BehaviourCondition:
        known = catalogue()["behaviours"]
        verb = "did" if "did" in item else "did_not"
        name = item[verb]
        if name not in known:
            raise _unknown("behaviour", name, known, self.file)
        allowed = {"did": {*_COUNTS, *_SUMS}, "did_not": set()}[verb] | {verb, "within_days", "since", "before", "where"}
        for key in item:
            if key not in allowed:
                raise _unknown(f"`{verb}: {name}` with", key, allowed, self.file)
        spec = known[name]
        if any(k in item for k in _SUMS) and "amount" not in spec:
            raise self.fail(f"{name} has no amount", "Use at_least or at_most.")
        where = item.get("where") or {}
        if not isinstance(where, dict):
            raise self.fail("`where` must be name: value", "Write where: {channel: email}.")
        narrowed = []
        for key, value in where.items():
            if key not in spec["attributes"]:
                raise _unknown(f"{name} attribute", key, spec["attributes"], self.file)
            narrowed.append((key, tuple(self.typed(v, "text", key) for v in (value if isinstance(value, list) else [value]))))
        counts = {k: self.whole(item[k], k) for k in _COUNTS if k in item}
        sums = {k: self.typed(item[k], "money", k) for k in _SUMS if k in item}
        at_least, at_most = counts.get("at_least"), counts.get("at_most")
        if "exactly" in counts:
            at_least = at_most = counts["exactly"]
        if verb == "did_not":
            at_least, at_most = None, 0
        elif at_least is None and at_most is None and not sums:
            at_least = 1
        return BehaviourCondition(
            name, at_least, at_most, self.whole(item["within_days"], "within_days", 1) if "within_days" in item else None,
            self.typed(item["since"], "date", "since") if "since" in item else None, self.typed(item["before"], "date", "before") if "before" in item else None,
            sums.get("amount_at_least"), sums.get("amount_at_most"), tuple(narrowed))


def parse(name: str, content: Any, file: Path | None = None) -> Segment:
    """A segment from the content of its file. Raises UsageError that names what is wrong and what would be right."""
    shown = str(file or name)
    if not NAME.match(name):
        raise UsageError(f"{name!r} cannot name a segment", file=shown, remedy="Use small letters, digits and _.")
    if not isinstance(content, dict):
        raise UsageError("a segment file must hold `label:` and conditions", file=shown, remedy=f"See the examples in {LIBRARY}.")
    reader = _Reader(shown)
    known = {"label", "description", "owner", "all", "any", "none"}
    for key in content:
        if key not in known:
            raise _unknown("entry", key, known, shown)
    groups = [k for k in ("all", "any", "none") if k in content]
    if len(groups) != 1:
        raise UsageError("a segment needs one of `all`, `any`, `none` at its top", file=shown, remedy="Put several under one `all:`.")
    return Segment(name, str(content.get("label") or name.replace("_", " ").capitalize()), str(content.get("description") or ""),
                   reader.group(groups[0], content[groups[0]], 0), str(content.get("owner") or ""), file)


def read(file: Path) -> Segment:
    """A segment from a YAML file named after it."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the segment file cannot be read: {error}", file=str(file), remedy="Check the path.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError("the segment file is not valid YAML", file=str(file), row=mark.line + 1 if mark else None, remedy="Mend the syntax there.") from None
    return parse(file.stem, content, file)


def find(name_or_file: str, folder: Path) -> Segment:
    """A segment by the path of its file, or by name in the home's segments folder or the shipped library."""
    given = Path(name_or_file)
    if given.suffix in (".yml", ".yaml"):
        return read(given)
    for place in (folder, LIBRARY):
        if NAME.match(name_or_file) and (place / f"{name_or_file}.yml").exists():
            return read(place / f"{name_or_file}.yml")
    known = sorted({f.stem for place in (folder, LIBRARY) if place.exists() for f in place.glob("*.yml")})
    raise _unknown("segment", name_or_file, known, str(folder))


def saved(folder: Path) -> list[Path]:
    """Files of the segments of a home, by name."""
    return sorted(folder.glob("*.yml")) if folder.exists() else []


def content(segment: Segment) -> dict[str, Any]:
    """A segment as the content of its file: `parse(name, content(segment))` gives the same segment."""
    head = {"label": segment.label, **({"description": segment.description} if segment.description else {}), **({"owner": segment.owner} if segment.owner else {})}
    return head | _plain(segment.condition)


def _plain(condition: Condition) -> dict[str, Any]:
    if isinstance(condition, Group):
        return {condition.mode: [_plain(m) for m in condition.members]}
    if isinstance(condition, AttributeCondition):
        return {"attribute": condition.attribute, condition.operator: _writable(condition.value)}
    if condition.at_most == 0 and condition.at_least is None:
        written: dict[str, Any] = {"did_not": condition.behaviour}
    else:
        written = {"did": condition.behaviour, **{k: getattr(condition, k) for k in ("at_least", "at_most") if getattr(condition, k) is not None}}
    written |= {k: _writable(getattr(condition, k)) for k in (*_SUMS, "within_days", "since", "before") if getattr(condition, k) is not None}
    return written | ({"where": {k: list(v) for k, v in condition.where}} if condition.where else {})


def _writable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_writable(v) for v in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def save(name: str, written: dict[str, Any], folder: Path) -> Path:
    """Write a segment's file, after checking that it reads back. Raises UsageError."""
    segment = parse(name, written)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{segment.name}.yml"
    temporary = target.with_suffix(".yml.new")
    temporary.write_text(yaml.safe_dump(content(segment), sort_keys=False, allow_unicode=True), encoding="utf-8")
    temporary.replace(target)
    return target
