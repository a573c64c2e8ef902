"""What a weight is multiplied with: the inputs of its rows, as the rows of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from edgec.ir import Node
from edgec.ir.dims import Shape
from edgec.ops.windows import torch_pads
from edgec.passes.stream import Visit
from edgec.passes.weights import Weight


def _last_axis(node: Node, x: Tensor, w: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _columns(node: Node, x: Tensor, w: Tensor) -> Tensor:
    return x.mT.reshape(-1, x.shape[-2])


def _windows(node: Node, x: Tensor, w: Tensor) -> Tensor:
    """[B, C, *S] -> [B * numel(O), C * numel(K)]."""
    op: Any = node.op
    x = F.pad(x, torch_pads(op.padding))
    for axis, (size, stride, gap) in enumerate(
        zip(w.shape[2:], op.stride, op.dilation, strict=True), start=2
    ):
        x = x.unfold(axis, gap * (size - 1) + 1, stride)[..., ::gap]
    return x.movedim(1, w.dim() - 1).reshape(-1, w[0].numel())


Rows = Callable[[Node, Tensor, Tensor], Tensor]
# (op, operand that is the weight) -> (operand that it meets, axis of its rows, the inputs' rows)
_PRODUCTS: Mapping[tuple[str, int], tuple[int, int, Rows]] = {
    ("linear", 1): (0, 0, _last_axis),
    ("conv", 1): (0, 0, _windows),
    ("matmul", 1): (0, 1, _last_axis),
    ("matmul", 0): (1, 0, _columns),
}


def is_product(node: Node, weight: Weight) -> bool:
    """Whether the node multiplies all of the weight with `inputs`, which no conv in groups does."""
    return _place(node, weight) is not None and getattr(node.op, "groups", 1) == 1


def source(node: Node, weight: Weight, shape: Shape) -> tuple[object, ...]:
    """Equal for products in one function that have the same inputs; `shape` of the weight."""
    place = _place(node, weight)
    assert place is not None
    kernel = (node.op, shape[2:]) if node.op.name == "conv" else None
    return node.inputs[_PRODUCTS[place][0]], place, kernel


def inputs(visit: Visit, weight: Weight) -> Iterator[Tensor]:
    """T[S, K] of each call: y = x w^T with the rows w[N, K] of the weight, for a product."""
    place = _place(visit.node, weight)
    assert place is not None
    index, _, rows = _PRODUCTS[place]
    for operands in visit.operands:
        x, w = operands[index], operands[place[1]]
        assert x is not None and w is not None
        yield rows(visit.node, x, w)


def _place(node: Node, weight: Weight) -> tuple[str, int] | None:
    for index, ref in enumerate(node.inputs):
        key = node.op.name, index
        if ref == f"@{weight.name}" and key in _PRODUCTS and _PRODUCTS[key][1] == weight.axis:
            return key
    return None
