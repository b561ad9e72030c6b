"""The rules of identity resolution as data: reading, checking and overriding `identity_rules.yml`.

Belongs here: what a rule may say. Does not belong here: SQL, or the way a rule is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from data_contracts.errors import UsageError

RULES_FILE = Path(__file__).with_name("identity_rules.yml")

NODE_TYPES = ("contact", "company", "lead")
KINDS = ("link", "reference", "key")
KEYS = ("external_id", "email", "phone", "domain")
CONDITIONS = ("birth_date", "last_name", "first_initial", "external_id", "source_record", "parent_company")
STRATEGIES = ("most_recent", "most_trusted", "most_complete")
BLOCK_FIELDS = ("first_name", "last_name", "birth_date", "phone", "email", "postal_code", "city", "country_code")
# Links and references are read from columns that the canonical schema fixes, so their ids are fixed as well.
EXPLICIT_RULES = {"identity_link": "link", "merged_into": "reference", "lead_reference": "reference"}
# A shared-value group of n records can mean n(n-1)/2 comparisons when it is in dispute.
MAX_GROUP_SIZE = 1_000


class RuleError(ValueError):
    """A rules file says something that identity resolution does not know; the message names the entry."""


@dataclass(frozen=True)
class Rule:
    """One deterministic rule. Its position in the file is its strength, the first being the strongest."""

    id: str
    kind: str
    node_types: tuple[str, ...]
    evidence: str
    key: str | None = None
    max_group_size: int = 50
    max_distinct_names: int = 5
    do_not_merge: tuple[str, ...] = ()


@dataclass(frozen=True)
class FieldWeight:
    """Agreement rates of a field among true pairs (`m`) and other pairs (`u`), and of near agreement where it is told apart: what learning starts from."""

    m: float
    u: float
    near_m: float = 0.0
    near_u: float = 0.0


@dataclass(frozen=True)
class ReviewRules:
    """Which pairs of customers are put before a person, and from which probability on."""

    enabled: bool
    min_probability: float
    max_pairs: int
    max_block_size: int
    near_similarity: float
    rule_recall: float
    min_training_records: int
    max_training_pairs: int
    training_blocks: tuple[tuple[str, ...], ...]
    blocks: tuple[tuple[str, ...], ...]
    fields: Mapping[str, FieldWeight]


@dataclass(frozen=True)
class Survivorship:
    """Which record's value a customer takes, per field."""

    trusted_sources: tuple[str, ...]
    default: str
    fields: Mapping[str, str]

    def strategy(self, name: str) -> str:
        return self.fields.get(name, self.default)


@dataclass(frozen=True)
class IdentityRules:
    """Everything `identity_rules.yml` says, checked."""

    rules: tuple[Rule, ...]
    unique_sources: tuple[str, ...]
    external_id_field: str | None
    id_spaces: tuple[tuple[str, str, str], ...]   # (space, source, field)
    gmail_aliases: bool
    shared_local_parts: tuple[str, ...]
    unknown_birth_dates: tuple[date, ...]
    phone_min_digits: int
    phone_max_digits: int
    phone_default_country: str | None
    phone_countries: Mapping[str, tuple[str, str]] = field(repr=False)
    shared_domains: tuple[str, ...] = field(repr=False)
    survivorship: Survivorship
    review: ReviewRules

    def number(self, rule_id: str) -> int | None:
        """Position of a rule, 0 being the strongest; None when the file leaves the rule out."""
        return next((number for number, rule in enumerate(self.rules) if rule.id == rule_id), None)


