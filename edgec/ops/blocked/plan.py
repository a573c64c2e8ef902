"""Which layouts an attention pattern takes."""

from __future__ import annotations

import math
from typing import TypeAlias

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ops.blocked.far import Dilation, Dilations, Residue, Residues
from edgec.ops.blocked.layout import Layout, Piece
from edgec.ops.blocked.near import Around, Blocks, Drawn, Ends
from edgec.ops.blocked.predicates import Tokens
from edgec.patterns import (
    BlockLocal,
    Causal,
    Dilated,
    Global,
    Pattern,
    RandomBlocks,
    Strided,
    Window,
)
from edgec.patterns.pattern import Part

Sizes: TypeAlias = dict[int, list[Part]]

LEAST_BLOCK, GREATEST_BLOCK = 16, 128  # rows of a block under a window alone
GREATEST_JOINED = 512  # rows of a block of other parts that a window joins


def layouts(pattern: Pattern, length: Dim, heads: Dim, causal: bool) -> list[Layout] | None:
    """The layouts that together see what the pattern sees, in the order in which keys count.

    None where blocks see no less than all pairs: a causal() part, heads of unknown number under
    dilation, or few tokens.
    """
    parts = merged(pattern)
    dilated = any(isinstance(p, Dilated) for p in parts)
    if any(isinstance(p, Causal) for p in parts) or (dilated and not isinstance(heads, int)):
        return None
    sizes = _block_sizes(parts)
    # what differs by head comes last: nothing behind it has to ask what it sees, head by head
    far: list[Part] = [p for kind in (Strided, Dilated) for p in parts if isinstance(p, kind)]
    tokens = Tokens(length, _padded(length, _unit(sizes, far)), heads)
    made = [_blocks(tokens, size, found, causal) for size, found in sizes.items()]
    for part in far:
        if isinstance(part, Strided):
            made.append(Residues(tokens, (Residue(tokens, (part,)),), part))
        elif isinstance(part, Dilated):
            made.append(Dilations(tokens, (Dilation(tokens, (part,)),), part))
    return made if _pays(made, length) else None


def merged(pattern: Pattern) -> tuple[Part, ...]:
    """The parts, all global tokens in one, which comes first, and random blocks last."""
    ends = [p for p in pattern.parts if isinstance(p, Global)]
    random = [p for p in pattern.parts if isinstance(p, RandomBlocks)]
    others = [p for p in pattern.parts if not isinstance(p, Global | RandomBlocks)]
    one = Global(max(p.tokens for p in ends), max(p.last for p in ends)) if ends else None
    return (*([one] if one else []), *others, *random)


def _block_sizes(parts: tuple[Part, ...]) -> Sizes:
    """Parts that see blocks of consecutive tokens, by the size of the blocks."""
    sizes: Sizes = {}
    for part in parts:
        if isinstance(part, BlockLocal | RandomBlocks):
            sizes.setdefault(part.size, []).append(part)
    windows = [p for p in parts if isinstance(p, Window)]
    if windows:
        joined = [s for s in sizes if s <= GREATEST_JOINED]
        size = max(joined) if joined else _window_block(max(w.radius for w in windows))
        sizes.setdefault(size, []).extend(windows)
    ends = [p for p in parts if isinstance(p, Global)]
    if ends:
        size = min(sizes) if sizes else GREATEST_BLOCK
        sizes.setdefault(size, []).extend(ends)
    return sizes


def _window_block(radius: int) -> int:
    """The power of two at or below the radius: the fastest of 16 to 256 (tests/bench)."""
    near = 1 << max(0, radius.bit_length() - 1)
    return min(max(near, LEAST_BLOCK), GREATEST_BLOCK)


def _blocks(tokens: Tokens, size: int, parts: list[Part], causal: bool) -> Layout:
    band = tuple(p for p in parts if isinstance(p, BlockLocal | Window))
    groups = dims.floordiv(tokens.padded, size)
    pieces: list[Piece] = []
    for part in parts:
        if isinstance(part, Global):
            pieces.append(Ends(tokens, (part,), groups))
    if band:
        pieces.append(Around.of(tokens, band, size, causal))
    for part in parts:
        if isinstance(part, RandomBlocks):
            pieces.append(Drawn(tokens, (part,), groups))
    return Blocks(tokens, tuple(pieces), size)


def _unit(sizes: Sizes, far: list[Part]) -> int:
    spans = [p.stride * p.size for p in far if isinstance(p, Strided)]
    segments = [p.segment for p in far if isinstance(p, Dilated)]
    return math.lcm(*sizes, *spans, *segments)


def _padded(length: Dim, unit: int) -> Dim:
    return dims.normal(dims.floordiv(dims.normal(length + unit - 1), unit) * unit)


def _pays(made: list[Layout], length: Dim) -> bool:
    """Whether blocks are faster than all pairs under a mask; what is not known is taken as long.

    In onnxruntime a score of a block takes about one and a half times as long (tests/bench).
    """
    if not isinstance(length, int):
        return True
    pieces = [piece for layout in made for piece in layout.pieces]
    scores = sum(int(p.tokens.padded) * int(p.count) for p in pieces)
    return 3 * scores < 2 * length * length
