"""Functions of torch that would fix a symbolic size, replaced while a module is exported.

Their C++ or reference implementations turn sizes into integers, so that a model which any size
suits would be bound to that of its example. Each replacement computes the same values by functions
that keep sizes symbolic, and is taken only where a size is symbolic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

MANY_POINTS = 25  # beyond, torch.cdist takes its formula with a matrix product


@contextlib.contextmanager
def symbolic_sizes() -> Iterator[None]:
    """Within the block the functions below keep symbolic sizes symbolic."""
    originals = [(home, name, getattr(home, name)) for home, name, _ in _REPLACEMENTS]
    for (home, name, replace), (_, _, original) in zip(_REPLACEMENTS, originals, strict=True):
        setattr(home, name, replace(original))
    try:
        yield
    finally:
        for home, name, original in originals:
            setattr(home, name, original)


def _symbolic(*sizes: Any) -> bool:
    return any(isinstance(size, torch.SymInt) for size in sizes)


def _pair(number: Any, other: int) -> tuple[int, int]:
    return (other, number[0] if isinstance(number, list | tuple) else number)


def _max_pool1d(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def max_pool1d(
        x: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Tensor:
        if not _symbolic(*x.shape):
            return original(x, kernel_size, stride, padding, dilation, ceil_mode)
        y = torch.max_pool2d(
            x.unsqueeze(-2),
            _pair(kernel_size, 1),
            _pair(stride or kernel_size, 1),
            _pair(padding, 0),
            _pair(dilation, 1),
            ceil_mode,
        )
        return y.squeeze(-2)

    return max_pool1d


def _cdist(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def cdist(
        a: Tensor,
        b: Tensor,
        p: float = 2.0,
        compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
    ) -> Tensor:
        if _symbolic(*a.shape, *b.shape) and compute_mode.endswith("if_necessary"):
            many = max(_example(t.shape[-2]) for t in (a, b)) > MANY_POINTS
            compute_mode = ("" if many else "donot_") + "use_mm_for_euclid_dist"
        return original(a, b, p, compute_mode)

    return cdist


def _example(size: Any) -> int:
    """The size in the example inputs, looked up without a guard."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)


def _take_along_dim(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
        if dim is None or not _symbolic(*x.shape, *indices.shape):
            return original(x, indices, dim)
        axis = dim % x.dim()
        starts = [t.narrow(axis, 0, 1) for t in (x, indices)]
        shape = list(torch.broadcast_tensors(*starts)[0].shape)
        wide = [[*shape[:axis], t.shape[axis], *shape[axis + 1 :]] for t in (x, indices)]
        return torch.gather(x.expand(wide[0]), axis, indices.expand(wide[1]))

    return take_along_dim


def _linspace(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def linspace(start: Any, end: Any, steps: Any, **options: Any) -> Tensor:
        if not _symbolic(steps):
            return original(start, end, steps, **options)
        ramp = torch.arange(steps, dtype=torch.float32)
        values = start + ramp * ((end - start) / torch.sym_max(steps - 1, 1))
        made: Tensor = values.to(options.get("dtype") or torch.get_default_dtype())
        return made

    return linspace


_REPLACEMENTS: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (torch, "max_pool1d", _max_pool1d),
    (torch, "cdist", _cdist),
    (torch, "take_along_dim", _take_along_dim),
    (torch.Tensor, "take_along_dim", _take_along_dim),
    (torch, "linspace", _linspace),
]
