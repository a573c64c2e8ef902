"""Names and nesting of a function's inputs and outputs, and the user's names of its dimensions."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind
from torch.utils import _pytree as pytree

from edgec.capture.symbols import Symbols
from edgec.errors import CaptureError
from edgec.interpreter import Absent
from edgec.ir.graph import Range

_PLAIN = (tuple, list, dict)  # containers that a reader of the tree can build without imports


# ------------------------------------------------------------------ trees
def tree_json(spec: pytree.TreeSpec, absent: Sequence[bool] | None = None) -> str:
    """The nesting as JSON, read back by torch's `treespec_loads`; `absent` marks leaves that are
    None."""
    marks = iter(absent or [False] * spec.num_leaves)
    return pytree.treespec_dumps(_without(plain(spec), marks))


def _without(spec: pytree.TreeSpec, absent: Iterator[bool]) -> pytree.TreeSpec:
    if spec.is_leaf():
        return pytree.TreeSpec(Absent, None, []) if next(absent) else spec
    children = [_without(child, absent) for child in spec.children()]
    return pytree.TreeSpec(spec.type, spec.context, children)


def absent_leaves(exported: ExportedProgram) -> list[bool]:
    """For each leaf of the module's result, whether it is None."""
    return [
        isinstance(spec.arg, ConstantArgument) and spec.arg.value is None
        for spec in exported.graph_signature.output_specs
        if spec.kind is OutputKind.USER_OUTPUT
    ]


def plain(spec: pytree.TreeSpec) -> pytree.TreeSpec:
    """The nesting with every container of a library replaced by a dict, where it has keys, or a
    tuple.

    A reader must not need the library: a transformers ModelOutput becomes a dict of its fields.
    """
    if spec.is_leaf():
        return spec
    children = [plain(child) for child in spec.children()]
    if spec.type in _PLAIN:
        return pytree.TreeSpec(spec.type, spec.context, children)
    keys = _keys(spec)
    if keys is None:
        return pytree.TreeSpec(tuple, None, children)
    return pytree.TreeSpec(dict, keys, children)


def _keys(spec: pytree.TreeSpec) -> list[str] | None:
    """The field names of a container, None where it has none."""
    context = spec.context
    while isinstance(context, list | tuple) and context and isinstance(context[0], list | tuple):
        context = context[0]
    if isinstance(context, list | tuple) and len(context) == spec.num_children:
        return [str(key) for key in context]
    return None


def leaf_names(spec: pytree.TreeSpec, root: str) -> list[str]:
    """An external name for each leaf: its keys joined, `root` and its position where it has
    none."""
    names = [_identifier("_".join(path)) or root for path in _paths(plain(spec))]
    if not spec.is_leaf() and spec.type in (tuple, list):
        names = [f"{root}{n}" if n[:1].isdigit() else n for n in names]
    taken: dict[str, int] = {}
    unique = []
    for name in names:
        taken[name] = taken.get(name, 0) + 1
        unique.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return unique


def _paths(spec: pytree.TreeSpec) -> Iterator[tuple[str, ...]]:
    if spec.is_leaf():
        yield ()
        return
    keys = spec.context if spec.type is dict else range(spec.num_children)
    for key, child in zip(keys, spec.children(), strict=True):
        for path in _paths(child):
            yield (str(key), *path)


def _identifier(text: str) -> str:
    return re.sub(r"\W", "_", text)


# ------------------------------------------------------------------ dimensions
def leaf_shapes(module: nn.Module, inputs: Sequence[Any], dynamic_shapes: Any) -> list[Any]:
    """What `dynamic_shapes` says about each leaf of `inputs`, in pytree order."""
    if hasattr(dynamic_shapes, "dynamic_shapes"):  # ShapesCollection, AdditionalInputs
        dynamic_shapes = dynamic_shapes.dynamic_shapes(module, inputs)
    arguments = inspect.signature(module.forward).bind(*inputs).arguments
    if isinstance(dynamic_shapes, Mapping):
        specs = [dynamic_shapes.get(name) for name in arguments]
    else:
        specs = list(dynamic_shapes or [None] * len(arguments))
    return [
        leaf
        for value, spec in zip(arguments.values(), specs, strict=False)
        for leaf in _leaf_shapes(value, spec)
    ]


