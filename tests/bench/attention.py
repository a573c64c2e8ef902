"""Attention kernels against torch: time, share of the core's peak, scaling.

    python -m tests.bench.attention [--sections window patterns ...] [--lengths 512 2048 ...]
        [--no-flex] [--runs 9] [--out attention.json]

Sections:
    window     +-256 keys, 8 heads of 64, over lengths, against dense SDPA, SDPA with a bool mask, a
               loop of SDPA over blocks of 256 queries, and compiled flex_attention
    patterns   every kind of pattern at 2048 tokens; an order of the tokens is part of the time
    random     random blocks at 2048 tokens, against dense SDPA: where sparse stops to pay
    dense      DenseAttention and DecodeAttention against SDPA, over sizes
    threads    two threads against one

CPU time of one thread, candidates in turns in one process, medians; the peak of the core is
measured in the same turns. Compare ratios: on a busy machine all times grow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.kernels import InstructionSet, Kernel
from edgec.kernels.attention import SparseAttention
from edgec.kernels.attention_decode import DecodeAttention
from edgec.kernels.attention_dense import DenseAttention
from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.block_table import BlockTable, is_ordered, mask_table, pattern_table
from edgec.kernels.calling import Callable as Compiled
from edgec.kernels.calling import aligned, compile_here, host_sets
from edgec.measure import host
from edgec.patterns import parse
from tests.bench.peak import Peak
from tests.bench.turns import spent

HEADS, DIM, RADIUS = 8, 64, 256
LEAST_S = 0.001  # CPU seconds of one turn
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
LARGEST_MASK = 8192  # of n x n, beyond it the mask alone takes most of the time
PATTERNS = (
    "causal()",
    "block_local(128)",
    "window(128)",
    "window(256, True)",
    "strided(4)",
    "strided(4, 1)",
    "window(128) + global(64)",
    "window(128) + global(64) + random(3)",
    "dilated(2048, 4)",
    "dilated(512, 2)",
)
SIZES = tuple((n, n) for n in (8, 16, 32, 64, 128, 256, 512)) + tuple(
    (t, s) for t in (1, 2, 4, 8) for s in (128, 512, 2048)
)

Run = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One comparison.

    ms        median CPU milliseconds by candidate; "edgec" is the kernel
    ratio     time of each other candidate over the kernel's
    gflops    of the kernel, visited blocks counted in full (though of those that are seen in part
              some is left out)
    peak      GFLOP/s of the core in the same turns, None where it cannot be measured
    error     greatest difference to SDPA with the same mask
    """

    section: str
    name: str
    ms: Mapping[str, float]
    ratio: Mapping[str, float]
    gflops: float
    peak: float | None
    error: float

    def __str__(self) -> str:
        share = f" ({100 * self.gflops / self.peak:.0f} % of {self.peak:.0f})" if self.peak else ""
        others = "  ".join(f"{name} x{r:.2f}" for name, r in self.ratio.items())
        rate = f"{self.gflops:.0f} GFLOP/s{share}"
        return f"{self.section:9s}{self.name:38s}{self.ms['edgec']:9.3f} ms  {rate}  {others}"


