"""The text form: what is printed reads back, and what does not read says where and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgec.ops
from edgec.errors import FormatError
from edgec.ir import Affine, Builder, Constant, Dense, DType, Program, Range, State, TensorType
from edgec.ir.dims import Dim, floordiv, symbol
from edgec.ir.text import parse_attributes, parse_program, show_attributes, show_program

assert edgec.ops  # registers the ops
half = settings(max_examples=50)


# ------------------------------------------------------------------ attributes
@dataclass(frozen=True)
class Everything:
    """A field of each type that ops and passes use."""

    number: int
    ratio: float = 0.5
    flag: bool = False
    word: str = ""
    mode: Literal["none", "tanh"] = "none"
    dtype: DType = DType.F32
    size: Dim = 1
    maybe: int | None = None
    shape: tuple[Dim, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    names: tuple[str, ...] = ()


sizes = st.one_of(
    st.integers(0, 99),
    st.sampled_from([symbol("batch"), 2 * symbol("seq") + 1, floordiv(symbol("a"), 3)]),
)
everything = st.builds(
    Everything,
    number=st.integers(-(2**40), 2**40),
    ratio=st.floats(allow_nan=False),
    flag=st.booleans(),
    word=st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    mode=st.sampled_from(["none", "tanh"]),
    dtype=st.sampled_from(list(DType)),
    size=sizes,
    maybe=st.none() | st.integers(-9, 9),
    shape=st.lists(sizes, max_size=3).map(tuple),
    pads=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=2).map(tuple),
    names=st.lists(st.sampled_from(["a", "b*", "x.y", "None"]), max_size=2).map(tuple),
)


@half
@given(everything)
def test_attributes_read_back(made):
    text = show_attributes(made)
    assert text.startswith(" {") and text.endswith("}")
    assert parse_attributes(Everything, text[2:-1], "test") == made


def test_defaults_are_not_printed():
    assert show_attributes(Everything(1)) == " {number=1}"
    assert show_attributes(Everything(1, shape=(symbol("b"), 2))) == " {number=1, shape=[b, 2]}"


def test_nan_reads_back():
    again = parse_attributes(Everything, "number=1, ratio=nan", "test")
    assert math.isnan(again.ratio)
    assert show_attributes(again) == " {number=1, ratio=nan}"


def test_all_wrong_attributes_are_told_at_once():
    with pytest.raises(FormatError) as caught:
        parse_attributes(Everything, "numbr=1, mode=gelu, flag=1, ratio='x'", "somewhere")
    parts = [
        "[somewhere]",
        "unknown numbr",
        "mode=gelu, need none or tanh",
        "flag=1, need bool",
        "ratio='x', need float",
        "missing number",
    ]
    for part in parts:
        assert part in str(caught.value)


# ------------------------------------------------------------------ programs
GOLDEN = """\
@w = const f32[8, 4] affine(bits=4, scale=f32) sha256:{digest}
@bias = const f32[8] dense [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
func @main(%x: f32[batch, seq, 4], %past: f32[batch, 8]) dims(batch: 1..64, seq: 2..128) {
  %linear: f32[batch, seq, 8] = linear(%x, @w, @bias)
  %y: f32[batch, seq, 8] = softmax(%linear) {axis=1}  # model.py:12
  %reshape: f32[batch*seq, 8] = reshape(%y) {shape=[batch*seq, 8]}
  %alone: f32[batch, seq, 8] = linear(%x, @w, _)
  return %reshape as probabilities, %past as present, @bias as bias
  state past <- present
}
"""


def make_program() -> Program:
    batch, seq = symbol("batch"), symbol("seq")
    inputs = [
        ("x", TensorType(DType.F32, (batch, seq, 4))),
        ("past", TensorType(DType.F32, (batch, 8))),
    ]
    codes = torch.arange(32, dtype=torch.int8).view(8, 4) % 8
    pool = {"w": Constant("w", Affine(codes, torch.ones(8, 1), bits=4))}
    b = Builder.new("main", inputs, pool, {"batch": Range(1, 64), "seq": Range(2, 128)})
    bias = b.constant(torch.arange(8.0), "bias")
    y = b.linear(b.input("x"), pool["w"], bias)
    b.source = "model.py:12"
    y = b.emit(edgec.ops.normalize.Softmax(axis=1), y, name="y")
    b.source = ""
    y = b.reshape(y, shape=(batch * seq, 8))
    b.emit(edgec.ops.linear.Linear(), b.input("x"), pool["w"], None, name="alone")
    graph = b.finish([y, b.input("past"), bias], ["probabilities", "present", "bias"])
    graph.states = (State("past", "present"),)
    return Program({"main": graph}, pool).verify()


def golden(program: Program) -> str:
    return GOLDEN.replace("{digest}", program.constants["w"].encoding.digest[:16])


def test_programs_print_like_this():
    program = make_program()
    assert show_program(program) == golden(program) == program.text()


def test_programs_read_back():
    program = make_program()
    again = parse_program(golden(program), program.constants).verify()
    assert again.graphs["main"].structure() == program.graphs["main"].structure()
    assert again.graphs["main"].dims == program.graphs["main"].dims
    assert show_program(again) == golden(program)


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([0.1, -0.0, math.inf, -math.inf, math.nan, 1e-45, 3.4e38]),
        torch.tensor([[1, -(2**62)], [3, 4]]),
        torch.tensor([True, False]),
        torch.tensor(1.5).bfloat16(),
        torch.zeros(2, 0, 3),
        torch.tensor(7, dtype=torch.uint8),
    ],
    ids=str,
)
def test_small_constants_are_inline_with_all_their_bits(values):
    constant = Constant("c", Dense(values))
    inputs = [("x", TensorType(DType.F32, (1,)))]
    b = Builder.new("main", inputs, {"c": constant})
    graph = b.finish([constant], ["out"])
    again = parse_program(show_program(Program({"main": graph}, graph.constants)))
    assert again.constants["c"].encoding.digest == constant.encoding.digest


def test_constants_without_data_are_asked_for():
    program = make_program()
    with pytest.raises(FormatError, match="@w without data"):
        parse_program(golden(program))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("softmax(", "softmx(", "line 5.*op softmx"),
        ("axis=1", "axes=1", "line 5: softmax.*unknown axes"),
        ("axis=1", "axis=x", "line 5: softmax.*axis=x, need int"),
        ("f32[batch, seq, 8] = linear(%x, @w, @bias)", "f33[batch] = relu(%x)", "a type such as"),
        ("func @main", "fun @main", "line 3.*a constant or a function"),
        ("  return", "  give", "line 8.*a node, return, state"),
        ("\n}\n", "\n", "the end of the text inside of @main"),
        ("batch: 1..64", "batch: one", "name: min..max"),
        ("[0.0, 1.0,", "[0.0, [1.0],", "values of f32"),
        ("[0.0, 1.0,", "[0.0, 1.0, 2.0,", "values of f32"),
    ],
)
def test_mistakes_are_told_with_their_line(old, new, message):
    program = make_program()
    text = golden(program)
    assert old in text
    known = {"w": program.constants["w"]}
    with pytest.raises(FormatError, match=message):
        parse_program(text.replace(old, new, 1), known)
