"""The KV of all tokens an engine remembers, within a budget that is never exceeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from services.engines.prefix_tree import Node, PrefixTree, Slots

_CACHED = 8 << 20
"""Bytes in use, half of them filled, that a CPU's cache still holds."""


@dataclass(frozen=True, slots=True)
class KvShape:
    """The KV of one token: `[layers, heads, key_dim]` and `[layers, heads, value_dim]`."""

    layers: int
    heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def single_on_cpu(self) -> bool:
        """In single precision on a CPU, where plain products beat the fused attention."""
        return self.device.type == "cpu" and self.dtype == torch.float32


class Pool:
    """Memory for KV that is used again and again, since new memory is slow.

    It starts as zeros and has held nothing but KV: so it always holds numbers of their size, which
    a mask can hide. `lent` counts the elements in use; with those kept for later they are never
    more than were once in use at a time.
    """

    def __init__(self, shape: KvShape) -> None:
        self._shape = shape
        self._free: dict[int, list[torch.Tensor]] = {}
        """By size; the sizes in the order in which one was last given back."""
        self._kept = 0
        self._most = 0
        self.lent = 0

    @property
    def exceeds_cache(self) -> bool:
        """Whether what is in use comes from a CPU's memory, in single precision, at each step."""
        shape = self._shape
        return shape.single_on_cpu and self.lent * shape.dtype.itemsize > _CACHED

    def take(self, count: int) -> torch.Tensor:
        """At least `count` elements, flat."""
        size = _rounded(count)
        self.lent += size
        if size in self._free:
            return self._kept_one(size)
        self._most = max(self._most, self.lent)
        while self.lent + self._kept > self._most:
            self._kept_one(next(iter(self._free)))  # of the size not met for longest
        return torch.zeros(size, dtype=self._shape.dtype, device=self._shape.device)

    def give(self, memory: torch.Tensor) -> None:
        """Have `memory`, which `take` gave, back."""
        size = len(memory)
        self.lent -= size
        self._kept += size
        self._free[size] = [*self._free.pop(size, []), memory]

    def _kept_one(self, size: int) -> torch.Tensor:
        self._kept -= size
        memory = self._free[size].pop()
        if not self._free[size]:
            del self._free[size]
        return memory


def _rounded(count: int) -> int:
    """`count`, or up to half as much again: so few sizes that they are met again."""
    power = 1 << max(0, count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power


class KvStore:
    """A pool of token slots under a prefix tree.

    A request holds its prefix and reserves, when it is admitted, all slots it may come to need:
    so what was admitted can always go on, and what does not fit waits. `keys` and `values` have
    the shape `[layers, tokens, heads, dim]`. Belongs to the step thread.
    """

    def __init__(self, shape: KvShape, tokens: int) -> None:
        self.shape = shape
        self.tokens = tokens
        sizes = (shape.layers, tokens, shape.heads)
        self.keys = torch.zeros(*sizes, shape.key_dim, dtype=shape.dtype, device=shape.device)
        self.values = torch.zeros(*sizes, shape.value_dim, dtype=shape.dtype, device=shape.device)
        self.pool = Pool(shape)
        self.tree = PrefixTree()
        self.reserved = 0
        # A stack; the lowest slots on top, so that fresh runs of slots are consecutive.
        self._free: Slots = np.arange(tokens, dtype=np.int64)[::-1].copy()
        self._top = tokens

    @property
    def free(self) -> int:
        return self._top

    @property
    def used(self) -> int:
        """Tokens that running requests hold or have reserved."""
        return self.tree.held + self.reserved

    def places(self, slots: Slots) -> slice | torch.Tensor:
        """`slots` as an index of `keys` and `values`: one that copies nothing where it can."""
        if len(slots) and slots[-1] - slots[0] == len(slots) - 1 and (np.diff(slots) == 1).all():
            return slice(int(slots[0]), int(slots[-1]) + 1)
        return torch.from_numpy(slots).to(self.shape.device)

    def read(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values at `slots`, `[layers, slots, heads, dim]`; not to be written to."""
        at = self.places(slots)
        if isinstance(at, slice):
            return self.keys[:, at], self.values[:, at]
        # Several times faster than an index in brackets.
        return self.keys.index_select(1, at), self.values.index_select(1, at)

    def admit(self, node: Node, tokens: int) -> bool:
        """Hold the path to `node` and reserve `tokens` slots, if the budget allows it."""
        room = self.free + self.tree.evictable - self.reserved
        if room - self.tree.unheld(node) < tokens:
            return False
        self.tree.hold(node)
        self.reserved += tokens
        return True

    def take(self, count: int) -> Slots:
        """`count` of the slots reserved before; evicts for them what is needed."""
        if self._top < count:
            self.give(self.tree.evict(count - self._top))
        if count > self._top or count > self.reserved:
            raise RuntimeError(f"KV accounting: {count} slots wanted, {self._top} free")
        self.reserved -= count
        self._top -= count
        return self._free[self._top : self._top + count][::-1].copy()

    def give(self, slots: Slots) -> None:
        """Return slots whose KV is not needed."""
        self._free[self._top : self._top + len(slots)] = slots[::-1]
        self._top += len(slots)

    def unreserve(self, count: int) -> None:
        """Give up slots reserved and never taken."""
        self.reserved -= count
