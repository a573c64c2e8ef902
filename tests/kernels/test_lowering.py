"""What TVM's passes may not do to kernels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from edgec.kernels import InstructionSet, Kernel, Pointer
from edgec.kernels.calling import aligned, compile_here, host_sets

pytest.importorskip("tvm")


@dataclass(frozen=True)
class Chain(Kernel):
    """y = sigmoid(sigmoid(.. x ..)), whose steps use each other's results many times."""

    length: int
    family: ClassVar[str] = "chain"

    def parameters(self) -> tuple[Pointer, ...]:
        return (Pointer("x"), Pointer("y", output=True))

    def emit(self, body: Any, isa: InstructionSet) -> None:
        from edgec.kernels import scalars

        x, y = body.buffer("x"), body.buffer("y")
        with body.items() as i, body.vector(isa.lanes) as lane:
            value = x[i * isa.lanes + lane]
            for _ in range(self.length):
                value = scalars.sigmoid(value)
            body.store(y, value, i * isa.lanes + lane)


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
def test_the_time_to_build_a_chain_grows_with_its_length(
    isa: InstructionSet, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain of two took 15 s where names were looked through, each more ten times as long."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path))
    compile_here(Chain(1), isa)
    start = time.process_time()
    kernel = compile_here(Chain(8), isa)
    assert time.process_time() - start < 5
    x = aligned(np.linspace(-9, 9, 16).astype("f4"))
    y = aligned(np.zeros_like(x))
    kernel(x, y, items=16 // isa.lanes)
    want = x.astype("f8")
    for _ in range(8):
        want = 1 / (1 + np.exp(-want))
    np.testing.assert_allclose(y, want, rtol=1e-6)
