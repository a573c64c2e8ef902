"""Fetching what is used next into the L2 cache, while a product computes.

Of a panel, one part is used by many row tiles: the first reads it as fast as it can, the others
have it in the L1 cache and leave memory idle. Left to the hardware, which stops at the end of a
page, a product of 32 rows with weights that lie in no cache waits for memory half of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.tiles import PANEL

#: Bytes of a cache line; where lines are longer, each is asked for twice.
LINE_BYTES = 64

#: f32 elements of it.
LINE = LINE_BYTES // 4

_TO_L2, _DATA = 2, 1  # arguments of llvm.prefetch


def fetch(element: Any, write: bool = False) -> None:
    """Ask for the cache line of an element of a buffer, which need not exist."""
    hints = (T.int32(hint) for hint in (int(write), _TO_L2, _DATA))
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", T.address_of(element), *hints))


@dataclass(frozen=True)
class Ahead:
    """The part of a panel behind the one that is used.

    element   i -> its element i; it may lie behind the end of the panel, even of the weights: an
              address that is only fetched from need not be valid
    """

    body: Body
    element: Callable[[Any], Any]

    def share(self, tile: Any, turns: Any, unroll: int) -> Share:
        """What tile number `tile` fetches in its `turns` turns of `unroll` steps along k.

        A tile takes a line for two steps, which costs it nothing that can be measured; four tiles
        fetch a part. Further ones begin again, and find everything there.
        """
        each = max(1, unroll // 2)
        tiles = unroll * (PANEL // LINE) // each
        return Share(self, self.body.held(tile % tiles * turns), each)


@dataclass(frozen=True)
class Share:
    """`each` lines a turn from turn `first` on."""

    ahead: Ahead
    first: Any
    each: int

    def fetch(self, turn: Any) -> None:
        for i in range(self.each):
            line = (self.first + turn) * self.each + i
            fetch(self.ahead.element(line * LINE))
