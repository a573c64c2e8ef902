"""Graphs and programs: lookups, binding of dimensions, the verifier, copies."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import edgec.ops
from edgec.errors import TypeCheckError, ValidationError, VerifyError
from edgec.ir import (
    Builder,
    Constant,
    Dense,
    DType,
    Graph,
    Program,
    Range,
    State,
    TensorType,
    Value,
)
from edgec.ir.dims import symbol
from edgec.ir.graph import fresh_name, put_constant

assert edgec.ops  # registers the ops
BATCH, SEQ = symbol("batch"), symbol("seq")
F32 = DType.F32


def make_graph() -> Graph:
    inputs = [
        ("x", TensorType(F32, (BATCH, SEQ + 1, 4))),
        ("mask", TensorType(DType.BOOL, (BATCH, SEQ))),
    ]
    b = Builder.new("main", inputs, {}, {"batch": Range(1, 8), "seq": Range(2, 16)})
    w = b.constant(torch.ones(3, 4), "w")
    return b.finish([b.relu(b.linear(b.input("x"), w, None))], ["y"])


def make_program() -> Program:
    graph = make_graph()
    return Program({"main": graph}, graph.constants, {"task": "none"}).verify()


# ------------------------------------------------------------------ lookups
def test_types_producers_and_users():
    graph = make_graph()
    assert str(graph.type("relu")) == "f32[batch, seq + 1, 3]"
    assert str(graph.type("@w")) == "f32[3, 4]"
    assert graph.producers()["relu"].op.name == "relu"
    assert [n.op.name for n in graph.users()["@w"]] == ["linear"]
    assert graph.used_constants() == {"w"}
    assert graph.signature() == (
        "main(x: f32[batch, seq + 1, 4], mask: bool[batch, seq]) -> (y: f32[batch, seq + 1, 3])"
    )
    for unknown in ("nothing", "@nothing"):
        with pytest.raises(VerifyError, match="nothing"):
            graph.type(unknown)


def test_types_follow_a_replaced_node_list():
    graph = make_graph()
    assert "relu" in graph.value_types()
    graph.nodes = graph.nodes[:1]
    assert "relu" not in graph.value_types()


# ------------------------------------------------------------------ dimensions at run time
def test_shapes_determine_the_dimensions():
    assert make_graph().bind([(2, 6, 4), (2, 5)]) == {"batch": 2, "seq": 5}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 6, 4)], "1 inputs; need 2: x, mask"),
        ([(2, 6, 4, 1), (2, 5)], r"x: shape \[2, 6, 4, 1\], need f32"),
        ([(2, 6, 5), (2, 5)], r"x: shape \[2, 6, 5\]"),
        ([(2, 6, 4), (3, 5)], r"mask: shape \[3, 5\], need bool\[batch, seq\]"),
        ([(2, 6, 4), (2, 6)], r"mask: shape \[2, 6\]"),
        ([(9, 6, 4), (9, 5)], "batch = 9, need 1 <= batch <= 8"),
        ([(9, 2, 4), (9, 1)], "batch = 9.*seq = 1, need 2 <= seq <= 16"),
    ],
)
def test_shapes_that_do_not_fit_are_told(shapes, message):
    with pytest.raises(ValidationError, match=message):
        make_graph().bind(shapes)


# ------------------------------------------------------------------ verifier
def replaced(graph: Graph, index: int, **changes: object) -> None:
    graph.nodes[index] = dataclasses.replace(graph.nodes[index], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda g: g.nodes.reverse(), "operand %linear is not defined before"),
        (lambda g: replaced(g, 0, inputs=("x", "@v", None)), "operand @v is not defined"),
        (lambda g: replaced(g, 0, inputs=("mask", "@w", None)), r"linear: .*C1|one float dtype"),
        (
            lambda g: replaced(g, 1, outputs=(Value("relu", TensorType(F32, (1,))),)),
            r"has type f32\[1\], its operands give f32\[batch, seq \+ 1, 3\]",
        ),
        (lambda g: g.nodes.append(g.nodes[1]), "%relu is defined twice"),
        (lambda g: g.dims.pop("seq"), "dimensions without a range: seq"),
        (lambda g: setattr(g, "outputs", ("nothing",)), "output %nothing is not defined"),
        (lambda g: setattr(g, "outputs", ("relu", "relu")), "2 outputs, 1 output names"),
        (lambda g: setattr(g, "states", (State("x", "z"),)), "state x <- z names no input"),
        (lambda g: setattr(g, "inputs", g.inputs + g.inputs[:1]), "input %x is defined twice"),
        (lambda g: setattr(g, "name", "other"), "function main is called other"),
        (lambda g: setattr(g, "constants", dict(g.constants)), "a constant pool of its own"),
    ],
)
def test_every_breach_is_found(damage, message):
    program = make_program()
    damage(program.main)
    with pytest.raises(VerifyError, match=message):
        program.verify()


def test_all_breaches_are_listed_at_once():
    program = make_program()
    replaced(program.main, 0, inputs=("x", "@v", None))
    program.main.outputs = ("nothing",)
    program.constants["w"] = Constant("v", Dense(torch.ones(3, 4)))
    with pytest.raises(VerifyError) as caught:
        program.verify()
    for part in ("operand @v", "output %nothing", "@w is called @v"):
        assert part in str(caught.value)


# ------------------------------------------------------------------ builder
def test_ill_typed_nodes_are_refused_before_they_are_appended():
    b = Builder.new("main", [("x", TensorType(F32, (BATCH, 4)))], {}, {"batch": Range()})
    with pytest.raises(TypeCheckError):
        b.linear(b.input("x"), b.constant(torch.ones(3, 5)), None)
    with pytest.raises(TypeCheckError, match="%later"):
        b.relu("later")
    with pytest.raises(AttributeError, match="no op named frobnicate"):
        b.frobnicate(b.input("x"))
    assert not b.nodes


def test_equal_small_constants_are_stored_once_and_zeros_keep_their_sign():
    b = Builder.new("main", [])
    first = b.constant(torch.zeros(3))
    assert b.constant(torch.zeros(3)) == first
    for other in (-torch.zeros(3), torch.zeros(1, 3), torch.zeros(3).int(), torch.zeros(65)):
        assert b.constant(other) != first
    nan = b.constant(torch.tensor([float("nan")]))
    assert b.constant(torch.tensor([float("nan")])) == nan


def test_names_stay_unique():
    assert fresh_name("x", {"x", "x_1"}) == "x_2"
    pool: dict[str, Constant] = {}
    names = [put_constant(pool, "w", Dense(torch.ones(1))).name for _ in range(3)]
    assert names == ["w", "w_1", "w_2"] == list(pool)


# ------------------------------------------------------------------ programs
def test_a_copy_can_be_changed_without_its_original():
    program = make_program()
    text = program.text()
    copy = program.copy()
    copy.main.nodes.pop()
    copy.constants["w"] = Constant("w", Dense(torch.zeros(3, 4)))
    copy.main.dims["batch"] = Range(1, 2)
    copy.metadata["task"] = "classify"
    assert program.text() == text and program.metadata == {"task": "none"}
    assert copy.main.constants is copy.constants


def test_bytes_count_constants_in_use_once():
    program = make_program()
    program.constants["unused"] = Constant("unused", Dense(torch.ones(100)))
    twice = program.copy()
    twice.graphs["again"] = twice.main.replace(name="again")
    assert program.nbytes == twice.nbytes == 3 * 4 * 4
    assert list(program.drop_unused_constants().constants) == ["w"]


def test_several_functions_have_no_main():
    program = make_program()
    program.graphs = {name: program.graphs["main"].replace(name=name) for name in ("a", "b")}
    with pytest.raises(ValidationError, match="2 functions; need the name of one of a, b"):
        assert program.main


def test_structure_changes_with_the_graph():
    graph = make_graph()
    same = make_graph()
    assert graph.structure() == same.structure()
    replaced(same, 0, source="model.py:1")
    assert graph.structure() != same.structure()
