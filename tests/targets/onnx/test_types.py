"""Every op in every element type that it accepts: computed, or refused with a reason."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from edgec.errors import TypeCheckError, UnsupportedError
from edgec.interpreter import Interpreter
from edgec.ir import OPS, Builder, DType, Exactness, Program, Range, TensorType, Value, dims
from edgec.targets.onnx import Onnx
from edgec.targets.onnx.legal import KERNELS, compute_type
from tests.cases.case import Case
from tests.cases.ops import CASES

# What onnxruntime has no f64 kernel for, and what does not decompose into ops that have one.
NO_F64 = {"erf", "gelu", "gru", "lstm", "rnn"}

COMMON = (DType.F16, DType.F64, DType.I64, DType.U8)
OTHERS = [d for d in DType if d not in (*COMMON, DType.F32)]
FIRST = {op: next(c for c in CASES if c.op == op) for op in sorted(KERNELS)}


def through(case: Case, dtype: DType) -> Program | None:
    """The op of a case computed in `dtype`, between casts; None where the op has no such type."""
    kinds = [None if t is None else t for t in case.types()]
    source = next(
        (t.dtype for t in kinds if t is not None and t.dtype is not DType.BOOL), DType.F32
    )
    if case.op == "where":
        source = kinds[1].dtype if kinds[1] is not None else source
    b = Builder.new("main", [], {}, {n: Range(0, 4096) for n in case.names()})
    inputs = [Value(f"input{i}", t) for i, t in enumerate(kinds) if t is not None]
    inputs += [Value(f"size_{n}", TensorType(DType.F32, (dims.symbol(n),))) for n in case.unbound()]
    b = Builder(b.graph.replace(inputs=tuple(inputs)))
    index = case.op in ("gather", "take_along", "gather_nd")
    operands: list[Value | None] = []
    for i, t in enumerate(kinds):
        if t is None:
            operands.append(None)
        elif t.dtype is source and not (index and i > 0):
            operands.append(b.cast(b.input(f"input{i}"), dtype=dtype))
        else:
            operands.append(b.input(f"input{i}"))
    op = case.build()
    if not kinds and hasattr(op, "dtype"):
        op = dataclasses.replace(op, dtype=dtype)  # type: ignore[call-arg]
    try:
        made = b.emit(op, *operands)
    except (TypeCheckError, AttributeError):
        return None
    results = made if isinstance(made, tuple) else (made,)
    shown = [r if r.type.dtype is DType.BOOL else b.cast(r, dtype=DType.F32) for r in results]
    return Program({"main": b.finish(shown)}, b.graph.constants).verify()


def inputs_of(case: Case) -> list[torch.Tensor]:
    env = case.sizes[-1]
    found = [t for t in case.samples(env) if t is not None]
    if case.op in ("floor_div", "mod"):
        found[1] = found[1].abs() + 1  # an integer may not be divided by 0
    return found + [torch.zeros(env[n]) for n in case.unbound()]


@pytest.mark.parametrize("dtype", COMMON, ids=lambda d: d.value)
@pytest.mark.parametrize("op", FIRST)
def test_in_common_types(op: str, dtype: DType, tmp_path: Path) -> None:
    compare(op, dtype, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", OTHERS, ids=lambda d: d.value)
@pytest.mark.parametrize("op", FIRST)
def test_in_other_types(op: str, dtype: DType, tmp_path: Path) -> None:
    compare(op, dtype, tmp_path)


def compare(op: str, dtype: DType, tmp_path: Path) -> None:
    """Through the file and through the interpreter, or a refusal that says why."""
    case = FIRST[op]
    program = through(case, dtype)
    if program is None:
        return
    if dtype is DType.F64 and op in NO_F64:
        with pytest.raises(UnsupportedError, match="no f64 kernel in onnxruntime"):
            Onnx().legalize(program)
        return
    target = Onnx()
    target.emit(target.legalize(program).verify(), tmp_path)
    inputs = inputs_of(case)
    wanted = Interpreter(program).run(inputs)
    eps = torch.finfo(dtype.torch_dtype).eps if dtype.is_float else 0.0
    eps = max(eps, torch.finfo(torch.float32).eps)  # results are shown as f32
    terms = max(1.0, float(max(t.numel() for t in inputs))) if inputs else 1.0
    for got, want in zip(Onnx.load(tmp_path).run("main", inputs), wanted, strict=True):
        assert got.dtype == want.dtype
        if OPS[op].exactness is Exactness.EXACT or dtype.is_int:
            assert torch.equal(got, want)
        else:
            scale = float(want.abs().max()) if want.numel() else 0.0
            allowed = 4 * eps * math.sqrt(terms) * OPS[op].factor * scale
            assert float((got - want).abs().max()) <= allowed


def test_the_wider_type_holds_every_value() -> None:
    """Half precision is computed in f32, small integers in i32: never the other way round."""
    for op, kernels in KERNELS.items():
        case = FIRST[op]
        for dtype in DType:
            types = [None if t is None else t.with_dtype(dtype) for t in case.types()]
            kernel = compute_type(case.build(), types) if types else None
            if kernel is None:
                continue
            assert kernel in kernels
            assert torch.promote_types(dtype.torch_dtype, kernel.torch_dtype) == kernel.torch_dtype
