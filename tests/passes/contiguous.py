"""An interpreter for exact comparisons."""

from __future__ import annotations

import torch

from edgec.interpreter import Interpreter


class Contiguous(Interpreter):
    """Every value is laid out row by row.

    The layout is no part of a value, but torch's kernels add in another order for another layout: a
    permute that is gone, or folded, would change the last bit of a product behind it.
    """

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        return super()._cast(tensor).contiguous()
