"""Chains of elementwise nodes, longer than one kernel takes in and than Python may recurse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import Builder, DType, Program, TensorType, Value
from edgec.kernels.calling import host_sets
from edgec.runtime.model import Model
from edgec.targets.native import Native
from edgec.targets.native.lower import lower_function
from edgec.targets.native.lower_elementwise import LONGEST_CHAIN
from edgec.targets.native.statements import calls
from edgec.targets.native.weights import Weights
from tests.targets.native.one_library import add

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


ONE = (
    *("neg", "abs", "sign", "floor", "ceil", "round", "exp", "sin", "cos", "tanh", "erf", "relu"),
    *("sigmoid", "silu", "hardsigmoid", "hardswish", "gelu", "elu", "leaky_relu", "softplus"),
)
TWO = ("mod", "floor_div", "div", "pow", "maximum", "minimum")


def followed(op: str, dtype: DType) -> Program:
    """log(|op(x, ..)| + 1 / 2) in f32, whose expression binds names; x, y of a dtype, above 0."""
    kind = TensorType(dtype, (45,))
    b = Builder.new("main", [("x", kind), ("y", kind)])
    operands = [b.input(n) for n in ("x", "y")][: 2 if op in TWO else 1]
    value: Value = getattr(b, op)(*operands)
    value = b.cast(value, dtype=DType.F32)
    y = b.log(b.add(b.abs(value), b.scalar(0.5, DType.F32)))
    graph = b.finish([y])
    return Program({"main": graph}, graph.constants)


@pytest.mark.slow
def test_every_op_may_stand_before_a_function(tmp_path: Path) -> None:
    """Each lane gets its own value, on every instruction set of this machine."""
    kinds = (DType.F32, DType.F64)
    programs = {f"{op}_{d.value}": followed(op, d) for op in (*ONE, *TWO) for d in kinds}
    programs |= {f"{op}_i64": followed(op, DType.I64) for op in ("mod", "floor_div", "pow")}
    whole = Program({}, {})
    for name, program in programs.items():
        add(whole, Native().legalize(program), name)
    Native().emit(whole, tmp_path)
    (library,) = tmp_path.glob("lib/*/*")
    wrong = []
    for isa in host_sets():
        with Model(library, tmp_path / "model.weights", variant=isa.name) as model:
            for name, program in programs.items():
                dtype = program.main.inputs[0].type.dtype.torch_dtype
                inputs = [(torch.rand(45) * 9 + k).to(dtype) for k in (0, 1)]
                (want,) = Interpreter(program).run(inputs)
                (got,) = model.run(name, {}, [x.numpy() for x in inputs])
                if not torch.allclose(torch.from_numpy(got), want, rtol=1e-5, atol=1e-5):
                    wrong.append((name, isa.name))
    assert wrong == []