def _leaf_shapes(value: Any, spec: Any) -> Iterator[Any]:
    node = pytree.SUPPORTED_NODES.get(pytree._get_node_type(value))
    if isinstance(value, torch.Tensor) or node is None:
        yield spec
        return
    children, context = node.flatten_fn(value)
    if isinstance(spec, Mapping):
        keys = list(context) if isinstance(value, Mapping) else list(spec)
        specs: list[Any] = [spec.get(key) for key in keys]
    else:
        specs = list(spec) if spec else [None] * len(children)
    for child, inner in zip(children, specs, strict=False):
        yield from _leaf_shapes(child, inner)


def axis_spec(spec: Any, axis: int) -> Any:
    """What a tensor's entry of `dynamic_shapes` says about one axis."""
    if isinstance(spec, Mapping):
        return spec.get(axis)
    return spec[axis] if isinstance(spec, list | tuple) and axis < len(spec) else None


def name_symbols(
    shapes: Sequence[tuple[str, torch.Tensor, torch.Tensor]], specs: Sequence[Any]
) -> Symbols:
    """Names and example sizes for the symbols in the inputs' shapes.

    shapes   (input's name, torch's symbolic tensor, the example tensor) of each tensor input
    specs    its entry of `dynamic_shapes`
    Raises CaptureError where the example sizes contradict the dimensions.
    """
    symbols: dict[str, str] = {}
    hints: dict[str, int] = {}
    for only_named in (True, False):
        for (input_name, fake, real), spec in zip(shapes, specs, strict=True):
            for axis, size in enumerate(fake.shape):
                symbol = _lone_symbol(size)
                if symbol is None or symbol.name in symbols:
                    continue
                name = _dim_name(axis_spec(spec, axis), size)
                if name is None and only_named:
                    continue
                symbols[symbol.name] = _fresh(name or f"{input_name}_{axis}", symbols)
                hints[symbols[symbol.name]] = _solve(size, symbol, real.shape[axis])
    result = Symbols(symbols, hints)
    _check_hints(result, shapes)
    return result


def _lone_symbol(size: Any) -> sympy.Symbol | None:
    if isinstance(size, int):
        return None
    free = size.node.expr.free_symbols
    return next(iter(free)) if len(free) == 1 else None


def _dim_name(spec: Any, size: Any) -> str | None:
    """The user's name of the symbol in `size`: of the dimension itself, or of the one it derives
    from."""
    root = getattr(spec, "root", None)
    named = root if root is not None else spec
    name = getattr(named, "__name__", None)
    if not isinstance(name, str) or (root is None) != isinstance(size.node.expr, sympy.Symbol):
        return None
    return f"{name}_" if keyword.iskeyword(name) else _identifier(name)


def _fresh(name: str, taken: Mapping[str, str]) -> str:
    used = set(taken.values())
    return (
        name
        if name not in used
        else next(n for i in range(2, 99) if (n := f"{name}_{i}") not in used)
    )


def _solve(size: Any, symbol: sympy.Symbol, value: int) -> int:
    """The value of `symbol` for which the size expression is `value`."""
    expr = size.node.expr
    slope, offset = expr.coeff(symbol, 1), expr.coeff(symbol, 0)
    return (value - int(offset)) // int(slope) if slope else value


def _check_hints(
    symbols: Symbols, shapes: Sequence[tuple[str, torch.Tensor, torch.Tensor]]
) -> None:
    problems = []
    for name, fake, real in shapes:
        for axis, size in enumerate(fake.shape):
            dim = symbols.dim(size)
            if symbols.hint(dim) != real.shape[axis]:
                problems.append(
                    f"{name} has size {real.shape[axis]} on axis {axis}, and {dim} is "
                    f"{symbols.hint(dim)} elsewhere"
                )
    if problems:
        need = "one size for each named dimension"
        raise CaptureError("capture", "; ".join(problems), need, "fix dynamic_shapes or the inputs")


def dim_ranges(exported: ExportedProgram, symbols: Symbols) -> dict[str, Range]:
    """Bounds of every named dimension, as torch inferred them."""
    found = {s.name: bounds for s, bounds in exported.range_constraints.items() if s.is_Symbol}
    ranges = {}
    for symbol, name in symbols.names.items():
        bounds = found.get(symbol)
        low = int(bounds.lower) if bounds is not None else 0
        upper = bounds.upper if bounds is not None else sympy.oo
        high = int(upper) if upper.is_finite and upper.is_Integer else Range().max
        ranges[name] = Range(max(low, 0), high)
    return ranges