class Bench:
    """Kernels of this machine, the peak, and how rows are measured."""

    def __init__(self, runs: int, flex: bool, seconds: float) -> None:
        self.runs, self.flex, self.seconds = runs, flex, seconds
        self.isa: InstructionSet = host_sets()[0]
        self.peak = Peak.of(self.isa)
        self._compiled: dict[Kernel, Compiled] = {}

    def kernel(self, kernel: Kernel) -> Compiled:
        if kernel not in self._compiled:
            self._compiled[kernel] = compile_here(kernel, self.isa)
        return self._compiled[kernel]

    def row(
        self, section: str, name: str, candidates: Mapping[str, Run], flops: float, error: float
    ) -> Row:
        peaks: list[float] = []
        calls = dict(candidates)
        if self.peak:
            peak = self.peak
            calls["peak"] = lambda: peaks.append(peak.fp32())
        ms = self.medians(calls)
        ms.pop("peak", None)
        ratio = {k: t / ms["edgec"] for k, t in ms.items() if k != "edgec"}
        rate = flops / ms["edgec"] / 1e6
        return Row(
            section, name, ms, ratio, rate, statistics.median(peaks) if peaks else None, error
        )

    def medians(self, calls: Mapping[str, Run]) -> dict[str, float]:
        """Milliseconds of this thread; one call of each in turn, at most `seconds` in all."""
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            call()
        started = time.thread_time()
        for i in range(self.runs):
            if i >= 3 and time.thread_time() - started > self.seconds:
                break
            for name, call in calls.items():
                taken[name].append(spent(call, LEAST_S, time.thread_time).cpu)
        return {name: statistics.median(t) for name, t in taken.items()}


# ------------------------------------------------------------------ operands
def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Run:
    return lambda: F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


def draw(*lengths: int, heads: int = HEADS, dim: int = DIM) -> tuple[Tensor, ...]:
    rng = np.random.default_rng(0)
    return tuple(
        torch.from_numpy(aligned(rng.standard_normal((1, heads, n, dim), dtype="f4")))
        for n in lengths
    )


def sizes_of(q: Tensor, k: Tensor, v: Tensor, o: Tensor, *more: int) -> tuple[float, ...]:
    counts = (1, q.shape[1], 1, q.shape[2], k.shape[2], q.shape[3] ** -0.5)
    return (*counts, *more, *(s for x in (q, k, v, o) for s in x.stride()[:3]))


