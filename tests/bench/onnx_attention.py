"""CPU time of attention under patterns in onnxruntime, against dense attention and a dense mask.

    python -m tests.bench.onnx_attention [--lengths 2048 4096] [--patterns "window(256)" ...]

One layer's attention of 8 heads of 64, one thread, a graph for any length. `dense` sees all keys,
`masked` computes all pairs and hides what the pattern hides by a mask that is given, `ours` is the
blocked form. Least CPU milliseconds of several runs in turns; the error is against dense attention
under the mask in torch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from edgec.ir import Builder, Program, Range, TensorType
from edgec.ops.attention import Attention
from edgec.target import Executable
from edgec.targets.onnx import Onnx

HEADS, WIDTH, TURNS = 8, 64, 7
PATTERNS = (
    "window(256)",
    "window(256, causal=True)",
    "window(64)",
    "window(256) + global(1)",
    "window(96) + global(64) + random(3, 64, 7)",
    "block_local(128)",
    "strided(4)",
    "dilated(512, 4)",
)


def program(pattern: str = "", mask: bool = False) -> Program:
    """One attention over any number of tokens."""
    tokens = TensorType.parse(f"f32[1, {HEADS}, n, {WIDTH}]")
    inputs = [(name, tokens) for name in "qkv"]
    inputs += [("mask", TensorType.parse("bool[1, 1, n, n]"))] if mask else []
    b = Builder.new("main", inputs, {}, {"n": Range(1, 16384)})
    y = b.emit(Attention(pattern=pattern), *(b.input(name) for name, _ in inputs))
    return Program({"main": b.finish([y])}, b.graph.constants)


def executable(made: Program, folder: Path) -> Executable:
    target = Onnx()
    target.emit(target.legalize(made), folder)
    return target.load(folder)


def cpu_ms(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return 1000 * (time.process_time() - start)


def measured(pattern: str, length: int, dense: Executable, masked: Executable) -> list[float]:
    """[dense, masked, ours] in milliseconds, and the error of ours."""
    op = Attention(pattern=pattern)
    q, k, v = torch.randn(3, 1, HEADS, length, WIDTH).unbind()
    visible = op.visible(length, 1)[None]
    with tempfile.TemporaryDirectory() as folder:
        ours = executable(program(pattern), Path(folder))
        runs: Sequence[tuple[Executable, list[Tensor]]] = (
            (dense, [q, k, v]),
            (masked, [q, k, v, visible]),
            (ours, [q, k, v]),
        )
        (y,) = ours.run("main", [q, k, v])
        times = [[cpu_ms(partial(e.run, "main", x)) for e, x in runs] for _ in range(TURNS)]
    error = float((y - op.evaluate(q, k, v)).abs().max())
    return [*(min(column) for column in zip(*times, strict=True)), error]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--patterns", nargs="+", default=PATTERNS)
    given = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        dense, masked = executable(program(), Path(one)), executable(program("", True), Path(two))
        print("| pattern | n | dense, ms | masked, ms | ours, ms | of dense | error |")
        print("|---|---|---|---|---|---|---|")
        for pattern in given.patterns:
            for length in given.lengths:
                a, b, c, error = measured(pattern, length, dense, masked)
                row = (pattern, length, *(f"{t:.0f}" for t in (a, b, c)), f"{c / a:.2f}")
                print(f"| {' | '.join(map(str, row))} | {error:.0e} |")


if __name__ == "__main__":
    main()
