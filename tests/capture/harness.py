"""What the tests of capture share: families of small functions, and inputs of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

import edgec
from edgec.capture.signature import axis_spec, leaf_shapes
from edgec.ir import Program

TOLERANCE = 1e-5  # relative to the largest element of the result

Cases = Mapping[str, Callable[[Any], Any]]


class Family(nn.Module):
    """Applies every case to one set of named tensors, so that one export serves a whole family."""

    def __init__(self, cases: Cases, parts: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.cases = dict(cases)
        self.parts = nn.ModuleDict(parts or {})

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        given = SimpleNamespace(**tensors, **dict(self.parts.items()))
        return {name: case(given) for name, case in self.cases.items()}


def check_family(
    cases: Cases,
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, Mapping[int, Any]] | None = None,
    parts: Mapping[str, nn.Module] | None = None,
    tolerance: float = TOLERANCE,
) -> Program:
    """Capture all cases as one program; each must equal eager on the example and on other sizes."""
    torch.manual_seed(0)
    module = Family(cases, parts).eval()
    inputs = (dict(tensors),)
    wish = None if shapes is None else ({n: dict(shapes.get(n, {})) for n in tensors},)
    program = edgec.capture(module, inputs, wish)
    assert_equal(program, module, inputs, tolerance)
    if wish is not None:
        assert_equal(program, module, resized(module, inputs, wish), tolerance)
    return program


def assert_equal(
    program: Program, module: nn.Module, inputs: tuple[Any, ...], tolerance: float = TOLERANCE
) -> float:
    """The interpreted program gives what the module gives. The largest relative difference."""
    with torch.no_grad():
        want = module(*inputs)
    got = program.run(*inputs)
    found = pytree.tree_leaves(got)
    names = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(want)[0]]
    worst = 0.0
    for name, a, b in zip(names, found, pytree.tree_leaves(want), strict=True):
        worst = max(worst, difference(name, a, b, tolerance))
    return worst


def difference(name: str, got: Any, want: Any, tolerance: float) -> float:
    """Relative to the output's scale; dtype, shape, infinities and NaN must agree exactly."""
    want = torch.as_tensor(want)
    assert got.dtype == want.dtype, f"{name}: {got.dtype} for {want.dtype}"
    assert got.shape == want.shape, f"{name}: {tuple(got.shape)} for {tuple(want.shape)}"
    if not want.dtype.is_floating_point:
        assert torch.equal(got, want), f"{name}: {got} for {want}"
        return 0.0
    if want.numel() == 0:
        return 0.0
    finite = torch.isfinite(want)
    assert torch.equal(finite, torch.isfinite(got)), f"{name}: other elements are infinite"
    odd = ~finite
    assert torch.equal(got[odd].nan_to_num(0.5), want[odd].nan_to_num(0.5)), f"{name}: infinities"
    scale = max(float(want[finite].abs().max()) if finite.any() else 0.0, 1e-30)
    relative = float((got[finite] - want[finite]).abs().max()) / scale if finite.any() else 0.0
    assert relative <= tolerance, f"{name}: {relative:.1e} of {scale:.1e}"
    return relative


# ------------------------------------------------------------------ other sizes
def resized(
    module: nn.Module,
    inputs: tuple[Any, ...],
    dynamic_shapes: Any,
    choose: Callable[[int, int, int], int] | None = None,
    seed: int = 1,
) -> tuple[Any, ...]:
    """Inputs like the given ones, but with every dimension that is dynamic of another size.

    choose   (example size, smallest, largest) -> the new size of a named dimension
    Integers stay in the example's range; an integer tensor of zeros and ones is taken for a mask
    and becomes ones.
    """
    generator = torch.Generator().manual_seed(seed)
    leaves, nesting = pytree.tree_flatten(inputs)
    specs = leaf_shapes(module, inputs, dynamic_shapes)
    sizes: dict[str, int] = {}
    for leaf, spec in zip(leaves, specs, strict=True):
        for axis, size in enumerate(leaf.shape):
            dim = axis_spec(spec, axis)
            if isinstance(dim, Dim) and not hasattr(dim, "root"):
                limits = (int(dim.min), int(min(dim.max, 10**6)))
                sizes[dim.__name__] = (choose or _other)(size, *limits)
    made = [_like(x, _shape(x, s, sizes), generator) for x, s in zip(leaves, specs, strict=True)]
    result: tuple[Any, ...] = pytree.tree_unflatten(made, nesting)
    return result


def _other(size: int, smallest: int, largest: int) -> int:
    """A size that differs from the example's, within the bounds."""
    return size + 3 if size + 3 <= largest else max(size - 1, smallest, 1)


def _shape(x: Tensor, spec: Any, sizes: Mapping[str, int]) -> list[int]:
    shape = []
    for axis, size in enumerate(x.shape):
        dim = axis_spec(spec, axis)
        if hasattr(dim, "root"):
            shape.append(int(dim.fn(sizes[dim.root.__name__])))
        else:
            shape.append(sizes[dim.__name__] if isinstance(dim, Dim) else size)
    return shape


def _like(x: Tensor, shape: list[int], generator: torch.Generator) -> Tensor:
    if x.dtype.is_floating_point:
        made = torch.randn(shape, generator=generator) * float(x.std() if x.numel() > 1 else 1)
        return made.to(x.dtype)
    low, high = (int(x.min()), int(x.max())) if x.numel() else (0, 1)
    if x.dtype == torch.bool:
        return torch.rand(shape, generator=generator) > 0.4
    if (low, high) in ((0, 1), (1, 1)):
        return torch.ones(shape, dtype=x.dtype)
    return torch.randint(low, high + 1, shape, generator=generator).to(x.dtype)
