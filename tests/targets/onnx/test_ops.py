"""Every op case, emitted, checked by onnx and executed by onnxruntime, against `evaluate`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import OPS, DType, Exactness, Program, dims
from edgec.targets.onnx import OPSETS, Onnx
from edgec.targets.onnx.legal import KERNELS
from edgec.targets.onnx.lowering import LOWERINGS
from tests.cases.case import Case
from tests.cases.ops import CASES

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def allowed(program: Program, env: Mapping[str, int], scale: float) -> float:
    """The absolute deviation that rounding in another order may cause: 4 eps sqrt(K) max |want|."""
    (node,) = program.main.nodes
    types = [None if n is None else program.main.type(n) for n in node.inputs]
    kinds = [t.dtype for t in types if t is not None and t.dtype.is_float]
    kind = kinds[0] if kinds else DType.F32
    terms = max(1, dims.evaluate(node.op.reduction(types), env))
    eps = torch.finfo(kind.torch_dtype).eps
    return 4 * eps * math.sqrt(terms) * scale * node.op.factor


def agree(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> bool:
    """Equal shapes, NaN and infinity at the same places, all else within tolerance."""
    if got.shape != want.shape or got.is_floating_point() != want.is_floating_point():
        return False
    if not want.is_floating_point():
        return torch.equal(got, want)
    got, want = got.double(), want.double()
    finite = want.isfinite()
    same = torch.equal(got[~finite].nan_to_num(), want[~finite].nan_to_num())
    return same and bool(((got - want)[finite].abs() <= tolerance).all())


def emit(program: Program, folder: Path, target: Onnx) -> Program:
    """Legalize and write; the legalized program."""
    legal = target.legalize(program.verify()).verify()
    target.emit(legal, folder)
    return legal


def check_file(path: Path) -> None:
    """onnx's own checker, with strict shape inference and data propagation."""
    onnx.checker.check_model(str(path), full_check=True)
    onnx.shape_inference.infer_shapes(
        onnx.load(path), check_type=True, strict_mode=True, data_prop=True
    )


@each_case
def test_onnxruntime_computes_what_evaluate_does(case: Case, tmp_path: Path) -> None:
    compare(case, tmp_path, Onnx())


LEFT_OUT = [case for case in CASES if case.operands[-1:] == ("_",)]


@pytest.mark.parametrize("case", LEFT_OUT, ids=lambda c: c.name)
def test_optional_operands_at_the_end_may_be_left_out(case: Case, tmp_path: Path) -> None:
    """As passes and decompositions build a node: with no None for what is not given."""
    given = max(i for i, operand in enumerate(case.operands) if operand != "_") + 1
    compare(dataclasses.replace(case, operands=case.operands[:given]), tmp_path, Onnx())


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS[1:])
@each_case
def test_in_later_opsets(case: Case, opset: int, tmp_path: Path) -> None:
    compare(case, tmp_path, Onnx(opset=opset))


def compare(case: Case, tmp_path: Path, target: Onnx) -> None:
    """Emit, check and execute a case at all of its sizes."""
    program = case.program()
    emit(program, tmp_path, target)
    check_file(tmp_path / "model.onnx")
    executable = Onnx.load(tmp_path)
    exact = OPS[case.op].exactness is Exactness.EXACT
    for env in case.sizes:
        inputs = case.inputs(env)
        compute = torch.float32 if case.rough else torch.float64
        wanted = Interpreter(program, compute=compute).run(inputs)
        declared = [t.dtype.torch_dtype for t in program.main.output_types()]
        outputs = executable.run("main", inputs)
        assert [t.dtype for t in outputs] == declared
        for got, want in zip(outputs, wanted, strict=True):
            finite = want.double()[want.isfinite()].abs()
            scale = float(finite.max()) if finite.numel() else 0.0
            tolerance = 0.0 if exact else allowed(program, env, scale)
            assert agree(got, want, tolerance), (env, got, want)


def test_every_kernel_has_a_lowering_and_a_case() -> None:
    assert set(KERNELS) == set(LOWERINGS)
    assert set(KERNELS) <= set(OPS)
