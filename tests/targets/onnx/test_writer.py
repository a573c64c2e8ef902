"""Shape arithmetic in the graph, and the few nodes that it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis
import onnx
import pytest
import torch
from hypothesis import strategies as st

import edgec.ops  # noqa: F401 - registers the op set
from edgec.errors import UnsupportedError
from edgec.ir import Builder, Constant, Dense, Graph, Program, Range, TensorType, dims
from edgec.targets.onnx import Onnx, files

NAMES = {"n": Range(1, 64), "m": Range(0, 64)}


def run(program: Program, folder: Path, *inputs: torch.Tensor) -> list[torch.Tensor]:
    target = Onnx()
    target.emit(target.legalize(program.verify()), folder)
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    return Onnx.load(folder).run("main", list(inputs))


def whole(graph: Graph) -> Program:
    return Program({"main": graph}, graph.constants)


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


EXPRESSIONS = (
    "n + 3*m - 2",
    "(n + 1)//2",
    "(n - 40)//7",
    "(n - 40)%7",
    "Min(n, m, 9)",
    "Max(1, n - 5)",
    "n**2*m",
    "Max(n, m)//Max(1, Min(n, 4))",
    "(2*n + m)%(m + 1)",
    "((n - 13)//4 + 1)*m",
)


@hypothesis.settings(max_examples=15)
@hypothesis.given(st.integers(1, 64), st.integers(0, 64))
def test_dimension_expressions_are_computed_in_the_graph(n: int, m: int) -> None:
    inputs = [("x", TensorType.parse("f32[n]")), ("y", TensorType.parse("f32[m]"))]
    b = Builder.new("main", inputs, {}, NAMES)
    program = whole(b.finish([b.dim_value(dim=dims.parse(e)) for e in EXPRESSIONS]))
    with tempfile.TemporaryDirectory() as folder:
        got = run(program, Path(folder), torch.zeros(n), torch.zeros(m))
    want = [dims.evaluate(dims.parse(e), {"n": n, "m": m}) for e in EXPRESSIONS]
    assert [int(t) for t in got] == want


def test_a_dimension_may_be_known_by_an_expression_only(tmp_path: Path) -> None:
    b = Builder.new("main", [("x", TensorType.parse("f32[3*n + 2]"))], {}, {"n": Range()})
    program = whole(b.finish([b.dim_value(dim=dims.symbol("n"))]))
    assert int(run(program, tmp_path, torch.zeros(17))[0]) == 5


def test_a_dimension_that_no_input_determines(tmp_path: Path) -> None:
    b = Builder.new("main", [("x", TensorType.parse("f32[n*m]"))], {}, NAMES)
    program = whole(b.finish([b.dim_value(dim=dims.symbol("n"))]))
    with pytest.raises(UnsupportedError, match="dimension n of main; need an input axis"):
        run(program, tmp_path, torch.zeros(6))


# ------------------------------------------------------------------ few nodes
def reshaped(kind: str, shape: str, bounds: dict[str, Range]) -> Program:
    b = Builder.new("main", [("x", TensorType.parse(kind))], {}, bounds)
    wanted = TensorType.parse(f"f32{shape}").shape
    return whole(b.finish([b.reshape(b.input("x"), shape=wanted)]))


@pytest.mark.parametrize(
    ("kind", "shape", "literal"),
    [
        ("f32[n, 6, 4]", "[n, 2, 3, 4]", True),
        ("f32[n, m, 8]", "[n, m, 2, 4]", True),
        ("f32[n, 3, 8]", "[3*n, 8]", True),
        ("f32[m, n]", "[n*m]", True),
        ("f32[m, n, 2]", "[m, 2*n]", False),  # m may be 0, and then -1 is nothing
        ("f32[n, m, 2]", "[m, n, 2]", False),
    ],
)
@pytest.mark.parametrize("m", [0, 3])
def test_reshape_needs_shape_arithmetic_only_where_0_and_minus_1_do_not_do(
    kind: str, shape: str, literal: bool, m: int, tmp_path: Path
) -> None:
    program = reshaped(kind, shape, NAMES)
    env = {"n": 5, "m": m}
    x = torch.arange(float(torch.Size(program.main.inputs[0].type.bind(env)).numel()))
    x = x.reshape(program.main.inputs[0].type.bind(env))
    (got,) = run(program, tmp_path, x)
    assert torch.equal(got, x.reshape(program.main.output_types()[0].bind(env)))
    assert (kinds(tmp_path / "model.onnx") == ["Reshape"]) is literal


def test_equal_shapes_are_computed_once(tmp_path: Path) -> None:
    b = Builder.new("main", [("x", TensorType.parse("f32[n, m, 4]"))], {}, NAMES)
    wanted = TensorType.parse("f32[m, n, 4]").shape
    b.finish([b.reshape(b.neg(b.input("x")), shape=wanted), b.reshape(b.input("x"), shape=wanted)])
    run(whole(b.graph), tmp_path, torch.ones(2, 3, 4))
    assert sorted(kinds(tmp_path / "model.onnx")) == sorted(
        ["Shape", "Shape", "Concat", "Neg", "Reshape", "Reshape"]
    )


def test_a_model_beyond_the_limit_of_protobuf_has_its_weights_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST_MODEL", 1000)
    constants = {"w": Constant("w", Dense(torch.randn(20, 30)))}
    b = Builder.new("main", [("x", TensorType.parse("f32[n, 30]"))], constants, {"n": Range()})
    program = whole(b.finish([b.linear(b.input("x"), constants["w"], None)]))
    x = torch.randn(3, 30)
    (got,) = run(program, tmp_path, x)
    torch.testing.assert_close(got, program.run(x))
    assert (tmp_path / files.WEIGHTS).stat().st_size == 2400
    assert (tmp_path / "model.onnx").stat().st_size < 2000
