"""The pipeline: it checks every pass, names the guilty one, and records what each did."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import edgec.ops
from edgec.context import NOTHING
from edgec.errors import PassError, ValidationError
from edgec.ir import OPS, Builder, Constant, Dense, DType, Program, Range, TensorType, symbol
from edgec.transform import Pass, PassResult, Pipeline, differs

assert edgec.ops  # registers the ops


def make_program() -> Program:
    rows = TensorType(DType.F32, (symbol("batch"), 4))
    b = Builder.new("main", [("x", rows)], {}, {"batch": Range(1, 8)})
    w = b.constant(torch.arange(16.0).view(4, 4), "w")
    b.constant(torch.arange(100.0), "unused")
    graph = b.finish([b.relu(b.linear(b.input("x"), w, None))], ["y"])
    return Program({"main": graph}, graph.constants, {"task": "none"}).verify()


@dataclass(frozen=True)
class Scale(Pass):
    """Multiplies @w."""

    name: ClassVar[str] = "scale"
    factor: float = 2.0

    def requires(self, program):
        if self.factor == 0:
            raise PassError("scale", "factor=0.0", "another factor", "leave the pass out")

    def apply(self, program, context=NOTHING):
        after = program.copy()
        w = after.constants["w"].encoding.decode() * self.factor
        after.constants["w"] = Constant("w", Dense(w))
        changed = self.factor != 1
        return PassResult(after, changed, ("a note",), {"w": abs(self.factor - 1)})

    def ensures(self, before, after):
        if self.factor < 0:
            raise PassError("scale", f"factor={self.factor}", "weights of the same sign")


@dataclass(frozen=True)
class Lie(Pass):
    """Says `claim` about modifying; `change` says what it really does."""

    name: ClassVar[str] = "lie"
    claim: bool = False
    change: str = ""

    def apply(self, program, context=NOTHING):
        after = program.copy()
        if self.change == "node":
            node = after.main.nodes[1]
            after.main.nodes[1] = dataclasses.replace(node, op=OPS["silu"]())
        if self.change == "constant":
            after.constants["w"] = Constant("w", Dense(torch.zeros(4, 4)))
        if self.change == "same bits":
            copied = after.constants["w"].encoding.decode().clone()
            after.constants["w"] = Constant("w", Dense(copied))
        if self.change == "metadata":
            after.metadata["task"] = "classify"
        if self.change == "dims":
            after.main.dims["batch"] = Range(1, 4)
        if self.change == "drop":
            after = after.drop_unused_constants()
        if self.change == "broken":
            after.main.nodes.reverse()
        if self.change == "crash":
            raise RuntimeError("shapes do not match")
        return PassResult(after, self.claim)


CHANGES = ["node", "constant", "metadata", "dims", "drop"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_not_admitted_is_an_error(change):
    with pytest.raises(PassError, match="modified=False, but the program changed"):
        Pipeline((Lie(False, change),)).run(make_program())


@pytest.mark.parametrize("change", ["", "same bits"])
def test_a_claim_without_a_change_is_an_error(change):
    with pytest.raises(PassError, match="modified=True, but the program is the same"):
        Pipeline((Lie(True, change),)).run(make_program())


@pytest.mark.parametrize("change", [*CHANGES, "", "same bits"])
def test_honest_flags_pass(change):
    claim = change in CHANGES
    after, (record,) = Pipeline((Lie(claim, change),)).run(make_program())
    assert record.modified is claim is differs(make_program(), after)


def test_records_say_what_each_pass_did():
    program = make_program()
    after, records = Pipeline((Scale(3.0), Lie(True, "drop"))).run(program)
    scaled, dropped = records
    assert scaled.spec == "scale{factor=3.0}"
    assert (scaled.nodes_before, scaled.nodes_after) == (2, 2)
    assert (scaled.bytes_before, scaled.bytes_after) == (64, 64)
    assert scaled.errors == {"w": 2.0} and scaled.notes == ("a note",)
    assert scaled.seconds >= 0 and scaled.deviation is None
    assert dropped.spec == "lie{claim=True,change=drop}"
    assert torch.equal(after.constants["w"].encoding.decode(), torch.arange(16.0).view(4, 4) * 3)
    assert json.loads(json.dumps([r.to_json() for r in records]))[0]["spec"] == scaled.spec


def test_an_empty_pipeline_gives_the_program_back():
    program = make_program()
    after, records = Pipeline(()).run(program)
    assert after is program and records == []


def test_samples_name_the_pass_that_hurts():
    x = torch.eye(4)
    _, records = Pipeline((Scale(1.0), Scale(1.5), Lie(True, "drop"))).run(
        make_program(), {"main": [[x], [x[:1]]]}
    )
    same, hurt, later = (r.deviation for r in records)
    assert same is not None and hurt is not None
    assert (same.max_ratio, same.cosine) == (0.0, 1.0)
    assert hurt.max_ratio == pytest.approx(0.5)
    assert hurt.cosine == pytest.approx(1.0)
    assert later == hurt  # cumulative: from the original program


def test_outputs_that_cannot_be_compared_are_noted():
    @dataclass(frozen=True)
    class Rename(Pass):
        name: ClassVar[str] = "rename"

        def apply(self, program, context=NOTHING):
            b = Builder.new("main", [("z", TensorType(DType.F32, (2, 4)))], program.constants)
            graph = b.finish([b.relu(b.input("z"))], ["y"])
            return PassResult(Program({"main": graph}, graph.constants, program.metadata), True)

    _, (record,) = Pipeline((Rename(),)).run(make_program(), {"main": [[torch.eye(4)]]})
    assert record.deviation is None
    assert record.notes == ("main: outputs not compared, its inputs were changed",)


def test_infinite_outputs_are_an_infinite_deviation():
    _, (record,) = Pipeline((Scale(float("inf")),)).run(
        make_program(), {"main": [[torch.ones(1, 4)]]}
    )
    assert record.deviation is not None
    assert record.deviation.max_ratio == float("inf")


@pytest.mark.parametrize(
    ("guilty", "message"),
    [
        (Scale(0.0), r"\[scale\] got factor=0.0; need another factor; leave the pass out; passes"),
        (Scale(-1.0), r"need weights of the same sign; passes that ran before: scale"),
        (Lie(True, "broken"), r"\[lie\{claim=True,change=broken\}\] VerifyError .*not defined"),
    ],
)
def test_errors_name_the_pass_and_those_before(guilty, message):
    with pytest.raises(PassError, match=message) as caught:
        Pipeline((Scale(1.5), Scale(1.0), guilty)).run(make_program())
    assert "passes that ran before: scale{factor=1.5}, scale{factor=1.0}" in str(caught.value)


def test_a_bug_in_a_pass_keeps_its_traceback_and_says_where():
    with pytest.raises(RuntimeError, match="shapes do not match") as caught:
        Pipeline((Scale(), Lie(False, "crash"))).run(make_program())
    assert caught.value.__notes__ == ["in pass lie{change=crash}; passes that ran before: scale"]


def test_samples_for_unknown_functions_and_of_wrong_shape_are_errors():
    with pytest.raises(PassError, match="samples for step; need functions of the program: main"):
        Pipeline(()).run(make_program(), {"step": []})
    with pytest.raises(ValidationError, match="need f32"):
        Pipeline(()).run(make_program(), {"main": [[torch.ones(2, 5)]]})


def test_progress_is_told_before_each_pass_and_at_the_end():
    seen: list[tuple[int, int, str]] = []
    passes = (Scale(1.5), Scale(1.0))
    Pipeline(passes).run(make_program(), progress=lambda *told: seen.append(told))
    assert seen == [(0, 2, "scale{factor=1.5}"), (1, 2, "scale{factor=1.0}"), (2, 2, "")]


@pytest.mark.parametrize("filler", [-1e9, torch.finfo(torch.float32).min])
def test_a_mask_in_an_output_does_not_hide_what_a_pass_does(filler):
    kind = TensorType(DType.F32, (2,))
    b = Builder.new("main", [("x", kind)])
    w = b.constant(torch.tensor([1.0, 2.0]), "w")
    shown = b.mul(b.input("x"), w)
    graph = b.finish([b.concat(shown, b.constant(torch.tensor([filler]), "mask"), axis=0)], ["y"])
    program = Program({"main": graph}, graph.constants).verify()
    _, (record,) = Pipeline((Scale(1.5),)).run(program, {"main": [[torch.ones(2)]]})
    assert record.deviation is not None
    assert record.deviation.max_ratio == pytest.approx(0.5)
    assert record.deviation.cosine == pytest.approx(1.0)
