"""What LLVM makes of the innermost loop of linear: sums in registers, none of them in memory.

It keeps them there or not as if by chance, after changes far from the loop, for half of the speed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec.kernels.building import build_objects
from edgec.kernels.instruction_sets import INSTRUCTION_SETS
from edgec.kernels.linear import Linear
from edgec.kernels.steps import Epilogue, Step
from edgec.ops.activations import Gelu, Silu
from edgec.ops.elementwise import Add

ADDED = Epilogue(("full",), (Step(Add(), (0, 1), "float32"),))
KERNELS = {
    "plain": Linear(),
    "without bias": Linear(bias=False),
    "gelu": Linear(epilogue=Epilogue((), (Step(Gelu(), (0,), "float32"),))),
    "silu": Linear(epilogue=Epilogue((), (Step(Silu(), (0,), "float32"),))),
    "residual": Linear(epilogue=ADDED),
}
LINE = re.compile(r"\s*([0-9a-f]+):\t(\S+)\s*(.*)")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str


def disassembled(path: Path) -> list[Instruction]:
    command = ["objdump", "-d", "--no-show-raw-insn", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = (LINE.match(line) for line in text.splitlines())
    return [Instruction(int(m[1], 16), m[2], m[3]) for m in found if m]


def loop_around(code: list[Instruction], at: int) -> list[Instruction]:
    """The instructions from the target of the next backward jump to that jump."""
    for i in range(at, len(code)):
        if not code[i].name.startswith("j"):
            continue
        target = int(code[i].operands.split()[0], 16)
        if target <= code[at].address:
            return [c for c in code if target <= c.address <= code[i].address]
    raise AssertionError("no loop")


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump; install binutils")
@pytest.mark.parametrize("isa", ["x86_64_avx512", "x86_64_avx2"])
def test_the_innermost_loop_keeps_its_sums_in_registers(isa: str) -> None:
    objects = build_objects(list(KERNELS.values()), INSTRUCTION_SETS[isa])
    for name, kernel in KERNELS.items():
        code = disassembled(objects[kernel])
        fetches = [i for i, c in enumerate(code) if c.name.startswith("prefetch")]
        assert fetches, name
        for at in fetches:
            loop = loop_around(code, at)
            products = [c for c in loop if c.name.startswith("vfmadd")]
            moves = [c for c in loop if c.name == "vmovaps" or "rsp" in c.operands]
            assert len(products) >= 24 and not moves, (name, len(products), moves)
