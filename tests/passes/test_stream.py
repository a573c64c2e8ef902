"""Calibration data through a graph: what a pass sees, and what it must not be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import edgec
from edgec.context import NOTHING, Calibration, Context
from edgec.errors import PassError
from edgec.interpreter import Interpreter, flatten
from edgec.ir import Constant, Dense
from edgec.ir.program import Program
from edgec.passes import parse_pipeline
from edgec.passes.stream import _Flow, _OperandsAt, visits
from edgec.transform import Pass, PassResult, Pipeline
from tests.architectures import ZOO
from tests.programs import classifier


def test_every_node_sees_its_operands_in_every_call() -> None:
    program = classifier()
    calls = [[torch.randn(2, 64)], [torch.randn(5, 64)]]
    seen = {}
    for visit in visits(program, "main", calls):
        seen[visit.node.outputs[0].name] = list(visit.operands)
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


def test_what_is_computed_again_knows_what_was_replaced() -> None:
    """Constants replaced at the first node that reads them: the same however much is held."""
    shared = torch.nn.Linear(64, 64)
    layers = torch.nn.Linear(8, 64), torch.nn.ReLU(), shared, shared, torch.nn.Linear(64, 8)
    program = edgec.capture(torch.nn.Sequential(*layers), (torch.zeros(16, 8),))
    generator = torch.Generator().manual_seed(0)
    calls = [[torch.randn(16, 8, generator=generator)] for _ in range(2)]
    programs = program.copy(), program.copy()
    flows = [
        visits(p, "main", calls, held_bytes=n) for p, n in zip(programs, (2**40, 0), strict=True)
    ]
    replaced: set[str] = set()
    for here, there in zip(*flows, strict=True):
        assert all(map(_same, here.operands[1], there.operands[1]))
        new = {r[1:] for r in here.node.operands if r[0] == "@"} - replaced
        for changed in (n for n in new if program.constants[n].type.dtype.is_float):
            value = program.constants[changed].encoding.decode() * 1.25
            for p in programs:
                p.constants[changed] = Constant(changed, Dense(value))
        replaced |= new
    assert replaced


def _same(x: torch.Tensor | None, y: torch.Tensor | None) -> bool:
    return x is y or (x is not None and y is not None and torch.equal(x, y))


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
        ([[torch.zeros(1, 64)]], "got list; need calls by function"),
        (torch.zeros(2, 64), "got Tensor; need calls by function"),
        ({"main": None}, "main: NoneType; need calls by function"),
        ({"main": torch.zeros(2, 64)}, "main: Tensor; need calls by function"),
        ({"main": [torch.zeros(1, 64)]}, "main, call 0: Tensor; need calls by function"),
        ({"main": [{"x": torch.zeros(1, 64)}]}, "main, call 0: dict; need calls by function"),
        ({"main": "data"}, "main: str; need calls by function"),
        ({"main": [[None]]}, "call 0: .*inputs of kind NoneType; need tensors"),
        ({"main": [["x"]]}, "call 0: .*inputs of kind str; need tensors"),
        ({"main": [[torch.zeros(1, 64, device="meta")]]}, "x is on the device meta"),
    ],
)
def test_data_that_cannot_calibrate(calibration: Calibration | None, message: str) -> None:
    with pytest.raises(PassError, match=message):
        Pipeline((Look(),)).run(classifier(), calibration=calibration)


def test_data_are_checked_for_passes_that_can_do_without() -> None:
    wrong = {"main": [[torch.full((1, 64), torch.nan)]]}
    with pytest.raises(PassError, match="call 0: x has NaN"):
        parse_pipeline(["palettize-weights"]).run(classifier(), calibration=wrong)


class Words(torch.nn.Module):
    """A table read at ids, or one place later."""

    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset
        self.table, self.layer = torch.nn.Embedding(32, 16), torch.nn.Linear(16, 16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(self.table(ids + self.offset if self.offset else ids))
        return made


@pytest.mark.parametrize("wrong", [32, -1])
def test_ids_that_a_table_does_not_have(wrong: int) -> None:
    program = edgec.capture(Words(0), (torch.zeros(4, dtype=torch.int64),))
    calls = [[torch.tensor([0, 1, 2, i])] for i in (3, wrong)]
    with pytest.raises(PassError, match=r"call 1: .*need 0 to 31: a table is read there"):
        parse_pipeline(["gptq"]).run(program, calibration={"main": calls})


def test_computed_ids_that_a_table_does_not_have() -> None:
    """The call that fails is named; those behind it are not left out in silence."""
    program = edgec.capture(Words(1), (torch.zeros(4, dtype=torch.int64),))
    calls = [[torch.tensor([0, 1, 2, i])] for i in (3, 31, 4)]
    with pytest.raises(PassError, match=r"main, call 1.*gather cannot compute with"):
        parse_pipeline(["gptq"]).run(program, calibration={"main": calls})


def test_data_from_generators() -> None:
    calls = (iter([torch.zeros(1, 64)]) for _ in range(3))
    _, records = Pipeline((Look(),)).run(classifier(), calibration={"main": calls})
    assert records[0].notes == ("3 calls",)


def test_a_pass_gets_the_data() -> None:
    calls = [[torch.zeros(1, 64)], [torch.ones(2, 64)]]
    _, records = Pipeline((Look(),)).run(classifier(), calibration={"main": calls})
    assert records[0].notes == ("2 calls",)


@pytest.mark.parametrize("name", ["gpt2_step", "mobilenet_v2"])
def test_what_is_not_held_is_computed_again(name: str) -> None:
    """With no activations held beyond the least, every node still sees the same operands."""
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    flat = [torch.as_tensor(t) for t in flatten(program.main, inputs)]
    calls = [flat, flat]
    all_held, none_held = (visits(program, "main", calls, held_bytes=n) for n in (2**40, 0))
    for here, there in zip(all_held, none_held, strict=True):
        for ours, others in zip(here.operands, there.operands, strict=True):
            for x, y in zip(ours, others, strict=True):
                assert x is y or (x is not None and y is not None and torch.equal(x, y))


def test_only_little_is_held() -> None:
    """A wide layer's activations are never there for all calls; those of narrow values are."""
    wide = torch.nn.Sequential(
        torch.nn.Linear(8, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8), torch.nn.Linear(8, 8)
    )
    program = edgec.capture(wide, (torch.zeros(16, 8),))
    calls = [[torch.randn(16, 8)] for _ in range(50)]
    flow = _Flow(program, program.main, calls, held_bytes=2 * 50 * 16 * 8 * 4)
    held = []
    for i in range(len(program.main.nodes)):
        assert len(list(_OperandsAt(flow, i))) == 50
        held.append(sum(t.numel() * 4 for values in flow.values for t in values.values()))
        assert held[-1] == flow.live_bytes[flow.at]
    assert max(held) == 50 * 16 * 8 * 4
    assert flow.at == len(program.main.nodes) - 1


def test_a_node_is_not_seen_after_later_ones() -> None:
    found = [visit.operands for visit in visits(classifier(), "main", [[torch.randn(2, 64)]])]
    assert len(found[-1][0]) == len(classifier().main.nodes[-1].inputs)
    with pytest.raises(RuntimeError, match="looked at after a later one"):
        found[0][0]
