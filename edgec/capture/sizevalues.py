"""Sizes that a model sends through tensors: `torch.tensor(x.shape[1]).clamp(max=512).item()`.

torch makes a new symbol of every `.item()`, for it could be any number. Where the tensor was
computed from sizes alone the number is an expression over named dimensions, and so is the size of
a slice up to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch import fx
from torch.export import ExportedProgram

from edgec.capture.registry import schema_arguments
from edgec.capture.symbols import Symbols
from edgec.ir import dims
from edgec.ir.dims import Dim

_ITEM = ("aten.item.default", "aten._local_scalar_dense.default")


def define_items(exported: ExportedProgram, symbols: Symbols) -> None:
    """Tell `symbols` what each `.item()` and each slice up to one stands for, where that is
    known."""
    values = _Values(exported, symbols)
    for node in exported.graph.nodes:
        if str(node.target) in _ITEM:
            _define(symbols, node.meta.get("val"), values.of(node.args[0]))
        elif str(node.target) == "aten.slice.Tensor":
            _define_slice(node, symbols, values)


def _define(symbols: Symbols, made: Any, value: Dim | None) -> None:
    if value is None or not isinstance(made, torch.SymInt):
        return
    symbol = made.node.expr
    if isinstance(symbol, sympy.Symbol) and not symbols.knows(symbol.name):
        symbols.define(symbol.name, value)


def _define_slice(node: fx.Node, symbols: Symbols, values: _Values) -> None:
    """The size of x[start:stop]; which end is beyond x, the example inputs decide."""
    given: tuple[Any, ...] = tuple(schema_arguments(node.target, node.args, node.kwargs))
    source, axis, start, stop, step = given
    made = node.meta["val"].shape[axis]
    before = source.meta["val"].shape[axis]
    if step != 1 or not isinstance(made, torch.SymInt) or not symbols.expressible(before):
        return
    size = symbols.dim(before)
    ends = [0 if start is None else values.of(start), size if stop is None else values.of(stop)]
    if any(end is None for end in ends):
        return
    first, last = (_inside(symbols, end, size) for end in ends if end is not None)
    _define(symbols, made, dims.normal(last - first))


def _inside(symbols: Symbols, end: Dim, size: Dim) -> Dim:
    if symbols.hint(end) < 0:
        end = dims.normal(end + size)
    if symbols.hint(end) < 0:
        return 0
    return size if symbols.hint(end) > symbols.hint(size) else end


class _Values:
    """The numbers in tensors of one integer that follow from sizes."""

    def __init__(self, exported: ExportedProgram, symbols: Symbols) -> None:
        self.symbols = symbols
        self.constants = _small_constants(exported)
        self.known: dict[fx.Node, Dim | None] = {}

    def of(self, argument: Any) -> Dim | None:
        """The number that an argument stands for, None where it is not known."""
        if isinstance(argument, int):
            return argument
        if not isinstance(argument, fx.Node):
            return None
        value = argument.meta.get("val")
        if isinstance(value, int | torch.SymInt):
            return self.symbols.dim(value) if self.symbols.expressible(value) else None
        if not isinstance(value, torch.Tensor) or value.dim() or value.dtype.is_floating_point:
            return None
        if argument not in self.known:
            self.known[argument] = self._computed(argument)
        return self.known[argument]

    def _computed(self, node: fx.Node) -> Dim | None:
        if node.op == "placeholder":
            return self.constants.get(node.name)
        rule = _RULES.get(str(node.target))
        if rule is None:
            return None
        function, count = rule
        operands = [self.of(a) for a in node.args[:count]]
        if any(o is None for o in operands) or node.kwargs.get("alpha", 1) != 1:
            return None
        return dims.normal(sympy.sympify(function(*operands)))


def _small_constants(exported: ExportedProgram) -> dict[str, Dim]:
    """Placeholders of constants that hold one integer."""
    found: dict[str, Dim] = {}
    for spec in exported.graph_signature.input_specs:
        tensor = exported.constants.get(spec.target) if spec.target else None
        if isinstance(tensor, torch.Tensor) and tensor.numel() == 1:
            if not tensor.dtype.is_floating_point and not tensor.dtype.is_complex:
                found[str(spec.arg.name)] = int(tensor.item())
    return found


def _same(a: Dim) -> Dim:
    return a


_RULES: dict[str, tuple[Callable[..., Any], int]] = {
    "aten.add.Tensor": (lambda a, b: a + b, 2),
    "aten.sub.Tensor": (lambda a, b: a - b, 2),
    "aten.rsub.Scalar": (lambda a, b: b - a, 2),
    "aten.mul.Tensor": (lambda a, b: a * b, 2),
    "aten.neg.default": (lambda a: -a, 1),
    "aten.floor_divide.default": (dims.floordiv, 2),
    "aten.minimum.default": (lambda a, b: sympy.Min(a, b), 2),
    "aten.maximum.default": (lambda a, b: sympy.Max(a, b), 2),
    "aten.min.other": (lambda a, b: sympy.Min(a, b), 2),
    "aten.max.other": (lambda a, b: sympy.Max(a, b), 2),
    "aten.clamp_max.default": (lambda a, b: sympy.Min(a, b), 2),
    "aten.clamp_min.default": (lambda a, b: sympy.Max(a, b), 2),
    "aten.remainder.Scalar": (lambda a, b: sympy.Mod(a, b), 2),
}
_RULES |= {
    f"aten.{name}": (_same, 1)
    for name in (
        "scalar_tensor.default",
        "clone.default",
        "alias.default",
        "lift_fresh_copy.default",
        "detach.default",
        "to.dtype",
        "to.dtype_layout",
        "to.device",
        "_to_copy.default",
    )
}
