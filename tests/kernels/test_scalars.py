"""Scalar functions against numpy's and torch's float64, over their ranges and at special values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from edgec.kernels import InstructionSet, Kernel, Pointer
from edgec.kernels.calling import aligned, compile_all, host_sets

pytest.importorskip("tvm")

EPS = 2.0**-23


@dataclass(frozen=True)
class Map(Kernel):
    """y[i] = function(x[i]), in one vector an item."""

    function: str
    argument: float | None = None
    family: ClassVar[str] = "map"

    def parameters(self) -> tuple[Pointer, ...]:
        return (Pointer("x"), Pointer("y", output=True))

    def emit(self, body: Any, isa: InstructionSet) -> None:
        from edgec.kernels import scalars

        f = getattr(scalars, self.function)
        more = () if self.argument is None else (self.argument,)
        x, y = body.buffer("x"), body.buffer("y")
        with body.items() as i, body.vector(isa.lanes) as lane:
            at = i * isa.lanes + lane
            body.store(y, f(x[at], *more), at)


def run(function: str, values: Any, isa: InstructionSet, argument: float | None = None) -> Any:
    x = np.asarray(values, "f4")
    padded = aligned(np.concatenate([x, np.zeros(-x.size % isa.lanes, "f4")]))
    y = aligned(np.zeros_like(padded))
    _kernels(isa)[Map(function, argument)](padded, y, items=padded.size // isa.lanes)
    return y[: x.size]


_built: dict[str, Any] = {}


def _kernels(isa: InstructionSet) -> Any:
    if isa.name not in _built:
        powers = [Map("power", p) for p in POWERS]
        _built[isa.name] = compile_all([*(Map(f) for f in RANGES), *powers], isa)
    return _built[isa.name]


def through_torch(f: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    return lambda x: f(torch.from_numpy(np.asarray(x, "f8"))).numpy()


# function -> (exact function, greatest relative error in eps as documented, ranges)
RANGES: dict[str, tuple[Callable[[Any], Any], float, list[tuple[float, float]]]] = {
    "exp2": (np.exp2, 2, [(-99.9, 127.9), (-1, 1)]),
    "exp": (np.exp, 1, [(-87.3, 88.72), (-1, 1)]),
    "exp_negative": (np.exp, 1, [(-87, 0), (-1, 0)]),
    "expm1": (np.expm1, 3, [(-20, 88), (-1, 1), (-1e-4, 1e-4)]),
    "sigmoid": (through_torch(torch.sigmoid), 3, [(-87, 100), (-2, 2)]),
    "tanh": (np.tanh, 3, [(-12, 12), (-1, 1), (-1e-4, 1e-4)]),
    "erf": (through_torch(torch.erf), 2, [(-6, 6), (-1, 1), (-1e-4, 1e-4)]),
    "log": (np.log, 2, [(2.0**-149, 1e-36), (1e-3, 3), (0.9, 1.1), (1, 3.4e38)]),
    "sin": (np.sin, 2, [(-10, 10), (-1e4, 1e4), (-4e8, 4e8)]),
    "cos": (np.cos, 2, [(-10, 10), (-1e4, 1e4), (-4e8, 4e8)]),
}
POWERS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 1.7)


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
@pytest.mark.parametrize("function", RANGES)
def test_functions_have_their_documented_error(function: str, isa: InstructionSet) -> None:
    exact, bound, ranges = RANGES[function]
    for low, high in ranges:
        x = np.linspace(low, high, 1 << 18).astype("f4")
        x = x[(x >= low) & (x <= high)]
        want = exact(x.astype("f8"))
        error = np.abs(run(function, x, isa) - want)
        size = np.maximum(np.abs(want), 2.0**-149)
        worst = int(np.argmax(error / size))
        assert error[worst] <= bound * EPS * size[worst], (function, x[worst], want[worst])


INF, NAN = math.inf, math.nan
SPECIAL: dict[str, dict[float, float]] = {
    "exp2": {-INF: 0, NAN: 0, -101: 0, 0: 1, 1: 2, -1: 0.5},
    "exp": {0: 1, INF: INF, -INF: 0, NAN: NAN, 1000: INF, -1000: 0, 88.73: INF, -3e38: 0},
    "exp_negative": {0: 1, -INF: 0, -88: 0, NAN: NAN, -3e38: 0},
    "expm1": {0: 0, INF: INF, -INF: -1, NAN: NAN, 1000: INF, -1000: -1, 1e-30: 1e-30},
    "sigmoid": {0: 0.5, INF: 1, -INF: 0, NAN: NAN, 1000: 1, -1000: 0},
    "tanh": {0: 0, INF: 1, -INF: -1, NAN: NAN, 20: 1, -20: -1, 1e-30: 1e-30, 1e-45: 1e-45},
    "erf": {0: 0, INF: 1, -INF: -1, NAN: NAN, 4: 1, -4: -1},
    "log": {0: -INF, 1: 0, INF: INF, -1: NAN, -INF: NAN, NAN: NAN, -1e-45: NAN},
    "sin": {0: 0, INF: NAN, -INF: NAN, NAN: NAN},
    "cos": {0: 1, INF: NAN, -INF: NAN, NAN: NAN},
}


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
@pytest.mark.parametrize("function", SPECIAL)
def test_special_values(function: str, isa: InstructionSet) -> None:
    given, want = np.array(list(SPECIAL[function].items()), "f4").T
    np.testing.assert_array_equal(run(function, given, isa), want)


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
def test_results_of_exp_may_be_denormal(isa: InstructionSet) -> None:
    x = np.linspace(-103.9, -87.4, 1000).astype("f4")
    error = np.abs(run("exp", x, isa) - np.exp(x.astype("f8")))
    assert (error <= 2.0**-149).all()


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
@pytest.mark.parametrize("function", ["tanh", "erf"])
def test_odd_functions_keep_the_sign_of_zero(function: str, isa: InstructionSet) -> None:
    y = run(function, [0.0, -0.0], isa)
    assert list(np.signbit(y)) == [False, True] and (y == 0).all()


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
@pytest.mark.parametrize("function", ["sin", "cos"])
def test_results_stay_in_range_where_the_phase_is_lost(function: str, isa: InstructionSet) -> None:
    y = run(function, [1e12, -1e20, 3e38, 5e15, -4.1e9], isa)
    assert (np.abs(y) <= 1).all()


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
@pytest.mark.parametrize("exponent", POWERS)
def test_powers(exponent: float, isa: InstructionSet) -> None:
    x = np.array([0.0, 0.3, 1.0, 2.5, 1e-3, 300.0, INF, NAN, -1.5], "f4")
    with np.errstate(invalid="ignore", divide="ignore"):
        want = np.power(x.astype("f8"), exponent)
    np.testing.assert_allclose(run("power", x, isa, exponent), want, rtol=3 * EPS)
