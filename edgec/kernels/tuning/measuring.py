"""What a tuner times: kernels of each family at sizes that models have, on this machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgec.kernels.calling import aligned, compile_all
from edgec.kernels.conv import Conv
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer
from edgec.kernels.linear import Linear
from edgec.kernels.matmul import Matmul
from edgec.kernels.panels import AffinePanels, Grid
from edgec.kernels.patches import Windows
from edgec.kernels.tiles import Blocking

#: Makes a kernel with a blocking, its sizes, and the numbers of elements of its pointers.
Case = tuple[Callable[[Blocking], Kernel], dict[str, int], dict[str, int]]

ROUNDS = 9

#: Candidates whose mean times differ by less are told apart by their order alone.
TIE = 1.06

SECONDS = 2e-3  # of one sample


def _linear(m: int, k: int, n: int, encoded: bool) -> Case:
    weight = {"codes8": n * k, "scale": n} if encoded else {"w": n * k}
    sizes = {"m": m, "n": n, "k": k, "x_stride": k, "y_stride": n}

    def made(blocking: Blocking) -> Kernel:
        if encoded:
            return Linear(AffinePanels(8, Grid("float32")), bias=False, blocking=blocking)
        return Linear(bias=False, blocking=blocking)

    return made, sizes, {"x": m * k, "y": m * n, **weight}


def _matmul(batch: int, m: int, k: int, n: int) -> Case:
    sizes = {"m": m, "n": n, "k": k, "a_row": k, "a_col": 1, "b_row": n, "y_row": n}
    sizes |= {"extent0": batch, "a_axis0": m * k, "b_axis0": k * n, "y_axis0": m * n}
    counts = {"a": batch * m * k, "b": batch * k * n, "y": batch * m * n}
    return lambda blocking: Matmul(blocking=blocking), sizes, counts


def _conv(channels: int, side: int, kernel: int) -> Case:
    low = kernel // 2
    windows = Windows((1, kernel, kernel), low=(0, low, low))
    sizes = {"batch": 1, "c": channels, "xd": 1, "xh": side, "xw": side, "n": channels}
    sizes |= {"od": 1, "oh": side, "ow": side}
    area = channels * side * side
    counts = {"x": area, "w": channels * channels * kernel * kernel, "y": area}
    return lambda blocking: Conv(windows, bias=False, blocking=blocking), sizes, counts


_PRODUCTS = ((1, 384, 1536), (32, 384, 384), (128, 384, 1536), (128, 1536, 384), (12, 256, 256))

#: Name in the database -> cases. All n are multiples of 32.
CASES: dict[str, tuple[Case, ...]] = {
    "linear": tuple(_linear(*size, encoded=False) for size in _PRODUCTS),
    "linear_decoded": tuple(_linear(*size, encoded=True) for size in _PRODUCTS),
    "matmul": (_matmul(12, 128, 32, 128), _matmul(12, 128, 128, 32), _matmul(1, 256, 512, 512)),
    "conv": (_conv(64, 28, 3), _conv(256, 14, 1), _conv(128, 14, 3)),
}


def fastest(
    cases: Sequence[Case], candidates: Sequence[Blocking], isa: InstructionSet
) -> tuple[Blocking, dict[Blocking, float]]:
    """The first candidate within TIE of the least mean time, and the mean time of each.

    The mean is geometric, over cases, of the time divided by that of the case's fastest candidate.
    """
    ratios: dict[Blocking, list[float]] = {c: [] for c in candidates}
    for case in cases:
        times = list(_times(case, candidates, isa))
        for candidate, seconds in zip(candidates, times, strict=True):
            ratios[candidate].append(seconds / min(times))
    means = {c: math.exp(statistics.fmean(map(math.log, r))) for c, r in ratios.items()}
    least = min(means.values())
    return next(c for c in candidates if means[c] <= least * TIE), means


def _times(case: Case, candidates: Sequence[Blocking], isa: InstructionSet) -> Iterator[float]:
    """Median CPU seconds of a call, all candidates by turns."""
    make, sizes, counts = case
    kernels = [make(c) for c in candidates]
    compiled = compile_all(kernels, isa)
    arrays = {name: aligned(np.ones(count, "f4")) for name, count in counts.items()}
    calls = []
    for kernel in kernels:
        given = [
            arrays[p.name] if isinstance(p, Pointer) else sizes[p.name] for p in kernel.parameters()
        ]
        count = kernel.items(sizes)
        assert isinstance(count, int)
        calls.append(compiled[kernel].bind(*given, items=count))
    repeats = max(1, int(SECONDS / _seconds(calls[0], 1)))
    samples = [[_seconds(call, repeats) for call in calls] for _ in range(ROUNDS)]
    for column in zip(*samples, strict=True):
        yield statistics.median(column)


def _seconds(call: Callable[[], None], repeats: int) -> float:
    call()
    start = time.thread_time()
    for _ in range(repeats):
        call()
    return max((time.thread_time() - start) / repeats, 1e-9)
