"""Chains of elementwise nodes, longer than one kernel takes in and than Python may recurse."""

from __future__ import annotations

from pathlib import Path

import torch

from edgec.interpreter import Interpreter
from edgec.ir import Builder, DType, Program, TensorType
from edgec.targets.native import Native
from edgec.targets.native.lower import lower_function
from edgec.targets.native.lower_elementwise import LONGEST_CHAIN
from edgec.targets.native.statements import calls
from edgec.targets.native.weights import Weights

LENGTH = 5 * LONGEST_CHAIN
X = TensorType(DType.F32, (3, 40))


def chained(product: bool) -> Program:
    """-sigmoid(-sigmoid(...)) of x, or of a product with x."""
    b = Builder.new("main", [("x", X)])
    y = b.input("x")
    if product:
        torch.manual_seed(0)
        y = b.linear(y, b.constant(torch.randn(40, 40)))
    for i in range(LENGTH):
        y = b.neg(y) if i % 2 else b.sigmoid(y)
    graph = b.finish([y])
    return Program({"main": graph}, graph.constants)


def test_long_chains_are_cut_into_kernels() -> None:
    for product in (False, True):
        program = chained(product)
        lowered = lower_function(program.main, Weights(program.constants), [])
        assert len(list(calls(lowered.statements))) == LENGTH // LONGEST_CHAIN


def test_long_chains_compute_what_they_should(tmp_path: Path) -> None:
    for product in (False, True):
        folder = tmp_path / str(product)
        folder.mkdir()
        program, x = chained(product), torch.randn(3, 40)
        Native().emit(Native().legalize(program), folder)
        (got,) = Native.load(folder).run("main", [x])
        torch.testing.assert_close(got, *Interpreter(program).run([x]))
