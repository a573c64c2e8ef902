"""Every op case, emitted, checked by onnx and executed by onnxruntime, against `evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest

from edgec.ir import OPS, Program
from edgec.targets.onnx import OPSETS, Onnx
from edgec.targets.onnx.legal import KERNELS
from edgec.targets.onnx.lowering import LOWERINGS
from tests.cases.case import Case
from tests.cases.ops import CASES
from tests.cases.rounding import differences

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


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
    assert differences(Onnx.load(tmp_path), "main", case) == []


def test_every_kernel_has_a_lowering_and_a_case() -> None:
    assert set(KERNELS) == set(LOWERINGS)
    assert set(KERNELS) <= set(OPS)
