"""Who is one customer, by brute force: every pair of records is a candidate link, links are followed one after another.

Written from the definition (rules strongest first, old links before new ones, nobody joined whom somebody called different) with
lists and dictionaries only; it shares no code and no SQL with the engine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import combinations

Node = tuple[str, str, str]   # source, type, id


@dataclass(frozen=True)
class Record:
    source: str
    kind: str                 # contact, company or lead
    id: str
    created_at: datetime | None = None
    email: str | None = None
    phone: str | None = None
    domain: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    birth_date: date | None = None
    merged_into: str | None = None
    contact: str | None = None   # of a lead

    @property
    def first_initial(self) -> str | None:
        return self.first_name[0] if self.first_name else None

    @property
    def node(self) -> Node:
        return (self.source, self.kind, self.id)


# rule: (records it applies to, value, properties that may not differ)
SHARED_VALUES = {
    "email": (("contact", "lead"), lambda r: r.email.strip().lower(), ("birth_date",)),
    "phone": (("contact", "lead"), lambda r: "+" + "".join(c for c in r.phone if c.isdigit()).removeprefix("00"), ("birth_date", "last_name", "first_initial")),
    "domain": (("company",), lambda r: r.domain.lower().removeprefix("https://").removeprefix("www."), ()),
}
STRENGTH = ["link", "merged", "lead", "email", "phone", "domain"]


@dataclass
class IdentityOracle:
    """Resolves run after run; `limits` gives per shared value the most records and the most different names it may have."""

    limits: dict[str, tuple[int, int]]
    first_seen: dict[Node, tuple[int, datetime]] = field(default_factory=dict)
    seen: dict[tuple, int] = field(default_factory=dict)
    run: int = 0

    def resolve(self, records: list[Record], links: list[tuple[Node, Node, str]]) -> dict[Node, str]:
        self.run += 1
        by_node = {r.node: r for r in records}
        nodes = set(by_node) | set(self.first_seen)   # whatever was named once stays a record
        for r in records:
            if r.merged_into:
                nodes.add((r.source, r.kind, r.merged_into))
            if r.contact:
                nodes.add((r.source, "contact", r.contact))
        for node in nodes:
            created = by_node[node].created_at if node in by_node else None
            self.first_seen.setdefault(node, (self.run, created or datetime.max))
        rank = {node: (self.first_seen[node][0], node[1] == "lead", self.first_seen[node][1], *node) for node in nodes}

        edges = self._named(records, links, by_node) + self._shared(records)
        edges.sort(key=lambda e: (e[0], STRENGTH.index(e[1]), *sorted((rank[e[2]], rank[e[3]]))))
        group = {node: {node} for node in nodes}
        different = [(a, b) for a, b, word in links if word == "different"]
        for _, rule, a, b in edges:
            if group[a] is group[b] or self._forbidden(rule, group[a], group[b], different, by_node):
                continue
            joined = group[a] | group[b]
            for node in joined:
                group[node] = joined
        return {node: self._id(min(group[node], key=rank.__getitem__)) for node in nodes}

    def _named(self, records, links, by_node):
        edges = [("link", *sorted((a, b))) for a, b, word in links if word == "same"]
        edges += [("merged", r.node, (r.source, r.kind, r.merged_into)) for r in records if r.merged_into]
        edges += [("lead", r.node, (r.source, "contact", r.contact)) for r in records if r.contact]
        return [(self.seen.setdefault(edge, self.run), *edge) for edge in edges if edge[1] != edge[2]]

    def _shared(self, records):
        edges = []
        for rule, (kinds, value_of, _) in SHARED_VALUES.items():
            attribute = rule
            holders: dict[str, list[Record]] = {}
            for r in records:
                if r.kind in kinds and getattr(r, attribute) is not None:
                    holders.setdefault(value_of(r), []).append(r)
            most_records, most_names = self.limits[rule]
            for value, held in holders.items():
                if len(held) < 2:
                    continue
                since = {r: self.seen.setdefault((rule, value, r.node), self.run) for r in held}
                allowed = []
                for r in held:
                    by_then = [o for o in held if since[o] <= since[r]]
                    names = {(o.first_name, o.last_name) for o in by_then if o.first_name or o.last_name}
                    if len(by_then) <= most_records and len(names) <= most_names:
                        allowed.append(r)
                edges += [(max(since[a], since[b]), rule, a.node, b.node) for a, b in combinations(allowed, 2)]
        return edges

    @staticmethod
    def _forbidden(rule, left, right, different, by_node) -> bool:
        for a, b in different:
            if (a in left and b in right) or (b in left and a in right):
                return True
        for attribute in SHARED_VALUES[rule][2] if rule in SHARED_VALUES else ():
            ours, theirs = ({getattr(by_node[n], attribute) for n in side if n in by_node} - {None} for side in (left, right))
            if ours and theirs and len(ours | theirs) > 1:
                return True
        return False

    @staticmethod
    def _id(founder: Node) -> str:
        return ("o_" if founder[1] == "company" else "p_") + hashlib.md5("|".join(founder).encode()).hexdigest()[:16]
