"""Convolution kernels against torch: the shapes of MobileNetV2, ResNet-50 and EfficientNet-B0.

    python -m tests.bench.conv [--sections stem depthwise ...] [--set x86_64_avx2] [--runs 9]
        [--out conv.json]

Sections:
    stem         few input channels: 3x3 and 7x7 at stride 2, 3x3 at stride 1, 224 x 224
    depthwise    3x3 and 5x5 at strides 1 and 2, planes from 112 to 7
    pointwise    1x1, planes from 112 to 7
    dense        3x3 at strides 1 and 2, planes from 56 to 7

Batch 1, f32, with bias, no activation. CPU time of one thread, both sides in turns in one process,
medians of the times and of the ratios of turns. torch is held to the same instruction set, and gets
its results from memory that it has used before: pages that the system has to clear would cost it
more than the convolution of a stem. Compare ratios: on a busy machine all times grow.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edgec.kernels.calling import Callable as Compiled
from edgec.kernels.calling import aligned, compile_here, host_sets
from tests.bench.turns import spent

#: Names of instruction sets as oneDNN and torch have them.
TORCHS = {"x86_64_avx512": ("AVX512_CORE_BF16", "avx512"), "x86_64_avx2": ("AVX2", "avx2")}
LEAST_S = 0.002  # CPU seconds of one turn
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt

Run = Callable[[], object]


@dataclass(frozen=True)
class Shape:
    """A square convolution, padded to keep ceil(plane / stride) places."""

    section: str
    c: int
    n: int
    plane: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def places(self) -> int:
        """Places of the output along one axis."""
        return (self.plane + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        return 2 * self.places**2 * self.n * self.c // self.groups * self.kernel**2

    def __str__(self) -> str:
        k, s = self.kernel, self.stride
        return f"{k}x{k}/{s} {self.c}->{self.n} at {self.plane}"


def _depthwise(c: int, plane: int, kernel: int, stride: int = 1) -> Shape:
    return Shape("depthwise", c, c, plane, kernel, stride, c)


SHAPES = (
    Shape("stem", 3, 32, 224, 3, 2),
    Shape("stem", 3, 64, 224, 7, 2),
    Shape("stem", 3, 32, 224, 3),
    Shape("stem", 3, 64, 224, 3),
    _depthwise(32, 112, 3),
    _depthwise(96, 112, 3, 2),
    _depthwise(144, 56, 3),
    _depthwise(144, 56, 3, 2),
    _depthwise(144, 56, 5, 2),
    _depthwise(192, 28, 3),
    _depthwise(192, 28, 3, 2),
    _depthwise(240, 28, 5),
    _depthwise(240, 28, 3, 2),
    _depthwise(384, 14, 3),
    _depthwise(576, 14, 3),
    _depthwise(576, 14, 3, 2),
    _depthwise(480, 14, 5),
    _depthwise(672, 14, 5, 2),
    _depthwise(960, 7, 3),
    _depthwise(1152, 7, 5),
    Shape("pointwise", 32, 16, 112, 1),
    Shape("pointwise", 16, 96, 112, 1),
    Shape("pointwise", 24, 144, 56, 1),
    Shape("pointwise", 256, 64, 56, 1),
    Shape("pointwise", 192, 32, 28, 1),
    Shape("pointwise", 256, 512, 56, 1, 2),
    Shape("pointwise", 384, 64, 14, 1),
    Shape("pointwise", 1024, 256, 14, 1),
    Shape("pointwise", 960, 320, 7, 1),
    Shape("pointwise", 512, 2048, 7, 1),
    Shape("dense", 64, 64, 56, 3),
    Shape("dense", 128, 128, 56, 3, 2),
    Shape("dense", 128, 128, 28, 3),
    Shape("dense", 256, 256, 14, 3),
    Shape("dense", 512, 512, 14, 3, 2),
    Shape("dense", 512, 512, 7, 3),
)


@dataclass(frozen=True)
class Row:
    """One comparison.

    ratio     time of torch over the kernel's, the median over turns
    ms        median CPU milliseconds by candidate; "edgec" is the kernel
    gflops    of the kernel
    peak      GFLOP/s of the core in the same turns, None where it cannot be measured
    """

    ratio: float
    name: str
    section: str
    ms: dict[str, float]
    gflops: float
    peak: float | None

    def __str__(self) -> str:
        share = f" ({100 * self.gflops / self.peak:.0f} % of {self.peak:.0f})" if self.peak else ""
        times = "  ".join(f"{name} {ms:.3f} ms" for name, ms in self.ms.items())
        return f"x{self.ratio:5.2f}  {self.name:28s}{times}  {self.gflops:.0f} GFLOP/s{share}"


def candidates(shape: Shape, name: str) -> tuple[Run, Run]:
    """The kernel and torch, which give the same."""
    import torch
    import torch.nn.functional as F

    from edgec.ir import Dense
    from edgec.kernels.panel_packing import pack

    x = torch.randn(1, shape.c, shape.plane, shape.plane)
    w = torch.randn(shape.n, shape.c // shape.groups, shape.kernel, shape.kernel)
    bias, y = torch.randn(shape.n), torch.empty(1, shape.n, shape.places, shape.places)
    compiled = kernel_of(shape, name)
    spec, arrays = pack(Dense(w))
    packed = [aligned(arrays[p.name]) for p in spec.pointers()]
    sides = {"batch": 1, "c": shape.c, "n": shape.n, "xd": 1, "od": 1}
    sides |= dict.fromkeys(("xh", "xw"), shape.plane) | dict.fromkeys(("oh", "ow"), shape.places)
    sizes = {p.name: sides[p.name] for p in compiled.kernel.parameters() if p.name in sides}
    items = compiled.kernel.items(sizes)
    assert isinstance(items, int)
    ours = compiled.bind(x, *packed, bias, y, *sizes.values(), items=items)

    def theirs() -> torch.Tensor:
        return F.conv2d(x, w, bias, shape.stride, shape.padding, 1, shape.groups)

    ours()
    error = float((y - theirs()).abs().max() / y.abs().max())
    assert error < 1e-5, (shape, error)
    return ours, theirs


def kernel_of(shape: Shape, name: str) -> Compiled:
    from edgec.kernels.conv import Conv
    from edgec.kernels.depthwise import Depthwise
    from edgec.kernels.patches import Windows

    k, s, p = shape.kernel, shape.stride, shape.padding
    windows = Windows((1, k, k), (1, s, s), (0, p, p))
    kernel = Depthwise(windows) if shape.groups > 1 else Conv(windows)
    isa = next(i for i in host_sets() if i.name == name)
    return compile_here(kernel, isa)


def rows(sections: list[str], name: str, runs: int) -> Iterator[Row]:
    from tests.bench.peak import Peak

    peak = Peak.of(next(i for i in host_sets() if i.name == name))
    for shape in SHAPES:
        if shape.section not in sections:
            continue
        ours, theirs = candidates(shape, name)
        turns, peaks = [], []
        for turn in range(runs):
            order = (ours, theirs) if turn % 2 else (theirs, ours)
            taken = {run: spent(run, LEAST_S, time.thread_time).cpu for run in order}
            turns.append((taken[ours], taken[theirs]))
            peaks += [peak.fp32()] if peak else []
        ratio = statistics.median(b / a for a, b in turns)
        edgec, torchs = (statistics.median(t) for t in zip(*turns, strict=True))
        top = statistics.median(peaks) if peaks else None
        ms = {"edgec": edgec, "torch": torchs}
        yield Row(ratio, str(shape), shape.section, ms, shape.flops / edgec / 1e6, top)


def keep_memory() -> None:
    """Have malloc keep what is freed, however large."""
    library = ctypes.CDLL(None)
    done = library.mallopt(M_MMAP_MAX, 0), library.mallopt(M_TRIM_THRESHOLD, 1 << 30)
    assert all(done)


SECTIONS = tuple(dict.fromkeys(s.section for s in SHAPES))


def main() -> None:
    sets = [isa.name for isa in host_sets() if isa.name in TORCHS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--set", choices=sets, default=sets[0], help="of instructions, both sides")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    # before torch is imported, which reads them once
    os.environ["ONEDNN_MAX_CPU_ISA"], os.environ["ATEN_CPU_CAPABILITY"] = TORCHS[args.set]
    import torch

    from edgec.measure import host

    keep_memory()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    found = []
    for row in rows(args.sections, args.set, args.runs):
        print(row, flush=True)
        found.append(asdict(row))
    if args.out:
        machine = {**host(), "instructions": args.set, "torch": torch.__version__}
        args.out.write_text(json.dumps({"machine": machine, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
