"""What executes an op case may deviate from `evaluate` by, and where it deviates by more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from edgec.interpreter import Interpreter
from edgec.ir import OPS, DType, Exactness, Program, dims
from edgec.target import Executable
from tests.cases.case import Case


def differences(executable: Executable, function: str, case: Case) -> list[object]:
    """Sizes, results and expectations of all outputs of a case that differ."""
    return differing(case, [executable.run(function, case.inputs(env)) for env in case.sizes])


def differing(case: Case, made: Sequence[Sequence[torch.Tensor]]) -> list[object]:
    """The same for what was computed at each of the case's sizes."""
    program = case.program()
    found: list[object] = []
    exact = OPS[case.op].exactness is Exactness.EXACT
    compute = torch.float32 if case.rough else torch.float64
    declared = [t.dtype.torch_dtype for t in program.main.output_types()]
    for env, outputs in zip(case.sizes, made, strict=True):
        wanted = Interpreter(program, compute=compute).run(case.inputs(env))
        assert [t.dtype for t in outputs] == declared
        for got, want in zip(outputs, wanted, strict=True):
            tolerance = 0.0 if exact else allowed(program, env, want)
            if not agree(got, want, tolerance):
                found.append((env, got, want))
    return found


def allowed(program: Program, env: Mapping[str, int], want: torch.Tensor) -> float:
    """The absolute deviation that the program's op declares, in the precision of its operands."""
    (node,) = program.main.nodes
    types = [None if n is None else program.main.type(n) for n in node.inputs]
    kinds = [t.dtype for t in types if t is not None and t.dtype.is_float]
    terms = dims.evaluate(node.op.reduction(types), env)
    return rounding(want, terms, kinds[0] if kinds else DType.F32) * node.op.factor


def rounding(want: torch.Tensor, terms: int, dtype: DType = DType.F32) -> float:
    """Of sums of `terms` in another order: 4 eps sqrt(terms) max |want|, infinities left out."""
    finite = want.double()[want.isfinite()].abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    return 4 * torch.finfo(dtype.torch_dtype).eps * math.sqrt(max(1, terms)) * scale


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
