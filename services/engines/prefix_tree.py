"""A radix tree of token ids: which tokens' KV are stored, and where.

A node holds a run of tokens and the slot of each; a path from the root is a prefix of some text.
Prefixes that several texts share are stored once. Whole or part of a node is evicted, the least
recently used first, unless a request holds it.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from atts_core.types import Ids

Slots = npt.NDArray[np.int64]
"""Places in the KV pool, one a token."""


class Node:
    """A run of tokens behind its parent's, and where their KV is."""

    __slots__ = ("children", "holders", "ids", "parent", "slots")

    def __init__(self, parent: Node | None, ids: Ids, slots: Slots) -> None:
        self.parent = parent
        self.ids = ids
        self.slots = slots
        self.children: dict[int, Node] = {}
        self.holders = 0


class PrefixTree:
    """Stored prefixes. Counts are tokens: `size` of all nodes, `held` of those held."""

    def __init__(self) -> None:
        self._root = Node(None, np.empty(0, np.int32), np.empty(0, np.int64))
        # Leaves in the order of their last use; only a leaf can be evicted.
        self._leaves: OrderedDict[Node, None] = OrderedDict()
        self.size = 0
        self.held = 0

    @property
    def evictable(self) -> int:
        return self.size - self.held

    def find(self, ids: Ids, limit: int) -> tuple[Node, int]:
        """The node at which the longest stored prefix of `ids[:limit]` ends, and its length."""
        node, length = self._root, 0
        while length < limit:
            child = node.children.get(int(ids[length]))
            if child is None:
                break
            common = _common(child.ids, ids[length:limit])
            if common < len(child.ids):
                child = self._split(child, common)
            length += common
            self._touch(child)
            node = child
        return node, length

    def path(self, node: Node) -> Slots:
        """The slots from the root to the end of `node`."""
        parts: list[Slots] = []
        step: Node | None = node
        while step is not None:
            parts.append(step.slots)
            step = step.parent
        return np.concatenate(parts[::-1])

    def insert(self, ids: Ids, slots: Slots) -> tuple[Node, Slots]:
        """Store `ids` at `slots`; returns the node of their end and the slots not needed."""
        node, length = self.find(ids, len(ids))
        spare = slots[:length]
        if length < len(ids):
            child = Node(node, ids[length:].copy(), slots[length:].copy())
            node.children[int(ids[length])] = child
            self._leaves.pop(node, None)
            self._leaves[child] = None
            self.size += len(child.ids)
            node = child
        return node, spare

    def unheld(self, node: Node) -> int:
        """Tokens from the root to `node` that nobody holds yet."""
        count = 0
        step: Node | None = node
        while step is not None and step.holders == 0:
            count += len(step.ids)
            step = step.parent
        return count

    def hold(self, node: Node) -> None:
        """Keep the path to `node` from being evicted."""
        step: Node | None = node
        while step is not None:
            if step.holders == 0:
                self.held += len(step.ids)
            step.holders += 1
            step = step.parent

    def release(self, node: Node) -> None:
        """Undo one `hold`."""
        step: Node | None = node
        while step is not None:
            step.holders -= 1
            if step.holders == 0:
                self.held -= len(step.ids)
            step = step.parent

    def evict(self, count: int) -> Slots:
        """Forget at least `count` tokens, if so many are not held; returns their slots."""
        freed: list[Slots] = []
        while count > 0:
            leaf = next((leaf for leaf in self._leaves if leaf.holders == 0), None)
            if leaf is None:
                break
            drop = min(count, len(leaf.ids))
            freed.append(leaf.slots[len(leaf.ids) - drop :])
            self._shorten(leaf, len(leaf.ids) - drop)
            count -= drop
        return np.concatenate(freed) if freed else np.empty(0, np.int64)

    def _shorten(self, leaf: Node, length: int) -> None:
        self.size -= len(leaf.ids) - length
        if length:
            leaf.ids, leaf.slots = leaf.ids[:length], leaf.slots[:length]
            return
        parent = leaf.parent
        assert parent is not None
        del parent.children[int(leaf.ids[0])]
        del self._leaves[leaf]
        if parent is not self._root and not parent.children:
            # As old as what stood behind it: it goes next.
            self._leaves[parent] = None
            self._leaves.move_to_end(parent, last=False)

    def _split(self, node: Node, length: int) -> Node:
        """Cut `node` after `length` tokens; returns the front half, which is new."""
        parent = node.parent
        assert parent is not None
        front = Node(parent, node.ids[:length], node.slots[:length])
        front.holders = node.holders
        front.children[int(node.ids[length])] = node
        parent.children[int(front.ids[0])] = front
        node.parent, node.ids, node.slots = front, node.ids[length:], node.slots[length:]
        return front

    def _touch(self, node: Node) -> None:
        if node in self._leaves:
            self._leaves.move_to_end(node)


def _common(a: Ids, b: Ids) -> int:
    length = min(len(a), len(b))
    differs = np.nonzero(a[:length] != b[:length])[0]
    return int(differs[0]) if len(differs) else length
