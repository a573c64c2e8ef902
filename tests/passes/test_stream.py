"""Calibration data through a graph: what a pass sees, and what it must not be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from edgec.context import NOTHING, Calibration, Context
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Constant, Dense
from edgec.ir.program import Program
from edgec.passes.stream import visits
from edgec.transform import Pass, PassResult, Pipeline
from tests.programs import classifier


def test_every_node_sees_its_operands_in_every_call() -> None:
    program = classifier()
    calls = [[torch.randn(2, 64)], [torch.randn(5, 64)]]
    seen = {}
    for visit in visits(program, "main", calls):
        seen[visit.node.outputs[0].name] = visit.operands
        for operands in visit.operands:
            for name, tensor in zip(visit.node.inputs, operands, strict=True):
                assert (name is None) == (tensor is None)
    assert len(seen) == len(program.main.nodes)
    first = seen[program.main.nodes[0].outputs[0].name]
    assert [o[0] is c[0] for o, c in zip(first, calls, strict=True)] == [True, True]


def test_what_follows_is_computed_with_replaced_constants() -> None:
    program = classifier()
    x = torch.randn(3, 64)
    flowing = None
    for visit in visits(program, "main", [[x]]):
        for ref in visit.node.operands:
            if ref.startswith("@"):
                value = program.constants[ref[1:]].encoding.decode()
                program.constants[ref[1:]] = Constant(ref[1:], Dense(value * 0.5))
        flowing = visit.operands[0][0]
    made: list[torch.Tensor] = [x]
    Interpreter(program).run([x], trace=lambda node, results: made.append(results[0]))
    assert flowing is not None and torch.equal(flowing, made[-2])


@dataclass(frozen=True)
class Look(Pass):
    name: ClassVar[str] = "look"
    needs_calibration: ClassVar[bool] = True

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        return PassResult(program, False, (f"{len(context.calibration['main'])} calls",))


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "no data; need inputs"),
        ({"main": []}, "no data"),
        ({"mian": [[torch.zeros(1, 64)]]}, "function mian, need one of main"),
        ({"main": [[torch.zeros(1, 63)]]}, "main, call 0: .*63"),
        ({"main": [[torch.zeros(1, 64, dtype=torch.int64)]]}, "call 0: .*int64, need f32"),
        ({"main": [[torch.zeros(1, 64)], []]}, "call 1: .*0 inputs"),
        ({"main": [[torch.full((1, 64), torch.nan)]]}, "call 0: x has NaN or infinite values"),
    ],
)
def test_data_that_cannot_calibrate(calibration: Calibration | None, message: str) -> None:
    with pytest.raises(PassError, match=message):
        Pipeline((Look(),)).run(classifier(), calibration=calibration)


def test_a_pass_gets_the_data() -> None:
    calls = [[torch.zeros(1, 64)], [torch.ones(2, 64)]]
    _, records = Pipeline((Look(),)).run(classifier(), calibration={"main": calls})
    assert records[0].notes == ("2 calls",)