def items_of(q: Tensor) -> int:
    return q.shape[1] * -(-q.shape[2] // BLOCK)


def sparse(
    bench: Bench, table: BlockTable, q: Tensor, k: Tensor, v: Tensor
) -> tuple[Run, Tensor, list[Any]]:
    """The kernel's call, its result, and its arguments."""
    o = torch.empty_like(q)
    arrays = [table.row_ptr, table.col_idx, table.tile_id, table.bias]
    arrays += [] if table.order is None else [table.order]
    kernel = SparseAttention(q.shape[3], v.shape[3], table.order is not None)
    arguments = [q, k, v, o, *map(aligned, arrays), *sizes_of(q, k, v, o, table.period)]
    return bench.kernel(kernel).bind(*arguments, items=items_of(q)), o, arguments


def sparse_row(
    bench: Bench,
    section: str,
    name: str,
    table: BlockTable,
    mask: Tensor | None,
    others: Mapping[str, Run],
    operands: tuple[Tensor, ...],
) -> Row:
    """`mask` for the comparison of results; None where it would be too large."""
    q, k, v = operands
    run, o, _ = sparse(bench, table, q, k, v)
    run()
    error = math_error(o, q, k, v, mask) if mask is not None else float("nan")
    flops = 4 * q.shape[3] * BLOCK**2 * table.blocks * q.shape[1] / table.period
    return bench.row(section, name, {"edgec": run, **others}, flops, error)


def math_error(o: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> float:
    want = F.scaled_dot_product_attention(q, k, v, mask)
    error = float((o - want).abs().max())
    assert error < 1e-5, error
    return error


# ------------------------------------------------------------------ sections
def window(bench: Bench, lengths: Iterable[int]) -> Iterator[Row]:
    for n in lengths:
        q, k, v = operands = draw(n, n, n)
        others: dict[str, Run] = {"sdpa": sdpa(q, k, v)}
        mask = band(n) if n <= LARGEST_MASK else None
        if mask is not None:
            others["sdpa mask"] = sdpa(q, k, v, mask)
        others["sdpa blocks"] = blocked(q, k, v)
        if bench.flex:
            others["flex"] = flex(q, k, v)
        if mask is not None:
            for name in set(others) - {"sdpa"}:
                math_error(others[name](), q, k, v, mask)  # type: ignore[arg-type]
        table = pattern_table(parse(f"window({RADIUS})"), n)
        yield sparse_row(bench, "window", f"n={n}", table, mask, others, operands)


def band(n: int) -> Tensor:
    i = torch.arange(n)
    return ((i[:, None] - i[None]).abs() <= RADIUS)[None, None]


def blocked(q: Tensor, k: Tensor, v: Tensor, size: int = 256) -> Run:
    """SDPA over blocks of queries, each against the keys that it may see."""
    n = q.shape[2]
    i = torch.arange(n)
    cuts = [
        (slice(a, min(a + size, n)), slice(max(a - RADIUS, 0), min(a + size + RADIUS, n)))
        for a in range(0, n, size)
    ]
    masks = [(i[a][:, None] - i[b][None]).abs() <= RADIUS for a, b in cuts]

    def run() -> Tensor:
        parts = [
            F.scaled_dot_product_attention(q[:, :, a], k[:, :, b], v[:, :, b], m)
            for (a, b), m in zip(cuts, masks, strict=True)
        ]
        return torch.cat(parts, 2)

    return run


def flex(q: Tensor, k: Tensor, v: Tensor) -> Run:
    """Compiled for this length; block size 128, which is its own."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    n = q.shape[2]
    mask = create_block_mask(
        lambda b, h, i, j: (i - j).abs() <= RADIUS, None, None, n, n, device="cpu", BLOCK_SIZE=128
    )
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(q, k, v, block_mask=mask)


def patterns(bench: Bench, n: int = 2048) -> Iterator[Row]:
    q, k, v = operands = draw(n, n, n)
    i = np.arange(n)
    for text in PATTERNS:
        pattern = parse(text)
        seen = [
            np.broadcast_to(pattern.visible(i[:, None], i[None], n, h), (n, n))
            for h in range(pattern.head_period)
        ]
        mask = torch.from_numpy(np.stack(seen))
        mask = mask.repeat(HEADS // len(seen), 1, 1)[None] if len(seen) > 1 else mask[None]
        others: dict[str, Run] = {
            "sdpa": sdpa(q, k, v),
            "sdpa mask": sdpa(q, k, v, mask),
        }
        if text == "causal()":
            others["sdpa is_causal"] = sdpa(q, k, v, causal=True)
        if is_ordered(pattern):
            unordered = pattern_table(pattern, n, ordered=False)
            others["edgec, no order"] = sparse(bench, unordered, q, k, v)[0]
        table = pattern_table(pattern, n)
        yield sparse_row(bench, "patterns", text, table, mask, others, operands)


def random(bench: Bench, n: int = 2048) -> Iterator[Row]:
    q, k, v = operands = draw(n, n, n)
    others = {"sdpa": sdpa(q, k, v)}
    rng = np.random.default_rng(0)
    for density in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        blocks = rng.random((n // BLOCK,) * 2) < density
        np.fill_diagonal(blocks, True)
        seen = blocks.repeat(BLOCK, 0).repeat(BLOCK, 1)[None]
        name = f"{blocks.mean():.2f} of the blocks"
        mask = torch.from_numpy(seen)[None]
        yield sparse_row(bench, "random", name, mask_table(seen), mask, others, operands)


def dense(bench: Bench) -> Iterator[Row]:
    for dim in (32, 64):
        for queries, keys in SIZES:
            for causal in (False, True) if queries == keys else (False,):
                yield dense_row(bench, queries, keys, dim, causal)
    yield padding(bench)


def dense_row(bench: Bench, queries: int, keys: int, dim: int, causal: bool) -> Row:
    q, k, v = draw(queries, keys, keys, dim=dim)
    o, few = torch.empty_like(q), queries <= 4
    kernel = DecodeAttention(dim, dim) if few else DenseAttention(dim, dim, causal)
    items = HEADS if few else items_of(q)
    run = bench.kernel(kernel).bind(q, k, v, o, *sizes_of(q, k, v, o), items=items)
    run()
    other = sdpa(q, k, v, causal=causal)
    error = float((o - other()).abs().max())  # type: ignore[operator]
    name = f"{kernel.family}{' causal' * causal} D={dim} {queries}x{keys}"
    pairs = queries * (queries + 1) / 2 if causal else queries * keys
    return bench.row("dense", name, {"edgec": run, "sdpa": other}, 4 * dim * HEADS * pairs, error)


def padding(bench: Bench, n: int = 2048) -> Row:
    """A mask that hides the second half of the keys, as of a padded batch."""
    q, k, v = draw(n, n, n)
    mask = (torch.arange(n) < n // 2)[None, None, None]
    o = torch.empty_like(q)
    kernel = DenseAttention(DIM, DIM, mask="bool")
    arguments = (q, k, v, o, mask, *sizes_of(q, k, v, o), 0, 0, 0, 1)
    run = bench.kernel(kernel).bind(*arguments, items=items_of(q))
    run()
    error = math_error(o, q, k, v, mask)
    others = {"sdpa mask": sdpa(q, k, v, mask)}
    flops = 4 * DIM * HEADS * n * (n // 2)
    return bench.row("dense", f"padding, half of {n} keys", {"edgec": run, **others}, flops, error)


# ------------------------------------------------------------------ threads
@dataclass(frozen=True)
class Threads:
    """Two threads, half of the items each, against one.

    wall   one thread's wall time over the two threads'; below 2 where others use the cores
    cpu    one thread's CPU time over that of the slower half: what is left of 2 by the work itself
    """

    n: int
    wall: float
    cpu: float


def threads(bench: Bench, n: int = 2048) -> Threads:
    q, k, v = draw(n, n, n)
    table = pattern_table(parse(f"window({RADIUS})"), n)
    _, _, arguments = sparse(bench, table, q, k, v)
    one = bench.kernel(SparseAttention(DIM, DIM))
    two = Compiled(one.kernel, one._function, bench.isa)  # with a workspace of its own
    items = items_of(q)
    whole = one.bind(*arguments, items=items)
    halves = [
        c.bind(*arguments, begin=b, items=e)
        for c, b, e in ((one, 0, items // 2), (two, items // 2, items))
    ]
    walls, cpus = [], []
    repeats = 5  # in one thread, whose start would count
    for _ in range(bench.runs):
        single = timed([whole], repeats)
        double = timed(halves, repeats)
        walls.append(single[0] / double[0])
        cpus.append(single[1] / double[1])
    return Threads(n, max(walls), statistics.median(cpus))


def timed(calls: list[Run], repeats: int) -> tuple[float, float]:
    """Wall seconds until all threads are done, and CPU seconds of the slowest."""
    by_thread: list[float] = []
    barrier = threading.Barrier(len(calls) + 1)

    def work(call: Run) -> None:
        call()
        barrier.wait()
        before = time.thread_time()
        for _ in range(repeats):
            call()
        by_thread.append(time.thread_time() - before)

    workers = [threading.Thread(target=work, args=(c,)) for c in calls]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - started, max(by_thread)


SECTIONS = ("window", "patterns", "random", "dense", "threads")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--no-flex", action="store_true")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10, help="CPU seconds of one row")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    bench = Bench(args.runs, not args.no_flex, args.seconds)
    found: list[Row | Threads] = []
    makers: dict[str, Callable[[], Iterable[Row | Threads]]] = {
        "window": lambda: window(bench, args.lengths),
        "patterns": lambda: patterns(bench),
        "random": lambda: random(bench),
        "dense": lambda: dense(bench),
        "threads": lambda: [threads(bench)],
    }
    for section in args.sections:
        for row in makers[section]():
            print(row, flush=True)
            found.append(row)
    if args.out:
        machine = {**host(), "instructions": bench.isa.name, "torch": torch.__version__}
        rows = [asdict(row) for row in found]
        args.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