def load_rules(path: Path = RULES_FILE, overrides: Mapping[str, Any] | None = None) -> IdentityRules:
    """Rules of a file; `overrides` replaces entries of mappings one by one and lists as a whole. Raises RuleError."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parse_rules(_merged(document, overrides or {}))


def rules_of(file: Path) -> IdentityRules:
    """The rules of a home: the delivered ones, and in their place what its `identity.yml` says, if there is one. Raises UsageError naming the file."""
    if not file.exists():
        return load_rules()
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        if not isinstance(said, Mapping):
            raise RuleError("identity rules: the file is no mapping")
        unknown = set(said) - set(yaml.safe_load(RULES_FILE.read_text(encoding="utf-8")))
        if unknown:
            raise RuleError(f"identity rules: there is no entry {', '.join(sorted(map(str, unknown)))}")
        return load_rules(overrides=said)
    except (yaml.YAMLError, RuleError) as error:
        raise UsageError(f"{error}", file=str(file), remedy="Write only the entries to change, shaped as in models/engines/identity_rules.yml.") from None


def parse_rules(document: Mapping[str, Any]) -> IdentityRules:
    """Checked rules from a parsed document. Raises RuleError naming the entry that is wrong."""
    try:
        rules = tuple(_rule(entry) for entry in document["rules"])
        email, phone, review, survivorship = (document[k] for k in ("email", "phone", "review", "survivorship"))
        parsed = IdentityRules(
            rules=rules,
            unique_sources=tuple(document.get("unique_sources") or ()),
            external_id_field=document.get("external_id_field"),
            id_spaces=tuple((space["name"], member["source"], member["field"])
                            for space in document.get("id_spaces") or () for member in space["members"]),
            gmail_aliases=bool(email["gmail_aliases"]),
            shared_local_parts=tuple(str(part).lower() for part in email["shared_local_parts"]),
            unknown_birth_dates=tuple(date.fromisoformat(str(day)) for day in document.get("unknown_birth_dates") or ()),
            phone_min_digits=int(phone["min_digits"]),
            phone_max_digits=int(phone["max_digits"]),
            phone_default_country=phone.get("default_country"),
            phone_countries={str(country): (str(code), str(trunk)) for country, (code, trunk) in phone["countries"].items()},
            shared_domains=tuple(str(domain).lower() for domain in document["domain"]["shared_domains"]),
            survivorship=Survivorship(tuple(survivorship.get("trusted_sources") or ()), survivorship["default"],
                                      dict(survivorship.get("fields") or {})),
            review=ReviewRules(
                enabled=bool(review["enabled"]), min_probability=float(review["min_probability"]), max_pairs=int(review["max_pairs"]),
                max_block_size=int(review["max_block_size"]), near_similarity=float(review["near_similarity"]), rule_recall=float(review["rule_recall"]),
                min_training_records=int(review["min_training_records"]), max_training_pairs=int(review["max_training_pairs"]),
                training_blocks=tuple(tuple(block) for block in review["training_blocks"]),
                blocks=tuple(tuple(block) for block in review["blocks"]),
                fields={name: FieldWeight(**weights) for name, weights in review["fields"].items()}),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RuleError(f"identity rules: an entry is missing or of the wrong shape ({error})") from error
    _check(parsed)
    return parsed


def _merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _rule(entry: Mapping[str, Any]) -> Rule:
    values = dict(entry)
    for name in ("node_types", "do_not_merge"):
        values[name] = tuple(values.get(name) or ())
    return Rule(**values)


def _check(rules: IdentityRules) -> None:
    def require(holds: bool, message: str) -> None:
        if not holds:
            raise RuleError(f"identity rules: {message}")

    ids = [rule.id for rule in rules.rules]
    require(len(set(ids)) == len(ids), "rule ids are not unique")
    for rule in rules.rules:
        require(rule.kind in KINDS, f"rule {rule.id!r} has kind {rule.kind!r}, known are {', '.join(KINDS)}")
        require(rule.kind == EXPLICIT_RULES.get(rule.id, "key"), f"rule {rule.id!r} cannot be of kind {rule.kind!r}")
        require(set(rule.node_types) <= set(NODE_TYPES), f"rule {rule.id!r} names a node type other than {', '.join(NODE_TYPES)}")
        require(set(rule.do_not_merge) <= set(CONDITIONS), f"rule {rule.id!r} names a condition other than {', '.join(CONDITIONS)}")
        require(rule.kind != "key" or rule.key in KEYS, f"rule {rule.id!r} has key {rule.key!r}, known are {', '.join(KEYS)}")
        require(2 <= rule.max_group_size <= MAX_GROUP_SIZE, f"rule {rule.id!r}: max_group_size must lie in 2..{MAX_GROUP_SIZE}")
        require(rule.max_distinct_names >= 1, f"rule {rule.id!r}: max_distinct_names must be at least 1")
    country = rules.phone_default_country
    require(country is None or country in rules.phone_countries, f"phone.default_country {country!r} is not in phone.countries")
    for name, strategy in {"default": rules.survivorship.default, **rules.survivorship.fields}.items():
        require(strategy in STRATEGIES, f"survivorship of {name!r} is {strategy!r}, known are {', '.join(STRATEGIES)}")
    review = rules.review
    require(0 < review.rule_recall <= 1 and 0 < review.min_probability < 1, "review rates must lie between 0 and 1")
    require(review.min_training_records >= 100 and review.max_training_pairs >= 10_000, "review needs min_training_records of 100 and max_training_pairs of 10,000 at least")
    named = {name for block in (*review.blocks, *review.training_blocks) for name in block} | set(review.fields)
    require(named <= set(BLOCK_FIELDS), f"review names a field other than {', '.join(BLOCK_FIELDS)}")
    require({name for block in review.training_blocks for name in block} <= set(review.fields), "review.training_blocks names a field that review.fields does not")
    for name, weight in review.fields.items():
        require(0 < weight.m < 1 and 0 < weight.u < 1 and weight.m + weight.near_m < 1 and weight.u + weight.near_u < 1,
                f"review rates of {name!r} must lie between 0 and 1")
