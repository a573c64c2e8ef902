"""What every op promises, over all cases: types, oracle, decomposition, derivatives, text."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import OPS, Builder, DType, Exactness, Op, Program, Range, TensorType, Value, dims
from edgec.ir.graph import Graph
from edgec.ir.text import parse_program, show_program
from edgec.ops.movement import Movement
from tests.cases.case import Case
from tests.cases.ops import CASES

RUNS = [(case, env) for case in CASES for env in case.sizes]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def listed(made: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return made if isinstance(made, tuple) else (made,)


def wide(kind: TensorType) -> TensorType:
    return kind.with_dtype(DType.F64) if kind.dtype is DType.F32 else kind


def double(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return tensor.double() if tensor is not None and tensor.dtype == torch.float32 else tensor


def wide_op(case: Case) -> Op:
    """The op on f64 operands; one that makes data makes f64."""
    op = case.build()
    if case.operands or getattr(op, "dtype", None) is not DType.F32:
        return op
    return dataclasses.replace(op, dtype=DType.F64)  # type: ignore[call-arg]


# ------------------------------------------------------------------ coverage
def test_every_op_has_a_case() -> None:
    assert {case.op for case in CASES} == set(OPS)


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_op_says_what_it_is() -> None:
    for name, cls in OPS.items():
        text = " ".join(c.__doc__ or "" for c in cls.__mro__ if issubclass(c, Op) and c is not Op)
        missing = [w for w in ("Outputs", "Exactness", "EXACT", "ROUNDING") if w not in text]
        assert not set(missing) - {"EXACT", "ROUNDING"} and len(missing) < 2, (name, missing)
        assert cls.exactness.name in text, name


# ------------------------------------------------------------------ types and the oracle
@each_case
def test_evaluate_gives_the_types_of_infer(case: Case) -> None:
    op = case.build()
    inferred = op.infer(*case.types())
    expected = inferred if isinstance(inferred, tuple) else (inferred,)
    for env in case.sizes:
        samples = case.samples(env)
        for device in ("cpu", "meta"):
            placed = [None if t is None else t.to(device) for t in samples]
            made = listed(op.bind(env).evaluate(*placed))
            assert [tuple(t.shape) for t in made] == [t.bind(env) for t in expected]
            assert [t.dtype for t in made] == [t.dtype.torch_dtype for t in expected]
            assert not case.operands or {t.device.type for t in made} == {device}


@each_case
def test_evaluate_is_pure_and_runs_in_float64(case: Case) -> None:
    env = case.sizes[-1]
    op, samples = case.build().bind(env), case.samples(env)
    copies = [None if t is None else t.clone() for t in samples]
    single = listed(op.evaluate(*samples))
    for before, after in zip(copies, samples, strict=True):
        assert before is None or after is None or torch.equal(before, after)
    precise = listed(wide_op(case).bind(env).evaluate(*map(double, samples)))
    for a, b in zip(single, precise, strict=True):
        if a.dtype == torch.float32 and case.op != "cast":
            assert b.dtype == torch.float64
        if case.rough != "rounds x":
            torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ decomposition
def decomposed(case: Case) -> Graph | None:
    """The graph of the op's decomposition on f64 operands, None where the op is basic."""
    if case.name not in _DECOMPOSED:
        _DECOMPOSED[case.name] = _decompose(case)
    return _DECOMPOSED[case.name]


_DECOMPOSED: dict[str, Graph | None] = {}


def _decompose(case: Case) -> Graph | None:
    types = [None if t is None else wide(t) for t in case.types()]
    inputs = [(f"x{i}", t) for i, t in enumerate(types) if t is not None]
    inputs += [(f"size_{n}", TensorType(DType.F32, (dims.symbol(n),))) for n in case.unbound()]
    b = Builder.new("main", inputs, {}, {n: Range(0, 4096) for n in case.names()})
    values: list[Value | None] = [
        None if t is None else b.input(f"x{i}") for i, t in enumerate(types)
    ]
    made = wide_op(case).decompose(b, *values)
    if made is None:
        return None
    return b.finish(made if isinstance(made, tuple) else [made])


