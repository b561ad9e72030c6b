"""Splitting a set of linked nodes that holds contradictions: links are followed one after another, where nothing forbids it.

Belongs here: the sequential rule itself, on plain numbers. Does not belong here: SQL, or the order in which links come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Partition:
    """Nodes joined link by link. `conditions[r]` names the properties that rule number r does not join over.

    `accepted` holds the links that joined two groups (left, right, rule number, key); `refused` those that were not followed,
    each with the reason: `different` or the property that differs.
    """

    def __init__(self, conditions: Sequence[Sequence[str]]) -> None:
        self.accepted: list[tuple[int, int, int, str]] = []
        self._conditions = conditions
        self._refused: list[tuple[int, int, int, str]] = []
        self._parent: dict[int, int] = {}
        self._size: dict[int, int] = {}
        self._apart: dict[int, set[int]] = {}                                    # group -> nodes it must not meet
        self._values: dict[int, dict[str, dict[str, set[str]]]] = {}             # group -> condition -> scope -> values

    def describe(self, node: int, condition: str, scope: str, value: str) -> None:
        """Give a node a value of a property; a scope (a source) limits with which values it is compared."""
        self._values.setdefault(self._find(node), {}).setdefault(condition, {}).setdefault(scope, set()).add(value)

    def keep_apart(self, left: int, right: int) -> None:
        """Say that two nodes are never in one group. To be called before links are followed."""
        self._apart.setdefault(self._find(left), set()).add(right)
        self._apart.setdefault(self._find(right), set()).add(left)

    def follow(self, links: Iterable[tuple[int, int, int, str]]) -> None:
        """Take links (left, right, rule number, key) in the order given."""
        for left, right, rule, key in links:
            a, b = self._find(left), self._find(right)
            if a == b:
                continue
            reason = self._obstacle(a, b, rule)
            if reason is None:
                self._join(a, b)
                self.accepted.append((left, right, rule, key))
            else:
                self._refused.append((left, right, rule, reason))

    def labels(self) -> list[tuple[int, int]]:
        """(node, group) of every node met so far."""
        return [(node, self._find(node)) for node in self._parent]

    @property
    def refused(self) -> list[tuple[int, int, int, str]]:
        """Refused links whose ends did not come together by another way."""
        return [link for link in self._refused if self._find(link[0]) != self._find(link[1])]

    def _find(self, node: int) -> int:
        parent = self._parent
        root = parent.setdefault(node, node)
        while parent[root] != root:
            root = parent[root]
        while parent[node] != root:
            parent[node], node = root, parent[node]
        return root

    def _obstacle(self, a: int, b: int, rule: int) -> str | None:
        mine, theirs = self._apart.get(a, set()), self._apart.get(b, set())
        forbidden, other = (mine, b) if len(mine) <= len(theirs) else (theirs, a)
        if any(self._find(node) == other for node in forbidden):
            return "different"
        for condition in self._conditions[rule]:
            left, right = self._values.get(a, {}).get(condition, {}), self._values.get(b, {}).get(condition, {})
            for scope in left.keys() & right.keys():
                if len(left[scope] | right[scope]) > 1:
                    return condition
        return None

    def _join(self, a: int, b: int) -> None:
        if self._size.get(a, 1) < self._size.get(b, 1):
            a, b = b, a
        self._parent[b] = a
        self._size[a] = self._size.get(a, 1) + self._size.get(b, 1)
        if b in self._apart:
            self._apart.setdefault(a, set()).update(self._apart.pop(b))
        for condition, scopes in self._values.pop(b, {}).items():
            kept = self._values.setdefault(a, {}).setdefault(condition, {})
            for scope, values in scopes.items():
                kept.setdefault(scope, set()).update(values)
