"""Vector loads, stores, transpositions and sums: what loops over lanes cannot say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tvm


def widths(count: int, lanes: int) -> list[int]:
    """`count` elements as vectors of at most `lanes`: full ones, then halves, down to one element.

    widths(40, 16) = [16, 16, 8]: a row of any length is read and written without its neighbours.
    """
    cut = [lanes] * (count // lanes)
    rest, width = count % lanes, lanes // 2
    while rest:
        if rest >= width:
            cut.append(width)
            rest -= width
        width //= 2
    return cut


def load(buffer: Any, at: Any, width: int) -> Any:
    """Elements [at, at + width) of a flat buffer."""
    return buffer[at] if width == 1 else buffer[T.ramp(at, 1, width)]


def store(buffer: Any, value: Any, at: Any, width: int) -> None:
    T.buffer_store(buffer, value, [at if width == 1 else T.ramp(at, 1, width)])


def by_width(body: Body, count: Any, lanes: int, emit: Callable[[int], None]) -> None:
    """emit(width) for the widest vector, 4 elements at least, that `count` has room for, or 1."""
    if lanes < 4:
        emit(1)
        return
    with T.If(count >= lanes):
        with T.Then():
            emit(lanes)
        with T.Else():
            by_width(body, count, lanes // 2, emit)


def covered(
    body: Body, count: Any, width: int, lanes: int, step: Callable[[Any, int], None]
) -> None:
    """step(j, width) until [0, count) is covered, where the last two vectors may overlap.

    width   as by_width gives it
    """
    if width == 1:
        with body.loop(0, count) as j:
            step(j, 1)
        return
    if width < lanes:
        step(body.i32(0), width)
    else:
        with body.loop(0, count // width) as v:
            step(v * width, width)
    with body.when(count % width != 0):
        step(count - width, width)


def spread(value: Any, width: int) -> Any:
    """A scalar in every lane."""
    return value if width == 1 else T.broadcast(value, width)


def transpose(rows: Sequence[Any]) -> list[Any]:
    """The columns of a square of w vectors with w lanes, w a power of two, by w log2(w) shuffles.

    Each round interleaves row i with row i + w/2, which rotates the bits of all indices by one.
    """
    width = len(rows)
    if width == 1:
        return list(rows)
    half = width // 2
    low = [lane for i in range(half) for lane in (i, width + i)]
    high = [lane for i in range(half, width) for lane in (i, width + i)]
    vectors = list(rows)
    for _ in range(width.bit_length() - 1):
        # stored, because TVM would write a shuffle out again at each of its uses
        stage = Body.registers((width * width,))
        for i in range(half):
            pair = [vectors[i], vectors[i + half]]
            store(stage, tvm.tirx.Shuffle(pair, low), 2 * i * width, width)
            store(stage, tvm.tirx.Shuffle(pair, high), (2 * i + 1) * width, width)
        vectors = [load(stage, i * width, width) for i in range(width)]
    return vectors


def row_sums(rows: Sequence[Any]) -> Any:
    """One vector with the sum of each of w vectors of w lanes, w a power of two.

    Each round adds the halves of two vectors, interleaved: w - 1 additions in all.
    """
    width = len(rows)
    if width == 1:
        return rows[0]
    half = width // 2
    low = [lane for i in range(half) for lane in (i, width + i)]
    high = [lane for i in range(half, width) for lane in (i, width + i)]
    vectors = list(rows)
    while len(vectors) > 1:
        pairs = len(vectors) // 2
        stage = Body.registers((pairs * width,))
        for i in range(pairs):
            pair = [vectors[i], vectors[i + pairs]]
            both = tvm.tirx.Shuffle(pair, low) + tvm.tirx.Shuffle(pair, high)
            store(stage, both, i * width, width)
        vectors = [load(stage, i * width, width) for i in range(pairs)]
    return vectors[0]


def fold(vector: Any, at: Any, width: int, combine: Callable[[Any, Any], Any]) -> Any:
    """All elements of a vector in scratch, combined pairwise."""
    terms = [vector[at + i] for i in range(width)]
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [combine(terms[i], terms[i + half]) for i in range(half)]
    return terms[0]
