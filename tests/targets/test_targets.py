"""The table of targets, their options, signatures, and legalization by decomposing ops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

import edgec.ops  # noqa: F401 - registers the op set
from edgec.errors import FormatError, UnsupportedError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, Encoding, Op, Program, Range, State, TensorType
from edgec.target import NATIVE, Signature, Support, Verdict, legalized
from edgec.targets import TARGETS, get_target, target_class


# ------------------------------------------------------------------ options
def test_targets_by_name_and_text() -> None:
    for name in TARGETS:
        assert target_class(name).name == name
        assert get_target(str(get_target(name))) == get_target(name)
    assert str(get_target("onnx")) == "onnx"
    target = get_target("onnx{opset=23}", {"weights": "packed"})
    assert target.to_json()["options"]["weights"] == "packed"
    assert str(target) == "onnx{opset=23,weights='packed'}"
    assert get_target(str(target)) == target


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("onxx", {}, "[targets] got 'onxx'; need one of native, onnx; did you mean onnx?"),
        ("onnx{", {}, "[targets] got 'onnx{'; need name{option=value,...}"),
        ("onnx", {"opst": 21}, "unknown opst (known: opset, weights, accuracy_level)"),
        ("onnx{opst=21}", {}, "did you mean opset?"),
        ("onnx", {"opset": "new"}, "opset='new', need int"),
        ("onnx", {"weights": "small"}, "weights='small', need auto or packed or dense"),
        ("onnx", {"opset": 7}, "[onnx] got opset=7; need 21 <= opset <= 26"),
        ("onnx", {"accuracy_level": 3}, "accuracy_level=3, need 1 or 4"),
        ("onnx{accuracy_level=4}", {"weights": "dense"}, "need packed weights"),
        ("onnx{opset=21}", {"opset": 22}, "opset"),
    ],
)
def test_wrong_targets_and_options(spec: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        get_target(spec, options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ signatures
def test_signature_round_trip() -> None:
    b = Builder.new(
        "step",
        [("past", TensorType.parse("f32[batch, past]")), ("x", TensorType.parse("i64[]"))],
        {},
        {"batch": Range(1, 4), "past": Range(0, 9)},
    )
    graph = b.finish([b.concat("past", "past", axis=1)], ["present"])
    graph.states = (State("past", "present"),)
    signature = Signature.of(graph)
    assert Signature.from_json(signature.to_json()) == signature
    assert str(signature.outputs[0].type) == "f32[batch, 2*past]"
    assert signature.graph().bind([(2, 3), ()]) == {"batch": 2, "past": 3}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}', "nonsense", '{"inputs": [["x"]]}'])
def test_damaged_signatures(text: str) -> None:
    with pytest.raises(FormatError, match="a signature as edgec writes it"):
        Signature.from_json(text)


# ------------------------------------------------------------------ legalization
BASIC = {"sub", "exp", "reduce_max", "reduce_sum", "div", "concat", "slice", "full", "add", "pad"}


def judge(op: Op, types: Sequence[TensorType | None]) -> Verdict:
    return NATIVE if op.name in BASIC else Verdict(Support.DECOMPOSED, "not basic")


def anything(encoding: Encoding) -> Verdict:
    return NATIVE


def program() -> Program:
    constants = {"w": Constant("w", Dense(torch.ones(4)))}
    kind = TensorType.parse("f32[n, 4]")
    b = Builder.new("main", [("x", kind)], constants, {"n": Range(1, 9)})
    b.source = "model.py:3"
    y = b.softmax(b.input("x"), axis=-1, _name="p")
    part = b.slice(y, axis=1, start=0, stop=2)
    z = b.scatter_slice(y, part, axis=1, start=2, stop=4, step=1, _name="z")
    return Program({"main": b.finish([y, z])}, constants).verify()


def test_ops_are_decomposed_until_all_are_native() -> None:
    before = program()
    after = legalized(before, "test", judge, anything).verify()
    assert {n.op.name for n in after.main.nodes} <= BASIC
    assert {n.op.name for n in before.main.nodes} == {"softmax", "slice", "scatter_slice"}
    assert {"p", "z"} <= after.main.producers().keys()
    assert {n.source for n in after.main.nodes} == {"model.py:3"}
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for got, want in zip(Interpreter(after).run([x]), Interpreter(before).run([x]), strict=True):
        torch.testing.assert_close(got, want)


def test_everything_that_is_left_over_is_listed_at_once() -> None:
    def strict(op: Op, types: Sequence[TensorType | None]) -> Verdict:
        if op.name in ("exp", "div"):
            return Verdict(Support.UNSUPPORTED, f"no kernel for {op.name}")
        return judge(op, types)

    def strict_encoding(encoding: Encoding) -> Verdict:
        return Verdict(Support.UNSUPPORTED, "no decoder")

    b = Builder(program().main)
    b.finish([b.mul(b.exp("p"), "@w"), b.exp("z")])
    whole = Program({"main": b.graph}, b.graph.constants).verify()
    with pytest.raises(UnsupportedError) as caught:
        legalized(whole, "test", strict, strict_encoding)
    text = str(caught.value)
    assert text.startswith("[test] the target cannot express\n  ")
    assert "2 times exp(f32[n, 4]): no kernel for exp" in text
    assert "div(f32[n, 4], f32[n, 1]): no kernel for div (model.py:3)" in text
    assert "mul(f32[n, 4], f32[4]): not basic" in text
    assert "@w: dense: no decoder" in text


def test_a_decomposition_that_gives_an_operand_back() -> None:
    """`clamp` without bounds is its operand: readers and outputs follow."""
    b = Builder.new("main", [("x", TensorType.parse("f32[2]"))])
    y = b.clamp(b.input("x"))
    graph = b.finish([y, b.add(y, y)], ["same", "twice"])
    after = legalized(Program({"main": graph}, graph.constants), "test", judge, anything).verify()
    assert after.main.outputs[0] == "x"
    assert torch.equal(Interpreter(after).run([torch.ones(2)])[1], torch.full((2,), 2.0))