def run_graph(graph: Graph, case: Case, env: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    tensors = [double(t) for t in case.samples(env) if t is not None]
    sizes = [torch.zeros(env[n]) for n in case.unbound()]
    program = Program({"main": graph}, graph.constants).verify()
    return Interpreter(program).run([*(t for t in tensors if t is not None), *sizes])


@each_case
def test_decompose_computes_what_evaluate_does(case: Case) -> None:
    graph = decomposed(case)
    if graph is None:
        return
    exact = OPS[case.op].exactness is Exactness.EXACT
    for env in case.sizes:
        samples = map(double, case.samples(env))
        expected = listed(wide_op(case).bind(env).evaluate(*samples))
        actual = run_graph(graph, case, env)
        assert [t.dtype for t in actual] == [t.dtype for t in expected]
        for a, e in zip(actual, expected, strict=True):
            if exact:
                assert torch.equal(a, e)
            else:
                torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)


@each_case
def test_decompose_keeps_the_types(case: Case) -> None:
    graph = decomposed(case)
    if graph is None:
        return
    inferred = wide_op(case).infer(*(None if t is None else wide(t) for t in case.types()))
    expected = inferred if isinstance(inferred, tuple) else (inferred,)
    assert all(a.same(e) for a, e in zip(graph.output_types(), expected, strict=True))


def test_every_op_with_a_decomposition_shows_it_in_a_case() -> None:
    shown = {case.op for case in CASES if decomposed(case) is not None}
    assert shown == {name for name, cls in OPS.items() if cls.decompose is not Op.decompose}


def test_decomposition_ends_in_basic_ops() -> None:
    """No op leads back to itself: the relation "decomposes into" over all cases has no cycle."""
    into: dict[str, set[str]] = {name: set() for name in OPS}
    for case in CASES:
        graph = decomposed(case)
        if graph is not None:
            own_layers = case.op in ("lstm", "gru", "rnn", "linear", "conv", "attention")
            into[case.op] |= {n.op.name for n in graph.nodes} - ({case.op} if own_layers else set())
    done: set[str] = set()
    while len(done) < len(into):
        ready = {n for n, parts in into.items() if n not in done and parts <= done}
        assert ready, {n: parts - done for n, parts in into.items() if n not in done}
        done |= ready


# ------------------------------------------------------------------ derivatives
def smooth(case: Case) -> bool:
    op = OPS[case.op]
    no_gradient = any("gradient" in (c.__doc__ or "") for c in op.__mro__ if issubclass(c, Op))
    floats = any(t is not None and t.dtype.is_float for t in case.types())
    quantized = case.op in (
        "linear",
        "conv",
    )  # their docstrings speak of quantized activations only
    return floats and not case.rough and (quantized or not no_gradient)


@pytest.mark.parametrize("case", [c for c in CASES if smooth(c)], ids=lambda c: c.name)
def test_gradients(case: Case) -> None:
    env = case.sizes[-1]
    samples = [double(t) for t in case.samples(env)]
    if max(t.numel() for t in samples if t is not None) > 3000:
        env = case.sizes[0]
        samples = [double(t) for t in case.samples(env)]
    leaves: list[Any] = [
        t.requires_grad_() if t is not None and t.is_floating_point() else t for t in samples
    ]
    op = wide_op(case).bind(env)

    def function(*tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        return tuple(t for t in listed(op.evaluate(*tensors)) if t.is_floating_point())

    if function(*leaves):
        assert torch.autograd.gradcheck(function, leaves, fast_mode=True, atol=1e-4)


# ------------------------------------------------------------------ text, cost
def test_text_round_trip() -> None:
    for case in CASES:
        program = case.program()
        again = parse_program(show_program(program), program.constants)
        assert again.verify().main.nodes == program.main.nodes, case.name
        assert show_program(again) == show_program(program)


def test_costs_are_dimensions_that_fit_the_sizes() -> None:
    for case in CASES:
        op, types = case.build(), case.types()
        inferred = op.infer(*types)
        outputs = inferred if isinstance(inferred, tuple) else (inferred,)
        for env in case.sizes:
            cost = dims.evaluate(op.flops(types, outputs), env)
            assert cost >= 0, case.name
            assert not isinstance(op, Movement) or cost == 0, case.name
            assert dims.evaluate(op.reduction(types), env) >= 1 or 0 in env.values(), case.name


def test_bind_leaves_no_named_dims() -> None:
    for case, env in RUNS:
        bound = case.build().bind(env)
        values = itertools.chain.from_iterable(
            v if isinstance(v, tuple) else (v,) for v in dataclasses.astuple(bound)
        )
        assert not any(hasattr(v, "free_symbols") for v in values), case.name
